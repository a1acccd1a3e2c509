# SPDX-License-Identifier: Apache-2.0
"""The boxes of MP4 and MOV files: those of a film's video sample entry read, and new ones put into it.

A box is four bytes of size, four of name, and its content, which may be boxes again. Everything is read within bounds:
the files may come from anywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from secondeye.runtime.errors import InvalidInputError

MAX_MOOV_BYTES = 256 << 20  # the index of a film of a day
_SAMPLE_ENTRY = 78  # bytes of a visual sample entry's own fields
_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


@dataclass(frozen=True, slots=True)
class _Box:
    name: bytes
    start: int
    inside: int
    end: int


def box(name: bytes, content: bytes) -> bytes:
    """A box."""
    return struct.pack(">I4s", 8 + len(content), name) + content


def full_box(name: bytes, content: bytes, version: int = 0) -> bytes:
    """A box with a version and no flags."""
    return box(name, struct.pack(">I", version << 24) + content)


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[_Box]:
    """The boxes of a range; ends at the first that does not fit."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        inside = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, inside)
            inside += 8
        elif size == 0:
            size = end - start
        if size < inside - start or start + size > end:
            return
        yield _Box(name, start, inside, start + size)
        start += size


def _top(file: BinaryIO, name: bytes) -> tuple[int, bytes] | None:
    """(offset, bytes) of a file's first top-level box of a name."""
    file.seek(0, 2)
    end, at = file.tell(), 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, found = struct.unpack_from(">I4s", head)
        least = 8
        if size == 1 and len(head) == 16:
            size, least = struct.unpack_from(">Q", head, 8)[0], 16
        elif size == 0:
            size = end - at
        if size < least or at + size > end:
            return None
        if found == name:
            if size > MAX_MOOV_BYTES:
                return None
            file.seek(at)
            return at, file.read(size)
        at += size
    return None


def _way(moov: bytes | bytearray) -> list[_Box] | None:
    """The boxes from moov down to the sample entry of the first video track."""
    root = next(_boxes(moov, 0, len(moov)), None)
    if root is None:
        return None
    for trak in _boxes(moov, root.inside, root.end):
        if trak.name != b"trak":
            continue
        way: list[_Box] = [root, trak]
        for name in _PATH[2:]:
            found = next((b for b in _boxes(moov, way[-1].inside, way[-1].end) if b.name == name), None)
            if found is None:
                break
            way.append(found)
            if name == b"mdia":
                handler = next((b for b in _boxes(moov, found.inside, found.end) if b.name == b"hdlr"), None)
                if handler is None or moov[handler.inside + 8 : handler.inside + 12] != b"vide":
                    break
        if way[-1].name != b"stsd":
            continue
        entry = next(_boxes(moov, way[-1].inside + 8, way[-1].end), None)
        if entry is not None and entry.end - entry.inside >= _SAMPLE_ENTRY:
            return [*way, entry]
    return None


def _children(moov: bytes | bytearray, entry: _Box) -> list[_Box]:
    return list(_boxes(moov, entry.inside + _SAMPLE_ENTRY, entry.end))


def sample_entry_boxes(file: BinaryIO) -> dict[bytes, bytes]:
    """The boxes within the first video track's sample entry: name to content. Empty for what is no MP4 or MOV."""
    found = _top(file, b"moov")
    way = _way(found[1]) if found is not None else None
    if found is None or way is None:
        return {}
    return {b.name: found[1][b.inside : b.end] for b in _children(found[1], way[-1])}


def inner(content: bytes, *path: bytes) -> bytes | None:
    """The content of a box within a box's content, by its path of names."""
    for name in path:
        found = next((b for b in _boxes(content, 0, len(content)) if b.name == name), None)
        if found is None:
            return None
        content = content[found.inside : found.end]
    return content


def add_to_sample_entry(
    file: BinaryIO, new: list[bytes], *, replace: dict[bytes, bytes] | None = None, name: bytes | None = None
) -> None:
    """Put boxes into the sample entry of the first video track.

    The index (moov) is written anew at the file's end, and the old one becomes free space unless it was at the end
    already; so nothing else moves, and no offset changes.

    Args:
        file: a whole MP4 or MOV, open for reading and writing.
        new: boxes.
        replace: contents of boxes that are there, by name.
        name: the entry's own name (hvc1), in place of the one that it has.

    Raises:
        InvalidInputError: the file has no such track.
    """
    found = _top(file, b"moov")
    way = _way(found[1]) if found is not None else None
    if found is None or way is None:
        raise InvalidInputError("expected an MP4 or MOV file with a video track, found none.")
    at, data = found
    entry = way[-1]
    kept = b""
    for child in _children(data, entry):
        content = (replace or {}).get(child.name)
        kept += data[child.start : child.end] if content is None else box(child.name, content)
    content = data[: entry.inside + _SAMPLE_ENTRY] + kept + b"".join(new)
    grown = len(content) - entry.end
    moov = bytearray(content + data[entry.end :])
    for one in way:
        if one.inside - one.start == 8:
            struct.pack_into(">I", moov, one.start, one.end - one.start + grown)
        else:
            struct.pack_into(">Q", moov, one.start + 8, one.end - one.start + grown)
    if name is not None:
        moov[entry.start + 4 : entry.start + 8] = name
    file.seek(0, 2)
    if at + len(data) == file.tell():
        file.seek(at)
    else:
        file.seek(at + 4)
        file.write(b"free")
        file.seek(0, 2)
    file.write(moov)
    file.flush()
