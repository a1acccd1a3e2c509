# SPDX-License-Identifier: Apache-2.0
"""The joining of a film's segments with everything else that its source holds: sound, subtitles, chapters."""

from __future__ import annotations

import heapq
import io
import itertools
import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from secondeye.runtime.errors import InternalError, MediaError
from secondeye.runtime.files import atomic_write, for_ffmpeg
from secondeye.runtime.video.boxes import add_to_sample_entry, box, sample_entry_boxes
from secondeye.runtime.video.encode import tag
from secondeye.runtime.video.media import FilmInfo, opened, reason, video_stream
from secondeye.runtime.video.mvhevc import Sets, configuration, joined, parameter_sets, spatial_boxes
from secondeye.runtime.video.signals import Signal, frame_packing_nal, shape_matroska, stereo_boxes, told_packet
from secondeye.runtime.video.timed_text import text_packets, text_stream

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
    start: int | None,
    end: int | None,
    signal: Signal | None = None,
    vr180: bool = False,
    deep: bool = False,
    views: int = 1,
    fov: float = 90.0,
    subtitles: bool = True,
) -> list[str]:
    """Write the film: the segments one after another, and what else the source has, as it is.

    Args:
        target: the file; its suffix names the container.
        segments: in order.
        info: of the source.
        start, end: timestamps of the first frame and of the one after the last, in info.time_base, None where the
            source begins and ends. The film begins at 0.
        signal: how the film's layout is told to players, where it is.
        vr180: the pictures are half a sphere.
        deep: the film keeps its depth of samples, and its HDR metadata.
        views: 2 where segments hold the views as streams of their own.
        fov: degrees that the picture covers, for spatial video.
        subtitles: whether the source's are taken along.

    Returns:
        Sentences about what could not be taken along.

    Raises:
        MediaError: the container takes no such video, or the disk is full.
    """

    suffix = target.suffix.lower()
    import av

    spatial = _spatial_sets(segments[0]) if views == 2 else None
    with atomic_write(target, within=segments[0].path.parent) as file:
        try:
            notes = _write(file, suffix, segments, info, start, end, signal, str(target), spatial, subtitles)
        except av.error.PyAVCallbackError as error:  # the file's own refusal, met again while closing
            raise MediaError(f"{target}: cannot be written; is the disk full?") from error
        if suffix in (".mkv", ".webm") and signal is not None:
            shape_matroska(file, info.aspect)
        if suffix in BOXED:
            boxes = [*stereo_boxes(signal, vr180=vr180), *(info.hdr.boxes() if deep else [])]
            _finish(file, boxes, spatial, fov, swapped=signal is not None and not signal.left_first)
    return notes


def _spatial_sets(segment: Segment) -> Sets:
    import av

    with av.open(for_ffmpeg(segment.path)) as one:
        return parameter_sets(bytes(one.streams.video[0].codec_context.extradata or b""))


def _finish(file: BinaryIO, boxes: list[bytes], spatial: Sets | None, fov: float, *, swapped: bool) -> None:
    """What an MP4's or MOV's sample entry needs and its muxer does not write."""
    entry = sample_entry_boxes(file)
    if b"hvcC" not in entry:
        if boxes:
            add_to_sample_entry(file, boxes)
        return
    replaced = {}
    if spatial is not None:
        replaced[b"hvcC"], lhvc = configuration(entry[b"hvcC"], spatial)
        boxes = [box(b"lhvC", lhvc), *spatial_boxes(fov, swapped=swapped)]
    # Apple's players take HEVC by this name only; the parameter sets are in the entry, as it promises.
    add_to_sample_entry(file, boxes, replace=replaced, name=b"hvc1")


def _write(
    file: BinaryIO, suffix: str, segments: list[Segment], info: FilmInfo, start: int | None, end: int | None,
    signal: Signal | None, name: str, spatial: Sets | None, subtitles: bool,
) -> list[str]:  # fmt: skip
    import av

    notes: list[str] = []
    with (
        opened(info.path) as source,
        av.open(file, "w", format=CONTAINERS[suffix], options={"fflags": "+bitexact"}) as output,
    ):
        with av.open(for_ffmpeg(segments[0].path)) as one:
            coded = one.streams.video[0]
            try:
                video = output.add_stream_from_template(coded)
            except av.codec.codec.UnknownCodecError:  # AV1's decoder has no encoder of its name
                video = output.add_stream_from_template(coded, opaque=True)
            codec = coded.codec_context.codec.canonical_name
        video.time_base = info.time_base
        video.codec_context.framerate = info.rate
        tag(video.codec_context, info, full=codec != "prores")
        if signal is not None and suffix in (".mkv", ".webm"):
            video.metadata["stereo_mode"] = signal.matroska
        original = video_stream(source, info.path)
        if original.metadata.get("language"):
            video.metadata["language"] = original.metadata["language"]
        copies, texts = _copies(source, output, original, suffix, notes, _kinds(subtitles))
        output.metadata.update({k: v for k, v in source.metadata.items() if k in _KEPT_METADATA})
        zero = _beginning(info, [source.streams[i] for i in copies]) if start is None else start
        if start is None and end is None and source.chapters():
            output.set_chapters([_earlier(one, zero * info.time_base) for one in source.chapters()])
        nal = None if signal is None or spatial is not None else frame_packing_nal(codec, signal)
        picture = _video_packets(segments, info, video, zero, end, None if nal is None else (codec, nal), spatial)
        # MP4 cuts a sound frame that begins before the picture with an edit list; elsewhere it would push all back.
        early = output.format.name in ("mp4", "mov")
        others = _other_packets(source, copies, info.time_base, zero, end, cut=start is not None, early=early)
        words = text_packets(info, texts, zero, end)
        try:
            for _, _, packet in heapq.merge(picture, others, words, key=lambda item: item[:2]):
                output.mux(packet)
        except av.error.FFmpegError as error:
            raise MediaError(f"{name}: {suffix} does not take this video ({reason(error)}).") from error
    return notes


def foreseen(info: FilmInfo, suffix: str, *, subtitles: bool = True) -> list[str]:
    """Sentences about which of a source's streams :func:`join` will change or leave out, before there is any work."""
    import av

    notes: list[str] = []
    with opened(info.path) as source, av.open(io.BytesIO(), "w", format=CONTAINERS[suffix]) as output:
        _copies(source, output, video_stream(source, info.path), suffix, notes, _kinds(subtitles))
    return notes


def _kinds(subtitles: bool) -> tuple[str, ...]:
    return ("audio", "subtitle", "attachment") if subtitles else ("audio",)


def _beginning(info: FilmInfo, others: list[Any]) -> int:
    """When the first of a source's streams begins, in info.time_base; 0 where that is before 0.

    A recording from the air begins at any of 26 hours, and players would show nothing until then.
    """
    begins = [s.start_time * s.time_base for s in others if s.type != "attachment" and s.start_time is not None]
    return max(0, math.floor(min([int(info.pts[0]) * info.time_base, *begins]) / info.time_base))


def _earlier(chapter: Any, by: Fraction) -> Any:
    ticks = round(by / chapter["time_base"])
    return {**chapter, "start": max(0, chapter["start"] - ticks), "end": max(0, chapter["end"] - ticks)}


def _copies(
    source: Any, output: Any, original: Any, suffix: str, notes: list[str], kinds: tuple[str, ...]
) -> tuple[dict[int, Any], dict[int, Any]]:
    """The source's streams of some kinds as streams of the output, by their index in the source: copies, texts.

    Texts are those subtitles that the output cannot hold as they are, and takes as its own kind of text.
    """
    import av

    copies: dict[int, Any] = {}
    texts: dict[int, Any] = {}
    attached = 0
    for stream in source.streams:
        if stream.index == original.index or stream.type not in kinds:
            continue
        if stream.type == "attachment":
            if output.format.name != "matroska":  # PyAV lets others have it, and their header then fails
                attached += 1
                continue
        elif not _holds(output.format.name, stream):
            kind = "timed text" if suffix in BOXED else "SubRip"
            text = text_stream(output, stream) if suffix in (*BOXED, ".mkv") else None
            if text is not None:
                texts[stream.index] = text
                plain = " without their fonts and places" if stream.codec_context.name in ("ass", "ssa") else ""
                notes.append(f"Its subtitles ({stream.codec_context.name}) become {kind}, as {suffix} has it{plain}.")
                continue
            can = _who_can(suffix, stream)
            notes.append(f"{suffix} cannot hold its {stream.type} ({_codec_of(stream)}): left out{can}.")
            continue
        try:
            copies[stream.index] = output.add_stream_from_template(stream)
            copies[stream.index].metadata.update(stream.metadata)
            copies[stream.index].disposition = stream.disposition
        except (av.error.FFmpegError, ValueError):
            notes.append(f"{suffix} cannot hold its {stream.type} stream {stream.index}: left out.")
    if attached:
        notes.append(f"{suffix} cannot hold its attached files (fonts and the like, {attached}): left out; .mkv can.")
    return copies, texts


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
_BOXED_CODECS = {"aac", "ac3", "eac3", "mp3", "mp2", "alac", "dts", "mov_text"}
_HELD = {
    "mp4": _BOXED_CODECS | {"opus", "flac", "vorbis"},
    "mov": _BOXED_CODECS
    | {"pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be", "pcm_f32le", "pcm_u8", "pcm_mulaw", "pcm_alaw"},
    "webm": {"opus", "vorbis", "webvtt"},
    "avi": {"mp3", "mp2", "ac3", "aac", "dts", "pcm_s16le", "pcm_u8", "pcm_mulaw", "pcm_alaw"},
}  # fmt: skip
_NOT_MATROSKA = ("mov_text", "adpcm_", "wma", "pcm_mulaw", "pcm_alaw")  # beginnings; for want of codec ids of its own


def _codec_of(stream: Any) -> str:
    """A codec's own name: its decoder may have another (mp3float, dca)."""
    return str(stream.codec_context.codec.canonical_name)


def _holds(container: str, stream: Any) -> bool:
    held, name = _HELD.get(container), _codec_of(stream)
    if held is None:
        return not (name.startswith(_NOT_MATROSKA) if container == "matroska" else name == "mov_text")
    return name in held


def _who_can(suffix: str, stream: Any) -> str:
    able = (other for other in (".mkv", ".mov", ".avi") if other != suffix and _holds(CONTAINERS[other], stream))
    return "".join(f"; {other} can" for other in itertools.islice(able, 1))


def _video_packets(
    segments: list[Segment],
    info: FilmInfo,
    video: Any,
    start: int,
    end: int | None,
    sei: tuple[str, bytes] | None,
    spatial: Sets | None,
) -> Iterator[tuple[float, int, Any]]:
    """Every packet in coding order, with decoding times made for the whole: (seconds, stream, packet).

    An SEI, (codec, NAL unit), goes into every key frame.
    """
    import av

    listed: list[int] = []
    for segment in segments:
        with av.open(for_ffmpeg(segment.path)) as file:
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
    after = dict(itertools.pairwise([*order, int(info.pts[-1]) + info.last if end is None else end]))
    count = 0
    packet: Any
    for segment in segments:
        with av.open(for_ffmpeg(segment.path)) as file:
            for packet in _coded(file, spatial):
                dts = order[count - delay] if count >= delay else order[0] - (delay - count) * step
                packet = told_packet(packet, sei)
                packet.stream = video
                packet.time_base = info.time_base
                packet.duration = after[listed[count]] - listed[count]
                packet.pts, packet.dts = listed[count] - start, dts - start
                count += 1
                yield float(packet.dts * info.time_base), 0, packet


def _coded(file: Any, spatial: Sets | None) -> Iterator[Any]:
    """A segment's packets in coding order; of two views, both in one."""
    import av

    if spatial is None:
        yield from (p for p in file.demux(video=0) if p.size and p.pts is not None)
        return
    waiting: tuple[deque[Any], deque[Any]] = (deque(), deque())
    for packet in file.demux(video=(0, 1)):
        if not packet.size or packet.pts is None:
            continue
        waiting[packet.stream_index].append(packet)
        while waiting[0] and waiting[1]:
            left, right = waiting[0].popleft(), waiting[1].popleft()
            if left.pts != right.pts:
                raise InternalError("mv-hevc: the two views were coded in different orders.")
            both = av.Packet(joined(bytes(left), bytes(right), spatial))
            both.pts, both.is_keyframe = left.pts, left.is_keyframe
            yield both


def _other_packets(
    source: Any, copies: dict[int, Any], time_base: Fraction, start: int, end: int | None, *, cut: bool,
    early: bool,
) -> Iterator[tuple[float, int, Any]]:  # fmt: skip
    """The packets of the copied streams that lie in the part: (seconds, stream, packet).

    `cut` says that the part begins later than the source, `early` that packets before its beginning are taken too.
    """
    if not copies:
        return
    begin = float(start * time_base)
    stop = None if end is None else float(end * time_base)
    if cut:
        source.seek(int(begin * 1_000_000), backward=True)
    ends: dict[int, int] = {}
    later: dict[int, int] = {}
    for packet in source.demux([source.streams[i] for i in copies]):
        if not packet.size or packet.dts is None or packet.pts is None:
            continue
        base, index = packet.time_base, packet.stream_index
        # Where times jump back, as where recordings were put one after another, it goes on where it was.
        if packet.dts + later.get(index, 0) < ends.get(index, packet.dts) - (packet.duration or 0):
            later[index] = ends[index] - packet.dts
        packet.pts, packet.dts = packet.pts + later.get(index, 0), packet.dts + later.get(index, 0)
        ends[index] = packet.dts + (packet.duration or 0)
        at = float(packet.pts * base)
        length = float((packet.duration or 0) * base)
        if (cut and at + length <= begin) or (stop is not None and at >= stop) or (at < begin and not early):
            continue
        shift = round(Fraction(start) * time_base / base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = copies[index]
        yield float(packet.dts * base), 1 + index, packet
