# SPDX-License-Identifier: Apache-2.0
"""Diffusion schedules as tables of numbers: each step is next = keep * latent + gain * prediction.

``ddim`` is Denoising Diffusion Implicit Models (Song et al., 2021) with eta 0, from pure noise, at the steps that
diffusers' DDIMScheduler takes. ``warped`` starts from the warped view's latent with noise added up to a share of
the way (SDEdit; Meng et al., 2022), and takes few even DDIM steps from there: what is seen is there from the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from secondeye.runtime.errors import InvalidInputError, ModelFormatError

Scheduler = Literal["ddim", "warped"]
DEFAULT_STEPS = {"ddim": 50, "warped": 4}
MAX_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: the timestep that the network is told, and the two factors."""

    timestep: int
    keep: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Where the latent starts, and the steps.

    Attributes:
        signal, noise: the start is signal * warped latent + noise * Gaussian noise.
        steps: in order.
    """

    signal: float
    noise: float
    steps: tuple[Step, ...]


def make_schedule(constants: Mapping[str, Any], scheduler: Scheduler, steps: int, start: float = 0.8) -> Schedule:
    """The table of a scheduler.

    Args:
        constants: the manifest's ``scheduler``: alphas (cumulated, one per training step), final_alpha, prediction
            (v_prediction, epsilon or sample), spacing (leading or trailing), offset.
        scheduler: ``ddim`` or ``warped``.
        steps: how many, 1 to 1000.
        start: of ``warped``: how far towards noise it starts, over 0 to 1.

    Raises:
        InvalidInputError: an unknown scheduler, or numbers out of range.
        ModelFormatError: constants that are no scheduler's.
    """
    if scheduler not in get_args(Scheduler):
        raise InvalidInputError(f"scheduler: expected one of {', '.join(get_args(Scheduler))}, got {scheduler!r}.")
    if not 1 <= steps <= MAX_STEPS or not 0.0 < start <= 1.0:
        raise InvalidInputError(
            f"expected 1 to {MAX_STEPS} steps and a start over 0, at most 1, got {steps} and {start}."
        )
    alphas, final, prediction, spacing, offset = _read(constants)
    count = len(alphas)
    if scheduler == "warped":
        top = max(1, round(start * count)) - 1
        times = [round(top * (steps - i) / steps) for i in range(steps)]
        before = [*times[1:], -1]
        signal, noise = math.sqrt(alphas[times[0]]), math.sqrt(1 - alphas[times[0]])
    else:
        stride = count // steps
        if spacing == "leading":
            # An offset that leads past the last time that was trained is cut (diffusers fails there).
            offset = min(offset, count - 1 - (steps - 1) * stride)
            times = [i * stride + offset for i in range(steps - 1, -1, -1)]
        else:
            # The quotient is rounded, and for some numbers of steps one more is left over 0, at time -1.
            times = [round(float(t)) - 1 for t in np.arange(count, 0, -count / steps)[:steps]]
        before = [t - stride for t in times]
        signal, noise = 0.0, 1.0
    pairs = zip(times, before, strict=True)
    table = [_step(t, alphas[t], alphas[p] if p >= 0 else final, prediction) for t, p in pairs]
    return Schedule(signal=signal, noise=noise, steps=tuple(table))


def _step(timestep: int, now: float, then: float, prediction: str) -> Step:
    """DDIM with eta 0 as factors of the latent and of the prediction.

    With a = sqrt(now), s = sqrt(1 - now): v gives x0 = a x - s v and e = a v + s x; then x' = sqrt(then) x0 +
    sqrt(1 - then) e.
    """
    a, s = math.sqrt(now), math.sqrt(1 - now)
    b, r = math.sqrt(then), math.sqrt(1 - then)
    if prediction == "v_prediction":
        keep, gain = b * a + r * s, r * a - b * s
    elif prediction == "epsilon":
        keep, gain = b / a, r - b * s / a
    else:
        keep, gain = r / s, b - r * a / s
    return Step(timestep=timestep, keep=keep, gain=gain)


def _read(constants: Mapping[str, Any]) -> tuple[list[float], float, str, str, int]:
    alphas, final = constants.get("alphas"), constants.get("final_alpha")
    prediction, spacing = constants.get("prediction"), constants.get("spacing")
    offset = constants.get("offset")
    numbers = isinstance(alphas, list) and len(alphas) >= 2 and all(type(a) is float and 0 < a < 1 for a in alphas)
    if not (
        numbers
        and isinstance(final, float)
        and 0 < final <= 1
        and prediction in ("v_prediction", "epsilon", "sample")
        and spacing in ("leading", "trailing")
        and type(offset) is int
        and 0 <= offset < 100
    ):
        raise ModelFormatError("the bundle's scheduler constants are not a scheduler's; build the bundle again.")
    assert isinstance(alphas, list)
    return alphas, final, str(prediction), str(spacing), offset
