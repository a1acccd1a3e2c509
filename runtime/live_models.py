# SPDX-License-Identifier: Apache-2.0
"""What a live session asks for: depth, by its own threads or a function; objects, by a segmenter beside it."""

from __future__ import annotations

import atexit
import importlib.util
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.depth import DepthModel, DepthOptions, open_depth
from secondeye.runtime.errors import InvalidInputError, SessionError
from secondeye.runtime.interpolate import interpolate
from secondeye.runtime.live_config import LiveConfig
from secondeye.runtime.objects import SURE, Labeller, open_labeller

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint16]
_NAME = "secondeye objects"  # of the threads


def onnxruntime_library(*, needed: bool) -> str:
    """The path of ONNX Runtime's shared library: ``SECONDEYE_ONNXRUNTIME``, or the installed package's; empty without.

    Raises:
        SessionError: it is needed, and there is none.
    """
    given = os.environ.get("SECONDEYE_ONNXRUNTIME")
    if given:
        return given
    spec = importlib.util.find_spec("onnxruntime")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    name = "onnxruntime.dll" if os.name == "nt" else "libonnxruntime.so*"
    found = [str(p) for place in places for p in sorted((Path(place) / "capi").glob(name))]
    if not found and needed:
        raise SessionError(
            "ONNX Runtime's shared library was not found beside its Python package; "
            "install onnxruntime, or name the library in SECONDEYE_ONNXRUNTIME."
        )
    return found[0] if found else ""


def depth_function(config: LiveConfig) -> Any:
    """A function from a frame to float32 [h, w], always of the shape that its first answer had."""
    model: DepthModel | Any = config.depth
    if isinstance(model, str | os.PathLike):
        model = open_depth(model, DepthOptions(threads=config.threads, device=config.device))
    if not callable(model):
        raise InvalidInputError(f"depth: expected a name, a path or a function, got {type(model).__name__}.")
    shape: list[tuple[int, int]] = []

    def depth(frame: Pixels) -> NDArray[np.float32]:
        values = np.ascontiguousarray(model(frame[:, :, :3]), np.float32)
        if values.ndim != 2 or min(values.shape) < 8 or max(values.shape) > 4096:
            raise InvalidInputError(f"depth: expected a map [h, w] of 8 to 4096, got {list(values.shape)}.")
        if not shape:
            shape.append((values.shape[0], values.shape[1]))
        return values if values.shape == shape[0] else interpolate(values, *shape[0], "linear")

    return depth


def open_segmenter(config: LiveConfig) -> Labeller | None:
    """Who tells a session's objects apart; None when nobody does. A network leaves half the cores to the frames.

    Raises:
        InvalidInputError: neither a name, a path nor a function.
        MediaError, ModelFormatError, BackendUnavailableError, ResourceLimitError: it cannot be opened.
    """
    if isinstance(config.segment, str | os.PathLike):
        return open_labeller(config.segment, threads=config.threads or max(1, _native.cpu_count() // 2))
    if not callable(config.segment):
        raise InvalidInputError(f"segment: expected a name, a path or a function, got {type(config.segment).__name__}.")
    labeller: Labeller = config.segment
    return labeller


class Labelling:
    """A thread that tells the objects of a session's key frames apart, until the session ends.

    Attributes:
        error: why the last key frame has no labels; empty when it has.
    """

    def __init__(self, session: _native.Session, labeller: Labeller, shape: tuple[int, int, int]) -> None:
        self.error = ""
        thread = threading.Thread(target=self._work, args=(session, labeller, shape), name=_NAME, daemon=True)
        _threads.add(thread)
        thread.start()

    def _work(self, session: _native.Session, labeller: Labeller, shape: tuple[int, int, int]) -> None:
        try:
            while True:
                picture = np.empty(shape, np.uint8)  # the segmenter may keep it
                ticket = session.wait_key(picture, -1.0)
                if ticket is None:
                    continue
                try:
                    session.set_labels(ticket, _told(labeller, np.ascontiguousarray(picture[:, :, :3])))
                    self.error = ""
                except SessionError:
                    raise
                except Exception as error:  # of somebody's network or function: the session lives on without labels
                    self.error = str(error).strip().partition("\n")[0] or type(error).__name__
                    session.set_labels(ticket, None)
        except SessionError:
            return  # it has ended


def _told(labeller: Labeller, picture: Pixels) -> Labels:
    """A key frame's labels.

    Raises:
        InvalidInputError: the segmenter gave none, or is not sure of them. It may raise anything else itself.
    """
    answer: Any = labeller(picture)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise InvalidInputError(f"segment: expected (labels, confidence), got {type(answer).__name__}.")
    labels, confidence = np.asarray(answer[0]), float(answer[1])
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.size == 0 or max(labels.shape) > 16384:
        raise InvalidInputError(f"segment: expected labels [h, w] of whole numbers, got {labels.dtype} {labels.shape}.")
    if labels.min() < 0 or labels.max() > 65535:
        raise InvalidInputError(f"segment: expected labels from 0 to 65535, got {labels.min()} to {labels.max()}.")
    if not confidence >= SURE:
        raise InvalidInputError(f"segment: not sure of its objects (confidence {confidence:.2f}, needed {SURE}).")
    return np.ascontiguousarray(labels, np.uint16)


_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _wait_for_all() -> None:
    """Sessions have been closed by now: threads that wait for key frames end, before the interpreter does."""
    for thread in list(_threads):
        thread.join(0.5)
