# SPDX-License-Identifier: Apache-2.0
"""Sessions and pipes on a GPU at small sizes, held to the CPU's bytes; numpy alone, to run under compute-sanitizer.

compute-sanitizer --tool racecheck --error-exitcode 9 python tests/support/gpu_sanitize.py [cuda|blocks]
"""

import sys

import numpy as np

from secondeye import FramePath, LiveConfig, LiveSession

LAYOUTS = ("sbs", "tb", "half-sbs", "half-tb", "rows", "columns", "checkerboard", "anaglyph", "right", "depth")
HEIGHT, WIDTH, CHANNELS = 70, 122, 3
SCENE = np.random.default_rng(8).integers(0, 256, (HEIGHT, WIDTH + 64, CHANNELS), np.uint8)
TEXT = np.random.default_rng(9).integers(0, 256, (30, 50, 4), np.uint8)
COVER = (np.random.default_rng(7).random((HEIGHT, WIDTH)) < 0.2).astype(np.uint8)
WAVES = np.sin(np.mgrid[0:24, 0:40].sum(0) / 5).astype(np.float32)


def session(**there):
    made = []
    options = {"width": WIDTH, "height": HEIGHT, "policy": "every", "depth_every": 2, "slots": 3, "widen": 2} | there
    with LiveSession(
        LiveConfig(remember=True, depth=lambda p: WAVES + np.float32(p[:, :, 0].mean() / 64), **options)
    ) as live:
        for k in range(2 * len(LAYOUTS)):
            live.set(
                layout=LAYOUTS[k % len(LAYOUTS)],
                view=("right", "both")[k % 2],
                strength=float(k % 5) * 2,
                fill=k % 7 != 3,
                roll=float(k % 3) * 10 - 10,
            )
            live.set_overlay(TEXT if k % 3 else None, x=8 * k - 20, y=70 - 5 * k, disparity=float(k % 5))
            live.set_mask(COVER if k % 4 else None, disparity=float(k % 6) - 3)
            live.submit(SCENE[:, 2 * k : 2 * k + WIDTH], timeout=60)
            made.append(np.array(live.wait(60).picture))
            made += live.render([-1.0, 0.5], down=0.2 * (k % 4), shift=float(k))
            made.append(live.render_quilt(2, 1, tile=(41, 30)))
    return made


def pipe(**there):
    made = []
    lanes = FramePath(WIDTH, HEIGHT, map_size=(40, 24), widen=2, **there).pipe(2)
    for k, layout in enumerate(LAYOUTS[:-1] * 2):  # a session's alone: depth
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
