# SPDX-License-Identifier: Apache-2.0
"""More families of scenes: streets, things that fill the frame, views from above, and views up.

In the last three "lower is nearer" does not hold, so that a network cannot lean on it alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .scenes import Scene

_TURN = 2 * math.pi


@dataclass(frozen=True)
class Makers:
    """What families.py places: each takes the scene, a point and a size, a figure and a car a turn too."""

    thing: Callable[[Scene, Any, float], None]
    plant: Callable[[Scene, Any, float], None]
    tree: Callable[[Scene, Any, float], None]
    figure: Callable[[Scene, Any, float, float], None]


def _aim(scene: Scene, middle: Any, back: float, pitch: float, yaw: float) -> None:
    """Look at a point from `back` away (radians, pitch up positive)."""
    ahead = np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch)])
    scene.look(np.asarray(middle) - ahead * back, ahead, back)


def compose_street(scene: Scene, make: Makers) -> None:
    """Rows of buildings along a road with pavements, cars, people, poles, trees and wires."""
    rng = scene.rng
    half, far = scene.pick(2.5, 7), scene.pick(30, 120)
    scene.radius = 16.0
    scene.fog = float(rng.random() < 0.5) * 10.0 ** scene.pick(-3.0, -1.7)
    scene.add("box", (0, -0.5, -150), (700, 1, 700), repeat=scene.pick(60, 400))
    kerb = scene.pick(1.2, 4.5)
    for side in (-1, 1):
        layer, repeat = int(rng.integers(0, 1 << 16)), scene.pick(20, 80)
        where = (side * (half + kerb / 2), 0.06, -far / 2)
        scene.add("box", where, (kerb, 0.12, far + 30), texture=layer, repeat=repeat)
        if rng.random() < 0.9:
            _row(scene, side, half + kerb, far)
        for _ in range(int(rng.integers(0, 7))):
            _car(scene, side * (half - scene.pick(0.9, 1.2)), -scene.pick(1, far * 0.6), scene.pick(-0.06, 0.06))
        _kerb_side(scene, make, side, half, kerb, far)
    for _ in range(int(rng.integers(0, 3))):
        _car(scene, scene.pick(-0.5, 0.5) * half, -scene.pick(4, 40), float(rng.choice([0, math.pi])))
    for _ in range(int(rng.integers(0, 4))):
        make.figure(
            scene, (scene.pick(-0.8, 0.8) * half, 0, -scene.pick(1.5, 15)), scene.pick(1.2, 1.95), scene.pick(0, _TURN)
        )
    if rng.random() < 0.25:  # wires
        for _ in range(int(rng.integers(1, 5))):
            across = rng.random() < 0.5
            at = (0 if across else scene.pick(-1, 1) * half, scene.pick(4, 8), -scene.pick(3, 25))
            long = 2 * (half + kerb) if across else far
            scene.add("tube", at, (0.03, long, 0.03), roll=1.57 * across, pitch=1.57 * (not across))
    scene.fov = scene.pick(28, 80)
    eye = scene.pick(0.8, 2.2) if rng.random() < 0.7 else scene.pick(2.5, 14)
    yaw = scene.pick(-0.5, 0.5) if rng.random() < 0.7 else rng.choice([-1, 1]) * scene.pick(0.7, 1.5)
    pitch = scene.pick(-0.15, 0.3) - 0.3 * min(1.0, (eye - 0.8) / 10)
    place = np.array([scene.pick(-0.9, 0.9) * (half + kerb * 0.6), eye, 0.0])
    ahead = np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch)])
    scene.look(place, ahead, 10.0)


def _row(scene: Scene, side: int, start: float, far: float) -> None:
    """Houses wall to wall, with gaps, ledges and balconies."""
    rng, z = scene.rng, scene.pick(4, 12)
    tall = scene.pick(4, 22)
    while z > -far:
        wide, deep, high = scene.pick(4, 16), scene.pick(5, 12), tall * scene.pick(0.6, 1.4)
        face = start + scene.pick(0, 1.5) * (rng.random() < 0.5)
        with scene.whole():
            scene.add(
                "box", (side * (face + deep / 2), high / 2, z - wide / 2), (deep, high, wide), repeat=scene.pick(1, 6)
            )
            layer = int(rng.integers(0, 1 << 16))
            for level in range(int(rng.integers(0, 6))):
                out, y = scene.pick(0.1, 0.9), 2.8 * (level + 1)
                long = wide * (1.0 if rng.random() < 0.4 else scene.pick(0.15, 0.5))
                if y < high:
                    at = (side * (face - out / 2), y, z - wide / 2 + scene.pick(-0.5, 0.5) * (wide - long))
                    scene.add("box", at, (out, scene.pick(0.08, 1.0), long), texture=layer)
        z -= wide + (scene.pick(1, 9) if rng.random() < 0.25 else 0)


def _car(scene: Scene, x: float, z: float, yaw: float) -> None:
    """A body, a cabin and four wheels."""
    rng, c, s = scene.rng, math.cos(yaw), math.sin(yaw)
    long, high, wide = scene.pick(3.4, 5.2), scene.pick(0.55, 0.9), scene.pick(1.5, 1.95)
    paint, glass = int(rng.integers(0, 1 << 16)), int(rng.integers(0, 1 << 16))
    tint = rng.uniform(0.1, 1.1, 3)

    def at(px: float, py: float, pz: float) -> tuple[float, float, float]:
        return (x + c * px + s * pz, py, z - s * px + c * pz)

    with scene.whole():
        body = str(rng.choice(["box", "sphere"], p=[0.7, 0.3]))
        swell = 1.0 if body == "box" else 1.25
        scene.add(
            body,
            at(0, 0.3 + high / 2, 0),
            (wide * swell, high * swell, long * swell),
            yaw=yaw,
            texture=paint,
            tint=tint,
        )
        cabin = (wide * 0.88, high * scene.pick(0.7, 1.6), long * scene.pick(0.4, 0.75))
        scene.add(
            "box",
            at(0, 0.3 + high + cabin[1] / 2 - 0.02, scene.pick(-0.1, 0.1) * long),
            cabin,
            yaw=yaw,
            texture=glass,
            tint=tint * scene.pick(0.2, 1.0),
        )
        for px in (-0.5, 0.5):
            for pz in (-0.32, 0.32):
                scene.add(
                    "tube",
                    at(px * wide * 0.95, 0.32, pz * long),
                    (0.64, 0.22, 0.64),
                    yaw=yaw,
                    roll=1.57,
                    tint=(0.15, 0.15, 0.16),
                )


def _kerb_side(scene: Scene, make: Makers, side: int, half: float, kerb: float, far: float) -> None:
    """People, lamps, signs, trees and things on a pavement."""
    rng = scene.rng
    for _ in range(int(rng.integers(0, 7))):
        at = (side * (half + scene.pick(0.2, 0.9) * kerb), 0.12, -scene.pick(1.5, 30))
        make.figure(scene, at, scene.pick(1.2, 1.95), scene.pick(0, _TURN))
    for _ in range(int(rng.integers(0, 6))):
        at = (side * (half + 0.3), 0.12, -scene.pick(1.5, far * 0.7))
        kind = rng.random()
        if kind < 0.4:
            with scene.whole():
                high, thin = scene.pick(2.2, 7), scene.pick(0.05, 0.16)
                scene.add("tube", (at[0], high / 2, at[2]), (thin, high, thin))
                top = str(rng.choice(["box", "sphere", "disc"]))
                scene.add(top, (at[0] - side * scene.pick(0, 1.0), high, at[2]), rng.uniform(0.15, 0.8, 3))
        elif kind < 0.75:
            make.tree(scene, at, scene.pick(2.5, 8))
        else:
            make.thing(scene, at, scene.pick(0.4, 1.5))


def compose_relief(scene: Scene, make: Makers) -> None:
    """One thing that fills the frame, a head perhaps, near or far before what is behind it; no ground."""
    rng = scene.rng
    scene.indoor, scene.radius = bool(rng.random() < 0.6), 3.0
    behind = 10.0 ** scene.pick(-0.6, 0.9)
    pitch, yaw = scene.pick(-0.7, 0.7), scene.pick(-0.5, 0.5)
    scene.fov = scene.pick(18, 55)
    if rng.random() < 0.75:  # across the line of sight, more or less
        span = 10.0 + 5 * behind
        ahead = np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch)])
        turn, lean = -yaw + scene.pick(-0.5, 0.5), -pitch + scene.pick(-0.4, 0.4)
        wide = (span, span, scene.pick(0.3, 2))
        backdrop = f"cloth{int(rng.integers(5))}"
        scene.add(backdrop, ahead * (behind + 0.6), wide, yaw=turn, pitch=lean, repeat=scene.pick(1.5, 16))
    else:
        scene.fog = 10.0 ** scene.pick(-2.5, -0.9)
        for _ in range(int(rng.integers(3, 14))):
            make.tree(scene, (scene.pick(-14, 14), scene.pick(-4, 0), -scene.pick(4, 30)), scene.pick(2, 8))
    kind = rng.random()
    if kind < 0.45:
        _head(scene)
    elif kind < 0.8:
        mesh = str(rng.choice([f"blob{int(rng.integers(10))}", f"turned{int(rng.integers(10))}", "sphere"]))
        size = rng.uniform(0.6, 1.3, 3)
        scene.add(mesh, (0, 0, 0), size, yaw=scene.pick(0, 6), pitch=scene.pick(-1, 1), repeat=scene.pick(0.7, 3))
        for _ in range(int(rng.integers(0, 10))):  # lumps on it
            where = rng.normal(size=3)
            where = where / np.linalg.norm(where) * size * 0.42
            scene.add("sphere", where, rng.uniform(0.05, 0.3, 3))
    else:
        make.plant(scene, (0, -0.4, 0), scene.pick(0.8, 1.3))
    back = scene.pick(0.3, 0.8) / math.tan(math.radians(scene.fov) / 2) + 0.35
    _aim(scene, rng.normal(size=3) * 0.15, back, pitch, yaw)


def _head(scene: Scene) -> None:
    """About a head, of a person or an animal: a skull with a muzzle or nose, eyes, ears, hair, shoulders."""
    rng = scene.rng
    skin, layer = rng.uniform([0.2, 0.12, 0.08], [1.1, 0.9, 0.8]), int(rng.integers(0, 1 << 16))
    size = np.array([0.75, 1.0, 0.85]) * rng.uniform(0.85, 1.15, 3)
    muzzle, turn = scene.pick(0.05, 0.6), scene.pick(-0.8, 0.8)
    c, s = math.cos(turn), math.sin(turn)

    def part(
        mesh: str, px: float, py: float, pz: float, scale: Any, tint: Any, texture: int, tilt: float = 0.0
    ) -> None:
        x, y, z = px * size[0] / 2, py * size[1] / 2, pz * size[2] / 2
        scene.add(mesh, (c * x + s * z, y, -s * x + c * z), scale, yaw=turn, roll=tilt, tint=tint, texture=texture)

    with scene.whole():
        part("sphere", 0, 0, 0, size, skin, layer)
        nose = np.array([0.12 + muzzle * 0.4, 0.16 + muzzle * 0.3, 0.2 + muzzle])
        part("sphere", 0, -0.15, 0.95, nose, skin * scene.pick(0.7, 1.1), layer)
        for side in (-1, 1):
            part("sphere", side * 0.4, 0.15, 0.85, np.full(3, scene.pick(0.08, 0.16)), rng.uniform(0.0, 1.2, 3), layer)
            ear = str(rng.choice(["sphere", "cone", f"leaf{int(rng.integers(10))}"]))
            part(ear, side * 0.95, scene.pick(-0.1, 0.9), 0, rng.uniform(0.12, 0.4, 3), skin, layer, tilt=-side * 0.3)
        hair = int(rng.integers(0, 1 << 16))
        if rng.random() < 0.6:
            part(
                f"blob{int(rng.integers(10))}",
                0,
                0.45,
                -0.35,
                size * scene.pick(0.9, 1.15),
                rng.uniform(0.05, 0.7, 3),
                hair,
            )
    if rng.random() < 0.7:
        scene.add(
            f"blob{int(rng.integers(10))}", (0, -1.0, -0.15), (2.0, 1.0, 0.9), yaw=turn * 0.5, repeat=scene.pick(1, 5)
        )


def compose_above(scene: Scene, make: Makers) -> None:
    """A floor, table or ground with things on it, seen steeply from above."""
    rng = scene.rng
    scene.indoor, scene.radius = bool(rng.random() < 0.7), 4.0
    span = scene.pick(0.6, 3.0)
    scene.add("box", (0, -0.05, 0), (30, 0.1, 30), repeat=scene.pick(4, 40))
    level = 0.0
    if rng.random() < 0.4:  # a table
        level = scene.pick(0.1, 0.9) * span
        scene.add(
            "box",
            (0, level - 0.02, 0),
            (span * scene.pick(0.6, 1.6), 0.04, span * scene.pick(0.6, 1.6)),
            yaw=scene.pick(0, 3),
        )
    for _ in range(int(rng.integers(3, 28))):
        at = (scene.pick(-0.7, 0.7) * span, level if rng.random() < 0.8 else 0.0, scene.pick(-0.7, 0.7) * span)
        size = span * 10.0 ** scene.pick(-1.6, -0.4)
        if rng.random() < 0.75:
            make.thing(scene, at, size)
        else:
            scene.add(
                "box",
                (at[0], at[1] + size * 0.05, at[2]),
                (size, size * 0.1, size * scene.pick(0.4, 1.4)),
                yaw=scene.pick(0, 6),
            )
    scene.fov = scene.pick(25, 70)
    back = scene.pick(0.5, 1.3) * span / math.tan(math.radians(scene.fov) / 2)
    middle = (scene.pick(-0.2, 0.2) * span, level, scene.pick(-0.2, 0.2) * span)
    _aim(scene, middle, back, scene.pick(-1.5, -0.75), scene.pick(0, _TURN))


def compose_upward(scene: Scene, make: Makers) -> None:
    """Ceilings, trees, poles and walls seen from below; the sky or the ceiling may be all that is behind."""
    rng = scene.rng
    scene.radius = 10.0
    if rng.random() < 0.5:
        scene.indoor = True
        wide, deep, high = scene.pick(3, 12), scene.pick(4, 16), scene.pick(2.4, 7)
        scene.add("box", (0, high + 0.05, -deep / 2), (wide + 1, 0.1, deep * 2), repeat=scene.pick(1, 9))
        scene.add("box", (0, high / 2, -deep), (wide + 1, high, 0.1), repeat=scene.pick(1, 5))
        for side in (-1, 1):
            scene.add("box", (side * wide / 2, high / 2, -deep / 2), (0.1, high, deep * 2), repeat=scene.pick(1, 8))
        layer = int(rng.integers(0, 1 << 16))
        for i in range(int(rng.integers(0, 8))):  # beams and lamps
            scene.add("box", (0, high - 0.15, -i * deep / 6), (wide, 0.3, scene.pick(0.08, 0.4)), texture=layer)
        for _ in range(int(rng.integers(0, 6))):
            drop = scene.pick(0.2, 0.6) * high
            at = (scene.pick(-0.4, 0.4) * wide, high - drop / 2, -scene.pick(0.2, 0.9) * deep)
            with scene.whole():
                scene.add("tube", at, (0.02, drop, 0.02))
                scene.add(f"turned{int(rng.integers(10))}", (at[0], high - drop, at[2]), scene.pick(0.15, 0.7))
        for _ in range(int(rng.integers(1, 9))):
            make.thing(scene, (scene.pick(-0.45, 0.45) * wide, 0, -scene.pick(1, deep)), scene.pick(0.5, 2.2))
    else:
        scene.fog = float(rng.random() < 0.4) * 10.0 ** scene.pick(-3.0, -1.8)
        scene.add("box", (0, -0.5, -150), (700, 1, 700), repeat=scene.pick(60, 400))
        for _ in range(int(rng.integers(1, 9))):
            make.tree(scene, (scene.pick(-9, 9), 0, -scene.pick(2, 22)), scene.pick(3, 12))
        for _ in range(int(rng.integers(0, 6))):
            size = (scene.pick(3, 12), scene.pick(6, 35), scene.pick(3, 12))
            at = (scene.pick(-25, 25), size[1] / 2, -scene.pick(8, 50))
            scene.add("box", at, size, yaw=scene.pick(-0.7, 0.7), repeat=scene.pick(1, 6))
        for _ in range(int(rng.integers(0, 5))):
            high, thin = scene.pick(3, 14), scene.pick(0.08, 0.5)
            scene.add(
                "tube",
                (scene.pick(-6, 6), high / 2, -scene.pick(1.5, 20)),
                (thin, high, thin),
                roll=scene.pick(-0.1, 0.1),
            )
    scene.fov = scene.pick(30, 80)
    pitch, yaw = scene.pick(0.2, 1.1), scene.pick(-0.6, 0.6)
    ahead = np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch)])
    scene.look((scene.pick(-1, 1), scene.pick(0.3, 1.8), 0.5), ahead, 6.0)
