# SPDX-License-Identifier: Apache-2.0
"""The frame path for one picture: depth, disparity, warp with hole mask, fill."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.alignment import aligned
from secondeye.runtime.clock import Progress, StageClock
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.depth import AUTO, BUILTIN, DepthModel, DepthOptions, least_depth, open_depth
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.labels import enlarged
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.objects import OFF, SURE, Labeller, at_size, open_labeller, seen_objects
from secondeye.runtime.ops.disparity import disparity_table
from secondeye.runtime.pictures import Picture, read_picture

if TYPE_CHECKING:
    from secondeye.runtime.quality import QualityPainter

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]
MapKind = Literal["disparity", "depth", "pixels"]


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
        ends: disparity of the farthest and of the nearest that there can be, where that is known: in films.
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
    ends: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


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
        clock = StageClock(self.progress)
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

    def _labels(self, pixels: Pixels, clock: StageClock, notes: list[str]) -> NDArray[np.uint16] | None:
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
        nearness: Map | NDArray[np.uint16],
        convergence: float | None = None,
        labels: NDArray[np.uint16] | None = None,
        *,
        values: NDArray[Any] | None = None,
    ) -> StereoFrame:
        """Convert a film's frame whose depth is known and steady.

        Args:
            pixels: uint8 [H, W, 3], sRGB.
            nearness: float32 [h, w], 0 far to 1 near, at the model's resolution; or a map of somebody's own, uint16
                [h, w], 0 to 65535: of the picture's size it keeps its edges as they are.
            convergence: in place of the configuration's.
            labels: uint16 [h', w'], its objects, of any size; their borders are put on the picture's edges.
            values: uint16 [H, W, 3], the frame in full depth; the views are made of it and are uint16 too, and `pixels`
                only tells where edges are.

        Raises:
            InvalidInputError: arrays that do not fit.
        """
        clock = StageClock()
        if labels is not None:
            with clock.stage("objects"):
                labels = enlarged(labels, pixels)
        with clock.stage("disparity"):
            guided = nearness.dtype != np.uint16 or nearness.shape != pixels.shape[:2]
            disparity = self._condition(
                nearness, pixels, guided=guided, limits=(0.0, 1.0), convergence=convergence, labels=labels
            )
        picture: NDArray[Any] = pixels if values is None else values
        width = pixels.shape[1]
        full = self.config.strength_for(width) / 100.0 * width
        screen = self.config.convergence if convergence is None else convergence
        return replace(
            self._render(picture, disparity, clock, [], labels), ends=(-full * screen, full * (1.0 - screen))
        )

    def render(self, pixels: Pixels, disparity: Map) -> StereoFrame:
        """Warp and fill with a disparity of your own, used as it is.

        Args:
            pixels: uint8 [H, W, 3|4], sRGB.
            disparity: float32 [H, W], pixels.

        Raises:
            InvalidInputError: arrays that do not fit.
        """
        return self._render(self._read(pixels).pixels, disparity, StageClock(self.progress), [])

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
            floor = np.float32(least_depth(values))
            values = (np.float32(1.0) / np.maximum(values, floor)).astype(np.float32)
        # A map of the picture's own size is somebody's work: its edges are taken as they are.
        limits = (float(values.min()), float(values.max()))
        return self._condition(values, pixels, guided=values.shape != (height, width), limits=limits, labels=labels)

    def _condition(
        self,
        nearness: Map | NDArray[np.uint16],
        pixels: Pixels,
        *,
        guided: bool,
        limits: tuple[float, float] | None = None,
        convergence: float | None = None,
        labels: NDArray[np.uint16] | None = None,
    ) -> Map:
        config = self.config
        height, width = pixels.shape[:2]
        shape: dict[str, Any] = {
            "frame_width": width,
            "strength": config.strength_for(width),
            "convergence": config.convergence if convergence is None else convergence,
            "gamma": config.gamma,
        }
        radius = min(16, max(round(config.widen * height / 1080), min(config.widen, 1)))
        if nearness.dtype == np.uint16:
            moves = self._buffer("own", nearness.shape, np.float32) if radius or guided else None  # seen by nobody else
            disparity: Map = np.take(disparity_table(**shape), nearness.astype(np.intp), out=moves, mode="clip")
        else:
            disparity = ops.disparity(nearness, range=limits, **shape)
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
        clock: StageClock,
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
        done = [
            self._finish(pixels, moves, one, eye, clock, notes, labels)
            for one, eye in zip(warped, eyes, strict=True)
        ]  # fmt: skip
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
        clock: StageClock,
        notes: list[str],
        labels: NDArray[np.uint16] | None,
    ) -> Pixels:
        """The view without holes: filled, and in quality mode painted."""
        filled = self._fill(warped, eye, clock)
        painter = self._load_painter()
        if painter is None:
            return filled
        objects = None if labels is None else seen_objects(labels, warped, eye)
        # Of two views each is half the way, and half a disparity may round otherwise than half the way does.
        view = warped.view if self.config.view == "right" and warped.view.dtype == np.uint8 else None
        painted = painter(pixels, moves, filled, warped.holes, eye, clock.step, objects, view=view)
        clock.finish()
        if painter.note is not None and painter.note not in notes:
            notes.append(painter.note)
        return painted

    def _fill(self, warped: ops.Warped, eye: ops.Eye, clock: StageClock) -> Pixels:
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
