# SPDX-License-Identifier: Apache-2.0
"""Draw the training set: shards of scenes, each whole or absent, so that a killed run goes on where it was.

python -m secondeye.export.builtin.render --out DIR --scenes 10000
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from .scenes import FAMILIES, SHARES, Renderer
from .textures import make_textures

SHARD = 250
VALIDATION_SEED = 10_000_000


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--scenes", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--validation", type=int, default=250, help="how many held-out ones (default: 250)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one, a multiple of 250 (default: 0)")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), help="height and width (default: 256 384)")
    parser.add_argument(
        "--shares", type=float, nargs=len(FAMILIES), default=SHARES, help=f"of {', '.join(FAMILIES)}, summing to 1"
    )
    parser.add_argument("--photos", nargs="*", default=[], help="folders of more photographs for textures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for kind, begin, count, base in (
        ("validation", 0, arguments.validation, VALIDATION_SEED),
        ("train", arguments.first, arguments.first + arguments.scenes, 0),
    ):
        renderer = None
        for first in range(begin, count, SHARD):
            target = arguments.out / f"{kind}_{first:06d}.npz"
            if target.exists():
                continue
            # Fresh textures now and then: a network should not learn to know them.
            if renderer is None or (first // SHARD) % 4 == 0:
                renderer = Renderer(
                    make_textures(base + first + 1, 200, arguments.photos), *arguments.size, tuple(arguments.shares)
                )
            drawn = [renderer.draw_objects(base + seed) for seed in range(first, min(first + SHARD, count))]
            temporary = target.with_suffix(".part")
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    picture=np.stack([picture for picture, _, _ in drawn]),
                    disparity=np.stack([disparity for _, disparity, _ in drawn]).astype(np.float16),
                    objects=np.stack([objects for _, _, objects in drawn]),
                )
            os.replace(temporary, target)
            print(f"{target.name}: {first + len(drawn)} of {count}", flush=True)


if __name__ == "__main__":
    main()
