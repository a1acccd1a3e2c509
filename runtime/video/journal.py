# SPDX-License-Identifier: Apache-2.0
"""The journal of a film's conversion: which segments are whole, and what they are segments of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondeye import __version__
from secondeye.runtime.bundle import MANIFEST
from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.files import atomic_write, file_hash, try_lock
from secondeye.runtime.objects import segmenter_identity
from secondeye.runtime.video.media import first_number, is_sequence
from secondeye.runtime.video.report import Shot, joined_shots

if TYPE_CHECKING:
    from secondeye.runtime.video.config import FilmConfig
    from secondeye.runtime.video.maps import MapTrack
    from secondeye.runtime.video.media import FilmInfo
    from secondeye.runtime.video.subtitles import Track


class Journal:
    """The folder of finished segments, and what they are segments of."""

    def __init__(
        self, target: Path, info: FilmInfo, config: FilmConfig, text: Track | None = None, maps: MapTrack | None = None
    ) -> None:
        self.folder = target.with_name(target.name + ".parts")
        self._target = target
        self._removed = False
        self._settings = _settings(info, config)
        if text is not None:
            self._settings["subtitles.text"] = text.digest()
        if maps is not None:
            self._settings["depth_map"] = maps.identity()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One run at a time works on an output.

        Raises:
            InvalidInputError: another run does.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            file = open(self.folder / "lock", "a+b")  # noqa: SIM115  # open as long as the lock is held
        except OSError as error:
            raise MediaError(f"{self.folder}: cannot be made ({error.strerror}).") from error
        try:
            with file:
                if not try_lock(file):
                    raise InvalidInputError(f"{self._target}: another run is converting into this file.")
                yield
        finally:
            if self._removed and os.name == "nt":  # where what is open stays
                shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self) -> None:
        """Write down what this run converts, or see that the run before, if it has finished any, converted the same.

        Raises:
            InvalidInputError: it converted something else.
        """
        path = self.folder / "journal.json"
        if path.exists():
            try:
                before = json.loads(path.read_text())
            except ValueError:
                before = {}
            changed = sorted(k for k in {*before, *self._settings} if before.get(k) != self._settings.get(k))
            if changed and self.finished():
                told = ", ".join(f"{k} was {before.get(k)!r}, now {self._settings.get(k)!r}" for k in changed[:3])
                raise InvalidInputError(
                    f"{self.folder}: holds parts of a run with other settings ({told}); finish that one with its "
                    "settings, or remove the folder to begin anew."
                )
            if not changed:
                return
        with atomic_write(path) as file:
            file.write(json.dumps(self._settings, indent=1, sort_keys=True).encode())

    def segment(self, k: int) -> Path:
        """A segment's file."""
        return self.folder / f"{k:06d}.seg"

    def has(self, k: int) -> bool:
        """Whether a segment is whole: its bytes are those that were written."""
        try:
            record = self.record(k)
        except (OSError, ValueError, KeyError):
            return False
        path = self.segment(k)
        return path.exists() and file_hash(path) == record["sha256"]

    def finished(self) -> int:
        """How many segments have been written down as whole."""
        return sum(1 for one in self.folder.glob("*.json") if one.stem.isdigit())

    def record(self, k: int) -> dict[str, Any]:
        """What was written of a segment: frames, their timestamps (pts), cuts, shots, sha256."""
        loaded: dict[str, Any] = json.loads((self.folder / f"{k:06d}.json").read_text())
        return loaded

    def shots_before(self, k: int) -> tuple[Shot, ...]:
        """The shots of the finished segments before one."""
        found = []
        for one in range(k):
            with contextlib.suppress(OSError, ValueError, KeyError):
                found.append(self.record(one)["shots"])
        return joined_shots(found)

    def finish(self, k: int, temporary: Path, pts: list[int], cuts: int, shots: list[dict[str, Any]]) -> None:
        """A segment's file is whole: give it its name, and write that down."""
        record = {"frames": len(pts), "pts": pts, "cuts": cuts, "shots": shots, "sha256": file_hash(temporary)}
        with temporary.open("r+b") as file:  # Windows flushes what may be written alone
            os.fsync(file.fileno())
        os.replace(temporary, self.segment(k))
        with atomic_write(self.folder / f"{k:06d}.json") as out:
            out.write(json.dumps(record).encode())

    def remove(self) -> None:
        """The film is whole: the parts go."""
        self._removed = True
        shutil.rmtree(self.folder, ignore_errors=True)


def _settings(info: FilmInfo, config: FilmConfig) -> dict[str, Any]:
    """Everything that a segment's bytes depend on, but for the machine."""
    stereo = {k: v for k, v in asdict(config.stereo).items() if k != "threads"}
    stereo["depth"] = str(stereo["depth"])
    if os.path.isfile(stereo["depth"]):
        stereo["depth"] = file_hash(stereo["depth"])
    if config.stereo.bundle is not None:
        manifest = Path(config.stereo.bundle) / MANIFEST  # which has its engines' hashes
        stereo["bundle"] = file_hash(manifest) if manifest.is_file() else str(manifest)
    stereo["segment"] = segmenter_identity(stereo["segment"])
    settings = {
        **{f"stereo.{k}": v for k, v in stereo.items()},
        **{one.name: getattr(config, one.name) for one in fields(config) if one.name != "stereo"},
        "source": source_identity(info.path, info.frames),
        "version": __version__,
    }  # fmt: skip
    normal: dict[str, Any] = json.loads(json.dumps(settings, default=str))  # as it will be read again
    return normal


def source_identity(path: Path, frames: int) -> dict[str, Any]:
    """What tells a source from another: its size, and a hash of its first and last mebibyte; of pictures, of all."""
    digest = hashlib.sha256()
    if is_sequence(path):
        first = first_number(path)
        names = [path.with_name(path.name % (first + k)) for k in range(frames)]
        for name in names:
            digest.update(file_hash(name).encode())
        return {"pictures": len(names), "hash": digest.hexdigest()}
    stat = path.stat()
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
        file.seek(max(0, stat.st_size - (1 << 20)))
        digest.update(file.read(1 << 20))
    return {"bytes": stat.st_size, "ends": digest.hexdigest()}
