# SPDX-License-Identifier: Apache-2.0
"""The stereo photo formats: JPS (VRex's stereo descriptor in a JPEG) and MPO (CIPA DC-007, multi-picture format)."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import Image

_DISPARITY = 0x00020002
_REPRESENTATIVE = 0x20000000


def jps_extra() -> bytes:
    """The APP3 segment that says: stereo, side by side, full size, right view on the left.

    That order (cross-eyed) is the format's default, so a reader that ignores the descriptor is right too.
    Source: VRex, General Purpose Stereoscopic Data Descriptor, 1997.
    """
    # From the high byte down: separation 0, flags 0 (full height and width, right field first), layout 2, type 1.
    body = b"_JPSJPS_" + struct.pack(">HI", 4, 0x00000201)
    return b"\xff\xe3" + struct.pack(">H", 2 + len(body)) + body


def jps_words(descriptor: bytes) -> str:
    """What such a segment, from its name on, says of the layout."""
    if len(descriptor) < 14:
        return "a descriptor that is cut short"
    (word,) = struct.unpack_from(">I", descriptor, 10)
    kind, layout, flags = word & 255, word >> 8 & 255, word >> 16 & 255
    if kind != 1:
        return "one view"
    order = "left view first" if flags & 4 else "right view first"
    names = {1: "row interleaved", 2: "side by side", 3: "top-bottom", 4: "anaglyph"}
    squeezed = " (squeezed)" if flags & 3 else ""
    return f"{names.get(layout, f'layout {layout}')}, {order}{squeezed}"


def write_mpo(file: BinaryIO, left: Image.Image, right: Image.Image, quality: int) -> None:
    """Two JPEGs in one file; the index names them a disparity pair, left view first."""
    buffer = io.BytesIO()
    left.save(buffer, "MPO", save_all=True, append_images=[right], quality=quality, subsampling=0)
    data = bytearray(buffer.getvalue())
    for index, kind in enumerate((_DISPARITY | _REPRESENTATIVE, _DISPARITY)):
        struct.pack_into("<I", data, _entries_offset(data) + 16 * index, kind)
    file.write(data)


def _entries_offset(data: bytearray) -> int:
    """Where the MP entries (tag 0xB002) of the first picture's index lie.

    The encoder marks a picture's kind as undefined, and viewers then show one flat photo.
    """
    start = data.index(b"MPF\x00") + 4
    directory = start + int(struct.unpack_from("<I", data, start + 4)[0])
    for number in range(struct.unpack_from("<H", data, directory)[0]):
        tag, _, _, value = struct.unpack_from("<HHII", data, directory + 2 + 12 * number)
        if tag == 0xB002:
            return start + int(value)
    raise ValueError("the multi-picture index has no entries")
