# SPDX-License-Identifier: Apache-2.0
"""A window that shows a live session; keys change how it looks."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import BackendUnavailableError

HELP = "Keys: + - strength, [ ] convergence, L layout, S swap, F full screen, Q ends."
_KEYS = {
    "PLUS": "+", "EQUAL": "+", "NUM_ADD": "+", "MINUS": "-", "NUM_SUBTRACT": "-", "BRACKETLEFT": "[",
    "BRACKETRIGHT": "]", "L": "l", "S": "s", "F": "f", "Q": "q", "ESCAPE": "q",
}  # fmt: skip


class Window:
    """Draws pictures as they come. As a context manager it closes itself.

    Args:
        width, height: of the first picture; the window fits the screen and keeps the picture's proportions.
        key: called with each of ``+ - [ ] l s`` that is pressed.
        aspect: of a pixel, width to height.

    Raises:
        BackendUnavailableError: the extra ``window`` is not installed, or there is no display.
    """

    def __init__(self, width: int, height: int, key: Callable[[str], None], aspect: float = 1.0) -> None:
        try:
            import pyglet
        except ImportError as error:
            raise BackendUnavailableError(
                "a window needs the extra 'window': pip install 'secondeye[window]'; or pipe into a player: "
                "secondeye live camera | ffplay -"
            ) from error
        try:
            screen = pyglet.display.get_display().get_default_screen()
            width = max(1, round(width * aspect))
            share = min(1.0, 0.9 * screen.width / width, 0.85 * screen.height / height)
            self._window = pyglet.window.Window(
                max(64, round(width * share)), max(64, round(height * share)), caption="SecondEye", resizable=True,
                vsync=False,
            )  # fmt: skip
        except Exception as error:  # pyglet has a class of its own for every way in which a display can be missing
            raise BackendUnavailableError(
                f"a window cannot be opened ({type(error).__name__}: {error}); on a machine without a display use "
                "secondeye serve, or -o FILE."
            ) from error
        self.target = "window"
        self.written = 0
        self.ended = False
        self._pyglet: Any = pyglet
        self._texture: Any = None
        self._key, self._aspect = key, aspect
        self._window.push_handlers(on_close=self._closed, on_key_press=self._pressed)

    def _closed(self) -> bool:
        self.ended = True
        return True  # handled: the window goes in close()

    def _pressed(self, symbol: int, _: int) -> bool:
        name = _KEYS.get(self._pyglet.window.key.symbol_string(symbol), "")
        if name == "q":
            self.ended = True
        elif name == "f":
            self._window.set_fullscreen(not self._window.fullscreen)
        elif name:
            self._key(name)
        return True

    def tick(self) -> None:
        """Look at keys and the mouse; to be called often, also where no picture comes."""
        self._window.switch_to()
        self._window.dispatch_events()

    def write(self, picture: NDArray[np.uint8], timestamp: int) -> None:
        """Show a picture.

        Args:
            picture: uint8 [H, W, 3].
            timestamp: of no matter here: a window shows the newest.
        """
        self.tick()
        if self.ended:
            return
        height, width = picture.shape[:2]
        image = self._pyglet.image.ImageData(width, height, "RGB", picture[::-1].tobytes(), pitch=3 * width)
        if self._texture is None or (self._texture.width, self._texture.height) != (width, height):
            self._texture = self._pyglet.image.Texture.create(width, height)
        self._texture.blit_into(image, 0, 0, 0)
        share = min(self._window.width / (width * self._aspect), self._window.height / height)
        wide, high = round(width * self._aspect * share), round(height * share)
        self._window.clear()
        self._texture.blit((self._window.width - wide) // 2, (self._window.height - high) // 2, 0, wide, high)
        self._window.flip()
        self.written += 1

    def close(self) -> None:
        """Take the window away."""
        self._window.close()

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
