# SPDX-License-Identifier: Apache-2.0
"""One frame from picture and nearness to its stereo picture, where the pixels are (secondeye/frame.h).

>>> path = secondeye.FramePath(3840, 2160, map_size=(416, 224), device="cuda")  # doctest: +SKIP
>>> pair = path(picture, nearness, layout="half-sbs")  # torch, cupy or pycuda arrays, on their current stream
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.live_config import LiveConfig
from secondeye.runtime.ops._arrays import any_array, take
from secondeye.runtime.ops._common import isa_code, need_gpu, output
from secondeye.runtime.ops.nv12 import STANDARDS, Standard


class FramePath:
    """Warp, fill and layout of whole frames, with depth of your own, without a thread or a copy of ours.

    The bytes are those of a :class:`secondeye.LiveSession` whose depth is the same. On a GPU the launches of a frame
    are one CUDA graph on the arrays' current stream, and nothing is waited for.

    Args:
        width, height: of the pictures, 16 to 8192.
        map_size: (width, height) of nearness.
        channels: 3 or 4.
        device: ``cpu`` or ``cuda``; where every array lies.
        nv12: pictures come as NV12, by this standard; None: as RGB or RGBA.
        full_range: of NV12.
        widen: near objects grow by this many pixels; None takes 2 at 1080p.
        threads, isa: on the CPU, as in :func:`secondeye.ops.pack`.
        graph: on a GPU, one CUDA graph; False: its launches one after another, for a graph that you record.

    Raises:
        InvalidInputError: sizes or names out of range.
        BackendUnavailableError: no GPU, or a build without CUDA.
        ResourceLimitError: the buffers do not fit.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        map_size: tuple[int, int],
        channels: int = 3,
        device: Literal["cpu", "cuda"] = "cpu",
        nv12: Standard | None = None,
        full_range: bool = False,
        widen: int | None = None,
        threads: int = 0,
        isa: str = "auto",
        graph: bool = True,
    ) -> None:
        if device not in ("cpu", "cuda"):
            raise InvalidInputError(f"device: expected cpu or cuda, got {device!r}.")
        if nv12 is not None and nv12 not in STANDARDS:
            raise InvalidInputError(f"nv12: expected one of {', '.join(STANDARDS)}, got {nv12!r}.")
        need_gpu(device)
        self._look = LiveConfig(width=width, height=height, channels=channels, widen=widen)
        self._last: tuple[dict[str, Any], dict[str, Any]] = ({}, self._look._look())
        self._nv12 = nv12 is not None
        self._one = threading.Lock()
        self._options = {
            "width": width, "height": height, "channels": channels, "device": int(device == "cuda"),
            "isa": isa_code(isa), "threads": threads, "nv12": int(self._nv12),
            "standard": list(STANDARDS).index(nv12 or "bt709"), "full_range": int(full_range),
            "map_width": map_size[0], "map_height": map_size[1], "widen": widen, "separate": int(not graph),
        }  # fmt: skip
        self._native = _native.Frame(self._options)

    @property
    def memory_bytes(self) -> int:
        """Of the scratch buffers."""
        return self._native.bytes()

    def __call__(self, picture: Any, nearness: Any, *, chroma: Any = None, out: Any = None, **look: Any) -> Any:
        """The stereo picture of a frame.

        Args:
            picture: uint8 [height, width, channels], any strides; with `nv12` the luma, [height, width].
            nearness: float32 [map height, map width], 0 far to 1 near.
            chroma: with `nv12`: uint8 [ceil(height / 2), ceil(width / 2), 2].
            out: where to write; allocated when None.
            look: strength, convergence, layout (every one but ``depth``), view, swap, fill, anaglyph.

        Returns:
            uint8, of picture's kind.

        Raises:
            InvalidInputError: shapes, dtypes or options do not fit.
            BackendUnavailableError: arrays that are not where this path is.
        """
        options = self._looks(look, chroma)

        @any_array
        def run(picture: Any, nearness: Any, chroma: Any, out: Any) -> Any:
            target = output(out, self._native.shape(options), "uint8", picture)
            with self._one:
                self._native.run(options, picture, chroma, nearness, target)
            return target

        return run(picture, nearness, chroma, out)

    def pipe(self, lanes: int = 3) -> FramePipe:
        """Frames on the host through such paths: one goes up while another is worked on and a third comes down.

        Args:
            lanes: frames under way at once, 1 to 8; three keep a GPU and both directions busy.
        """
        return FramePipe(self, lanes)

    def _looks(self, look: dict[str, Any], chroma: Any) -> dict[str, Any]:
        if (chroma is not None) != self._nv12:
            raise InvalidInputError("chroma: expected with a path that was made with nv12, and only there.")
        given, options = self._last
        if look != given:  # a look is checked when it changes
            options = replace(self._look, **look)._look()
            self._last = (look, options)
        return options


class FramePipe:
    """What :meth:`FramePath.pipe` gives. Lanes have page-locked memory; one thread may submit, another wait.

    Raises:
        InvalidInputError, ResourceLimitError: `lanes` out of range, or the buffers do not fit.
    """

    def __init__(self, path: FramePath, lanes: int) -> None:
        self._path = path
        self._native = _native.FramePipe(path._options, lanes)
        self._shapes: deque[tuple[int, int, int]] = deque()

    def submit(self, picture: Any, nearness: Any, *, chroma: Any = None, **look: Any) -> bool:
        """Hand a frame in, as to :class:`FramePath`, on the host; it is copied. False while every lane holds one."""
        options = self._path._looks(look, chroma)
        shape = self._path._native.shape(options)
        given = [take(name, a) for name, a in (("picture", picture), ("chroma", chroma), ("nearness", nearness))]
        self._shapes.append(shape)
        taken = False
        try:
            taken = self._native.submit(options, *given)
        finally:
            if not taken:
                self._shapes.pop()
        return taken

    def wait(self, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8] | None:
        """The oldest frame's stereo picture, when it is ready; None when nothing was submitted.

        Args:
            out: where to write; allocated when None.
        """
        if not self._shapes:
            return None
        target = np.empty(self._shapes[0], np.uint8) if out is None else out
        self._native.wait(target)
        self._shapes.popleft()
        return target
