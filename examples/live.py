# SPDX-License-Identifier: Apache-2.0
"""A camera or a film in a window, side by side; keys: + and - strength, l the next layout, q ends.

pip install secondeye opencv-python
python live.py            # the first camera
python live.py film.mp4
"""

import sys

import cv2

import secondeye

LAYOUTS = ["sbs", "anaglyph", "half-sbs", "rows", "depth"]


def main() -> None:
    source = cv2.VideoCapture(sys.argv[1] if len(sys.argv) > 1 else 0)
    good, frame = source.read()
    if not good:
        sys.exit("live.py: no frame could be read")
    height, width = frame.shape[:2]
    config = secondeye.LiveConfig(width=width, height=height, depth_every=0)
    with secondeye.LiveSession(config) as session:
        while good:
            session.submit(frame[:, :, ::-1])  # OpenCV's pictures are BGR; strides are no matter
            result = session.wait(1.0)
            if result is not None:
                cv2.imshow("SecondEye", result.picture[:, :, ::-1])
            key = chr(cv2.waitKey(1) & 255)
            if key == "q":
                break
            if key in "+-":
                step = 0.25 if key == "+" else -0.25
                session.set(strength=min(20.0, max(0.0, session.config.strength + step)))
            if key == "l":
                at = LAYOUTS.index(session.config.layout)
                session.set(layout=LAYOUTS[(at + 1) % len(LAYOUTS)])
            good, frame = source.read()
        print(session.stats.stages["total"])


if __name__ == "__main__":
    main()
