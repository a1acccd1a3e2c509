# SPDX-License-Identifier: Apache-2.0
"""The fifth family of scenes: garages, workshops and storerooms, where floor and walls are full of things."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .scenes import Scene

Place = Callable[[Scene, Any, float], None]


def compose_workshop(scene: Scene, thing: Place, machine: Callable[[Scene, Any, float, float], None]) -> None:
    """A room seen from nearby: a machine or a few things on the floor, and a wall of shelves, tools and boxes behind.

    Args:
        scene: gets the instances and the camera's subject.
        thing: places one solid thing of a height at a point (families.py).
        machine: the same for wheels and tubes, with a turn.
    """
    rng = scene.rng
    wide, deep, high = scene.pick(3, 7), scene.pick(1.5, 6), scene.pick(2.2, 3.5)
    scene.indoor, scene.radius = True, max(wide, deep)
    _shell(scene, wide, deep, high)
    for _ in range(int(rng.integers(1, 4))):
        _shelves(scene, thing, scene.pick(-wide / 2, wide / 2), -deep + 0.3, high)
    for side in (-1, 1):
        if rng.random() < 0.4:
            _shelves(scene, thing, side * (wide / 2 - 0.3), -scene.pick(0.4, 0.9) * deep, high, turned=True)
    _hanging(scene, wide, deep, high)
    for _ in range(int(rng.integers(2, 12))):  # what stands along the walls
        near_wall = rng.random() < 0.7
        z = -deep + scene.pick(0.2, 0.8) if near_wall else -scene.pick(0.3, 1.0) * deep
        thing(scene, (scene.pick(-wide / 2, wide / 2), 0, z), scene.pick(0.15, 1.2))
    subject = scene.pick(0.3, 0.75) * deep
    size = scene.pick(0.5, 1.3)
    if rng.random() < 0.6:
        machine(scene, (scene.pick(-0.4, 0.4), 0, -subject), size, scene.pick(-0.9, 0.9))
    for _ in range(int(rng.integers(0, 4))):
        thing(scene, (scene.pick(-0.9, 0.9), 0, -subject + scene.pick(-0.5, 0.5)), size * scene.pick(0.2, 0.9))
    for _ in range(int(rng.integers(0, 5))):  # small things on the floor
        at = (scene.pick(-1.2, 1.2), 0, -subject + scene.pick(-0.6, 0.8))
        thing(scene, at, scene.pick(0.05, 0.25))
    scene.fov = scene.pick(30, 65)
    back = scene.pick(0.55, 1.6) * size / math.tan(math.radians(scene.fov) / 2)
    pitch, yaw = scene.pick(-0.5, 0.05), scene.pick(-0.35, 0.35)
    ahead = (math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch))
    middle = (scene.pick(-0.3, 0.3), size * scene.pick(0.3, 0.6), -subject)
    scene.look(tuple(m - a * back for m, a in zip(middle, ahead, strict=True)), ahead, back)


def _shell(scene: Scene, wide: float, deep: float, high: float) -> None:
    """Floor, back wall, most side walls, a ceiling; they go on behind the camera."""
    long = deep * 2 + 6
    scene.add("box", (0, -0.05, 0), (wide + 4, 0.1, long), repeat=scene.pick(1, 9))
    scene.add("box", (0, high / 2, -deep - 0.05), (wide + 4, high, 0.1), repeat=scene.pick(1, 6))
    scene.add("box", (0, high + 0.05, 0), (wide + 4, 0.1, long), repeat=scene.pick(1, 6))
    for side in (-1, 1):
        if scene.rng.random() < 0.8:
            where = (side * (wide / 2 + 0.05), high / 2, 0)
            scene.add("box", where, (0.1, high, long), repeat=scene.pick(1, 6))


def _shelves(scene: Scene, thing: Place, x: float, z: float, high: float, turned: bool = False) -> None:
    """Boards on posts, with things on them."""
    rng = scene.rng
    wide, deep, top = scene.pick(0.7, 2.2), scene.pick(0.25, 0.5), scene.pick(0.8, high)
    yaw = math.pi / 2 if turned else 0.0
    layer, tint = int(rng.integers(0, 1 << 16)), rng.uniform(0.2, 1.0, 3)
    across = (0.0, 1.0) if turned else (1.0, 0.0)
    for end in (-0.5, 0.5):
        where = (x + end * wide * across[0], top / 2, z + end * wide * across[1])
        scene.add("box", where, (0.05, top, deep), yaw=yaw, texture=layer, tint=tint)
    boards = int(rng.integers(2, 6))
    for board in range(boards):
        level = top * (board + 0.4) / boards
        scene.add("box", (x, level, z), (wide, 0.03, deep), yaw=yaw, texture=layer, tint=tint)
        for _ in range(int(rng.integers(0, 6))):
            along = scene.pick(-0.45, 0.45) * wide
            where_on = (x + along * across[0], level + 0.015, z + along * across[1])
            thing(scene, where_on, top / boards * scene.pick(0.2, 0.8))


def _hanging(scene: Scene, wide: float, deep: float, high: float) -> None:
    """Tools, coils and panels on the back wall."""
    for _ in range(int(scene.rng.integers(0, 14))):
        where = (scene.pick(-wide / 2, wide / 2), scene.pick(0.6, high - 0.1), -deep + 0.06)
        long, thin = scene.pick(0.15, 0.8), scene.pick(0.02, 0.06)
        kind = scene.rng.choice(["bar", "coil", "panel", "tool"])
        if kind == "bar":
            scene.add("tube", where, (thin, long, thin), roll=scene.pick(-1.6, 1.6))
        elif kind == "coil":
            scene.add("ring1", where, long * 0.7)
        elif kind == "panel":
            scene.add("box", where, (long, long * scene.pick(0.5, 1.5), 0.03))
        else:
            scene.add("tube", where, (thin, long, thin))
            scene.add("box", (where[0], where[1] - long / 2, where[2]), (long * 0.3, thin * 2, thin))
