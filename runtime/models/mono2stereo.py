# SPDX-License-Identifier: Apache-2.0
"""Mono2Stereo (arXiv 2503.22262): the right view painted by a diffusion model that sees the source and its warp.

The bundle's engines: ``encoder`` (picture to latent), ``unet`` (one step, scheduler's arithmetic included),
``decoder``, perhaps ``depth`` (Depth Anything V2), and what a GPU does between them (``to_planes``, ``to_start``,
``to_pixels``). Pictures are worked on at a size that the bundle allows, as [-1, 1] planes; disocclusions are 0 (mid
grey), which is what the model was trained with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import tiles
from secondeye.runtime.bundle import Bundle, read_bundle
from secondeye.runtime.clock import Progress
from secondeye.runtime.errors import EngineError, InvalidInputError, ModelFormatError
from secondeye.runtime.interpolate import interpolate
from secondeye.runtime.plans import find_plan
from secondeye.runtime.schedulers import Schedule, make_schedule
from secondeye.runtime.sessions import Device, need_provider

if TYPE_CHECKING:
    from secondeye.runtime.backends.cuda import Stream
    from secondeye.runtime.models.resident import Resident

KIND = "mono2stereo"
AUTHORS_GAIN = 8 * 0.6
"""Baseline 8 by focal length 0.6: raw depth to pixels in the authors' code."""
Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]
Tensor = NDArray[Any]
_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
_STD = np.array((0.229, 0.224, 0.225), np.float32)
_ROWS = 16  # of a picture that are worked on at once, in the processor's cache
_ENGINES = {
    "encoder": (("picture",), ("latent",)),
    "decoder": (("latent",), ("picture",)),
    "unet": (None, ("next",)),
    "depth": (("picture",), ("depth",)),
    "to_planes": (("picture", "holes"), ("planes",)),
    "to_start": (("noise", "warped", "share"), ("latent",)),
    "to_pixels": (("planes",), ("picture",)),
}
_NEEDED = ("encoder", "unet", "decoder")
_BETWEEN = ("to_planes", "to_start", "to_pixels")
_PARTS = {"source", "warped", "mask", "latent"}


class Mono2Stereo:
    """The engines of a bundle, opened.

    Args:
        bundle: a folder, or a bundle that has been read.
        device, threads: where and how the engines run.
        nhwc: engines that keep channels last where they run in half precision on ``cuda``; see docs/engines.md.

    Raises:
        ModelFormatError, MediaError: see :func:`secondeye.runtime.bundle.read_bundle`; or engines are missing.
        BackendUnavailableError: the device cannot be had.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        device: Device = "cpu",
        threads: int = 0,
        nhwc: Collection[str] = ("unet",),
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle, kind=KIND)
        manifest = self.bundle.manifest
        self._check_engines(_NEEDED)
        self.has_depth = "depth" in manifest.engines
        self.name = f"{KIND} ({manifest.engines['unet'].precision})"
        constants = manifest.constants
        self.factor, self.channels = 8, 4
        told = constants.get("latent_factor"), constants.get("latent_channels")
        if told != (self.factor, self.channels) or not isinstance(constants.get("scheduler"), dict):
            raise ModelFormatError(f"{self.bundle.folder}: its constants are not Mono2Stereo's; build it again.")
        self._stream = self._own_stream(device)
        options: dict[str, Any] = {"device": device, "threads": threads, "stream": self._stream}
        self._engines = {
            name: self.bundle.engine(name, nhwc=name in nhwc and entry.precision == "fp16", **options)
            for name, entry in manifest.engines.items()
            if self._stream is not None or name not in _BETWEEN
        }
        self.parts = tuple(one.name for one in manifest.engines["unet"].inputs if one.name in _PARTS)
        self.resident: Resident | None = None
        if self._stream is not None:
            from secondeye.runtime.models.resident import Resident

            self.resident = Resident(self._engines, self._stream, self.parts)

    def _own_stream(self, device: Device) -> Stream | None:
        """The stream on which all engines work, where a frame can stay on the GPU."""
        engines = self.bundle.manifest.engines
        frame = (*_NEEDED, *_BETWEEN)
        if device != "cuda" and not all(n in engines and find_plan(engines[n].plans, device) for n in frame):
            return None
        from secondeye.runtime.backends.cuda import Stream, find_gpu

        if device == "cuda":
            need_provider(device)
        find_gpu()
        self._check_engines(frame)
        return Stream()

    def _check_engines(self, needed: tuple[str, ...]) -> None:
        engines = self.bundle.manifest.engines
        problems = [f"no engine {name!r}" for name in needed if name not in engines]
        for name, entry in engines.items():
            if name not in _ENGINES:
                problems.append(f"an engine {name!r} that this model does not have")
                continue
            inputs, outputs = _ENGINES[name]
            got = tuple(one.name for one in entry.inputs), tuple(one.name for one in entry.outputs)
            if inputs is None:
                rest = set(got[0]) - {"timestep", "keep", "gain"}
                fits = "latent" in rest and rest <= _PARTS and len(got[0]) == len(rest) + 3
            else:
                fits = got[0] == inputs
            if not fits or got[1] != outputs:
                problems.append(f"engine {name!r} takes {', '.join(got[0])} and gives {', '.join(got[1])}")
        if problems:
            raise ModelFormatError(f"{self.bundle.folder}: {'; '.join(problems)}; build the bundle again.")

    def run(self, name: str, *, out: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Run one engine; the names, dtypes and shapes are checked against the manifest.

        Args:
            name: of the engine.
            out: takes the result and is returned.
            inputs: by name.

        Raises:
            InvalidInputError: inputs that do not fit.
            EngineError: the engine failed, or gave values that are not finite.
        """
        first = self.bundle.manifest.engines[name].outputs[0].name
        result: Tensor = self._engines[name].run(inputs, None if out is None else {first: out})[first]
        self._check_finite(name, result)
        return result

    def _check_finite(self, name: str, values: Tensor) -> None:
        if not np.isfinite(values).all():
            file = self.bundle.manifest.engines[name].file
            raise EngineError(f"{file}: gave values that are not finite; build it with --precision fp32.")

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels that a picture of this size is worked on at: the nearest the bundle allows."""
        (low_h, high_h), (low_w, high_w) = (self.bundle.manifest.axes[a] for a in ("height", "width"))
        scale = min(1.0, high_h * self.factor / height, high_w * self.factor / width)
        high, wide = round(height * scale / self.factor), round(width * scale / self.factor)
        return min(high_h, max(low_h, high)) * self.factor, min(high_w, max(low_w, wide)) * self.factor

    def depth(self, picture: Pixels) -> Map:
        """Raw relative inverse depth of a picture, larger = nearer.

        Args:
            picture: uint8 [H, W, 3], sRGB.

        Returns:
            float32 [h, w] at the depth engine's own size. The picture is resized by OpenCV's cubic rule, as the
            authors of Depth Anything V2 do.
        """
        shape = self.bundle.manifest.engines["depth"].inputs[0].shape
        height, width = int(shape[2]), int(shape[3])  # type: ignore[arg-type]  # lengths: checked by check_run
        shares = picture[:, :, :3].astype(np.float32)
        shares /= np.float32(255)
        values = interpolate(shares, height, width, "cubic")
        planes = np.empty((1, 3, height, width), np.float32)
        for k in range(3):
            np.subtract(values[:, :, k], _MEAN[k], out=planes[0, k])
            planes[0, k] /= _STD[k]
        return self.run("depth", picture=planes)[0]

    def schedule(self, scheduler: Any, steps: int, start: float) -> Schedule:
        """The scheduler's table; see :func:`secondeye.runtime.schedulers.make_schedule`."""
        return make_schedule(self.bundle.manifest.constants["scheduler"], scheduler, steps, start)

    def noise(self, height: int, width: int, seed: int) -> Tensor:
        """Seeded Gaussian noise, float32 [1, 4, height / 8, width / 8], the same on every machine."""
        shape = (1, self.channels, height // self.factor, width // self.factor)
        return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, np.float32)

    def __call__(
        self,
        source: Pixels,
        warped: Pixels,
        holes: Pixels,
        schedule: Schedule,
        noise: Tensor,
        *,
        layout: tiles.Layout | None = None,
        progress: Progress | None = None,
    ) -> Pixels:
        """Paint the right view.

        Args:
            source: uint8 [H, W, 3], the left view, at a size of :meth:`size_for`.
            warped: uint8 [H, W, 3], the source moved by its disparity.
            holes: uint8 [H, W], not 0 where nothing landed.
            schedule: of :meth:`schedule`.
            noise: float32 [1, 4, H / 8, W / 8], normal; of :meth:`noise`.
            layout: of :meth:`lay_out`: only its pieces are painted, on its canvas. None paints the whole picture.
            progress: called before each part of it with its stage (``to latents``, ``denoise`` or ``to pixels``), how
                much of the stage is done, and how much there is.

        Returns:
            uint8 [H, W, 3]: (v + 1) / 2 * 255, truncated, as the authors' code does; `warped` where there is no piece.

        Raises:
            InvalidInputError: shapes or dtypes do not fit.
        """
        check_frame(source, warped, holes, noise)
        if layout is None or layout.whole:
            return self._paint(source[None], warped[None], holes[None], schedule, noise, progress)[0]
        if not layout.pieces:
            return warped.copy()
        seeds = tiles.cut(noise[0].transpose(1, 2, 0), layout, self.factor).transpose(2, 0, 1)[None]
        left, right, empty = (tiles.cut(one, layout)[None] for one in (source, warped, holes))
        painted = self._paint(left, right, empty, schedule, np.ascontiguousarray(seeds), progress)[0]
        return tiles.join(warped, painted, layout)

    def lay_out(self, where: Pixels) -> tiles.Layout:
        """What has to be painted, on a canvas that this bundle takes; see :func:`secondeye.runtime.tiles.lay_out`.

        Args:
            where: uint8 [H, W] at a size of :meth:`size_for`, not 0 where the model's picture is needed.

        Raises:
            InvalidInputError: the bundle takes one size alone.
        """
        (low, high), (narrow, wide) = (self.bundle.manifest.axes[axis] for axis in ("height", "width"))
        least = low * self.factor, narrow * self.factor
        if (low, narrow) == (high, wide):
            raise InvalidInputError(
                f"tiles: the bundle takes pictures of {least[0]} x {least[1]} pixels alone; build it with a range such "
                "as --shape 128x128:768x1280:1088x1920, or use tiles='dense'."
            )
        return tiles.lay_out(where, least)

    def _paint(
        self, source: Pixels, warped: Pixels, holes: Pixels, schedule: Schedule, noise: Tensor, tell: Progress | None
    ) -> Pixels:
        """Pictures [N, H, W, 3], holes [N, H, W], noise [N, 4, H / 8, W / 8] -> views [N, H, W, 3]."""
        if tell is None:
            tell = _unheard
        if self.resident is not None:
            cells = _cells(holes, self.factor) if "mask" in self.parts else None
            views, latents = self.resident.paint(source, warped, holes, cells, schedule, noise, tell)
            self._check_finite("unet", latents)
            return views
        tell("to latents", 0, 1)
        latent, given = self.start(source, warped, holes, schedule, noise)
        latent = self.denoise(latent, given, schedule, progress=tell)
        tell("to pixels", 0, 1)
        return self.finish(latent)

    def start(
        self, source: Pixels, warped: Pixels, holes: Pixels, schedule: Schedule, noise: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Where the latents start, [N, 4, H / 8, W / 8], and the layout's other inputs.

        Args:
            source, warped: uint8 [N, H, W, 3].
            holes: uint8 [N, H, W].
            schedule, noise: as in :meth:`__call__`, for each picture.
        """
        grey = _planes(warped)
        np.copyto(grey, np.float32(0), where=(holes != 0)[:, None])
        given: dict[str, Tensor] = {}
        if "source" in self.parts:
            given["source"] = self.run("encoder", picture=_planes(source))
        if "warped" in self.parts or schedule.signal:
            given["warped"] = self.run("encoder", picture=grey)
        latent: Tensor = (np.float32(schedule.noise) * noise).astype(np.float32)
        if schedule.signal:
            latent = (latent + np.float32(schedule.signal) * given["warped"]).astype(np.float32)
        if "mask" in self.parts:
            given["mask"] = _cells(holes, self.factor)
        return latent, {name: value for name, value in given.items() if name in self.parts}

    def finish(self, latent: Tensor) -> Pixels:
        """Latents [N, 4, h, w] as pictures, uint8 [N, 8 h, 8 w, 3]."""
        return _bytes(self.run("decoder", latent=latent))

    def denoise(
        self,
        latent: Tensor,
        given: Mapping[str, Tensor],
        schedule: Schedule,
        *,
        progress: Progress | None = None,
    ) -> Tensor:
        """All steps of a schedule over latents [N, 4, h, w]; `given` holds the other inputs of the layout."""
        count = latent.shape[0]
        spare = [np.empty_like(latent) for _ in range(min(2, len(schedule.steps)))]
        for done, step in enumerate(schedule.steps):
            if progress is not None:
                progress("denoise", done, len(schedule.steps))
            latent = self.run(
                "unet",
                out=spare[done % 2],
                **given,
                latent=latent,
                timestep=np.full(count, step.timestep, np.int64),
                keep=np.full(count, step.keep, np.float32),
                gain=np.full(count, step.gain, np.float32),
            )
        return latent


def check_frame(source: Pixels, warped: Pixels, holes: Pixels, noise: Tensor) -> None:
    """Refuse what is not of the noise's size or of another dtype: to a GPU the bytes go as they are.

    Raises:
        InvalidInputError: what was expected and what came.
    """
    arrays = (source, warped, holes, noise)
    high, wide = (8 * n for n in noise.shape[2:]) if noise.ndim == 4 else (0, 0)
    shapes = ((high, wide, 3), (high, wide, 3), (high, wide), (1, 4, high // 8, wide // 8))
    dtypes = (np.uint8, np.uint8, np.uint8, np.float32)
    if any(one.shape != shape or one.dtype != dtype for one, shape, dtype in zip(arrays, shapes, dtypes, strict=True)):
        got = ", ".join(f"{one.dtype} {list(one.shape)}" for one in arrays)
        raise InvalidInputError(
            f"expected source and warped uint8 {[high, wide, 3]}, holes uint8 {[high, wide]} and noise float32 "
            f"[1, 4, H / 8, W / 8], got {got}."
        )


def _unheard(stage: str, done: int, total: int) -> None:
    """Nobody listens."""


def _cells(holes: Pixels, factor: int) -> Tensor:
    """Which latents see a hole: float32 [N, 1, H / factor, W / factor], 0 or 1."""
    cells = (holes != 0).reshape(len(holes), holes.shape[1] // factor, factor, -1, factor)
    return cells.any((2, 4))[:, None].astype(np.float32)


def _planes(pictures: Pixels) -> Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] in [-1, 1]."""
    count, height, width, channels = pictures.shape
    planes = np.empty((count, channels, height, width), np.float32)
    for y in range(0, height, _ROWS):
        part = planes[:, :, y : y + _ROWS]
        for k in range(channels):
            part[:, k] = pictures[:, y : y + _ROWS, :, k]
        part /= np.float32(255)
        part *= np.float32(2)
        part -= np.float32(1)
    return planes


def _bytes(planes: Tensor) -> Pixels:
    """float32 [N, 3, H, W] in [-1, 1] to uint8 [N, H, W, 3], truncated."""
    count, channels, height, width = planes.shape
    pictures = np.empty((count, height, width, channels), np.uint8)
    for y in range(0, height, _ROWS):
        values = np.clip(planes[:, :, y : y + _ROWS], np.float32(-1), np.float32(1))
        values += np.float32(1)
        values /= np.float32(2)
        values *= np.float32(255)
        part = values.astype(np.uint8)
        for k in range(channels):
            pictures[:, y : y + _ROWS, :, k] = part[:, k]
    return pictures


def authors_disparity(depth: Map, height: int, width: int) -> Map:
    """Raw depth as the authors' code makes disparity of it, float32 [height, width], pixels.

    8 x 0.6 x depth after two bilinear resizes: to 480 x 640 with corners aligned, then (where the heights differ) to
    the picture's size without.
    """
    small = interpolate(depth, 480, 640, "linear-corners")
    full = small if height == 480 else interpolate(small, height, width, "linear")
    return (full * np.float32(AUTHORS_GAIN)).astype(np.float32)
