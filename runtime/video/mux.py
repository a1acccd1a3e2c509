# SPDX-License-Identifier: Apache-2.0
"""The joining of a film's segments with everything else that its source holds: sound, subtitles, chapters."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from secondeye.runtime.errors import MediaError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.video.boxes import add_to_sample_entry
from secondeye.runtime.video.media import FilmInfo, opened, reason, tag, video_stream
from secondeye.runtime.video.signals import Signal, frame_packing_nal, stereo_boxes, with_sei

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".nut": "nut",
}
BOXED = (".mp4", ".m4v", ".mov")


class Segment(NamedTuple):
    """An encoded segment.

    Attributes:
        path: of its file. Its timestamps say only in which order its frames are shown.
        pts: every frame's true timestamp, in that order.
    """

    path: Path
    pts: list[int]


def join(
    target: Path,
    segments: list[Segment],
    info: FilmInfo,
    *,
    start: int,
    end: int | None,
    signal: Signal | None = None,
    vr180: bool = False,
    deep: bool = False,
) -> list[str]:
    """Write the film: the segments one after another, and what else the source has, as it is.

    Args:
        target: the file; its suffix names the container.
        segments: in order.
        info: of the source.
        start, end: timestamps of the first frame and of the one after the last, in info.time_base; the film begins
            at 0 when start is over 0.
        signal: how the film's layout is told to players, where it is.
        vr180: the pictures are half a sphere.
        deep: the film keeps its depth of samples, and its HDR metadata.

    Returns:
        Sentences about what could not be taken along.

    Raises:
        MediaError: the container takes no such video, or the disk is full.
    """

    suffix = target.suffix.lower()
    with atomic_write(target) as file:
        notes = _write(file, suffix, segments, info, start, end, signal, str(target))
        boxes = [*stereo_boxes(signal, vr180=vr180), *(info.hdr.boxes() if deep else [])] if suffix in BOXED else []
        if boxes:
            add_to_sample_entry(file, boxes)
    return notes


def _write(
    file: BinaryIO, suffix: str, segments: list[Segment], info: FilmInfo, start: int, end: int | None,
    signal: Signal | None, name: str,
) -> list[str]:  # fmt: skip
    import av

    notes: list[str] = []
    with (
        opened(info.path) as source,
        av.open(file, "w", format=CONTAINERS[suffix], options={"fflags": "+bitexact"}) as output,
    ):
        with av.open(str(segments[0].path)) as one:
            coded = one.streams.video[0]
            try:
                video = output.add_stream_from_template(coded)
            except av.codec.codec.UnknownCodecError:  # AV1's decoder has no encoder of its name
                video = output.add_stream_from_template(coded, opaque=True)
            codec = coded.codec_context.codec.canonical_name
        video.time_base = info.time_base
        tag(video.codec_context, info)
        if signal is not None and suffix in (".mkv", ".webm"):
            video.metadata["stereo_mode"] = signal.matroska
        original = video_stream(source, info.path)
        if original.metadata.get("language"):
            video.metadata["language"] = original.metadata["language"]
        copies = _copies(source, output, original, suffix, notes)
        output.metadata.update({k: v for k, v in source.metadata.items() if k in _KEPT_METADATA})
        if not start and end is None and source.chapters():
            output.set_chapters(source.chapters())
        nal = None if signal is None else frame_packing_nal(codec, signal)
        picture = _video_packets(segments, info, video, start, None if nal is None else (codec, nal))
        # MP4 cuts a sound frame that begins before the picture with an edit list; elsewhere it would push all back.
        early = output.format.name in ("mp4", "mov")
        others = _other_packets(source, copies, info.time_base, start, end, early=early)
        try:
            for _, _, packet in heapq.merge(picture, others, key=lambda item: item[:2]):
                output.mux(packet)
        except av.error.FFmpegError as error:
            raise MediaError(f"{name}: {suffix} does not take this video ({reason(error)}).") from error
    return notes


def _copies(source: Any, output: Any, original: Any, suffix: str, notes: list[str]) -> dict[int, Any]:
    """The source's sound, subtitles and attachments as streams of the output, by their index in the source."""
    import av

    copies: dict[int, Any] = {}
    for stream in source.streams:
        if stream.index == original.index or stream.type not in ("audio", "subtitle", "attachment"):
            continue
        if stream.type != "attachment" and not _holds(output.format.name, stream):
            notes.append(f"{suffix} cannot hold its {stream.type} ({stream.codec_context.name}): left out; .mkv can.")
            continue
        try:
            copies[stream.index] = output.add_stream_from_template(stream)
            copies[stream.index].metadata.update(stream.metadata)
        except (av.error.FFmpegError, ValueError):
            notes.append(f"{suffix} cannot hold its {stream.type} stream {stream.index}: left out; .mkv can.")
    return copies


_KEPT_METADATA = (
    "title",
    "artist",
    "album",
    "comment",
    "date",
    "genre",
    "copyright",
    "description",
    "language",
    "show",
)
_MP4_CODECS = {
    "aac", "ac3", "eac3", "mp3", "mp2", "alac", "opus", "flac", "dts", "dca", "truehd", "mov_text", "vorbis",
}  # fmt: skip
_HELD = {
    "mp4": _MP4_CODECS,
    "mov": _MP4_CODECS | {"pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be", "pcm_f32le"},
    "webm": {"opus", "vorbis", "webvtt"},
    "avi": {"mp3", "mp2", "ac3", "aac", "pcm_s16le", "pcm_u8", "dca"},
}


def _holds(container: str, stream: Any) -> bool:
    held = _HELD.get(container)
    return held is None or stream.codec_context.name in held or (container == "nut" and stream.type == "audio")


def _video_packets(
    segments: list[Segment], info: FilmInfo, video: Any, start: int, sei: tuple[str, bytes] | None
) -> Iterator[tuple[float, int, Any]]:
    """Every packet in coding order, with decoding times made for the whole: (seconds, stream, packet).

    An SEI, (codec, NAL unit), goes into every key frame.
    """
    import av

    listed: list[int] = []
    for segment in segments:
        with av.open(str(segment.path)) as file:
            shown = [p.pts for p in file.demux(video=0) if p.size and p.pts is not None]
        if len(shown) != len(segment.pts):
            raise MediaError(
                f"{segment.path}: holds {len(shown)} frames of {len(segment.pts)}; remove it and run again."
            )
        rank = {pts: k for k, pts in enumerate(sorted(shown))}
        listed.extend(segment.pts[rank[pts]] for pts in shown)
    order = sorted(listed)
    # The least delay with which every packet is decoded no later than it is shown.
    delay = next(d for d in range(len(order) + 1) if all(order[i - d] <= listed[i] for i in range(d, len(order))))
    step = int(np.median(np.diff(order))) if len(order) > 1 else 1
    after = dict(itertools.pairwise(order))
    count = 0
    for segment in segments:
        with av.open(str(segment.path)) as file:
            for packet in file.demux(video=0):
                if not packet.size or packet.pts is None:
                    continue
                dts = order[count - delay] if count >= delay else order[0] - (delay - count) * step
                if sei is not None and packet.is_keyframe:
                    packet = av.Packet(with_sei(*sei, bytes(packet)))  # type: ignore[assignment]
                    packet.is_keyframe = True
                packet.stream = video
                packet.time_base = info.time_base
                packet.duration = after.get(listed[count], listed[count] + step) - listed[count]
                packet.pts, packet.dts = listed[count] - start, dts - start
                count += 1
                yield float(packet.dts * info.time_base), 0, packet


def _other_packets(
    source: Any, copies: dict[int, Any], time_base: Fraction, start: int, end: int | None, *, early: bool
) -> Iterator[tuple[float, int, Any]]:
    """The packets of the copied streams that lie in the part: (seconds, stream, packet)."""
    if not copies:
        return
    begin = float(start * time_base)
    stop = None if end is None else float(end * time_base)
    if start:
        source.seek(int(begin * 1_000_000), backward=True)
    for packet in source.demux([source.streams[i] for i in copies]):
        if not packet.size or packet.dts is None or packet.pts is None:
            continue
        base = packet.time_base
        at = float(packet.pts * base)
        length = float((packet.duration or 0) * base)
        if (start and at + length <= begin) or (stop is not None and at >= stop) or (at < begin and not early):
            continue
        shift = round(Fraction(start) * time_base / base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        index = packet.stream_index
        packet.stream = copies[index]
        yield float(packet.dts * base), 1 + index, packet
