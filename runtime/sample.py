# SPDX-License-Identifier: Apache-2.0
"""A sample picture, rendered here with its exact disparity: something to try before you have a photo at hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Balls on a table: centre x, y, z, radius, colour. Units are metres; the table is y = 0, the camera looks along +z.
_BALLS = (
    (-0.62, 0.34, 3.0, 0.34, (0.85, 0.25, 0.18)),
    (0.42, 0.24, 2.35, 0.24, (0.95, 0.72, 0.15)),
    (0.98, 0.46, 4.1, 0.46, (0.20, 0.45, 0.80)),
    (-0.12, 0.13, 1.95, 0.13, (0.25, 0.62, 0.35)),
    (-1.55, 0.55, 5.2, 0.55, (0.55, 0.35, 0.65)),
    (0.15, 0.30, 4.6, 0.30, (0.80, 0.80, 0.78)),
)
_ROWS = 8  # rendered at once, in the processor's cache
_WALL = 7.0
_SUN = np.array([-0.45, 0.8, -0.4]) / np.linalg.norm([-0.45, 0.8, -0.4])


FOCAL = 1.15
"""The camera's focal length, in widths of the picture."""


def render_sample(
    width: int = 1280, height: int = 720, *, aside: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Balls on a wooden table before a papered wall, by ray casting with shadows.

    Args:
        width, height: pixels.
        aside: metres that the camera stands to the right: what has the inverse depth d is then seen
            FOCAL * width * d * aside pixels further left.

    Returns:
        picture uint8 [H, W, 3] and inverse depth float32 [H, W], larger = nearer.
    """
    picture, depth = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.float32)

    def render(top: int) -> None:
        rows = slice(top, min(height, top + _ROWS))
        picture[rows], depth[rows] = _render_rows(width, height, rows, aside)

    with ThreadPoolExecutor() as pool:
        list(pool.map(render, range(0, height, _ROWS)))
    return picture, depth


def _render_rows(width: int, height: int, rows: slice, aside: float) -> tuple[Floats, Floats]:
    fine = 2  # samples a pixel and axis
    y, x = np.mgrid[rows.start * fine : rows.stop * fine, 0 : width * fine].astype(np.float64)
    direction = np.stack(
        [
            (x + 0.5) / (width * fine) - 0.5,
            (0.5 - (y + 0.5) / (height * fine)) * height / width,
            np.full_like(x, FOCAL),
        ],
        -1,
    )
    direction[..., 1] -= 0.11 * FOCAL  # looking down a little
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    origin = np.array([aside, 0.78, 0.0])
    distance, normal, colour = _nearest_hit(origin, direction)
    point = origin + direction * distance[..., None]
    light = _lit(point + normal * 1e-4, normal)
    half = _SUN - direction
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    shine = np.clip((normal * half).sum(-1), 0, 1) ** 60 * 0.5 * (point[..., 1] > 1e-3) * (point[..., 2] < _WALL - 1e-3)
    linear = colour * light[..., None] + (shine * (light > 0.35))[..., None]
    picture = np.clip(linear, 0, 1) ** (1 / 2.2) * 255
    picture = picture.reshape(-1, fine, width, fine, 3).mean((1, 3))
    depth = point[..., 2].reshape(-1, fine, width, fine).min((1, 3))
    return np.rint(picture), 1.0 / depth


def _nearest_hit(origin: Floats, direction: Floats) -> tuple[Floats, Floats, Floats]:
    """Distance, normal and colour of what each ray meets: the wall, the table, or a ball."""
    distance = (_WALL - origin[2]) / direction[..., 2]
    point = origin + direction * distance[..., None]
    normal = np.broadcast_to(np.array([0.0, 0.0, -1.0]), direction.shape).copy()
    colour = _paper(point)
    with np.errstate(divide="ignore"):
        table = np.where(direction[..., 1] < 0, -origin[1] / direction[..., 1], np.inf)
    seen = table < distance
    point = origin + direction * np.where(seen, table, 0)[..., None]
    colour = np.where(seen[..., None], _wood(point), colour)
    normal[seen] = (0.0, 1.0, 0.0)
    distance = np.where(seen, table, distance)
    for cx, cy, cz, radius, tint in _BALLS:
        centre = np.array([cx, cy, cz])
        hit = _ball(origin - centre, direction, radius)
        seen = hit < distance
        n = (origin + direction * np.where(seen, hit, 0)[..., None] - centre) / radius
        stripes = np.where(np.sin(14 * n[..., 1] + 3 * n[..., 0]) > 0.1, 1.0, 0.62)
        colour = np.where(seen[..., None], np.array(tint) * stripes[..., None], colour)
        normal = np.where(seen[..., None], n, normal)
        distance = np.where(seen, hit, distance)
    return distance, normal, colour


def _ball(to_origin: Floats, direction: Floats, radius: float) -> Floats:
    """Distance to a ball, infinite where it is missed. `to_origin`: the ray's start as seen from the centre."""
    b = (direction * to_origin).sum(-1)
    inside = b * b - (to_origin * to_origin).sum(-1) + radius * radius
    hit = -b - np.sqrt(np.maximum(inside, 0))
    result: Floats = np.where((inside > 0) & (hit > 1e-3), hit, np.inf)
    return result


def _lit(point: Floats, normal: Floats) -> Floats:
    shade = np.ones(point.shape[:-1])
    for cx, cy, cz, radius, _ in _BALLS:
        toward = point - np.array([cx, cy, cz])
        shade = np.where(np.isfinite(_ball(toward, np.broadcast_to(_SUN, point.shape), radius)), 0.0, shade)
        near = np.linalg.norm(point - np.array([cx, 0.0, cz]), axis=-1) / radius
        shade *= np.where(point[..., 1] < 0.01, np.clip(0.55 + 0.45 * near, 0.55, 1.0), 1.0)
    result: Floats = 0.30 + 0.10 * normal[..., 1] + 0.75 * np.clip((normal * _SUN).sum(-1), 0, 1) * shade
    return result


def _wood(point: Floats) -> Floats:
    x, z = point[..., 0], point[..., 2]
    plank = np.floor(x / 0.22)
    grain = np.sin(34 * (x + 0.05 * np.sin(3 * z + plank)) + 5 * np.sin(1.3 * z + 2 * plank))
    tone = 0.42 + 0.05 * np.sin(12.9 * plank) + 0.045 * grain
    tone = np.where(np.abs(x / 0.22 - plank - 0.5) > 0.485, 0.16, tone)
    return tone[..., None] * np.array([1.0, 0.66, 0.40])


def _paper(point: Floats) -> Floats:
    u, v = point[..., 0] / 0.5, point[..., 1] / 0.5
    petals: Any = np.hypot(u - np.rint(u), v - np.rint(v + 0.5 * (np.rint(u) % 2)) + 0.5 * (np.rint(u) % 2))
    mark = np.where(petals < 0.22, 0.55, 0.80)
    return mark[..., None] * np.array([0.62, 0.74, 0.78])
