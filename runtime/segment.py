# SPDX-License-Identifier: Apache-2.0
"""Objects of a picture, by a bundle of SGT: what it paints, read as labels."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.labels import find_objects
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.models.sgt import SgtBagel
from secondeye.runtime.pictures import Picture, read_picture
from secondeye.runtime.sessions import Device

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Objects of a picture.

    Attributes:
        labels: uint16 [H, W], 1 .. n, the largest first.
        confidence: 0 to 1; under about 0.7 the model painted no colour map (the published training code had a fault
            that made it paint the picture instead), and the labels mean nothing.
        colours: uint8 [n, 3], as the model painted them.
        colour_map: uint8 [h, w, 3], what the model painted.
        timings: milliseconds per stage.
    """

    labels: NDArray[np.uint16]
    confidence: float
    colours: Pixels
    colour_map: Pixels
    timings: dict[str, float]


class Segmenter:
    """Finds objects with an SGT bundle.

    >>> segmenter = secondeye.Segmenter("sgt_bundle")  # doctest: +SKIP
    >>> segmenter.segment("photo.jpg").labels.max()  # doctest: +SKIP

    Args:
        bundle: its folder; ``secondeye build-engine sgt-bagel`` makes one.
        steps: evaluations of the flow, 1 to 50; fewer are faster.
        guidance: by the instruction, 1 (none) to 20; over 1 costs twice. The authors' editing script has 4.
        image_guidance: by the picture, beside the other, 1 (none) to 20; over 1 costs half as much again. The script
            has 2; SGT was trained without what it compares with, so none is the default.
        seed: of the noise; the same seed gives the same labels.
        device, threads: as everywhere.
        limits: of pictures.
        progress: called with (stage, done, total).
        told: called with the memory plan in words, before anything is loaded.

    Raises:
        MediaError, ModelFormatError, BackendUnavailableError, ResourceLimitError: the bundle cannot be used here.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        steps: int = 24,
        guidance: float = 1.0,
        image_guidance: float = 1.0,
        seed: int = 0,
        device: Device = "cpu",
        threads: int = 0,
        limits: Limits = DEFAULT_LIMITS,
        progress: Callable[[str, int, int], None] | None = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self.model = SgtBagel(os.fspath(bundle), device=device, threads=threads, told=told)
        self._options: dict[str, Any] = {
            "steps": steps, "guidance": guidance, "image_guidance": image_guidance, "seed": seed,
        }  # fmt: skip
        self._limits = limits
        self.progress = progress

    def segment(self, picture: str | os.PathLike[str] | bytes | Pixels | Picture) -> Segmentation:
        """Find the objects of a picture.

        Args:
            picture: a file's path or bytes, or uint8 [H, W, 3] pixels.

        Raises:
            InvalidInputError, MediaError, ResourceLimitError: as :meth:`secondeye.StereoConverter.convert`.
        """
        if not isinstance(picture, Picture | np.ndarray):
            picture = read_picture(picture, limits=self._limits)
        pixels = np.ascontiguousarray((picture.pixels if isinstance(picture, Picture) else picture)[:, :, :3])
        timings: dict[str, float] = {}
        begun = [("look", time.perf_counter())]

        def tell(stage: str, done: int, total: int) -> None:
            name, start = begun[-1]
            timings[name] = timings.get(name, 0.0) + (time.perf_counter() - start) * 1e3
            begun.append((stage, time.perf_counter()))
            if self.progress is not None:
                self.progress(stage, done, total)

        colour_map = self.model.colour_map(pixels, progress=tell, **self._options)
        tell("objects", 0, 1)
        objects = find_objects(colour_map, pixels)
        tell("done", 1, 1)
        return Segmentation(
            labels=objects.labels, confidence=objects.confidence, colours=objects.colours, colour_map=colour_map,
            timings=timings,
        )  # fmt: skip
