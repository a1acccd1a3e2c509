# SPDX-License-Identifier: Apache-2.0
"""Frames of a stream, each at another step, in one call: n steps cost one call a frame and n - 1 frames of delay.

Source: Kodaira et al., StreamDiffusion (2023), for the idea of batching the steps of successive frames.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.models.mono2stereo import Mono2Stereo, check_frame
from secondeye.runtime.schedulers import Schedule

Pixels = NDArray[np.uint8]
Tensor = NDArray[np.float32]
Frame = tuple[Tensor, dict[str, Tensor], int]
"""Latent, the layout's other inputs, steps done."""


class StreamBatch:
    """A model at work on as many successive frames as its schedule has steps.

    Args:
        model: whose bundle takes that many pictures in one call (``build-engine --batch``).
        schedule: of :meth:`Mono2Stereo.schedule`.
        noise: float32 [1, 4, H / 8, W / 8], the same for every frame; of :meth:`Mono2Stereo.noise`.

    Attributes:
        delay: a frame comes out this many calls after it went in: the number of steps less one.

    Raises:
        InvalidInputError: the bundle's batch is too small.
    """

    def __init__(self, model: Mono2Stereo, schedule: Schedule, noise: Tensor) -> None:
        most = model.bundle.manifest.axes["batch"][1]
        if len(schedule.steps) > most:
            raise InvalidInputError(
                f"{len(schedule.steps)} steps in one call need a bundle of that batch, this one has {most}; build it "
                f"with --batch {len(schedule.steps)} or take fewer steps."
            )
        self.delay = len(schedule.steps) - 1
        self._model, self._schedule, self._noise = model, schedule, noise
        self._under_way: list[Frame] = []  # the newest first

    def __call__(self, source: Pixels, warped: Pixels, holes: Pixels) -> Pixels | None:
        """Take a frame in, and give the one out that is done.

        Args:
            source, warped: uint8 [H, W, 3], at the noise's size.
            holes: uint8 [H, W].

        Returns:
            The right view of the frame that came `delay` calls ago, uint8 [H, W, 3]; None in the first `delay` calls.

        Raises:
            InvalidInputError: a frame of another size or dtype.
            EngineError: an engine failed; the frame was not taken in, and the others are where they were.
        """
        check_frame(source, warped, holes, self._noise)
        latent, given = self._model.start(source[None], warped[None], holes[None], self._schedule, self._noise)
        return self._advance([(latent, given, 0), *self._under_way])

    def flush(self) -> Iterator[Pixels]:
        """The frames that are still under way, in order; the stream is empty then."""
        while self._under_way:
            done = self._advance(self._under_way)
            if done is not None:
                yield done

    def _advance(self, frames: list[Frame]) -> Pixels | None:
        """One step of every frame in one call; the frame whose last it was. They are under way when nothing failed."""
        steps = [self._schedule.steps[done] for _, _, done in frames]
        names = frames[0][1]
        together = {name: np.concatenate([given[name] for _, given, _ in frames]) for name in names}
        latents = self._model.run(
            "unet",
            **together,
            latent=np.concatenate([latent for latent, _, _ in frames]),
            timestep=np.array([step.timestep for step in steps], np.int64),
            keep=np.array([step.keep for step in steps], np.float32),
            gain=np.array([step.gain for step in steps], np.float32),
        )
        further = [(latents[k : k + 1], given, done + 1) for k, (_, given, done) in enumerate(frames)]
        picture = None
        if further[-1][2] == len(self._schedule.steps):
            picture = self._model.finish(further.pop()[0])[0]
        self._under_way = further
        return picture
