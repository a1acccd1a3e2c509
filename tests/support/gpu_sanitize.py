# SPDX-License-Identifier: Apache-2.0
"""Sessions and pipes on a GPU at small sizes, held to the CPU's bytes; numpy alone, to run under compute-sanitizer.

compute-sanitizer --tool racecheck --error-exitcode 9 python tests/support/gpu_sanitize.py [cuda|blocks]
"""

import sys

import numpy as np

from secondeye import FramePath, LiveConfig, LiveSession

LAYOUTS = ("sbs", "tb", "half-sbs", "half-tb", "rows", "columns", "checkerboard", "anaglyph", "right")
HEIGHT, WIDTH, CHANNELS = 70, 122, 3
SCENE = np.random.default_rng(8).integers(0, 256, (HEIGHT, WIDTH + 64, CHANNELS), np.uint8)
WAVES = np.sin(np.mgrid[0:24, 0:40].sum(0) / 5).astype(np.float32)


def session(**there):
    made = []
    options = {"width": WIDTH, "height": HEIGHT, "policy": "every", "depth_every": 2, "slots": 3, "widen": 2} | there
    with LiveSession(LiveConfig(depth=lambda p: WAVES + np.float32(p[:, :, 0].mean() / 64), **options)) as live:
        for k in range(2 * len(LAYOUTS)):
            live.set(
                layout=LAYOUTS[k % len(LAYOUTS)],
                view=("right", "both")[k % 2],
                strength=float(k % 5) * 2,
                fill=k % 7 != 3,
            )
            live.submit(SCENE[:, 2 * k : 2 * k + WIDTH], timeout=60)
            made.append(np.array(live.wait(60).picture))
    return made


def pipe(**there):
    made = []
    lanes = FramePath(WIDTH, HEIGHT, map_size=(40, 24), widen=2, **there).pipe(2)
    for k, layout in enumerate(LAYOUTS * 2):
        if not lanes.submit(SCENE[:, 2 * k : 2 * k + WIDTH], (WAVES + 1) / 2, layout=layout, view="both", strength=5.0):
            raise SystemExit("a lane that is free takes no frame")
        if k % 2:
            made += [lanes.wait(), lanes.wait()]
    return made


if __name__ == "__main__":
    way = {"device": "cuda"} if sys.argv[1:] in ([], ["cuda"]) else {"isa": "blocks"}
    for what in (session, pipe):
        got, want = what(**way), what()
        wrong = [k for k, (a, b) in enumerate(zip(got, want, strict=True)) if a.shape != b.shape or (a != b).any()]
        print(f"{what.__name__}: {len(got)} pictures, {len(wrong)} wrong {wrong}")
        if wrong:
            raise SystemExit(1)
