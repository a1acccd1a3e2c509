# SPDX-License-Identifier: Apache-2.0
"""Scenes with exact depth, composed at random and drawn with OpenGL (EGL; Mesa's software driver is enough).

Nine families: furnished rooms, outdoor views, close-ups of things and plants before a backdrop, passages with fences
and occluders, workshops full of things, streets, things that fill the frame, views from above and views up. Everything
is drawn from one seed, so a scene is a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from .meshes import Mesh, standard_meshes

Floats = NDArray[np.float32]
FAMILIES = ("room", "outdoor", "closeup", "passage", "workshop", "street", "relief", "above", "upward")
SHARES = (0.18, 0.14, 0.20, 0.08, 0.12, 0.10, 0.07, 0.06, 0.05)

_VERTEX = """
#version 330
in vec3 position; in vec3 normal; in vec2 uv;
in vec4 row0; in vec4 row1; in vec4 row2; in vec4 look; in vec4 tint;
uniform mat4 view; uniform mat4 projection; uniform mat4 light;
out vec3 world; out vec3 face; out vec2 coord; out vec4 surface; out vec4 colour; out float range; out vec4 lit;
void main() {
  vec4 p = vec4(position, 1.0);
  world = vec3(dot(row0, p), dot(row1, p), dot(row2, p));
  vec3 scale = vec3(length(vec3(row0.x, row1.x, row2.x)), length(vec3(row0.y, row1.y, row2.y)),
                    length(vec3(row0.z, row1.z, row2.z)));
  vec3 n = normal / max(scale * scale, 1e-8);
  face = vec3(dot(row0.xyz, n), dot(row1.xyz, n), dot(row2.xyz, n));
  vec4 eye = view * vec4(world, 1.0);
  range = -eye.z;
  coord = uv * look.y; surface = look; colour = tint;
  lit = light * vec4(world, 1.0);
  gl_Position = projection * eye;
}
"""

_FRAGMENT = """
#version 330
in vec3 world; in vec3 face; in vec2 coord; in vec4 surface; in vec4 colour; in float range; in vec4 lit;
uniform sampler2DArray textures; uniform sampler2DShadow shadow;
uniform vec3 camera; uniform vec3 sun; uniform vec3 sun_colour; uniform vec3 sky; uniform vec3 ground;
uniform vec3 lamp; uniform vec3 lamp_colour; uniform vec4 fog;
layout(location = 0) out vec4 picture; layout(location = 1) out vec2 depth;
void main() {
  vec3 n = normalize(face); vec3 to_eye = normalize(camera - world);
  if (dot(n, to_eye) < 0.0) n = -n;
  vec3 albedo = pow(texture(textures, vec3(coord, surface.x)).rgb, vec3(2.2)) * colour.rgb;
  vec3 s = lit.xyz / lit.w * 0.5 + 0.5; s.z -= 0.004;
  float open = all(greaterThan(s, vec3(0.0))) && all(lessThan(s, vec3(1.0))) ? texture(shadow, s) : 1.0;
  vec3 light = mix(ground, sky, n.y * 0.5 + 0.5);
  light += sun_colour * max(dot(n, sun), 0.0) * open;
  vec3 l = lamp - world; float reach = dot(l, l);
  light += lamp_colour * max(dot(n, normalize(l)), 0.0) / (1.0 + reach);
  vec3 h = normalize(sun + to_eye);
  vec3 c = albedo * light + surface.z * sun_colour * open * pow(max(dot(n, h), 0.0), surface.w);
  c = mix(c, fog.rgb, 1.0 - exp(-range * fog.a));
  picture = vec4(pow(c, vec3(1.0 / 2.2)), 1.0); depth = vec2(range, colour.w);
}
"""

_SHADOW_VERTEX = """
#version 330
in vec3 position; in vec4 row0; in vec4 row1; in vec4 row2; uniform mat4 light;
void main() {
  vec4 p = vec4(position, 1.0);
  gl_Position = light * vec4(dot(row0, p), dot(row1, p), dot(row2, p), 1.0);
}
"""


@dataclass
class Scene:
    """What is drawn: instances by mesh, a camera, lights."""

    rng: np.random.Generator
    instances: dict[str, list[Floats]] = field(default_factory=dict)
    eye: Floats = field(default_factory=lambda: np.zeros(3, np.float32))
    target: Floats = field(default_factory=lambda: np.array([0, 0, -1], np.float32))
    fov: float = 60.0
    roll: float = 0.0
    radius: float = 10.0
    fog: float = 0.0
    indoor: bool = False
    objects: int = 0  # told apart so far
    _whole: int = 0  # the object that is being put together; 0: each mesh is one of its own

    def pick(self, low: float, high: float) -> float:
        """Uniform."""
        return float(self.rng.uniform(low, high))

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is added within is one object, but for what is a whole within it."""
        outer = self._whole
        self.objects += 1
        self._whole = self.objects
        yield
        self._whole = outer

    def look(self, eye: Any, ahead: Any, distance: float) -> None:
        """Put the camera at a point, looking at what lies `distance` ahead of it, nearly level."""
        self.eye = np.asarray(eye, np.float32)
        self.target = (self.eye + np.asarray(ahead) * distance).astype(np.float32)
        self.roll = float(self.rng.normal() * 0.03)

    def add(
        self,
        mesh: str,
        position: Any,
        scale: Any,
        *,
        yaw: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
        texture: int = -1,
        repeat: float = 1.0,
        tint: Any = None,
    ) -> None:
        """Place a mesh: scaled, rolled, pitched, turned, moved."""
        rng = self.rng
        rotation = _rotation(yaw, pitch, roll) * np.broadcast_to(np.asarray(scale, np.float32), 3)[None, :]
        if tint is None:
            grey = rng.uniform(0.35, 1.1)
            tint = grey * (1 + rng.normal(size=3) * (0.12 if rng.random() < 0.7 else 0.35))
            tint = np.clip(tint, 0.05, 1.2)
        layer = texture if texture >= 0 else int(rng.integers(0, 1 << 16))
        gloss = float(rng.random() ** 4 * 1.5)
        row = np.zeros(20, np.float32)
        row[:12] = np.concatenate([rotation, np.asarray(position, np.float32)[:, None]], 1).ravel()
        row[12:16] = (layer, repeat, gloss, 10.0 ** rng.uniform(0.5, 2.0))
        row[16:19] = tint
        if not self._whole:
            self.objects += 1
        row[19] = self._whole or self.objects
        self.instances.setdefault(mesh, []).append(row)


class Renderer:
    """Draws scenes with exact depth.

    Args:
        textures: uint8 [N, S, S, 3].
        height, width: of the pictures given back; drawing is at twice that.
        shares: of each family in FAMILIES, summing to 1.
    """

    def __init__(
        self,
        textures: NDArray[np.uint8],
        height: int = 256,
        width: int = 384,
        shares: tuple[float, ...] = SHARES,
    ) -> None:
        self.shares = shares
        self.ctx = moderngl.create_context(standalone=True, backend="egl")
        self.height, self.width = height, width
        self._upload(textures)
        self.program = self.ctx.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self.shadow_program = self.ctx.program(
            vertex_shader=_SHADOW_VERTEX, fragment_shader="#version 330\nvoid main() {}"
        )
        self.shadow = self.ctx.depth_texture((768, 768))
        self.shadow.compare_func = "<="
        self.shadow_target = self.ctx.framebuffer(depth_attachment=self.shadow)
        full = (2 * width, 2 * height)
        self.colour = self.ctx.texture(full, 3)
        self.range = self.ctx.texture(full, 2, dtype="f4")  # distance, and which object
        self.target = self.ctx.framebuffer([self.colour, self.range], self.ctx.depth_renderbuffer(full))
        self.meshes = standard_meshes(np.random.default_rng(99))
        self.buffers = {name: self.ctx.buffer(mesh.vertices.tobytes()) for name, mesh in self.meshes.items()}

    def load(self, textures: NDArray[np.uint8]) -> None:
        """Take other textures, uint8 [N, S, S, 3]."""
        self.textures.release()
        self._upload(textures)

    def _upload(self, textures: NDArray[np.uint8]) -> None:
        self.count, size = textures.shape[0], textures.shape[1]
        self.textures = self.ctx.texture_array((size, size, self.count), 3, np.ascontiguousarray(textures).tobytes())
        self.textures.build_mipmaps()

    def draw(self, seed: int, family: str | None = None) -> tuple[NDArray[np.uint8], Floats]:
        """The scene of a number.

        Returns:
            picture uint8 [H, W, 3]; disparity float32 [H, W], 1 / depth in scene units, 0 for the sky.
        """
        return self.draw_objects(seed, family)[:2]

    def draw_objects(
        self, seed: int, family: str | None = None
    ) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint16]]:
        """The scene of a number with its objects.

        Returns:
            as :meth:`draw`; and uint16 [H, W], which object each pixel is of, 0 for the sky.
        """
        from .families import compose

        rng = np.random.default_rng(seed)
        scene = compose(rng, family or str(rng.choice(FAMILIES, p=self.shares)))
        return self._draw(scene)

    def _draw(self, scene: Scene) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint16]]:
        rng = scene.rng
        view = _look_at(scene.eye, scene.target, scene.roll)
        projection = _perspective(scene.fov, self.width / self.height, 0.02, 2000.0)
        sun = _unit(np.array([rng.normal(), rng.uniform(0.3, 2.0), rng.normal() + 0.3]))
        light = _ortho(scene.radius) @ _look_at(scene.target + sun * scene.radius * 2, scene.target, 0.0)
        warm = rng.uniform(0.75, 1.25, 3)
        power = rng.uniform(0.1, 0.7) if scene.indoor else rng.uniform(0.1, 1.3)
        haze = rng.uniform(0.4, 1.0) * rng.uniform(0.8, 1.1, 3)
        sky = haze * rng.uniform(0.3, 1.0)
        uniforms = {
            "view": view.T, "projection": projection.T, "light": light.T, "camera": scene.eye, "sun": sun,
            "sun_colour": warm * power, "sky": sky * rng.uniform(0.4, 1.0), "ground": sky * rng.uniform(0.1, 0.6),
            "lamp": scene.target + rng.normal(size=3) * scene.radius * 0.3 + np.array([0, scene.radius * 0.2, 0]),
            "lamp_colour": rng.uniform(0.6, 1.2, 3) * rng.uniform(0, 3.0) * (1.0 if scene.indoor else 0.2),
            "fog": np.array([*haze, scene.fog]),
        }  # fmt: skip
        self.shadow_program["light"].write(np.ascontiguousarray(light.T, np.float32).tobytes())
        for name, value in uniforms.items():
            self.program[name].write(np.ascontiguousarray(value, np.float32).tobytes())
        batches = []
        for name, rows in scene.instances.items():
            data = np.stack(rows)
            data[:, 12] %= self.count
            batches.append((self.buffers[name], self.ctx.buffer(data.tobytes()), self.meshes[name], len(rows)))
        self.ctx.enable(moderngl.DEPTH_TEST)
        self.shadow_target.use()
        self.shadow_target.clear(depth=1.0)
        self._batches(self.shadow_program, batches, "16x/i")
        self.target.use()
        self.target.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        self.textures.use(0)
        self.shadow.use(1)
        self.program["textures"] = 0
        self.program["shadow"] = 1
        self._batches(self.program, batches, "")
        for _, instances, _, _ in batches:
            instances.release()
        high, wide = 2 * self.height, 2 * self.width
        raw = np.frombuffer(self.colour.read(), np.uint8).reshape(high, wide, 3)[::-1]
        both = np.frombuffer(self.range.read(), np.float32).reshape(high, wide, 2)[::-1]
        return self._resolve(raw, both[:, :, 0], both[:, :, 1], scene, sky=np.clip(haze, 0, 1.2))

    def _batches(self, program: moderngl.Program, batches: list[Any], kind: str) -> None:
        for vertices, instances, mesh, count in batches:
            if kind:
                layout = [(vertices, "3f 20x", "position"), (instances, "4f 4f 4f 32x/i", "row0", "row1", "row2")]
            else:
                layout = [
                    (vertices, "3f 3f 2f", "position", "normal", "uv"),
                    (instances, "4f 4f 4f 4f 4f/i", "row0", "row1", "row2", "look", "tint"),
                ]
            array = self.ctx.vertex_array(program, layout)
            array.render(moderngl.TRIANGLES, vertices=mesh.count, instances=count)
            array.release()

    def _resolve(
        self, raw: NDArray[np.uint8], distance: Floats, objects: Floats, scene: Scene, sky: NDArray[Any]
    ) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint16]]:
        """Two by two samples to a pixel, sky behind; a pixel's depth and object are its second nearest sample's."""
        drawn = distance > 0
        cover, picture = _mean(drawn), _mean(raw)  # what is not drawn is black
        # Exposure: the drawn part's mean lands where a camera would put it, give or take a stop.
        seen = float(picture.sum()) / max(1.0, 3 * float(cover.sum())) if cover.any() else 0.0
        if not drawn.all():
            picture += _sky(scene.rng, cover.shape, sky) * (1 - cover)[:, :, None]
        gain = scene.rng.uniform(70, 150) / max(8.0, seen)
        if gain > 1:
            picture = 255.0 * (1.0 - np.exp(picture * (-1.1 / 255.0 * min(gain, 4.0))))
        else:
            picture *= max(gain, 0.6)
        with np.errstate(divide="ignore"):
            a, b, c, d = _four(np.where(drawn, 1.0 / np.maximum(distance, 1e-3), 0.0).astype(np.float32))
        near = np.maximum(
            np.minimum(np.maximum(a, b), np.maximum(c, d)), np.maximum(np.minimum(a, b), np.minimum(c, d))
        )
        ids = _four(np.where(drawn, objects, 0.0))
        which = np.select([near == a, near == b, near == c], ids[:3], ids[3])
        # The number is interpolated over a triangle, so it comes back nearly whole.
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8), near, np.rint(which).astype(np.uint16)


def _four(plane: NDArray[Any]) -> list[NDArray[Any]]:
    """The four samples of every pixel, [2 H, 2 W, ...] -> four times [H, W, ...]."""
    return [plane[0::2, 0::2], plane[0::2, 1::2], plane[1::2, 0::2], plane[1::2, 1::2]]


def _mean(plane: NDArray[Any]) -> Floats:
    a, b, c, d = (sample.astype(np.float32) for sample in _four(plane))
    return np.asarray((a + b + c + d) / 4, np.float32)


def _sky(rng: np.random.Generator, shape: tuple[int, int], haze: NDArray[Any]) -> Floats:
    rows = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    zenith = haze * rng.uniform([0.3, 0.45, 0.7], [1.0, 1.0, 1.15])
    base = (zenith[None, None] * (1 - rows) + haze[None, None] * rows) * 255
    clouds = np.zeros(shape, np.float32)
    for octave in range(2, 7):
        size = 2**octave
        noise = rng.random((size, size), np.float32)
        y = np.linspace(0, size - 1.01, shape[0])
        x = np.linspace(0, size - 1.01, shape[1])
        yi, xi = y.astype(int), x.astype(int)
        fy, fx = (y - yi)[:, None].astype(np.float32), (x - xi)[None].astype(np.float32)
        a = noise[yi][:, xi] * (1 - fx) + noise[yi][:, xi + 1] * fx
        b = noise[yi + 1][:, xi] * (1 - fx) + noise[yi + 1][:, xi + 1] * fx
        clouds += (a * (1 - fy) + b * fy) / size
    clouds = np.clip((clouds / clouds.max() - rng.uniform(0.4, 1.0)) * rng.uniform(1, 4), 0, 1)[:, :, None]
    return np.clip(base * (1 - clouds) + 245.0 * clouds, 0, 255).astype(np.float32)


def _unit(v: NDArray[Any]) -> Floats:
    return (v / max(1e-9, float(np.linalg.norm(v)))).astype(np.float32)


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    bank = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (turn @ tilt @ bank).astype(np.float32)


def _look_at(eye: Floats, target: Floats, roll: float) -> Floats:
    forward = _unit(np.asarray(target) - np.asarray(eye))
    side = _unit(np.cross(forward, np.array([math.sin(roll), math.cos(roll), 1e-4])))
    up = np.cross(side, forward)
    matrix = np.eye(4, dtype=np.float32)
    matrix[0, :3], matrix[1, :3], matrix[2, :3] = side, up, -forward
    matrix[:3, 3] = -matrix[:3, :3] @ np.asarray(eye, np.float32)
    return matrix


def _perspective(fov: float, aspect: float, near: float, far: float) -> Floats:
    f = 1.0 / math.tan(math.radians(fov) / 2)
    matrix = np.zeros((4, 4), np.float32)
    matrix[0, 0], matrix[1, 1] = f / aspect, f
    matrix[2, 2], matrix[2, 3], matrix[3, 2] = (far + near) / (near - far), 2 * far * near / (near - far), -1
    return matrix


def _ortho(radius: float) -> Floats:
    return np.diag([1 / radius, 1 / radius, -1 / (4 * radius), 1]).astype(np.float32)


__all__ = ["FAMILIES", "Mesh", "Renderer", "Scene"]
