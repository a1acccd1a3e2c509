# SPDX-License-Identifier: Apache-2.0
"""What a player or viewer will understand of a film or picture: each 3D signal in its file, and whether they agree."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secondeye.runtime.pictures import on_a_sphere, opened_picture
from secondeye.runtime.video import boxes, media
from secondeye.runtime.video.signals import SEI_FRAME_PACKING, holds_both_eyes, nal_units
from secondeye.runtime.writers.stereo_jpeg import jps_words

_ARRANGEMENTS = {
    0: "checkerboard", 1: "column interleaved", 2: "row interleaved", 3: "side by side", 4: "top-bottom",
    5: "frame after frame",
}  # fmt: skip
_ST3D = {
    0: "flat", 1: "top-bottom, left view first", 2: "side by side, left view first", 3: "custom",
    4: "side by side, right view first",
}  # fmt: skip
_MATROSKA = {
    "left_right": "side by side, left view first", "right_left": "side by side, right view first",
    "top_bottom": "top-bottom, left view first", "bottom_top": "top-bottom, right view first",
    "row_interleaved_lr": "row interleaved, left view first", "row_interleaved_rl": "row interleaved, right view first",
    "col_interleaved_lr": "column interleaved, left view first",
    "col_interleaved_rl": "column interleaved, right view first",
    "checkerboard_lr": "checkerboard, left view first", "checkerboard_rl": "checkerboard, right view first",
    "anaglyph_cyan_red": "anaglyph, red and cyan", "anaglyph_green_magenta": "anaglyph, green and magenta",
    "block_lr": "frame after frame, left view first", "block_rl": "frame after frame, right view first",
    "mono": "flat",
}  # fmt: skip
_NAMES = (
    (r"h-?sbs|half-?sbs|sbs|lr", "side by side, left view first"),
    (r"rl", "side by side, right view first"),
    (r"h-?tb|h-?ou|half-?tb|half-?ou|tb|ou", "top-bottom, left view first"),
    (r"ri", "row interleaved, left view first"),
    (r"ci", "column interleaved, left view first"),
    (r"cb", "checkerboard, left view first"),
    (r"ana", "anaglyph"),
)
_TRANSFER = {1: "BT.709", 6: "BT.601", 13: "sRGB", 14: "BT.2020", 15: "BT.2020", 16: "PQ (HDR10)", 18: "HLG"}
_PRIMARIES = {1: "BT.709", 5: "BT.470", 6: "BT.601", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}


@dataclass(frozen=True, kw_only=True)
class FilmFacts:
    """What a film's file says.

    Attributes:
        path: of the file.
        container, codec: FFmpeg's names.
        width, height: of its picture, both views.
        rate: frames a second.
        seconds: its length, as its container says.
        bits: of a sample.
        colour: primaries and transfer, in words.
        sound, subtitles: one text a stream.
        signals: where each 3D signal stands, and what it says.
        projection: what the picture is drawn on, in words; empty for a flat screen.
        verdict: what a player that knows these signals shows.
        warnings: sentences about signals that contradict each other or are missing.
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    rate: float
    seconds: float
    bits: int
    colour: str
    sound: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    signals: dict[str, str] = field(default_factory=dict)
    projection: str = ""
    verdict: str = ""
    warnings: tuple[str, ...] = ()


def inspect_film(path: str | os.PathLike[str]) -> FilmFacts:
    """Look at a film's file.

    Raises:
        MediaError: no such file, or no film that can be read.
    """
    file = media.local(path)
    with media.opened(file) as container:
        stream = media.video_stream(container, file)
        context = stream.codec_context
        codec = context.codec.canonical_name
        signals: dict[str, str] = {}
        mode = stream.metadata.get("stereo_mode")
        if mode:
            signals["Matroska StereoMode"] = _MATROSKA.get(mode, mode)
        packet = next((p for p in container.demux(stream) if p.size), None)
        if packet is not None and codec in ("h264", "hevc"):
            told = _frame_packing(codec, bytes(packet), bytes(context.extradata or b""))
            if told:
                signals["frame packing SEI"] = told
        bits = max((c.bits for c in context.format.components), default=8) if context.format else 8
        facts: dict[str, Any] = {
            "path": str(file), "container": container.format.name, "codec": codec,
            "width": context.width, "height": context.height,
            "rate": round(float(stream.average_rate or stream.guessed_rate or 0), 3),
            "seconds": round(float((container.duration or 0) / 1_000_000), 3), "bits": bits,
            "colour": _colour(context),
            "sound": tuple(_sound(s) for s in container.streams.audio),
            "subtitles": tuple(_named(s) for s in container.streams.subtitles),
        }  # fmt: skip
    entry: dict[bytes, bytes] = {}
    if not media.is_sequence(file):
        with file.open("rb") as opened:
            entry = boxes.sample_entry_boxes(opened)
    projection = _from_boxes(entry, signals)
    named, projected = _from_name(file.stem)
    if named:
        signals["file name"] = named
    verdict, warnings = _verdict(signals, projection, projected, facts["width"], facts["height"])
    return FilmFacts(**facts, signals=signals, projection=projection, verdict=verdict, warnings=tuple(warnings))


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What a picture's file says.

    Attributes:
        path: of the file.
        format: PNG, JPEG, MPO ...
        width, height: of (each of) its pictures, as stored.
        pictures: how many it holds.
        mode: Pillow's name of its samples.
        signals: where each 3D signal stands, and what it says.
        projection: what it is drawn on, in words; empty for a flat screen.
        verdict: what a viewer that knows these signals shows.
        warnings: sentences about signals that are missing or contradict each other.
    """

    path: str
    format: str
    width: int
    height: int
    pictures: int
    mode: str
    signals: dict[str, str] = field(default_factory=dict)
    projection: str = ""
    verdict: str = ""
    warnings: tuple[str, ...] = ()


def inspect_picture(path: str | os.PathLike[str]) -> PictureFacts:
    """Look at a picture's file; no pixel of it is decoded.

    Raises:
        MediaError: no such file, or no picture that can be read.
        ResourceLimitError: over the limits.
    """
    with opened_picture(path) as (image, name):
        signals: dict[str, str] = {}
        kind, (width, height), pictures = str(image.format), image.size, int(getattr(image, "n_frames", 1))
        if kind == "MPO":
            told = [str(one["Attribute"]["MPType"]) for one in image.mpinfo.get(0xB002, ())]  # type: ignore[attr-defined]
            pair = sum("Disparity" in one for one in told) >= 2
            signals["MPO index"] = "two views, left view first" if pair else f"{len(told)} pictures, no pair of views"
        descriptor = next((d for _, d in getattr(image, "applist", ()) if d.startswith(b"_JPSJPS_")), None)
        if descriptor is not None:
            signals["JPS descriptor"] = jps_words(descriptor)
        facts: dict[str, Any] = {
            "path": name, "format": kind, "width": width, "height": height, "pictures": pictures, "mode": image.mode,
            "projection": "a sphere (equirectangular)" if on_a_sphere(image) else "",
        }  # fmt: skip
    if Path(name).suffix.lower() == ".jps" and descriptor is None:
        signals["file name"] = "side by side, right view first"  # as every JPS is that does not say otherwise
    else:
        named = _from_name(Path(name).stem)[0]
        if named:
            signals["file name"] = named
    views = next((said for said in signals.values() if "no pair" not in said), "")
    warnings = []
    if list(signals) == ["file name"]:
        warnings.append("Only its name says that it is 3D; viewers that do not read names show it flat.")
    where = f"; {facts['projection']}" if facts["projection"] else ""
    if views.startswith("two views"):
        verdict = f"a stereo picture: {views}, each {width} x {height}"
    elif views:
        verdict = f"a stereo picture: {views}{_each_view(views, width, height)}"
    else:
        verdict = "a flat picture: nothing in it or in its name says 3D"
    return PictureFacts(**facts, signals=signals, verdict=verdict + where, warnings=tuple(warnings))


def _each_view(said: str, width: int, height: int) -> str:
    """The size of a view where a picture holds two of them."""
    if said.startswith("side by side"):
        return f", each view {width // 2} x {height}"
    return f", each view {width} x {height // 2}" if said.startswith("top-bottom") else ""


def _colour(context: Any) -> str:
    primaries, transfer = int(context.color_primaries or 2), int(context.color_trc or 2)
    span = {1: "limited range", 2: "full range"}.get(int(context.color_range or 0), "range not said")
    return ", ".join(
        (_PRIMARIES.get(primaries, "primaries not said"), _TRANSFER.get(transfer, "transfer not said"), span)
    )


def _sound(stream: Any) -> str:
    return f"{_named(stream)}, {stream.codec_context.sample_rate} Hz, {stream.codec_context.layout.name}"


def _named(stream: Any) -> str:
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    language = stream.metadata.get("language", "und")
    return codec if language == "und" else f"{codec} ({language})"


def _from_boxes(entry: dict[bytes, bytes], signals: dict[str, str]) -> str:
    """Takes in what MP4's boxes say; gives the projection."""
    st3d = entry.get(b"st3d")
    if st3d is not None and len(st3d) >= 5:
        signals["MP4 st3d"] = _ST3D.get(st3d[4], f"mode {st3d[4]}, which no version of the standard has")
    vexu = entry.get(b"vexu")
    if vexu is not None:
        signals["MP4 vexu"] = "spatial video, both eyes" if holds_both_eyes(vexu) else "spatial video"
    hfov = entry.get(b"hfov")
    degrees = f", {struct.unpack('>I', hfov)[0] / 1000:g} degrees wide" if hfov is not None and len(hfov) == 4 else ""
    projected = boxes.inner(entry.get(b"sv3d", b""), b"proj")
    if projected is None:
        return degrees.removeprefix(", ")
    bounds = boxes.inner(projected, b"equi")
    if bounds is None or len(bounds) < 20:
        return "a projection other than equirectangular" + degrees
    top, bottom, left, right = (v / 2**32 for v in struct.unpack_from(">IIII", bounds, 4))
    return f"equirectangular, {360 * (1 - left - right):g} x {180 * (1 - top - bottom):g} degrees{degrees}"


def _frame_packing(codec: str, packet: bytes, extradata: bytes) -> str | None:
    """What the SEI of a packet says, in words."""
    for nal in _nals(codec, packet, extradata):
        head = 1 if codec == "h264" else 2
        if len(nal) < head + 3 or (nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63) != (6 if head == 1 else 39):
            continue
        data = nal[head:].replace(b"\x00\x00\x03", b"\x00\x00")
        at = 0
        while at + 2 < len(data):
            kind, at = _sei_number(data, at)
            size, at = _sei_number(data, at)
            if kind == SEI_FRAME_PACKING and size >= 3 and at + size <= len(data):
                return _packing_words(data[at : at + size])
            at += size
    return None


def _sei_number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    while at < len(data) and data[at] == 255:
        value, at = value + 255, at + 1
    return value + (data[at] if at < len(data) else 0), at + 1


def _packing_words(payload: bytes) -> str | None:
    text = "".join(format(b, "08b") for b in payload[:32])
    zeros = len(text) - len(text.lstrip("0"))
    at = 2 * zeros + 1  # past the arrangement's number
    if text[at : at + 1] != "0":
        return None  # cancelled
    kind, order = int(text[at + 1 : at + 8], 2), int(text[at + 9 : at + 15], 2)
    first = {1: ", left view first", 2: ", right view first"}.get(order, "")
    return _ARRANGEMENTS.get(kind, f"arrangement {kind}") + first


def _nals(codec: str, packet: bytes, extradata: bytes) -> list[bytes]:
    """A packet's NAL units, with start codes or with lengths as the extradata says."""
    if extradata[:1] != b"\x01" or len(extradata) < 23:
        return [packet[a:b] for a, b in nal_units(packet)]
    size = (extradata[4] if codec == "h264" else extradata[21]) % 4 + 1
    found, at = [], 0
    while at + size <= len(packet):
        length = int.from_bytes(packet[at : at + size], "big")
        found.append(packet[at + size : at + size + length])
        at += size + length
    return found


def _from_name(stem: str) -> tuple[str, bool]:
    """(what a name's last words say of the layout, whether they say 180 degrees)."""
    words = [w for w in re.split(r"[^a-z0-9-]+", stem.lower()) if w][-4:]
    for word in reversed(words):
        for pattern, meaning in _NAMES:
            if re.fullmatch(pattern, word):
                return meaning, any(w in ("180", "vr180") for w in words)
    return "", any(w in ("180", "vr180") for w in words)


def _verdict(
    signals: dict[str, str], projection: str, named_180: bool, width: int, height: int
) -> tuple[str, list[str]]:
    warnings = []
    inside = {where: said for where, said in signals.items() if where != "file name"}
    order = ("MP4 vexu", "MP4 st3d", "Matroska StereoMode", "frame packing SEI", "file name")
    said = next((signals[where] for where in order if where in signals), "")
    for where, other in signals.items():
        if other.split(",")[0] != said.split(",")[0] or ("first" in other and "first" in said and other != said):
            warnings.append(f"The {where} says {other}; another signal says {said}.")
    if not said:
        return "a flat film: nothing in it or in its name says 3D", warnings
    if not inside:
        warnings.append("Only its name says that it is 3D; players that do not read names show it flat.")
    if named_180 and "180" not in projection:
        warnings.append("Its name says 180 degrees, and no box in it does.")
    views = said
    if said.startswith("side by side"):
        squeezed = width / height < 2.4 and not projection
        views += _each_view(said, width, height) + (" (squeezed to half its width)" if squeezed else "")
    elif said.startswith("spatial"):
        views += f", each view {width} x {height}"
    elif said.startswith("top-bottom"):
        squeezed = width / height > 1.2 and not projection
        views += _each_view(said, width, height) + (" (squeezed to half its height)" if squeezed else "")
    return f"a 3D film: {views}" + (f"; {projection}" if projection else ""), warnings
