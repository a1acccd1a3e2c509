# SPDX-License-Identifier: Apache-2.0
"""Unit meshes as triangle lists: position, normal, texture coordinate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Mesh:
    """A triangle list, float32 [N, 8]: position, normal, texture coordinate."""

    vertices: Floats

    @property
    def count(self) -> int:
        """Vertices."""
        return int(self.vertices.shape[0])


def grid_mesh(surface: Callable[[Floats, Floats], Floats], across: int, along: int, repeat: float = 1.0) -> Mesh:
    """A mesh from surface(u, v) -> [..., 3], u and v in 0..1, with smooth normals by differences."""
    u, v = np.meshgrid(np.linspace(0, 1, across + 1), np.linspace(0, 1, along + 1), indexing="ij")
    u, v = u.astype(np.float32), v.astype(np.float32)
    points = surface(u, v)
    step = np.float32(1e-3)
    normals = np.cross(surface(u + step, v) - surface(u - step, v), surface(u, v + step) - surface(u, v - step))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    every = np.concatenate([points, normals, u[..., None] * repeat, v[..., None] * repeat], -1).astype(np.float32)
    a, b, c, d = every[:-1, :-1], every[1:, :-1], every[1:, 1:], every[:-1, 1:]
    return Mesh(np.stack([a, b, c, a, c, d], 2).reshape(-1, 8))


def _box() -> Mesh:
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            corners = np.zeros((4, 8), np.float32)
            other = [i for i in range(3) if i != axis]
            for i, (s, t) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
                corners[i, axis], corners[i, other[0]], corners[i, other[1]] = sign / 2, s / 2, t / 2
                corners[i, 3 + axis] = sign
                corners[i, 6:] = ((s + 1) / 2, (t + 1) / 2)
            faces.append(corners[[0, 1, 2, 0, 2, 3]])
    return Mesh(np.concatenate(faces))


def _turned(radius: Callable[[Floats], Floats], sides: int = 20, steps: int = 16) -> Mesh:
    """A body of revolution about y, from y = -0.5 to 0.5."""

    def surface(u: Floats, v: Floats) -> Floats:
        r = radius(np.clip(v, 0, 1))
        angle = 2 * math.pi * u
        return np.stack([r * np.cos(angle), v - 0.5, -r * np.sin(angle)], -1)

    return grid_mesh(surface, sides, steps, 2.0)


def _profile(rng: np.random.Generator) -> Callable[[Floats], Floats]:
    knots = rng.uniform(0.15, 0.5, 6)
    knots[-1] *= rng.uniform(0.0, 1.0)

    def radius(v: Floats) -> Floats:
        t = np.clip(v * 5, 0, 4.999)
        i = t.astype(int)
        f = t - i
        f = f * f * (3 - 2 * f)
        return (knots[i] * (1 - f) + knots[i + 1] * f).astype(np.float32)

    return radius


def _sphere(bumps: Callable[[Floats], Floats] | None = None, sides: int = 24, steps: int = 16) -> Mesh:
    def surface(u: Floats, v: Floats) -> Floats:
        a, b = 2 * math.pi * u, math.pi * (np.clip(v, 0, 1) - 0.5)
        p = np.stack([np.cos(a) * np.cos(b), np.sin(b), -np.sin(a) * np.cos(b)], -1) * 0.5
        return p if bumps is None else p * bumps(p)[..., None]

    return grid_mesh(surface, sides, steps, 2.0)


def _blob(rng: np.random.Generator) -> Mesh:
    waves = rng.normal(size=(8, 3)) * rng.uniform(2, 9, (8, 1))
    phases = rng.uniform(0, 6.28, 8)
    heights = rng.uniform(0.02, 0.18, 8)

    def bumps(p: Floats) -> Floats:
        return (1 + (np.sin(p @ waves.T.astype(np.float32) + phases) * heights).sum(-1)).astype(np.float32)

    return _sphere(bumps, 28, 20)


def _leaf(rng: np.random.Generator) -> Mesh:
    """A blade from the origin along z, one unit long, bending up and over."""
    width, lift, droop, fold = rng.uniform(0.06, 0.3), rng.uniform(0, 1.1), rng.uniform(0, 1.3), rng.uniform(0, 0.4)
    wave = rng.uniform(0, 0.06)

    def surface(u: Floats, v: Floats) -> Floats:
        side = (u - 0.5) * 2
        half = width * np.sin(math.pi * np.clip(v, 0, 1) ** 0.7) + 0.004
        y = lift * v - droop * v * v + fold * np.abs(side) * half + wave * np.sin(9 * v + 3 * side)
        return np.stack([side * half, y, v], -1)

    return grid_mesh(surface, 4, 10)


def _ring(thick: float) -> Mesh:
    def surface(u: Floats, v: Floats) -> Floats:
        a, b = 2 * math.pi * u, 2 * math.pi * v
        r = 0.5 - thick + thick * np.cos(b)
        return np.stack([r * np.cos(a), r * np.sin(a), thick * np.sin(b)], -1)

    return grid_mesh(surface, 36, 8, 3.0)


def _cloth(rng: np.random.Generator, depth: float) -> Mesh:
    """A sheet in x and y, one unit each way, with folds along z."""
    waves = rng.normal(size=(6, 2)) * rng.uniform(3, 16, (6, 1)) * np.array([1.0, rng.uniform(0.1, 1)])
    phases = rng.uniform(0, 6.28, 6)
    heights = rng.uniform(0, depth, 6) / 6

    def surface(u: Floats, v: Floats) -> Floats:
        flat = np.stack([u - 0.5, v - 0.5], -1)
        z = (np.sin(flat @ waves.T.astype(np.float32) + phases) * heights).sum(-1)
        return np.stack([u - 0.5, v - 0.5, z], -1)

    return grid_mesh(surface, 40, 40)


def standard_meshes(rng: np.random.Generator) -> dict[str, Mesh]:
    """Every mesh that the families use, by name; numbered ones come in variants."""
    meshes = {
        "box": _box(),
        "sphere": _sphere(),
        "tube": _turned(lambda v: np.full_like(v, 0.5), 16, 1),
        "disc": _turned(lambda v: 0.5 * (1 - v), 20, 1),
        "cone": _turned(lambda v: 0.5 * (1 - v), 16, 4),
        "ring0": _ring(0.03),
        "ring1": _ring(0.09),
        "ring2": _ring(0.16),
    }
    for i in range(10):
        meshes[f"turned{i}"] = _turned(_profile(rng))
        meshes[f"blob{i}"] = _blob(rng)
        meshes[f"leaf{i}"] = _leaf(rng)
    for i in range(5):
        meshes[f"cloth{i}"] = _cloth(rng, (0.0, 0.02, 0.05, 0.1, 0.2)[i])
    return meshes
