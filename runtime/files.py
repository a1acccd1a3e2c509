# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from secondeye.runtime.errors import MediaError


def explain_os_error(error: OSError) -> str:
    """The system's reason in its own words, without the errno and the path."""
    return (error.strerror or str(error)).lower()


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse a place where no file can be written, before any work is done for it.

    Raises:
        MediaError: it is a folder, or lies in one that does not exist or may not be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise MediaError(f"{target}: is a folder; give a file name inside it.")
    if not target.parent.is_dir():
        raise MediaError(f"{target}: the folder {target.parent} does not exist; make it first.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise MediaError(f"{target}: no file may be made in the folder {target.parent}; choose another place.")


def for_ffmpeg(path: str | os.PathLike[str]) -> str:
    """A file's name that FFmpeg takes as one, whatever it holds: ``Alien: x.mp4`` alone would be protocol ``Alien``."""
    return f"file:{os.fspath(path)}"


def make_folder(path: Path) -> None:
    """Make a folder for results, and those above it, where there is none.

    Raises:
        MediaError: a file stands there, or it may not be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise MediaError(f"{path}: is a file where a folder is meant; give another name.") from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be made ({explain_os_error(error)}).") from error


def temporary_beside(target: Path) -> Path:
    """A hidden name in a file's folder that no other run takes, and no longer than file systems allow (255 bytes)."""
    name = target.name.encode("utf-8", "ignore")[:100].decode("utf-8", "ignore")
    return target.with_name(f".{name}.{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, within: Path | None = None) -> Iterator[BinaryIO]:
    """Open a binary file that takes `path`'s place when the block ends well, and vanishes when it does not.

    The bytes go to a temporary name in the same folder, are flushed to the disk and renamed, so a reader, a crash or
    a full disk never sees half a file, and what stood at `path` before stays until the new file is whole.

    Args:
        path: of the file.
        within: a folder for the temporary one, where it is on the same disk: what a kill leaves then goes with that.

    Raises:
        MediaError: the folder does not exist or cannot be written, or the disk is full.
    """
    target = Path(path)
    check_place(target)
    temporary = temporary_beside(target)
    if within is not None and within.stat().st_dev == target.parent.stat().st_dev:
        temporary = within / temporary.name
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise MediaError(f"{target}: cannot be written ({explain_os_error(error)}).") from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, MediaError):
            raise MediaError(f"{target}: cannot be written ({explain_os_error(error)}).") from error
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        MediaError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({explain_os_error(error)}).") from error
    return digest.hexdigest()


try:
    import fcntl

    def try_lock(file: BinaryIO) -> bool:
        """Take a file's lock, which goes with its process; false where another has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def wait_lock(file: BinaryIO) -> None:
        """Take it when it is free."""
        fcntl.flock(file, fcntl.LOCK_EX)

except ImportError:  # Windows
    import msvcrt

    def try_lock(file: BinaryIO) -> bool:
        """As above."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

    def wait_lock(file: BinaryIO) -> None:
        """As above."""
        while True:
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
            except OSError as error:
                if error.errno != errno.EDEADLK:  # it gives up after ten seconds
                    raise
