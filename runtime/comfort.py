# SPDX-License-Identifier: Apache-2.0
"""Strength in percent, pixels or degrees, and how much of it is comfortable to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from secondeye.runtime.errors import InvalidInputError

Unit = Literal["percent", "pixels", "degrees"]

MAX_STRENGTH = 20.0
"""Percent of the width."""
COMFORT_STRENGTH = 3.0
"""Percent of the width, for a screen that is not known."""
COMFORT_DEGREES = 1.0
"""Between the nearest and the farthest. Lambooij et al., Visual Discomfort of Stereoscopic Displays: A Review, 2009."""
EYES_M = 0.063
"""Between the eyes: what lies further apart behind the screen makes them turn outward."""
HIGHEST: dict[Unit, float] = {"percent": MAX_STRENGTH, "pixels": 3276.0, "degrees": 10.0}


@dataclass(frozen=True)
class Screen:
    """A display and where its viewer sits, metres."""

    width_m: float
    distance_m: float

    def __post_init__(self) -> None:
        if not (0.01 <= self.width_m <= 100 and 0.01 <= self.distance_m <= 1000):
            raise InvalidInputError(
                "screen: expected a width of 0.01 to 100 and a distance of 0.01 to 1000 metres, "
                f"got {self.width_m:g} and {self.distance_m:g}."
            )

    def percent(self, degrees: float) -> float:
        """The strength whose full range of disparity s subtends an angle: s = 2 distance tan(angle / 2)."""
        return 100.0 * 2.0 * self.distance_m * math.tan(math.radians(degrees) / 2.0) / self.width_m

    def degrees(self, percent: float) -> float:
        """The angle that the full range of disparity of a strength subtends."""
        return 2.0 * math.degrees(math.atan(percent / 100.0 * self.width_m / 2.0 / self.distance_m))


def strength_percent(
    strength: float, unit: Unit = "percent", *, frame_width: int | None = None, screen: Screen | None = None
) -> float:
    """A strength of any unit in percent of the picture's width.

    Args:
        strength: full range of disparity.
        unit: ``percent`` of the width, ``pixels`` of the picture, or ``degrees`` at the viewer's eye.
        frame_width: of the picture, for pixels.
        screen: for degrees.

    Raises:
        InvalidInputError: what the unit needs is missing, or the result is over 20 percent.
    """
    if unit == "pixels":
        if frame_width is None or frame_width < 1:
            raise InvalidInputError("strength: pixels need the picture's width.")
        percent = 100.0 * strength / frame_width
    elif unit == "degrees":
        if screen is None:
            raise InvalidInputError("strength: degrees need a screen: its width and the viewer's distance, metres.")
        percent = screen.percent(strength)
    else:
        percent = strength
    if not 0.0 <= percent <= MAX_STRENGTH:
        raise InvalidInputError(
            f"strength: expected 0 to {MAX_STRENGTH:g} percent of the width, got {strength:g} {unit}, "
            f"which are {percent:.1f} percent."
        )
    return percent


def comfort_limit(screen: Screen | None = None, convergence: float = 0.5) -> float:
    """The greatest comfortable strength, percent of the width.

    With a screen: at most one degree in all, and nothing behind it further apart than the eyes are. Without: 3.
    """
    if screen is None:
        return COMFORT_STRENGTH
    behind = 100.0 * EYES_M / (screen.width_m * convergence) if convergence > 0 else math.inf
    return min(screen.percent(COMFORT_DEGREES), behind)


def comfort_note(percent: float, screen: Screen | None = None, convergence: float = 0.5) -> str | None:
    """A sentence where a strength is over the limit, else None."""
    limit = comfort_limit(screen, convergence)
    if percent <= limit * (1 + 1e-9):
        return None
    if screen is None:
        return f"strength {percent:.3g} is over the comfort limit of {limit:g}."
    return (
        f"strength {percent:.3g} is {screen.degrees(percent):.2g} degrees on this screen, over its comfort limit of "
        f"{limit:.2g}."
    )
