# SPDX-License-Identifier: Apache-2.0
"""MV-HEVC, the stream of Apple's spatial video: the right view as a second layer (ITU-T H.265, annexes F and G).

No encoder that is free to ship writes it, so two ordinary HEVC streams of the same structure are joined: the
second one's slices get another layer's number, and the bits that slices of a second layer have (its parameter sets,
its picture order, and one that says: nothing is predicted from the other view). Both views are therefore coded whole,
and the file is about twice a flat film's size; decoders that know one layer show the left view.

Slice data starts at a byte: the bits that are put into a slice's header are made a whole number of bytes by
num_extra_slice_header_bits of the second layer's picture parameter set.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from secondeye.runtime.errors import InternalError
from secondeye.runtime.video.boxes import box, full_box
from secondeye.runtime.video.signals import Bits, escaped, nal_units

_VPS, _SPS, _PPS = 32, 33, 34
_EXTRA = 5  # with 2 bits of the longer parameter set's number and 1 of inter_layer_pred_enabled_flag: a byte
_POC_BITS = 8  # of slice_pic_order_cnt_lsb
_HEADER_BYTES = 96  # of a slice that are looked at; its header's beginning is far shorter
BASELINE_UM = 63_500  # between the eyes; told to players, which scale what they show by it


class _Reader:
    """Reads a NAL unit's bits."""

    def __init__(self, rbsp: bytes) -> None:
        self.bits = "".join(format(b, "08b") for b in rbsp)
        self.at = 0

    def u(self, count: int) -> int:
        value = int(self.bits[self.at : self.at + count] or "0", 2)
        self.at += count
        return value

    def ue(self) -> int:
        one = self.bits.find("1", self.at)
        if one < 0:
            raise InternalError("HEVC: a parameter set ends in the middle of a number.")
        zeros = one - self.at
        self.at = one
        return self.u(zeros + 1) - 1


def unescaped(nal: bytes) -> bytes:
    """A NAL unit without emulation prevention."""
    return nal.replace(b"\x00\x00\x03", b"\x00\x00")


def _without_trailing(bits: str) -> str:
    return bits[: bits.rindex("1")]


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The parameter sets of the two layers.

    Attributes:
        vps, sps, pps: the first layer's NAL units; the VPS tells of both layers.
        second_sps, second_pps: the second layer's.
        slice_bits: whether slices have pic_output_flag and slice_temporal_mvp_enabled_flag.
    """

    vps: bytes
    sps: bytes
    pps: bytes
    second_sps: bytes
    second_pps: bytes
    slice_bits: tuple[bool, bool]


def parameter_sets(extradata: bytes) -> Sets:
    """The sets of a film of two layers, from those of one view's encoder (with start codes).

    Raises:
        InternalError: the encoder's stream is of another structure than was asked for.
    """
    units = {extradata[a] >> 1 & 63: extradata[a:b] for a, b in nal_units(extradata)}
    if not {_VPS, _SPS, _PPS} <= set(units):
        raise InternalError("HEVC: the encoder gave no parameter sets.")
    sps = _Reader(unescaped(units[_SPS])[2:])
    sps.u(4)
    sub_layers = sps.u(3)
    sps.u(1)
    ptl = sps.bits[sps.at : sps.at + 96]
    sps.u(96)
    id_at = sps.at
    if sub_layers or sps.ue() != 0 or sps.ue() != 1:
        raise InternalError("HEVC: expected 4:2:0 without temporal layers.")
    width, height = sps.ue(), sps.ue()
    window = [sps.ue() for _ in range(4)] if sps.u(1) else []
    depth = sps.ue(), sps.ue()
    poc_bits = sps.ue() + 4
    sps.u(1)
    buffers = sps.ue(), sps.ue(), sps.ue()
    for _ in range(6):
        sps.ue()  # sizes of blocks
    if sps.u(1):
        raise InternalError("HEVC: expected no scaling lists.")
    sps.u(2)
    if sps.u(1):
        raise InternalError("HEVC: expected no PCM.")
    if sps.ue() or sps.u(1) or poc_bits != _POC_BITS:
        raise InternalError("HEVC: expected reference sets in slices, and picture orders of 8 bits.")
    temporal = bool(sps.u(1))
    # The second layer's: number 1 instead of 0.
    second = _without_trailing(sps.bits[:id_at] + "010" + sps.bits[id_at + 1 :])
    pps = _Reader(unescaped(units[_PPS])[2:])
    if pps.ue() or pps.ue() or pps.u(1):
        raise InternalError("HEVC: expected one parameter set and whole slices.")
    output = bool(pps.u(1))
    if pps.u(3):
        raise InternalError("HEVC: expected no extra bits in slices.")
    other = _without_trailing("010" + "010" + "0" + str(int(output)) + format(_EXTRA, "03b") + pps.bits[pps.at :])
    vps = _vps(ptl, width, height, depth, window, buffers)
    return Sets(
        vps=_nal(_VPS, 0, vps), sps=units[_SPS], pps=units[_PPS], second_sps=_nal(_SPS, 1, second),
        second_pps=_nal(_PPS, 1, other), slice_bits=(output, temporal),
    )  # fmt: skip


def _nal(kind: int, layer: int, bits: str) -> bytes:
    whole = Bits().raw(bits).trailed()
    return struct.pack(">H", kind << 9 | layer << 3 | 1) + escaped(whole)


def _vps(
    ptl: str, width: int, height: int, depth: tuple[int, int], window: list[int], buffers: tuple[int, int, int]
) -> str:
    """The video parameter set of two views (F.7.3.2.1), up to its trailing bits."""
    level = ptl[88:]
    bits = Bits().u(4, 0).u(1, 1).u(1, 1).u(6, 1).u(3, 0).u(1, 1).u(16, 0xFFFF).raw(ptl)
    bits.u(1, 1).ue(buffers[0]).ue(buffers[1]).ue(buffers[2])
    bits.u(6, 1).ue(1).u(2, 3).u(1, 0).u(1, 1)  # two layers, a set of each alone and of both; no timing; extension
    while len(bits.text()) % 8:
        bits.u(1, 1)
    bits.raw(level)  # the base layer's profile again: its level alone
    bits.u(1, 0).u(16, 1 << 14).u(3, 0).u(1, 1).u(6, 1).u(1, 1)  # by views; layer 1 has number 1 and is view 1
    bits.u(4, 1).u(1, 0).u(1, 1)  # the views' numbers
    bits.u(1, 1)  # layer 1 may use layer 0
    bits.u(1, 0).u(1, 0).u(1, 0).ue(2)
    # Multiview Main: profile 6, 8 bits, 4:2:0
    bits.u(1, 1).u(2, 0).u(1, int(ptl[2])).u(5, 6).u(32, 1 << (31 - 6)).u(4, 0b1001)
    bits.u(9, 0b111110001).u(34, 0).u(1, 0).raw(level)
    bits.ue(0).u(2, 0)  # every layer of a set is shown
    bits.u(2, 1).u(2, 2)  # their profiles
    bits.ue(0).u(16, width).u(16, height).u(1, 1).u(2, 1).u(4, depth[0]).u(4, depth[1]).u(1, int(bool(window)))
    for one in window:
        bits.ue(one)
    bits.u(1, 1).u(1, 0)  # one reference layer at most; picture orders need not be reset together
    bits.u(1, 0).ue(buffers[0]).ue(buffers[0]).ue(buffers[1]).ue(buffers[2])
    bits.ue(0).u(1, 1).u(2, 2).ue(0).u(1, 0)
    return bits.text()


def joined(left: bytes, right: bytes, sets: Sets) -> bytes:
    """An access unit of both layers, with start codes, from the views' own.

    Raises:
        InternalError: a slice is not as the encoder was told to write it.
    """
    slices = [_second_slice(right[a:b], sets) for a, b in nal_units(right) if right[a] >> 1 & 63 < 32]
    return left + b"".join(b"\x00\x00\x00\x01" + one for one in slices)


def _second_slice(nal: bytes, sets: Sets) -> bytes:
    """A slice of the right view as one of layer 1."""
    rbsp = unescaped(nal)
    kind = rbsp[0] >> 1 & 63
    head = _Reader(rbsp[2 : 2 + _HEADER_BYTES])
    if not head.u(1):
        raise InternalError("HEVC: expected one slice a picture.")
    key, idr = 16 <= kind <= 23, kind in (19, 20)
    if key:
        head.u(1)
    bits = head.bits[: head.at]
    if head.ue():
        raise InternalError("HEVC: expected parameter set 0.")
    bits += "010" + "0" * _EXTRA
    start = head.at
    head.ue()  # slice_type
    if sets.slice_bits[0]:
        head.u(1)
    if idr:
        bits += head.bits[start : head.at] + "0" * _POC_BITS
    else:
        head.u(_POC_BITS)
        if head.u(1):
            raise InternalError("HEVC: expected reference sets in slices.")
        negative, positive = head.ue(), head.ue()
        for _ in range(negative + positive):
            head.ue()
            head.u(1)
        if sets.slice_bits[1]:
            head.u(1)
        bits += head.bits[start : head.at]
    bits += "0" + head.bits[head.at :]
    rest = rbsp[2 + _HEADER_BYTES :]
    made = int(bits, 2).to_bytes(len(bits) // 8, "big") if len(bits) % 8 == 0 else b""
    if not made:
        raise InternalError("HEVC: a slice's header would not end at a byte.")
    return bytes([kind << 1, 1 << 3 | rbsp[1] & 7]) + escaped(made + rest)


def configuration(hvcc: bytes, sets: Sets) -> tuple[bytes, bytes]:
    """(hvcC, lhvC): the content of the boxes of both layers, from the one that a muxer wrote for the first."""
    arrays = b"".join(_array(kind, nal) for kind, nal in ((_VPS, sets.vps), (_SPS, sets.sps), (_PPS, sets.pps)))
    first = hvcc[:22] + b"\x03" + arrays
    second = b"".join(_array(kind, nal) for kind, nal in ((_SPS, sets.second_sps), (_PPS, sets.second_pps)))
    # version, no spatial segments, no parallelism, one temporal layer, lengths as in hvcC
    flags = 0b11000000 | 1 << 3 | 1 << 2 | hvcc[21] & 3
    return first, struct.pack(">BHBB", 1, 0xF000, 0xFC, flags) + b"\x02" + second


def _array(kind: int, nal: bytes) -> bytes:
    return struct.pack(">BHH", 0x80 | kind, 1, len(nal)) + nal


def spatial_boxes(fov: float, *, swapped: bool = False) -> list[bytes]:
    """What Apple's players look for: both eyes, which of them counts, how wide the view is.

    Args:
        fov: degrees that the picture's width covers.
        swapped: layer 0 is the right view.
    """
    eyes = box(
        b"eyes",
        full_box(b"stri", b"\x0b" if swapped else b"\x03")
        + full_box(b"hero", b"\x02" if swapped else b"\x01")
        + box(b"cams", full_box(b"blin", struct.pack(">I", BASELINE_UM)))
        + box(b"cmfy", full_box(b"dadj", struct.pack(">i", 0))),
    )
    projection = box(b"proj", full_box(b"prji", b"rect"))
    return [box(b"vexu", eyes + projection), box(b"hfov", struct.pack(">I", round(fov * 1000)))]
