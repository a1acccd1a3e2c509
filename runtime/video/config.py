# SPDX-License-Identifier: Apache-2.0
"""How a film is converted and written, and whether that fits the film and its target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from secondeye.runtime import ops
from secondeye.runtime.config import StereoConfig, plain_numbers
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import check_place
from secondeye.runtime.layouts import LAYOUTS, WIDE_LAYOUTS
from secondeye.runtime.video import adjust, encode, maps, media, mux, projection, sequence
from secondeye.runtime.video.hdr import OPTIONS, HdrMetadata
from secondeye.runtime.video.objects import KEY_EVERY, check_segmenter
from secondeye.runtime.video.subtitles import KEEP, check_subtitles


@dataclass(frozen=True, kw_only=True)
class FilmConfig:
    """How a film is converted and written.

    Attributes:
        stereo: as for a picture; `size` scales each frame. In quality mode every frame starts from the same noise (of
            stereo.seed), so that what is painted does not boil; views then have 8 bits.
        layout: a name in :data:`secondeye.runtime.layouts.LAYOUTS`.
        anaglyph: for that layout.
        auto_convergence: the screen lies a little before the subject, shot by shot, in place of stereo.convergence.
        codec: a name in :data:`secondeye.runtime.video.encode.CODECS`.
        quality: the encoder's own number (crf or cq; lower is better); None for its default.
        preset: the encoder's own name; None for its default.
        start, end: seconds; None for the film's.
        segment: frames that a kill may cost, 24 to 10000.
        bits: of a sample; None keeps 10 of a film that has more than 8 where the layout and the codec can, 8 does not.
        projection: ``flat``, or ``vr180``: half a sphere for each eye.
        fov: how many degrees the picture's width covers, of the half sphere or in spatial video (mv-hevc).
        fps: frames a second, in place of the film's own; of numbered pictures, their rate.
        crop_bars: leave out black bars.
        deinterlace: ``auto`` makes frames that are flagged as interlaced whole of their fields; ``off`` leaves them.
        key_every: frames from one key frame, on which stereo.segment tells objects apart, to the next at most, 1 to 48.
        floating_window: a black bar on one eye's side of a border that cuts something in front of the screen, as wide
            as that stands out.
        subtitles: ``keep`` copies the film's, ``off`` leaves them out, ``burn`` draws its text into both views
            (``burn:LANGUAGE`` for one of several), and so does the name of a file (.srt, .vtt, .ass).
        subtitle_depth: how far in front of the screen they then are, percent of the width, -5 to 5.
        subtitle_font: a font's file, in place of one that is looked for.
        depth_map: in place of a depth model, a map for every frame: a grey film, numbered pictures (depth/%05d.png), or
            an array [T, h, w] (.npy); see :mod:`secondeye.runtime.video.maps`.
        depth_map_kind: ``disparity`` (larger is nearer), or of an array ``depth`` (larger is farther).
    """

    stereo: StereoConfig = field(default_factory=StereoConfig)
    layout: str = "sbs"
    anaglyph: str = "dubois-red-cyan"
    auto_convergence: bool = True
    codec: str = "h264"
    quality: int | None = None
    preset: str | None = None
    start: float | None = None
    end: float | None = None
    segment: int = 240
    bits: int | None = None
    projection: Literal["flat", "vr180"] = "flat"
    fov: float = 90.0
    fps: str | None = None
    crop_bars: bool = False
    deinterlace: Literal["auto", "off"] = "auto"
    floating_window: bool = False
    key_every: int = KEY_EVERY
    subtitles: str = KEEP
    subtitle_depth: float = 0.5
    subtitle_font: str | None = None
    depth_map: str | None = None
    depth_map_kind: str = "disparity"

    def keeps_depth(self, info: media.FilmInfo) -> bool:
        """Whether a film's samples of more than 8 bits stay that deep."""
        deep = encode.CODECS[self.codec].deep_format is not None and self.layout in WIDE_LAYOUTS
        deep = deep and self.stereo.mode == "fast"  # models paint 8 bits
        return info.depth_bits > 8 and self.bits is None and deep

    @property
    def deep_map(self) -> bool:
        """Whether a film of disparity has 16 bits a sample."""
        return self.layout == "disparity" and self.codec in ("ffv1", encode.PICTURES) and self.bits is None

    def __post_init__(self) -> None:
        plain_numbers(self)
        if self.stereo.mode == "quality" and self.stereo.conditioning != "stereo":
            raise InvalidInputError("conditioning: films take stereo; the authors' one knows no steady depth.")
        if self.layout not in LAYOUTS:
            raise InvalidInputError(f"layout: expected one of {', '.join(LAYOUTS)}, got {self.layout!r}.")
        if self.anaglyph not in ops.ANAGLYPHS:
            raise InvalidInputError(f"anaglyph: expected one of {', '.join(ops.ANAGLYPHS)}, got {self.anaglyph!r}.")
        if self.codec not in encode.CODECS:
            named = ", ".join(name for name in encode.CODECS if name != encode.PICTURES)
            raise InvalidInputError(f"codec: expected one of {named}, got {self.codec!r}.")
        if self.quality is not None and not 0 <= self.quality <= 63:
            raise InvalidInputError(f"quality: expected 0 to 63 (lower is better), got {self.quality}.")
        if not 24 <= self.segment <= 10_000:
            raise InvalidInputError(f"segment: expected 24 to 10000 frames, got {self.segment}.")
        if self.bits not in (None, 8):
            raise InvalidInputError(f"bits: expected 8, or None for the film's own, got {self.bits!r}.")
        if self.fps is not None:
            adjust.parse_rate(self.fps)
        if self.deinterlace not in ("auto", "off"):
            raise InvalidInputError(f"deinterlace: expected auto or off, got {self.deinterlace!r}.")
        if self.projection not in ("flat", "vr180"):
            raise InvalidInputError(f"projection: expected flat or vr180, got {self.projection!r}.")
        if self.codec == "mv-hevc" and (self.layout != "sbs" or self.projection != "flat"):
            raise InvalidInputError(
                "codec: mv-hevc holds the two views themselves: it takes layout sbs and projection flat."
            )
        if self.projection == "vr180":
            projection.check(self.layout, self.fov)
        check_segmenter(self.stereo.segment, self.key_every)
        check_subtitles(self.subtitles, self.subtitle_depth)
        if self.depth_map is not None:
            maps.check_kind(self.depth_map, self.depth_map_kind)
        begin, stop = self.start or 0.0, self.end
        if not begin >= 0.0 or (stop is not None and not stop > begin):
            raise InvalidInputError(f"start, end: expected 0 <= start < end in seconds, got {self.start}, {self.end}.")


def open_film(source: str | os.PathLike[str], config: FilmConfig) -> media.FilmInfo:
    """The film as a configuration wants it: at its rate, without fields, without its bars, with its pixels' shape.

    Raises:
        InvalidInputError, MediaError, ResourceLimitError: see :func:`secondeye.runtime.video.media.probe`.
    """
    rate = None if config.fps is None else adjust.parse_rate(config.fps)
    info = media.probe(source, rate=rate)
    if config.deinterlace == "auto" and not media.is_sequence(info.path):
        info = adjust.made_whole(info)
    if config.crop_bars:
        info = adjust.without_bars(info)
    if rate is not None and not media.is_sequence(info.path):
        info = adjust.at_rate(info, rate)
    return info if config.stereo.size is None else adjust.scaled(info, config.stereo.size)


def depth_notes(info: media.FilmInfo, config: FilmConfig, suffix: str) -> Iterator[str]:
    """Sentences about what becomes of a film's depth of samples in a file of that ending."""
    if info.depth_bits <= 8:
        return
    if config.keeps_depth(info):
        yield f"Its {info.depth_bits} bits a sample stay {min(info.depth_bits, 10) if config.codec != 'ffv1' else 16}."
        if config.codec == "h264":
            yield "H.264 of 10 bits is decoded by few headsets and televisions: take --codec hevc or --bits 8."
        if info.hdr != HdrMetadata() and suffix not in mux.BOXED and encode.CODECS[config.codec].encoder not in OPTIONS:
            yield f"{config.codec} in {suffix} has no place for its HDR metadata, which are left out; --codec hevc has."
    else:
        hdr = " It is HDR: its tags are kept, and bands may show." if info.tags["color_trc"] in (16, 18) else ""
        yield f"Its {info.depth_bits} bits a sample become 8.{hdr}"


_REFUSED = {  # what FFmpeg does not put into a container
    ".mp4": ("ffv1", "prores"), ".m4v": ("ffv1", "prores"), ".mov": ("ffv1", "av1"), ".avi": ("hevc", "prores"),
    ".nut": ("prores",),
}  # fmt: skip


def checked_target(target: Path, source: Path, config: FilmConfig) -> Path:
    """Where a film may go.

    Raises:
        InvalidInputError, MediaError: it may not.
    """
    suffix = target.suffix.lower()
    if media.is_sequence(target):
        sequence.check_pattern(target)
        check_place(target)
        if media.is_sequence(source) and target.parent.resolve() == source.parent.resolve():
            first = media.first_number(source)
            if target.name % first == source.name % first:
                raise InvalidInputError(f"{target}: are the source's own pictures; choose another name.")
        return target
    if config.codec == encode.PICTURES:
        raise InvalidInputError(f"{target}: the codec {config.codec} is numbered pictures'; choose another.")
    if suffix not in mux.CONTAINERS:
        tip = f" Numbered pictures are {target.stem}_%05d.png." if suffix in (".png", ".tif", ".tiff") else ""
        raise InvalidInputError(f"{target}: expected a name ending in {', '.join(mux.CONTAINERS)}.{tip}")
    check_place(target)
    if target.exists() and source.exists() and os.path.samefile(target, source):
        raise InvalidInputError(f"{target}: is the source itself; choose another name.")
    if suffix == ".webm" and not config.codec.startswith("av1"):
        raise InvalidInputError(f"{target}: WebM takes the codec av1; choose it, or .mkv.")
    if config.projection == "vr180" and suffix not in mux.BOXED:
        raise InvalidInputError(
            f"{target}: VR180 is told to players in MP4 and MOV; choose one of {', '.join(mux.BOXED)}."
        )
    if config.codec == "mv-hevc" and suffix not in mux.BOXED:
        raise InvalidInputError(f"{target}: spatial video goes into .mp4 or .mov; choose one.")
    family = config.codec.removesuffix("-nvenc")
    if family in _REFUSED.get(suffix, ()):
        others = " or ".join(one for one in (".mp4", ".mov", ".mkv") if family not in _REFUSED.get(one, ()))
        name = "MP4" if suffix == ".m4v" else suffix[1:].upper()
        raise InvalidInputError(f"{target}: {name} does not take {config.codec}; choose {others}.")
    return target
