# SPDX-License-Identifier: Apache-2.0
"""Finished pieces of a build, kept by what they were made from, so that a build that was stopped goes on.

A piece is a folder ``pieces/<key>`` with its files and a ``record.json`` that has their SHA-256. It is made in
``work/`` and renamed when it is whole. One build runs at a time (a lock on ``build.lock``, gone with its process).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from secondeye.runtime.errors import MediaError, SecondEyeError
from secondeye.runtime.files import atomic_write, explain_os_error, file_hash, sync_folder, try_lock, wait_lock

RECORD = "record.json"
OWN = ("pieces", "work")
"""Folders of a cache, where nothing else can stay."""


def content_key(parts: dict[str, Any]) -> str:
    """SHA-256 of what a piece is made from."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_hash() -> str:
    """SHA-256 of the exporters' own source, so that a changed exporter makes new pieces."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*here.glob("*.py"), *(here / "models").glob("*.py")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class Cache:
    """The pieces in a folder. Use :meth:`locked` round everything else.

    Args:
        folder: is made when it is not there.

    Raises:
        MediaError: it cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "pieces").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"{folder}: cannot be written ({explain_os_error(error)}).") from error

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[Path]:
        """Hold the lock; gives an empty folder for work, which is removed at the end (or by the next build)."""
        with contextlib.ExitStack() as held:
            try:
                lock = held.enter_context(open(self.folder / "build.lock", "a+b"))
            except OSError as error:
                raise MediaError(f"{self.folder}: cannot be written ({explain_os_error(error)}).") from error
            if not try_lock(lock):
                waiting()
                try:
                    wait_lock(lock)
                except OSError as error:
                    raise MediaError(
                        f"{self.folder}: cannot be locked ({explain_os_error(error)}); choose a folder on another disk."
                    ) from error
            work = self.folder / "work"
            shutil.rmtree(work, ignore_errors=True)
            try:
                work.mkdir()
                yield work
            except OSError as error:  # a full disk, most often; ONNX's writer has words of its own for it
                if isinstance(error, SecondEyeError | BrokenPipeError):
                    raise
                raise MediaError(
                    f"{self.folder}: the build cannot go on ({explain_os_error(error)}); is the disk full? What was "
                    "finished is kept."
                ) from error
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def find(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """A piece's folder and record, if it is whole; one that is damaged is removed."""
        home = self.folder / "pieces" / key
        try:
            record = json.loads((home / RECORD).read_text("utf-8"))
            whole = all(file_hash(home / name) == digest for name, digest in record["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            whole, record = False, {}
        if whole:
            return home, record
        shutil.rmtree(home, ignore_errors=True)
        return None

    def keep(self, key: str, made: Path, about: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
        """Make a piece of a folder of files: all of them or none appear."""
        files = {path.name: file_hash(path) for path in sorted(made.iterdir())}
        record = {"files": files, **about}
        for name in files:
            _sync_file(made / name)
        with atomic_write(made / RECORD) as file:
            file.write(json.dumps(record, indent=1, sort_keys=True).encode())
        home = self.folder / "pieces" / key
        os.replace(made, home)
        sync_folder(home.parent)
        return home, record


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def place_folder(made: Path, target: Path) -> None:
    """Put a finished folder at its place; what stood there goes only when the new one stands."""
    aside = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(target, aside)
    os.replace(made, target)
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def copy_file(source: Path, target: Path) -> None:
    """A copy that has reached the disk; no hard link, because ONNX's own tools refuse weights that have two names."""
    shutil.copyfile(source, target)
    _sync_file(target)
