# SPDX-License-Identifier: Apache-2.0
"""``secondeye cache``: what is kept between runs, and its removal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

KEPT = {
    "models": ("models", "fetched depth models; secondeye models get brings them again"),
    "builds": ("engines", "finished pieces of build-engine; without them the next build begins anew"),
    "kernels": ("kernels", "what TensorRT-RTX finished for this GPU; made again when a plan is opened"),
}


def cache(
    clear: Annotated[
        list[str] | None,
        typer.Option(help="Remove what is kept: models, builds, kernels or all. May be given again."),
    ] = None,
) -> None:
    """Show what SecondEye keeps between runs, and where; --clear removes it.

    Bundles need none of it: they hold copies. The key that seals plans (engine.key) stays, or no plan that was built
    here would open again.
    """
    from secondeye.runtime.errors import InvalidInputError
    from secondeye.runtime.zoo import cache_folder

    home = cache_folder()
    wrong = sorted(set(clear or ()) - {*KEPT, "all"})
    if wrong:
        raise InvalidInputError(f"--clear: expected {', '.join(KEPT)} or all, got {', '.join(wrong)}.")
    for name in KEPT if "all" in (clear or ()) else dict.fromkeys(clear or ()):
        freed = _removed(home / KEPT[name][0])
        typer.echo(f"{name}: {_mib(freed)} removed", err=True)
    if clear:
        return
    typer.echo(str(home))
    for name, (folder, what) in KEPT.items():
        typer.echo(f"  {name:<8} {_mib(_size(home / folder)):>12}  {what}")


def _removed(folder: Path) -> int:
    """Empty a folder of the cache, with the lock of builds where there is one; gives its bytes.

    Raises:
        InvalidInputError: a build is running.
        MediaError: it cannot be removed.
    """
    from secondeye.runtime.errors import InvalidInputError, MediaError
    from secondeye.runtime.files import explain_os_error, try_lock

    size = _size(folder)
    lock = folder / "build.lock"
    try:
        if not lock.exists():
            if folder.exists():
                shutil.rmtree(folder)
            return size
        with lock.open("a+b") as file:
            if not try_lock(file):
                raise InvalidInputError(f"{folder}: a build is running; end it first.")
            for one in folder.iterdir():
                if one.is_dir():
                    shutil.rmtree(one)
        return size
    except OSError as error:
        raise MediaError(f"{folder}: cannot be removed ({explain_os_error(error)}).") from error


def _size(folder: Path) -> int:
    places = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    return sum(place.lstat().st_size for place in places if place.is_file())


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
