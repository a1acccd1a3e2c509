# SPDX-License-Identifier: Apache-2.0
"""What the words of ``secondeye convert``'s options mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from secondeye.runtime.errors import InvalidInputError

if TYPE_CHECKING:
    from secondeye.runtime.comfort import Screen, Unit
    from secondeye.runtime.pictures import Picture


def strength_of(text: str) -> tuple[float, Unit]:
    """The option's number and unit."""
    number, unit = text.strip().lower(), "percent"
    for ending, name in (("px", "pixels"), ("deg", "degrees"), ("%", "percent")):
        if number.endswith(ending):
            number, unit = number.removesuffix(ending), name
            break
    try:
        return float(number), cast("Unit", unit)
    except ValueError as error:
        raise InvalidInputError(f"--strength: expected 2.5 (percent), 40px or 0.8deg, got {text!r}.") from error


def screen_of(text: str | None) -> Screen | None:
    from secondeye.runtime.comfort import Screen

    if text is None:
        return None
    try:
        width, distance = (float(part) for part in text.lower().removesuffix("m").split("x"))
    except ValueError as error:
        raise InvalidInputError(
            f"--screen: expected WIDTHxDISTANCE in metres, such as 0.6x0.7, got {text!r}."
        ) from error
    return Screen(width, distance)


def convergence_of(text: str | None, film: bool) -> float:
    """A number of the option's; what stands for auto is not used."""
    if text is None or (text == "auto" and film):
        return 0.5
    try:
        return float(text)
    except ValueError as error:
        kinds = "0 to 1, or auto" if film else "0 to 1 (auto goes with films)"
        raise InvalidInputError(f"--convergence: expected {kinds}, got {text!r}.") from error


def model_of(spec: str) -> str:
    """A public model's name becomes its file; anything else stays."""
    from secondeye.runtime.zoo import MODELS, local_path

    if spec not in MODELS:
        return spec
    path = local_path(spec)
    if path is None:
        raise InvalidInputError(f"{spec}: not here yet; fetch it with: secondeye models get {spec}")
    return str(path)


def scaled(picture: Picture, size: str | None) -> Picture:
    """The picture at --size."""
    if size is None:
        return picture
    from secondeye.runtime import ops
    from secondeye.runtime.limits import DEFAULT_LIMITS
    from secondeye.runtime.pictures import Picture as Loaded

    high, wide = picture.pixels.shape[:2]
    width, height = parse_size(size, wide, high)
    DEFAULT_LIMITS.check_size("--size", width, height)
    return Loaded(
        pixels=ops.resize(picture.pixels, height, width, filter="bilinear"), name=picture.name, notes=picture.notes
    )


def two_numbers(text: str) -> tuple[int, int] | None:
    """Both of a word like 640x360; None for any other word."""
    first, _, second = text.partition("x")
    return (int(first), int(second)) if first.isdecimal() and second.isdecimal() else None


def parse_size(text: str, wide: int, high: int) -> tuple[int, int]:
    """(width, height) from 1920x1080, 1920x, x1080 or 50%."""
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            return round(wide * share), round(high * share)
        left, cross, right = text.lower().partition("x")
        if not cross or not (left or right):
            raise ValueError(text)
        width = int(left) if left else round(wide * int(right) / high)
        height = int(right) if right else round(high * int(left) / wide)
        return width, height
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"--size: expected 1920x1080, 1920x, x1080 or 50%, got {text!r}.") from error
