# SPDX-License-Identifier: Apache-2.0
"""The frame path for one picture: depth, disparity, warp with hole mask, fill."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.alignment import aligned
from secondeye.runtime.comfort import HIGHEST, Screen, Unit, strength_percent
from secondeye.runtime.depth import AUTO, BUILTIN, DepthModel, DepthOptions, Normalisation, OutputKind, open_depth
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.labels import enlarged
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.objects import OFF, SURE, Labeller, at_size, open_labeller, seen_objects
from secondeye.runtime.pictures import Picture, read_picture
from secondeye.runtime.schedulers import MAX_STEPS, Scheduler
from secondeye.runtime.sessions import Device

if TYPE_CHECKING:
    from secondeye.runtime.quality import QualityPainter

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]
View = Literal["right", "both"]
MapKind = Literal["disparity", "depth", "pixels"]
Mode = Literal["fast", "quality"]
Compose = Literal["inpaint", "generated"]
Conditioning = Literal["stereo", "authors"]
Tiles = Literal["dense", "sparse"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class StereoConfig:
    """What a conversion looks like. Every field has a default that suits a photograph on a screen.

    Attributes:
        strength: full disparity range, in percent of the picture's width, 0 to 20; about 3 is the comfort limit.
        strength_unit: ``percent``, ``pixels`` of the picture, or ``degrees`` on a `screen`.
        screen: where the result will be looked at; see :func:`secondeye.comfort_limit` too.
        convergence: the depth, 0 (far) to 1 (near), that lies on the screen; what is nearer stands out of it.
        gamma: bends the depth before it becomes disparity; over 1 flattens the background.
        view: ``right`` keeps the source as the left view; ``both`` moves each eye half way.
        swap: exchange the two views at the end.
        size: (width, height) that the picture is scaled to first; None keeps it.
        depth: ``builtin``, ``cues``, or the path of an ONNX depth model; ``auto`` is the bundle's own in quality mode,
            else the built-in one.
        depth_size, depth_normalisation, depth_output: how a depth model of your own is fed and read; see
            :class:`secondeye.runtime.depth.DepthOptions`. Found by themselves for the public ones.
        segment: who tells objects apart, so that depth's edges fall on their borders: ``off``, ``sgt:FOLDER`` (a
            bundle), an ONNX segmentation network, or labels of the picture (16-bit PNG, .npy).
        device: where the models run: ``cpu``, ``cuda``, ``tensorrt`` or ``tensorrt-rtx``; see
            :mod:`secondeye.runtime.backends`.
        widen: the rim of near objects moves with them by up to this many pixels at 1080p; 0 to 16.
        fill: whether disocclusions are painted; when not, they stay black.
        threads: 0 for one per core. What the kernels give does not depend on it.
        mode: ``fast`` fills disocclusions by kernels; ``quality`` has them painted by the model of a bundle.
        bundle: the folder of a Mono2Stereo bundle, for quality mode; ``secondeye build-engine`` makes one.
        scheduler: ``ddim`` starts from noise, as the model's authors do; ``warped`` starts from the warped view with
            noise added, for few steps.
        steps: 1 to 1000; None is 50 for ``ddim`` and 4 for ``warped``.
        noise: how far towards noise ``warped`` starts, over 0 to 1.
        seed: of the noise; the same seed gives the same picture.
        compose: ``inpaint`` keeps the warped pixels and takes the model's in and round disocclusions, blended;
            ``generated`` takes the model's whole picture.
        tiles: ``dense`` has the model see the whole picture; ``sparse`` only tiles round the disocclusions, for
            ``inpaint``: less work, and each tile knows nothing of what lies beyond it.
        conditioning: ``stereo`` moves pixels by strength and convergence; ``authors`` does what the published code
            does (8 x 0.6 x raw depth, nearest pixel, wrapping round the left border), exactly where the picture has
            the bundle's size.
    """

    strength: float = 2.5
    strength_unit: Unit = "percent"
    screen: Screen | None = None
    convergence: float = 0.5
    gamma: float = 1.0
    view: View = "right"
    swap: bool = False
    size: tuple[int, int] | None = None
    depth: str | os.PathLike[str] = AUTO
    depth_size: int | None = None
    depth_normalisation: Normalisation = "auto"
    depth_output: OutputKind = "auto"
    segment: str | os.PathLike[str] = OFF
    device: Device = "cpu"
    widen: int = 2
    fill: bool = True
    threads: int = 0
    mode: Mode = "fast"
    bundle: str | os.PathLike[str] | None = None
    scheduler: Scheduler = "ddim"
    steps: int | None = None
    noise: float = 0.8
    seed: int = 0
    compose: Compose = "inpaint"
    tiles: Tiles = "dense"
    conditioning: Conditioning = "stereo"

    def __post_init__(self) -> None:
        problems = [
            *self._strength(),
            *self._range("convergence", 0.0, 1.0, "0 far to 1 near"),
            *self._range("gamma", 0.1, 10.0, "1 is neutral"),
            *self._range("widen", 0, 16, "pixels at 1080p"),
            *self._range("threads", 0, 256, "0 is one per core"),
            *self._choice("view", get_args(View)),
            *self._choice("device", get_args(Device)),
            *self._choice("depth_normalisation", get_args(Normalisation)),
            *self._choice("depth_output", get_args(OutputKind)),
            *self._choice("mode", get_args(Mode)),
            *self._choice("scheduler", get_args(Scheduler)),
            *self._choice("compose", get_args(Compose)),
            *self._choice("tiles", get_args(Tiles)),
            *self._choice("conditioning", get_args(Conditioning)),
            *self._range("noise", 0.01, 1.0, "1 is pure noise"),
            *self._range("seed", 0, 2**63 - 1, "any number"),
        ]
        if self.steps is not None:
            problems += self._range("steps", 1, MAX_STEPS, "of the scheduler")
        if self.mode == "quality":
            problems += self._quality()
        if self.depth_size is not None and not 32 <= self.depth_size <= 2048:
            problems.append(f"depth_size: expected 32 to 2048 pixels, got {self.depth_size}")
        if problems:
            raise InvalidInputError("; ".join(problems) + ".")
        if self.size is not None:
            DEFAULT_LIMITS.check_size("size", *self.size)

    def strength_for(self, width: int) -> float:
        """The strength in percent of a picture's width.

        Raises:
            InvalidInputError: pixels or degrees that are over 20 percent of it.
        """
        return strength_percent(self.strength, self.strength_unit, frame_width=width, screen=self.screen)

    def _strength(self) -> Iterator[str]:
        yield from self._choice("strength_unit", get_args(Unit))
        highest = HIGHEST.get(self.strength_unit, HIGHEST["percent"])
        meaning = "percent of the width" if self.strength_unit == "percent" else self.strength_unit
        yield from self._range("strength", 0.0, highest, meaning)
        if self.strength_unit == "degrees" and self.screen is None:
            yield "screen: degrees need one, its width and the viewer's distance in metres"

    def _quality(self) -> Iterator[str]:
        if self.bundle is None:
            yield "bundle: quality mode needs a bundle's folder; build one with: secondeye build-engine"
        if not self.fill:
            yield "fill: quality mode paints the disocclusions; use mode fast to leave them"
        if self.tiles == "sparse" and self.compose != "inpaint":
            yield "tiles: sparse paints the disocclusions alone; use compose inpaint"
        if self.conditioning == "authors" and str(self.depth) != AUTO:
            yield "depth: the authors' conditioning takes the bundle's own depth; leave it out"

    def _range(self, name: str, low: float, high: float, meaning: str) -> Iterator[str]:
        value = getattr(self, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            yield f"{name}: expected {low:g} to {high:g} ({meaning}), got {value!r}"

    def _choice(self, name: str, choices: tuple[str, ...]) -> Iterator[str]:
        if getattr(self, name) not in choices:
            yield f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}"


@dataclass(frozen=True, kw_only=True)
class StereoFrame:
    """The result of a conversion.

    Attributes:
        left: uint8 [H, W, 3|4], what the left eye sees.
        right: the right eye's picture, same shape.
        source: the picture that both came from (the left view itself unless ``view="both"`` or ``swap``).
        disparity: float32 [H, W], pixels of the source: it is seen at x - disparity in a full right view.
        labels: uint16 [H, W], the objects that were told apart, or None.
        holes: uint8 [H, W], 255 where the right view had to be filled (before a swap).
        left_holes: the same of the left view with ``view="both"``, else None.
        timings: milliseconds per stage, by name, in order.
        notes: sentences about what its owner might not expect.
    """

    left: Pixels
    right: Pixels
    source: Pixels
    disparity: Map
    holes: Pixels
    left_holes: Pixels | None
    timings: dict[str, float]
    labels: NDArray[np.uint16] | None = None
    notes: tuple[str, ...] = ()


class _Clock:
    """Times named stages, in order, and tells a listener of those that come in steps."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.timings: dict[str, float] = {}
        self._progress = progress
        self._open: tuple[str, float] | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._add(name, start)

    def step(self, name: str, done: int, total: int) -> None:
        """The last step ends and one of stage `name` begins."""
        self.finish()
        self._open = (name, time.perf_counter())
        if self._progress is not None:
            self._progress(name, done, total)

    def finish(self) -> None:
        """The last step ends."""
        if self._open is not None:
            self._add(*self._open)
            self._open = None

    def _add(self, name: str, start: float) -> None:
        self.timings[name] = self.timings.get(name, 0.0) + (time.perf_counter() - start) * 1e3


class StereoConverter:
    """Turns pictures into stereo pairs.

    >>> import secondeye
    >>> converter = secondeye.StereoConverter(secondeye.StereoConfig(strength=2.0))  # doctest: +SKIP
    >>> frame = converter.convert("photo.jpg")  # doctest: +SKIP

    The models are loaded at the first conversion, or by :meth:`load`. One converter serves one thread at a time.
    `progress`, if given, is called in quality mode with (stage, steps done, steps in all).
    """

    def __init__(
        self,
        config: StereoConfig | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        progress: Progress | None = None,
    ) -> None:
        self.config = config or StereoConfig()
        self._limits = limits
        self.progress = progress
        self._painter: QualityPainter | None = None
        self._depth: DepthModel | None = None
        self._labeller: Labeller | None = None
        self._kept: dict[str, NDArray[Any]] = {}

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Memory that only this converter sees, kept from picture to picture: fresh pages cost more than the work."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            kept = self._kept[name] = np.empty(shape, dtype)
        return kept

    def load(self) -> DepthModel:
        """Load the models now, and return the depth model.

        Raises:
            ModelFormatError, BackendUnavailableError, MediaError: see :func:`secondeye.runtime.depth.open_depth`, and
                :class:`secondeye.runtime.models.mono2stereo.Mono2Stereo` for quality mode.
        """
        painter = self._load_painter()
        if self._depth is None and painter is not None and str(self.config.depth) == AUTO and painter.model.has_depth:
            self._depth = painter.depth
        if self._depth is None:
            config = self.config
            options = DepthOptions(
                size=config.depth_size,
                normalisation=config.depth_normalisation,
                output=config.depth_output,
                device=config.device,
                threads=config.threads,
            )
            spec = BUILTIN if str(config.depth) == AUTO else config.depth
            self._depth = open_depth(spec, options, limits=self._limits)
        return self._depth

    def _load_painter(self) -> QualityPainter | None:
        config = self.config
        if self._painter is None and config.mode == "quality":
            from secondeye.runtime.quality import QualityPainter

            self._painter = QualityPainter(config)
        return self._painter

    def convert(
        self,
        picture: str | os.PathLike[str] | bytes | Pixels | Picture,
        *,
        depth: NDArray[Any] | None = None,
        depth_kind: MapKind = "disparity",
    ) -> StereoFrame:
        """Convert one picture.

        Args:
            picture: a file's path or bytes, or uint8 [H, W, 3|4] (or [H, W] grey) sRGB pixels.
            depth: a map [h, w] of your own in place of the model; another size than the picture's is resized (noted).
            depth_kind: what the map holds: ``disparity`` (larger is nearer, any scale), ``depth`` (larger is
                farther, any scale), ``pixels`` (disparity in pixels of the map, used as it is: strength,
                convergence and gamma do not apply).

        Raises:
            InvalidInputError: pixels or a map that do not fit.
            MediaError, ResourceLimitError: see :func:`secondeye.runtime.pictures.read_picture`.
        """
        clock = _Clock(self.progress)
        with clock.stage("read"):
            loaded = self._read(picture)
            pixels = self._resized(loaded.pixels)
        notes = list(loaded.notes)
        with clock.stage("depth"):
            nearness = None if depth is not None else self.load()(pixels[:, :, :3])
        labels = self._labels(pixels, clock, notes)
        with clock.stage("disparity"):
            if depth is not None:
                disparity = self._from_map(np.asarray(depth), depth_kind, pixels, notes, labels)
            else:
                assert nearness is not None
                if self._painter is not None and self.config.conditioning == "authors":
                    disparity = self._painter.authors_disparity(nearness, pixels)
                else:
                    disparity = self._condition(nearness, pixels, guided=True, labels=labels)
        return self._render(pixels, disparity, clock, notes, labels)

    def _labels(self, pixels: Pixels, clock: _Clock, notes: list[str]) -> NDArray[np.uint16] | None:
        """The picture's objects, where somebody tells them apart and is sure."""
        config = self.config
        if str(config.segment) == OFF:
            return None
        with clock.stage("objects"):
            if self._labeller is None:
                self._labeller = open_labeller(
                    config.segment, device=config.device, threads=config.threads, limits=self._limits
                )
            assert self._labeller is not None
            labels, confidence = self._labeller(np.ascontiguousarray(pixels[:, :, :3]))
        if confidence >= SURE:
            return labels
        notes.append(
            f"The segmenter is not sure ({confidence:.2f} where {SURE:g} is wanted); its objects are left out."
        )
        return None

    def convert_with(
        self,
        pixels: Pixels,
        nearness: Map,
        convergence: float | None = None,
        labels: NDArray[np.uint16] | None = None,
        *,
        values: NDArray[Any] | None = None,
    ) -> StereoFrame:
        """Convert a film's frame whose depth is known and steady.

        Args:
            pixels: uint8 [H, W, 3], sRGB.
            nearness: float32 [h, w], 0 far to 1 near, at the model's resolution.
            convergence: in place of the configuration's.
            labels: uint16 [h', w'], its objects, of any size; their borders are put on the picture's edges.
            values: uint16 [H, W, 3], the frame in full depth; the views are made of it and are uint16 too, and `pixels`
                only tells where edges are.

        Raises:
            InvalidInputError: arrays that do not fit.
        """
        clock = _Clock()
        if labels is not None:
            with clock.stage("objects"):
                labels = enlarged(labels, pixels)
        with clock.stage("disparity"):
            disparity = self._condition(
                nearness, pixels, guided=True, limits=(0.0, 1.0), convergence=convergence, labels=labels
            )
        picture: NDArray[Any] = pixels if values is None else values
        return self._render(picture, disparity, clock, [], labels)

    def render(self, pixels: Pixels, disparity: Map) -> StereoFrame:
        """Warp and fill with a disparity of your own, used as it is.

        Args:
            pixels: uint8 [H, W, 3|4], sRGB.
            disparity: float32 [H, W], pixels.

        Raises:
            InvalidInputError: arrays that do not fit.
        """
        return self._render(pixels, disparity, _Clock(self.progress), [])

    def _read(self, picture: str | os.PathLike[str] | bytes | Pixels | Picture) -> Picture:
        if isinstance(picture, Picture):
            return picture
        if not isinstance(picture, np.ndarray):
            return read_picture(picture, limits=self._limits)
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (1,), (3,), (4,)):
            raise InvalidInputError(
                f"picture: expected uint8 [height, width, 3 or 4], got {picture.dtype} {list(picture.shape)}."
            )
        self._limits.check_size("picture", picture.shape[1], picture.shape[0])
        if picture.ndim == 2 or picture.shape[2] == 1:
            picture = np.repeat(picture.reshape(*picture.shape[:2], 1), 3, axis=2)
        return Picture(pixels=picture, name="picture")

    def _resized(self, pixels: Pixels) -> Pixels:
        if self.config.size is None or (pixels.shape[1], pixels.shape[0]) == self.config.size:
            return pixels
        width, height = self.config.size
        return ops.resize(pixels, height, width, filter="bilinear")

    def _from_map(
        self, depth: NDArray[Any], kind: MapKind, pixels: Pixels, notes: list[str], labels: NDArray[np.uint16] | None
    ) -> Map:
        if kind not in get_args(MapKind):
            raise InvalidInputError(f"depth_kind: expected one of {', '.join(get_args(MapKind))}, got {kind!r}.")
        if depth.ndim != 2 or depth.dtype.kind not in "fiu" or min(depth.shape) < 1:
            raise InvalidInputError(
                f"depth map: expected one [height, width] map of numbers, got {depth.dtype} {list(depth.shape)}."
            )
        values = depth.astype(np.float32)
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        if bad:
            raise InvalidInputError(
                f"depth map: {bad} of its {values.size} values are NaN or infinite; "
                "fill them first (the farthest value is a safe choice)."
            )
        height, width = pixels.shape[:2]
        if values.shape != (height, width):
            notes.append(
                f"The depth map is {values.shape[1]} x {values.shape[0]} and is resized to {width} x {height}."
            )
        if kind == "pixels":
            scaled = values * np.float32(width / values.shape[1])
            return scaled if scaled.shape == (height, width) else ops.upsample(scaled, pixels[:, :, :3], labels=labels)
        if kind == "depth":
            floor = np.float32(max(1e-6, 1e-3 * float(np.median(np.abs(values)))))
            values = (np.float32(1.0) / np.maximum(values, floor)).astype(np.float32)
        # A map of the picture's own size is somebody's work: its edges are taken as they are.
        limits = (float(values.min()), float(values.max()))
        return self._condition(values, pixels, guided=values.shape != (height, width), limits=limits, labels=labels)

    def _condition(
        self,
        nearness: Map,
        pixels: Pixels,
        *,
        guided: bool,
        limits: tuple[float, float] | None = None,
        convergence: float | None = None,
        labels: NDArray[np.uint16] | None = None,
    ) -> Map:
        config = self.config
        height, width = pixels.shape[:2]
        disparity = ops.disparity(
            nearness,
            frame_width=width,
            strength=config.strength_for(width),
            convergence=config.convergence if convergence is None else convergence,
            gamma=config.gamma,
            range=limits,
        )
        radius = min(16, max(round(config.widen * height / 1080), min(config.widen, 1)))
        if guided:
            if labels is not None:
                disparity = aligned(disparity, at_size(labels, *disparity.shape))
            smooth = disparity.shape != (height, width)  # a map of the picture's own size has its edges already
            plane = self._buffer("disparity", (height, width), np.float32) if radius or smooth else None
            disparity = ops.upsample(disparity, pixels[:, :, :3], labels=labels, threads=config.threads, out=plane)
            if radius and smooth:
                wide = self._buffer("wide", (height, width), np.float32)
                disparity = ops.widen_foreground(disparity, radius, threads=config.threads, out=wide)
            if smooth:
                return ops.smooth_edges(disparity, threads=config.threads)
        return ops.widen_foreground(disparity, radius, threads=config.threads) if radius else disparity

    def _render(
        self,
        pixels: Pixels,
        disparity: Map,
        clock: _Clock,
        notes: list[str],
        labels: NDArray[np.uint16] | None = None,
    ) -> StereoFrame:
        config = self.config
        # Half way each, or the right view alone.
        eyes: tuple[ops.Eye, ...] = ("right", "left") if config.view == "both" else ("right",)
        with clock.stage("warp"):
            scales = [(1.0 if eye == "right" else -1.0) / len(eyes) for eye in eyes]
            out = ops.Views(self._outputs(pixels, eye) for eye in eyes)
            # The authors' code puts each pixel on the nearest one, and wraps round the left border.
            authors = config.mode == "quality" and config.conditioning == "authors"
            law: ops.Law = "nearest" if authors else "surface"
            # 16-bit values travel as float32, which holds every one of them.
            moved = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
            warped = ops.warp_views(moved, disparity, scales, law=law, wrap=authors, out=out, threads=config.threads)
        moves = disparity if len(eyes) == 1 else disparity * np.float32(0.5)
        done = [self._finish(pixels, moves, one, eye, clock, labels) for one, eye in zip(warped, eyes, strict=True)]
        right, left = done[0], done[1] if len(done) > 1 else pixels
        if config.swap:
            left, right = right, left
        return StereoFrame(
            left=left,
            right=right,
            source=pixels,
            disparity=disparity,
            holes=warped[0].holes,
            left_holes=warped[1].holes if len(warped) > 1 else None,
            timings=clock.timings,
            labels=labels,
            notes=tuple(notes),
        )

    def _outputs(self, pixels: Pixels, eye: ops.Eye) -> ops.Warped:
        """Where a view goes; its pixels are ours alone when they will be filled into others."""
        shape = pixels.shape[:2]
        dtype = np.uint8 if pixels.dtype == np.uint8 else np.float32
        own = self.config.fill
        view = self._buffer(f"{eye} view", pixels.shape, dtype) if own else np.empty(pixels.shape, dtype)
        return ops.Warped(view, np.empty(shape, np.uint8), self._buffer(f"{eye} map", shape, np.int32))

    def _finish(
        self,
        pixels: Pixels,
        moves: Map,
        warped: ops.Warped,
        eye: ops.Eye,
        clock: _Clock,
        labels: NDArray[np.uint16] | None,
    ) -> Pixels:
        """The view without holes: filled, and in quality mode painted."""
        filled = self._fill(warped, eye, clock)
        painter = self._load_painter()
        if painter is None:
            return filled
        objects = None if labels is None else seen_objects(labels, warped, eye)
        painted = painter(pixels, moves, filled, warped.holes, eye, clock.step, objects)
        clock.finish()
        return painted

    def _fill(self, warped: ops.Warped, eye: ops.Eye, clock: _Clock) -> Pixels:
        if warped.view.dtype == np.float32:
            warped = warped._replace(view=np.rint(warped.view, out=warped.view).astype(np.uint16))
        if not self.config.fill:
            return warped.view
        with clock.stage("fill"):
            return ops.fill(warped, eye=eye, threads=self.config.threads)


def convert(picture: str | os.PathLike[str] | bytes | Pixels, **options: Any) -> StereoFrame:
    """Convert one picture, :class:`StereoConfig`'s fields as keyword arguments. For more than one, keep a converter.

    >>> frame = secondeye.convert("photo.jpg", strength=3)  # doctest: +SKIP

    Raises:
        InvalidInputError: an unknown option, listing those there are.
    """
    known = {one.name for one in fields(StereoConfig)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InvalidInputError(f"unknown option {', '.join(unknown)}; expected {', '.join(sorted(known))}.")
    return StereoConverter(StereoConfig(**options)).convert(picture)
