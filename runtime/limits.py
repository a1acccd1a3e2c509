# SPDX-License-Identifier: Apache-2.0
"""Finite limits on everything that comes from outside. Each is checked before memory is taken."""

from __future__ import annotations

from dataclasses import dataclass

from secondeye.runtime.errors import InvalidInputError, ResourceLimitError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a conversion may take; the defaults fit a machine with 8 GiB of memory."""

    min_side_px: int = 16
    """Below this there is nothing to see depth in."""
    max_side_px: int = 16384
    """The kernels' limit."""
    max_pixels: int = 16384 * 8192
    """134 megapixels: about 3 GiB while a picture is converted."""
    max_picture_bytes: int = 1 << 30
    """A picture file, compressed."""
    max_model_bytes: int = 4 << 30
    """A depth model's file."""
    max_files: int = 100_000
    """Files of one command."""

    def check_size(self, what: str, width: int, height: int) -> None:
        """Refuse a picture that is too small or too large, naming it.

        Raises:
            InvalidInputError: a side is under `min_side_px`.
            ResourceLimitError: a side or the pixel count is over the limit.
        """
        if width < self.min_side_px or height < self.min_side_px:
            raise InvalidInputError(
                f"{what}: {width} x {height} pixels is too small for depth; "
                f"give a picture with at least {self.min_side_px} pixels on each side."
            )
        if width > self.max_side_px or height > self.max_side_px or width * height > self.max_pixels:
            raise ResourceLimitError(
                f"{what}: {width} x {height} pixels is over the limit of {self.max_side_px} a side and "
                f"{self.max_pixels / 1e6:.0f} megapixels; scale the file down first."
            )


DEFAULT_LIMITS = Limits()
