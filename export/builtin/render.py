# SPDX-License-Identifier: Apache-2.0
"""Draw scenes into shards, each whole or absent, so that a killed run goes on where it was.

    python -m secondeye.export.builtin.render --out DIR --scenes 10000 --workers 2

train.py can do without (it draws scenes while it trains); export/distill.py takes shards, for their objects.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
from functools import partial
from pathlib import Path

import numpy as np

from .scenes import FAMILIES, SHARES
from .stream import VALIDATION_SEED, Work, draw_work, training_works, validation_works

SHARD = 250


def write_work(work: Work, out: Path, photos: list[str], size: tuple[int, int], shares: tuple[float, ...]) -> list[str]:
    """Draw a work's scenes into shards; gives the names of those that were not there."""
    kind = "validation" if work.base == VALIDATION_SEED else "train"
    firsts = range(work.first, work.first + work.count, SHARD)
    targets = {first: out / f"{kind}_{first:06d}.npz" for first in firsts}
    if all(target.exists() for target in targets.values()):
        return []
    _, scenes = draw_work(None, work, photos, size, shares)
    for first, target in targets.items():
        drawn = [next(scenes) for _ in range(min(SHARD, work.first + work.count - first))]
        temporary = target.with_suffix(".part")
        with temporary.open("wb") as file:
            np.savez(
                file,
                picture=np.stack([picture for picture, _, _ in drawn]),
                disparity=np.stack([disparity for _, disparity, _ in drawn]).astype(np.float16),
                objects=np.stack([objects for _, _, objects in drawn]),
            )
        os.replace(temporary, target)
    return [target.name for target in targets.values()]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--scenes", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--validation", type=int, default=256, help="how many held-out ones (default: 256)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one, a multiple of 1000 (default: 0)")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), help="height and width (default: 256 384)")
    parser.add_argument(
        "--shares", type=float, nargs=len(FAMILIES), default=SHARES, help=f"of {', '.join(FAMILIES)}, summing to 1"
    )
    parser.add_argument("--photos", nargs="*", default=[], help="folders of more photographs for textures")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw (default: 1)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    end = arguments.first + arguments.scenes
    works = validation_works(arguments.validation)
    for work in training_works(arguments.first):
        if work.first >= end:
            break
        works.append(Work(work.base, work.first, min(work.count, end - work.first)))
    write = partial(
        write_work, out=arguments.out, photos=arguments.photos, size=tuple(arguments.size),
        shares=tuple(arguments.shares),
    )  # fmt: skip
    with mp.get_context("spawn").Pool(arguments.workers, maxtasksperchild=1) as pool:
        for names in pool.imap(write, works):
            print(*names, sep="\n", flush=True)


if __name__ == "__main__":
    main()
