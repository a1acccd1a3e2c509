# SPDX-License-Identifier: Apache-2.0
"""The families of scenes. Units are about a metre; y is up; cameras look about along -z."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .scenes import Scene
from .views import Makers, compose_above, compose_relief, compose_street, compose_upward
from .workshop import compose_workshop

_TURN = 2 * math.pi
_VIEWS = {"street": compose_street, "relief": compose_relief, "above": compose_above, "upward": compose_upward}


def compose(rng: np.random.Generator, family: str) -> Scene:
    """A random scene of a family."""
    scene = Scene(rng)
    if family in _VIEWS:
        _VIEWS[family](scene, Makers(thing=_thing, plant=_plant, tree=_tree, figure=_figure))
    else:
        own = {"room": _room, "outdoor": _outdoor, "closeup": _closeup, "passage": _passage, "workshop": _workshop}
        own[family](scene)
    if rng.random() < 0.12:
        _foreground(scene)
    if rng.random() < 0.08:  # a camera that is held aslant
        scene.roll = float(rng.normal() * 0.2)
    return scene


def _object(make: Callable[..., None]) -> Callable[..., None]:
    """What is made is one object of the scene."""

    @wraps(make)
    def made(scene: Scene, *arguments: Any) -> None:
        with scene.whole():
            make(scene, *arguments)

    return made


def _one(scene: Scene, kind: str, count: int) -> str:
    return f"{kind}{int(scene.rng.integers(count))}"


def _aim(scene: Scene, eye: Any, distance: float, pitch: float, yaw: float) -> None:
    """Put the camera at `eye`, looking along -z turned by yaw and pitch (radians, pitch up positive)."""
    ahead = (math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch))
    scene.look(eye, ahead, distance)


def _workshop(scene: Scene) -> None:
    compose_workshop(scene, _thing, _machine)


def _foreground(scene: Scene) -> None:
    """Something near that the frame cuts: a post, a leaf, a shoulder."""
    ahead = scene.target - scene.eye
    ahead = ahead / np.linalg.norm(ahead)
    side = np.cross(ahead, [0, 1, 0])
    near = max(0.25, 0.12 * float(np.linalg.norm(scene.target - scene.eye)))
    reach = near * math.tan(math.radians(scene.fov) / 2)
    for _ in range(int(scene.rng.integers(1, 4))):
        where = scene.eye + ahead * near + side * scene.rng.choice([-1, 1]) * reach * scene.pick(0.7, 1.7)
        where = where + np.array([0, scene.pick(-1, 0.6) * reach, 0])
        kind = scene.rng.choice(["tube", "blob", "leaf", "box"])
        if kind == "tube":
            scene.add("tube", where, (reach * 0.2, reach * 6, reach * 0.2), roll=scene.pick(-0.3, 0.3))
        elif kind == "box":
            scene.add("box", where, reach * scene.rng.uniform(0.2, 0.9, 3), yaw=scene.pick(0, 6))
        else:
            size = reach * scene.pick(0.4, 1.2)
            scene.add(_one(scene, kind, 10), where, size, yaw=scene.pick(0, 6), pitch=scene.pick(-1, 1))


@_object
def _thing(scene: Scene, at: Any, size: float) -> None:
    """One solid thing that stands at a point, about `size` high."""
    rng = scene.rng
    x, y, z = (float(v) for v in at)
    kind = rng.choice(["box", "sphere", "turned", "blob", "tube", "cone", "stack", "plant", "frame", "wheel", "figure"])
    yaw = scene.pick(0, _TURN)
    wide = size * scene.pick(0.3, 1.2)
    if kind == "box":
        scene.add(
            "box", (x, y + size / 2, z), (wide, size, wide * scene.pick(0.3, 1.5)), yaw=yaw, repeat=scene.pick(0.5, 3)
        )
    elif kind == "sphere":
        scene.add("sphere", (x, y + size / 2, z), size, yaw=yaw)
    elif kind in ("turned", "blob"):
        stretch = (wide, size, wide) if kind == "turned" else size * rng.uniform(0.6, 1.2, 3)
        scene.add(_one(scene, kind, 10), (x, y + size / 2, z), stretch, yaw=yaw)
    elif kind in ("tube", "cone"):
        lying = rng.random() < 0.25
        scene.add(kind, (x, y + (wide / 2 if lying else size / 2), z), (wide, size, wide), yaw=yaw, roll=1.57 * lying)
    elif kind == "stack":
        height = y
        for _ in range(int(rng.integers(2, 7))):
            thick = size * scene.pick(0.05, 0.25)
            flat = (wide * scene.pick(0.7, 1.2), thick, wide * scene.pick(0.7, 1.2))
            scene.add("box", (x, height + thick / 2, z), flat, yaw=yaw + scene.pick(-0.3, 0.3))
            height += thick
    elif kind == "plant":
        _plant(scene, (x, y, z), size)
    elif kind == "frame":
        _frame(scene, (x, y, z), size, wide, yaw)
    elif kind == "wheel":
        _machine(scene, (x, y, z), size, yaw)
    else:
        _figure(scene, (x, y, z), size, yaw)


@_object
def _plant(scene: Scene, at: Any, size: float) -> None:
    """Leaves out of one point or along stems, sometimes in a pot."""
    rng = scene.rng
    x, y, z = (float(v) for v in at)
    layer, tint = int(rng.integers(0, 1 << 16)), rng.uniform([0.1, 0.3, 0.05], [0.6, 1.0, 0.5])
    if rng.random() < 0.4:
        pot = size * scene.pick(0.2, 0.4)
        scene.add(_one(scene, "turned", 10), (x, y + pot / 2, z), (pot, pot, pot))
        y += pot * 0.8
    stems = int(rng.integers(1, 9)) if rng.random() < 0.5 else 1
    for _ in range(stems):
        lean, turn = scene.pick(0, 0.5) * (stems > 1), scene.pick(0, _TURN)
        high = size * scene.pick(0.4, 1.0) if stems > 1 else 0.0
        tip = np.array([math.sin(turn) * math.sin(lean), math.cos(lean), math.cos(turn) * math.sin(lean)])
        if high:
            middle = np.array([x, y, z]) + tip * high / 2
            thin = size * scene.pick(0.006, 0.03)
            scene.add("tube", middle, (thin, high, thin), yaw=turn, pitch=lean, texture=layer, tint=tint * 0.7)
        mesh = _one(scene, "leaf", 10)
        for _ in range(int(rng.integers(6, 26) if stems > 1 else rng.integers(12, 60))):
            along = scene.pick(0.2, 1.0)
            root = np.array([x, y, z]) + tip * high * along
            long = size * (scene.pick(0.12, 0.35) if stems > 1 else scene.pick(0.4, 0.9))
            scene.add(
                mesh if rng.random() < 0.7 else _one(scene, "leaf", 10), root, long * rng.uniform(0.8, 1.1, 3),
                yaw=scene.pick(0, _TURN), pitch=scene.pick(-1.1, 0.4), roll=scene.pick(-0.5, 0.5),
                texture=layer, tint=tint * scene.pick(0.6, 1.2),
            )  # fmt: skip


@_object
def _frame(scene: Scene, at: Any, size: float, wide: float, yaw: float) -> None:
    """A thing of bars: a chair, a trestle, a rack."""
    x, y, z = (float(v) for v in at)
    deep, thin = wide * scene.pick(0.5, 1.0), size * scene.pick(0.02, 0.07)
    layer, tint = int(scene.rng.integers(0, 1 << 16)), scene.rng.uniform(0.2, 1.0, 3)
    c, s = math.cos(yaw), math.sin(yaw)

    def bar(px: float, py: float, pz: float, scale: Any) -> None:
        scene.add("box", (x + c * px + s * pz, y + py, z - s * px + c * pz), scale, yaw=yaw, texture=layer, tint=tint)

    for px in (-wide / 2, wide / 2):
        for pz in (-deep / 2, deep / 2):
            bar(px, size / 2, pz, (thin, size, thin))
    for level in np.linspace(scene.pick(0.2, 0.6), 1.0, int(scene.rng.integers(1, 5))):
        if scene.rng.random() < 0.6:
            bar(0, size * level, 0, (wide + thin, thin, deep + thin))
        else:
            bar(0, size * level, -deep / 2, (wide + thin, thin, thin))
            bar(0, size * level, deep / 2, (wide + thin, thin, thin))


@_object
def _machine(scene: Scene, at: Any, size: float, yaw: float) -> None:
    """Wheels, tubes and lumps in one plane: a cycle, a cart, an engine."""
    rng = scene.rng
    x, y, z = (float(v) for v in at)
    c, s = math.cos(yaw), math.sin(yaw)
    wheel = size * scene.pick(0.5, 0.8)
    span = wheel * scene.pick(1.1, 1.9)

    def at_plane(px: float, py: float, pz: float) -> tuple[float, float, float]:
        return (x + c * px + s * pz, y + py, z - s * px + c * pz)

    ring = _one(scene, "ring", 3)
    for px in (-span / 2, span / 2):
        scene.add(ring, at_plane(px, wheel / 2, 0), wheel, yaw=yaw)
        scene.add("tube", at_plane(px, wheel / 2, 0), (wheel * 0.15, wheel * 0.2, wheel * 0.15), yaw=yaw, pitch=1.57)
        for spoke in range(int(rng.integers(0, 9))):
            scene.add(
                "tube",
                at_plane(px, wheel / 2, 0),
                (wheel * 0.015, wheel * 0.9, wheel * 0.015),
                yaw=yaw,
                roll=spoke * 0.7,
            )
    for _ in range(int(rng.integers(5, 16))):
        px, py, pz = scene.pick(-0.6, 0.6) * span, scene.pick(0.35, 1.0) * size, scene.pick(-0.12, 0.12) * size
        long = size * scene.pick(0.2, 0.7)
        if rng.random() < 0.5:
            thin = size * scene.pick(0.015, 0.06)
            scene.add("tube", at_plane(px, py, pz), (thin, long, thin), yaw=yaw, roll=scene.pick(0, 3.1))
        else:
            lump = long * rng.uniform(0.25, 0.8, 3) * np.array([1, 1, 0.6])
            scene.add(
                rng.choice(["box", "sphere", "blob1", "blob4", "turned3", "tube"]), at_plane(px, py, pz), lump, yaw=yaw
            )


@_object
def _figure(scene: Scene, at: Any, size: float, yaw: float) -> None:
    """About a person."""
    x, y, z = (float(v) for v in at)
    c, s = math.cos(yaw), math.sin(yaw)
    skin = scene.rng.uniform([0.25, 0.15, 0.1], [1.0, 0.75, 0.6])
    scene.add("sphere", (x, y + size * 0.93, z), np.array([0.11, 0.15, 0.12]) * size, tint=skin)
    scene.add("blob2", (x, y + size * 0.66, z), np.array([0.3, 0.42, 0.2]) * size, yaw=yaw)
    for side in (-1, 1):
        leg = (x + c * side * size * 0.07, y + size * 0.24, z - s * side * size * 0.07)
        scene.add("tube", leg, np.array([0.12, 0.5, 0.13]) * size, yaw=yaw, pitch=scene.pick(-0.25, 0.25))
        arm = (x + c * side * size * 0.19, y + size * 0.62, z - s * side * size * 0.19)
        scene.add(
            "tube",
            arm,
            np.array([0.07, 0.38, 0.08]) * size,
            yaw=yaw,
            pitch=scene.pick(-0.8, 0.8),
            roll=side * scene.pick(0, 0.5),
        )


def _room(scene: Scene) -> None:
    rng = scene.rng
    wide, deep, high = scene.pick(2.5, 8), scene.pick(3, 10), scene.pick(2.2, 4)
    scene.indoor, scene.radius = True, max(wide, deep)
    for position, scale in (
        ((0, -0.05, -deep / 2), (wide, 0.1, deep * 1.5)), ((0, high + 0.05, -deep / 2), (wide, 0.1, deep * 1.5)),
        ((0, high / 2, -deep - 0.05), (wide, high, 0.1)),
        ((-wide / 2 - 0.05, high / 2, -deep / 2), (0.1, high, deep * 1.5)), ((wide / 2 + 0.05, high / 2, -deep / 2), (0.1, high, deep * 1.5)),
    ):  # fmt: skip
        scene.add("box", position, scale, repeat=scene.pick(1, 6) if rng.random() < 0.6 else 1.0)
    for _ in range(int(rng.integers(0, 7))):  # pictures, windows, cupboards on the walls
        flat = rng.uniform(0.3, 1.4, 2)
        at = scene.pick(0.8, high - 0.3)
        if rng.random() < 0.5:
            scene.add("box", (scene.pick(-wide / 2, wide / 2), at, -deep), (flat[0], flat[1], scene.pick(0.02, 0.3)))
        else:
            side = rng.choice([-1, 1]) * wide / 2
            scene.add("box", (side, at, -scene.pick(0.5, deep)), (scene.pick(0.02, 0.3), flat[1], flat[0]))
    for _ in range(int(rng.integers(3, 13))):
        x, z = scene.pick(-wide / 2 + 0.3, wide / 2 - 0.3), -scene.pick(1.0, deep - 0.3)
        kind = rng.random()
        if kind < 0.35:
            _furniture(scene, x, z)
        else:
            _thing(scene, (x, 0, z), scene.pick(0.2, 1.8))
    scene.fov = scene.pick(35, 75)
    _aim(
        scene,
        (scene.pick(-wide / 3, wide / 3), scene.pick(0.5, 1.9), scene.pick(-0.2, 0.8)),
        deep / 2,
        scene.pick(-0.5, 0.12),
        scene.pick(-0.45, 0.45),
    )


@_object
def _furniture(scene: Scene, x: float, z: float) -> None:
    rng = scene.rng
    wide, deep, high, yaw = scene.pick(0.5, 1.9), scene.pick(0.4, 1.0), scene.pick(0.4, 1.0), scene.pick(-0.4, 0.4)
    layer = int(rng.integers(0, 1 << 16))
    scene.add("box", (x, high, z), (wide, 0.05, deep), yaw=yaw, texture=layer)
    c, s = math.cos(yaw), math.sin(yaw)
    if rng.random() < 0.6:
        for px in (-0.45, 0.45):
            for pz in (-0.45, 0.45):
                where = (x + c * px * wide + s * pz * deep, high / 2, z - s * px * wide + c * pz * deep)
                scene.add("box", where, (0.05, high, 0.05), yaw=yaw, texture=layer)
    else:
        scene.add("box", (x, high / 2, z), (wide * 0.95, high, deep * 0.95), yaw=yaw, texture=layer)
    for _ in range(int(rng.integers(0, 6))):
        _thing(
            scene,
            (x + scene.pick(-0.4, 0.4) * wide, high + 0.02, z + scene.pick(-0.3, 0.3) * deep),
            scene.pick(0.08, 0.45),
        )


def _outdoor(scene: Scene) -> None:
    rng = scene.rng
    scene.radius = 18.0
    scene.fog = float(rng.random() < 0.6) * 10.0 ** scene.pick(-3.0, -1.3)
    scene.add("box", (0, -0.5, -200), (900, 1, 900), repeat=scene.pick(60, 500))
    if rng.random() < 0.4:  # a road or path
        scene.add(
            "box",
            (scene.pick(-3, 3), 0.0, -100),
            (scene.pick(1.5, 7), 0.04, 300),
            repeat=scene.pick(5, 40),
            yaw=scene.pick(-0.2, 0.2),
        )
    for _ in range(int(rng.integers(0, 5))):  # hills
        scene.add(
            _one(scene, "blob", 10),
            (scene.pick(-150, 150), -2, -scene.pick(60, 300)),
            (scene.pick(50, 200), scene.pick(8, 60), scene.pick(40, 120)),
            repeat=scene.pick(3, 12),
        )
    for _ in range(int(rng.integers(0, 9))):  # buildings
        size = (scene.pick(4, 14), scene.pick(3, 22), scene.pick(4, 14))
        x = rng.choice([-1, 1]) * scene.pick(5, 30)
        scene.add("box", (x, size[1] / 2, -scene.pick(8, 90)), size, yaw=scene.pick(-0.2, 0.2), repeat=scene.pick(1, 6))
    for _ in range(int(rng.integers(0, 14))):  # trees
        _tree(scene, (scene.pick(-25, 25), 0, -scene.pick(4, 70)), scene.pick(2.5, 10))
    for _ in range(int(rng.integers(2, 16))):
        near = scene.pick(1.8, 5) if rng.random() < 0.3 else scene.pick(3, 30)
        _thing(scene, (scene.pick(-0.6, 0.6) * near, 0, -near), scene.pick(0.4, 2.0))
    if rng.random() < 0.3:
        _fence(scene, -scene.pick(3, 15), scene.pick(-0.6, 0.6))
    for _ in range(int(rng.integers(0, 40)) if rng.random() < 0.5 else 0):  # grass and bushes close by
        near = scene.pick(1.0, 6)
        scene.add(
            _one(scene, "leaf", 10),
            (scene.pick(-0.8, 0.8) * near, 0, -near),
            scene.pick(0.15, 0.6),
            yaw=scene.pick(0, _TURN),
            pitch=scene.pick(-1.4, -0.5),
            tint=rng.uniform([0.1, 0.3, 0.05], [0.6, 0.9, 0.4]),
        )
    scene.fov = scene.pick(28, 75)
    eye = scene.pick(0.3, 2.2) if rng.random() < 0.8 else scene.pick(2.2, 12)
    _aim(scene, (0, eye, 0), 12.0, scene.pick(-0.35, 0.12), scene.pick(-0.3, 0.3))


@_object
def _tree(scene: Scene, at: Any, size: float) -> None:
    x, y, z = at
    trunk = size * scene.pick(0.2, 0.5)
    thick = size * scene.pick(0.03, 0.08)
    scene.add(
        "tube", (x, y + trunk / 2, z), (thick, trunk, thick), tint=scene.rng.uniform([0.2, 0.12, 0.08], [0.6, 0.5, 0.4])
    )
    layer, tint = int(scene.rng.integers(0, 1 << 16)), scene.rng.uniform([0.1, 0.25, 0.05], [0.5, 0.8, 0.35])
    if scene.rng.random() < 0.25:
        scene.add(
            "cone",
            (x, y + trunk * 0.6 + size * 0.35, z),
            (size * 0.4, size * 0.8, size * 0.4),
            texture=layer,
            tint=tint,
            repeat=4,
        )
        return
    for _ in range(int(scene.rng.integers(3, 12))):
        off = scene.rng.normal(size=3) * size * np.array([0.16, 0.12, 0.16])
        lump = size * scene.pick(0.18, 0.45)
        scene.add(
            _one(scene, "blob", 10),
            np.array([x, y + trunk + size * 0.25, z]) + off,
            lump,
            yaw=scene.pick(0, 6),
            texture=layer,
            tint=tint * scene.pick(0.7, 1.2),
            repeat=3,
        )


@_object
def _fence(scene: Scene, z: float, yaw: float) -> None:
    high, gap, thin = scene.pick(0.8, 2.0), scene.pick(0.12, 1.2), scene.pick(0.03, 0.12)
    layer, tint = int(scene.rng.integers(0, 1 << 16)), scene.rng.uniform(0.2, 1.0, 3)
    c, s = math.cos(yaw), math.sin(yaw)
    for i in range(-25, 26):
        scene.add(
            "box", (c * i * gap, high / 2, z - s * i * gap), (thin, high, thin), yaw=yaw, texture=layer, tint=tint
        )
    for level in (0.3, 0.85):
        scene.add("box", (0, high * level, z), (51 * gap, thin, thin), yaw=yaw, texture=layer, tint=tint)


def _closeup(scene: Scene) -> None:
    """A thing or a few before a wall, cloth or far ground; the ground may not be in sight."""
    rng = scene.rng
    scene.indoor = bool(rng.random() < 0.5)
    scene.radius = 3.0
    behind = scene.pick(0.15, 3.0)
    span = 8.0 + 4 * behind
    style = rng.random()
    if style < 0.7:
        mesh = _one(scene, "cloth", 5)
        turn, lean = scene.pick(-0.7, 0.7) * (rng.random() < 0.5), scene.pick(-0.3, 0.3) * (rng.random() < 0.4)
        scene.add(
            mesh,
            (0, 0.5, -behind - 1.0),
            (span, span, scene.pick(0.5, 3)),
            yaw=turn,
            pitch=lean,
            repeat=scene.pick(1.5, 14),
        )
    else:
        scene.fog = 10.0 ** scene.pick(-2.5, -0.7)
        scene.add("box", (0, -0.5, -80), (300, 1, 300), repeat=scene.pick(40, 200))
        for _ in range(int(rng.integers(2, 12))):
            _tree(scene, (scene.pick(-12, 12), 0, -scene.pick(4, 30)), scene.pick(2, 8))
    floor = rng.random() < 0.65
    if floor:
        scene.add("box", (0, -0.05, -1), (span, 0.1, span), repeat=scene.pick(2, 14))
    subject = rng.random()
    size = scene.pick(0.5, 1.5)
    if subject < 0.3:
        _plant(scene, (scene.pick(-0.2, 0.2), scene.pick(-0.2, 0.1) if not floor else 0.0, -1.0), size)
    elif subject < 0.5:
        _machine(scene, (scene.pick(-0.2, 0.2), 0, -1.0), size, scene.pick(-0.7, 0.7))
    else:
        for _ in range(int(rng.integers(1, 6))):
            _thing(
                scene,
                (scene.pick(-0.7, 0.7), 0, -1.0 + scene.pick(-0.5, min(0.6, behind))),
                size * scene.pick(0.3, 1.0),
            )
    for _ in range(int(rng.integers(0, 5))):
        _thing(scene, (scene.pick(-1.5, 1.5), 0, -1.0 - scene.pick(0, behind)), scene.pick(0.1, 0.8))
    scene.fov = scene.pick(22, 58)
    back = scene.pick(0.55, 1.5) * size / math.tan(math.radians(scene.fov) / 2)
    pitch = scene.pick(-0.6, 0.08) if rng.random() < 0.7 else scene.pick(-1.2, -0.5)
    yaw = scene.pick(-0.3, 0.3)
    middle = np.array([scene.pick(-0.2, 0.2), size * scene.pick(0.3, 0.6), -1.0])
    ahead = np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch)])
    _aim(scene, middle - ahead * back, back, pitch, yaw)


def _passage(scene: Scene) -> None:
    """Between two walls or rows, towards an end that may be open."""
    rng = scene.rng
    wide, high, deep = scene.pick(1.2, 6), scene.pick(2.2, 8), scene.pick(6, 40)
    scene.radius = 12.0
    scene.add("box", (0, -0.05, -deep / 2), (wide * 3, 0.1, deep * 1.6), repeat=scene.pick(3, 20))
    for side in (-1, 1):
        if rng.random() < 0.75:
            scene.add(
                "box",
                (side * wide / 2, high / 2, -deep / 2),
                (0.1, high, deep * 1.3),
                repeat=scene.pick(1, 10),
                yaw=scene.pick(-0.12, 0.12),
            )
        else:
            for i in range(10):
                scene.add("tube", (side * wide / 2, high / 2, -i * deep / 10), (0.3, high, 0.3), texture=7)
    if rng.random() < 0.5:
        scene.add("box", (0, high, -deep / 2), (wide * 1.2, 0.1, deep * 1.3), repeat=scene.pick(1, 8))
    if rng.random() < 0.6:
        scene.add("box", (0, high / 2, -deep), (wide * 3, high * 1.5, 0.1), repeat=scene.pick(1, 4))
    for _ in range(int(rng.integers(1, 10))):
        _thing(scene, (scene.pick(-0.45, 0.45) * wide, 0, -scene.pick(1.5, deep * 0.8)), scene.pick(0.2, 1.8))
    if rng.random() < 0.3:
        _fence(scene, -scene.pick(1.5, 5), scene.pick(-0.5, 0.5))
    scene.fov = scene.pick(40, 85)
    _aim(
        scene,
        (scene.pick(-0.3, 0.3) * wide, scene.pick(0.4, 1.9), 0.5),
        5.0,
        scene.pick(-0.25, 0.2),
        scene.pick(-0.5, 0.5),
    )
