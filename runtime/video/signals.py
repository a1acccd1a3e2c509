# SPDX-License-Identifier: Apache-2.0
"""What tells a player that a film is 3D: one line per layout, and the bytes of each standard.

| where | what | for |
| --- | --- | --- |
| in the video, before every key frame | frame packing arrangement SEI (H.264 annex D, HEVC annex D) | H.264, HEVC |
| MP4, MOV | ``st3d`` and, for VR180, ``sv3d`` boxes (Google's Spherical Video V2) | any codec |
| Matroska, WebM | StereoMode | any codec |
| the file's name | ``_SBS``, ``_TB``, ``_LR_180`` ... | any |
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from secondeye.runtime.video.boxes import box, full_box, inner, sample_entry_boxes
from secondeye.runtime.video.hdr import side_data_of

SEI_FRAME_PACKING = 45  # the payload's number, in both standards


@dataclass(frozen=True, kw_only=True)
class Signal:
    """How a layout is told.

    Attributes:
        matroska: FFmpeg's name of StereoMode's value.
        arrangement: of the SEI: 0 checkerboard, 1 columns, 2 rows, 3 side by side, 4 top-bottom; or None.
        left_first: the left view is the first (left, top, or has the first row, column or pixel).
        st3d: stereo_mode of that box: 1 top-bottom, 2 left-right; or None.
    """

    matroska: str
    arrangement: int | None = None
    left_first: bool = True
    st3d: int | None = None


SIGNALS: dict[str, Signal] = {
    "sbs": Signal(matroska="left_right", arrangement=3, st3d=2),
    "half-sbs": Signal(matroska="left_right", arrangement=3, st3d=2),
    "cross": Signal(matroska="right_left", arrangement=3, left_first=False),
    "tb": Signal(matroska="top_bottom", arrangement=4, st3d=1),
    "half-tb": Signal(matroska="top_bottom", arrangement=4, st3d=1),
    "rows": Signal(matroska="row_interleaved_lr", arrangement=2),
    "columns": Signal(matroska="col_interleaved_lr", arrangement=1),
    "checkerboard": Signal(matroska="checkerboard_lr", arrangement=0),
}
_SWAPPED = {
    "left_right": "right_left", "right_left": "left_right", "top_bottom": "bottom_top",
    "row_interleaved_lr": "row_interleaved_rl", "col_interleaved_lr": "col_interleaved_rl",
    "checkerboard_lr": "checkerboard_rl",
}  # fmt: skip


def signal_of(layout: str, anaglyph: str = "", *, swapped: bool = False) -> Signal | None:
    """A layout's signal; None for layouts that no standard knows."""
    if layout == "anaglyph":
        colours = {"red-cyan": "anaglyph_cyan_red", "green-magenta": "anaglyph_green_magenta"}
        name = next((value for ending, value in colours.items() if anaglyph.endswith(ending)), None)
        return Signal(matroska=name) if name else None
    signal = SIGNALS.get(layout)
    if signal is None or not swapped:
        return signal
    first = not signal.left_first
    st3d = {3: 2, 4: 1}.get(signal.arrangement or 0) if first else None
    return replace(signal, matroska=_SWAPPED[signal.matroska], left_first=first, st3d=st3d)


# ---- in the video -----------------------------------------------------------------------------------------


class Bits:
    """Bits written one after another, most significant first."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def u(self, count: int, value: int) -> Bits:
        """An unsigned number of `count` bits."""
        if count:
            self._bits.append(format(value, f"0{count}b"))
        return self

    def ue(self, value: int) -> Bits:
        """An Exp-Golomb number."""
        text = format(value + 1, "b")
        self._bits.append("0" * (len(text) - 1) + text)
        return self

    def raw(self, text: str) -> Bits:
        """Bits that are there already, as zeros and ones."""
        self._bits.append(text)
        return self

    def text(self) -> str:
        """As zeros and ones."""
        return "".join(self._bits)

    def trailed(self) -> bytes:
        """As bytes, after a 1 and zeros up to the byte's end (rbsp_trailing_bits)."""
        return _pack(self.text() + "1")

    def aligned(self) -> bytes:
        """As bytes; a payload that ends within a byte gets a 1 and zeros."""
        text = self.text()
        return _pack(text if len(text) % 8 == 0 else text + "1")


def _pack(text: str) -> bytes:
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big") if text else b""


def escaped(rbsp: bytes) -> bytes:
    """A NAL unit's bytes with emulation prevention: 00 00 0x becomes 00 00 03 0x, x up to 3."""
    return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", rbsp)


def frame_packing_nal(codec: str, signal: Signal) -> bytes | None:
    """The SEI's NAL unit (no start code); None where the standard knows no such arrangement.

    Args:
        codec: ``h264`` or ``hevc``. HEVC knows side by side and top-bottom only.
        signal: the layout's.
    """
    kind = signal.arrangement
    if kind is None or codec not in ("h264", "hevc") or (codec == "hevc" and kind < 3):
        return None
    quincunx = kind == 0
    bits = Bits().ue(0).u(1, 0).u(7, kind).u(1, quincunx).u(6, 1 if signal.left_first else 2)
    bits.u(1, 0).u(1, 0).u(1, 0).u(1, 0).u(1, 0).u(1, 0)  # no flips, no fields; views are coded together
    if not quincunx:
        bits.u(16, 0)  # both views are sampled at the same positions
    bits.u(8, 0)
    if codec == "h264":
        bits.ue(1).u(1, 0)  # until the next key frame; no extension
    else:
        bits.u(1, 1).u(1, 0)
    payload = bits.aligned()
    head = b"\x06" if codec == "h264" else b"\x4e\x01"
    return head + escaped(bytes([SEI_FRAME_PACKING, len(payload)]) + payload + b"\x80")


def nal_units(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of the NAL units of a packet with start codes, without these."""
    found: list[tuple[int, int]] = []
    at = data.find(b"\x00\x00\x01")
    while at >= 0:
        begin = at + 3
        at = data.find(b"\x00\x00\x01", begin)
        end = len(data) if at < 0 else at
        found.append((begin, end if at < 0 or data[end - 1] else end - 1))
    return found


def with_sei(codec: str, nal: bytes, data: bytes) -> bytes:
    """A packet with start codes, the SEI before its first slice."""
    for begin, _ in nal_units(data):
        if begin < len(data) and _is_slice(codec, data[begin]):
            code = begin - (4 if begin >= 4 and data[begin - 4] == 0 else 3)
            return data[:code] + b"\x00\x00\x00\x01" + nal + data[code:]
    return data


def told_packet(packet: Any, sei: tuple[str, bytes] | None) -> Any:
    """The packet; with an SEI, (codec, NAL unit), in it where there is one and the packet is a key frame."""
    import av

    if sei is None or not packet.is_keyframe:
        return packet
    made = av.Packet(with_sei(*sei, bytes(packet)))
    made.is_keyframe, made.stream, made.time_base = True, packet.stream, packet.time_base
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    return made


def _is_slice(codec: str, first: int) -> bool:
    return 1 <= first & 31 <= 5 if codec == "h264" else first >> 1 & 63 < 32


# ---- in MP4 and MOV ---------------------------------------------------------------------------------------


def stereo_boxes(signal: Signal | None, *, vr180: bool = False) -> list[bytes]:
    """The boxes that a film's sample entry gets."""
    boxes = []
    if signal is not None and signal.st3d is not None:
        boxes.append(full_box(b"st3d", bytes([signal.st3d])))
    if vr180:
        # The picture covers the middle half of a full sphere's width: a quarter is missing on each side.
        quarter = 1 << 30
        header = full_box(b"svhd", b"SecondEye\x00")
        pose = full_box(b"prhd", struct.pack(">iii", 0, 0, 0))
        bounds = full_box(b"equi", struct.pack(">IIII", 0, 0, quarter, quarter))
        boxes.append(box(b"sv3d", header + box(b"proj", pose + bounds)))
    return boxes


# ---- in Matroska ------------------------------------------------------------------------------------------


def shape_matroska(file: BinaryIO, aspect: Fraction) -> None:
    """Tell the shape of pixels in a Matroska file of FFmpeg's that says how its views lie.

    It then says how large a view is shown, too, and PyAV lets it think that pixels are square. The two numbers are
    changed in their place, and the checksum of what they are in (Tracks).
    """
    if aspect == 1:
        return
    file.seek(0)
    head = file.read(1 << 20)
    for found in re.finditer(rb"\x16\x54\xae\x6b", head):
        begin = found.end() + 9 - head[found.end()].bit_length()
        size = int.from_bytes(head[found.end() : begin], "big") & (1 << 7 * (begin - found.end())) - 1
        content = bytearray(head[begin + 6 : begin + size])
        if head[begin : begin + 6] != b"\xbf\x84" + zlib.crc32(content).to_bytes(4, "little"):
            continue
        shown = re.search(
            rb"(?s)\x53\xb8\x81.\x54\xb0(?:\x81.|\x82..|\x83...)\x54\xba(?:\x81.|\x82..|\x83...)", content
        )
        if shown is None:
            continue
        wide, high = shown.start() + 7, shown.start() + 10 + (content[shown.start() + 6] & 127)
        width, height = (content[at : at + (content[at - 1] & 127)] for at in (wide, high))
        wanted = round(int.from_bytes(width, "big") * aspect)
        if wanted < 1 << 8 * len(width):
            content[wide : wide + len(width)] = wanted.to_bytes(len(width), "big")
        else:
            lower = round(int.from_bytes(height, "big") / aspect)
            content[high : high + len(height)] = lower.to_bytes(len(height), "big")
        file.seek(begin)
        file.write(b"\xbf\x84" + zlib.crc32(content).to_bytes(4, "little") + content)
        file.flush()
        return


# ---- in a source ------------------------------------------------------------------------------------------

_SPHERES = {
    0: "a sphere (equirectangular)", 1: "a cube (cubemap)", 2: "a part of a sphere (equirectangular)",
    3: "half a sphere (equirectangular)", 5: "a fisheye",
}  # fmt: skip
_PACKINGS = {
    1: "side by side", 2: "top-bottom", 3: "frame after frame", 4: "checkerboard", 5: "side by side",
    6: "row interleaved", 7: "column interleaved",
}  # fmt: skip


def holds_both_eyes(vexu: bytes) -> bool:
    """Whether a vexu box's content says that spatial video has a view for each eye."""
    views = inner(vexu, b"eyes", b"stri")
    return views is not None and len(views) >= 5 and views[4] & 3 == 3


def source_notes(frame: Any, file: Path) -> list[str]:
    """Sentences about a film that says, in its first frame or in an MP4's boxes, that it is no flat view."""
    told = {data.type.name: bytes(data) for data in side_data_of(frame)}
    notes = []
    sphere, packing = (int.from_bytes(told.get(name, b"\xff")[:4], sys.byteorder) for name in ("SPHERICAL", "STEREO3D"))
    if sphere in _SPHERES:
        notes.append(f"It is drawn on {_SPHERES[sphere]}; it is treated as if it were flat.")
    if packing in _PACKINGS:
        notes.append(f"Its file says that it is 3D already ({_PACKINGS[packing]}); it is treated as one flat view.")
    elif file.suffix.lower() in (".mp4", ".m4v", ".mov"):
        with file.open("rb") as opened:
            both = holds_both_eyes(sample_entry_boxes(opened).get(b"vexu", b""))
        if both:
            notes.append("Its file says that it is 3D already (spatial video); its first view is converted.")
    return notes
