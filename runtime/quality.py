# SPDX-License-Identifier: Apache-2.0
"""Quality mode: views painted by a diffusion model, whole or only where the warp has nothing to show."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.clock import Progress
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.depth import DepthModel
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.models.mono2stereo import Mono2Stereo, authors_disparity
from secondeye.runtime.objects import Labels, keep_near_objects
from secondeye.runtime.schedulers import DEFAULT_STEPS
from secondeye.runtime.tiles import Layout

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


class BundleDepth:
    """The depth network of a bundle, as the converter wants one."""

    def __init__(self, model: Mono2Stereo) -> None:
        self._model = model
        self.name = "depth of the bundle"

    def __call__(self, picture: Pixels) -> Map:
        """uint8 [H, W, 3] -> float32 [h, w], larger = nearer."""
        return self._model.depth(picture)


class QualityPainter:
    """Paints views with the model of the configuration's bundle.

    Attributes:
        layout: the tiles of the last view that was painted in tiles.
        note: what its owner might not expect of the last view, or None.

    Raises:
        MediaError, ModelFormatError, BackendUnavailableError: see :class:`Mono2Stereo`.
    """

    def __init__(self, config: StereoConfig) -> None:
        if config.bundle is None:
            raise InvalidInputError("bundle: quality mode needs a bundle's folder.")
        self.config = config
        self.layout: Layout | None = None
        self.note: str | None = None
        self.model = Mono2Stereo(os.fspath(config.bundle), device=config.device, threads=config.threads)
        steps = config.steps or DEFAULT_STEPS[config.scheduler]
        self.schedule = self.model.schedule(config.scheduler, steps, config.noise)
        if config.conditioning == "authors" and not self.model.has_depth:
            raise InvalidInputError("the authors' conditioning needs a bundle with depth; build one with --depth.")

    @property
    def depth(self) -> DepthModel:
        """The bundle's own depth network."""
        return BundleDepth(self.model)

    def authors_disparity(self, raw: Map, pixels: Pixels) -> Map:
        """Disparity of a picture as the authors' code makes it at the model's size, float32 [H, W], pixels."""
        height, width = pixels.shape[:2]
        small = authors_disparity(raw, *self.model.size_for(height, width))
        if small.shape == (height, width):
            return small
        return ops.upsample(small * np.float32(width / small.shape[1]), pixels[:, :, :3])

    def __call__(
        self,
        pixels: Pixels,
        disparity: Map,
        filled: Pixels,
        holes: Pixels,
        eye: ops.Eye,
        progress: Progress,
        objects: Labels | None = None,
        *,
        view: Pixels | None = None,
    ) -> Pixels:
        """Paint one view.

        Args:
            pixels: uint8 [H, W, 3|4], the source.
            disparity: float32 [H, W], pixels; the source is seen at x - disparity in a right view.
            filled: uint8 like `pixels`: the warped view, its holes filled somehow.
            holes: uint8 [H, W], 255 where nothing landed.
            eye: which view it is; the left one is painted as the right view of the mirrored picture.
            progress: called with (stage, done, total): to latents, denoise, to pixels.
            objects: uint16 [H, W], whose each pixel of the view is, 0 unknown; near ones are then not painted over.
            view: a right view before it was filled, warped by `disparity` and this configuration's law, if it is there.

        Returns:
            uint8 like `pixels`.
        """
        if eye == "left":
            seen = None if objects is None else objects[:, ::-1]
            mirrored = self(
                pixels[:, ::-1], disparity[:, ::-1], filled[:, ::-1], holes[:, ::-1], "right", progress, seen
            )
            return np.ascontiguousarray(mirrored[:, ::-1])
        height, width = pixels.shape[:2]
        mask = painting_mask(holes, threads=self.config.threads)
        self.note = None
        if self.config.compose == "inpaint" and not mask.any():
            return filled
        if objects is not None:
            mask = keep_near_objects(mask, holes, objects)
        warped = None if view is None else (view[:, :, :3], holes)
        tiled = mask if self.config.tiles == "sparse" else None
        painted = self._paint(pixels[:, :, :3], disparity, warped, tiled, progress)
        if painted.shape[:2] != (height, width):
            painted = ops.resize(painted, height, width, filter="bilinear")
        if self.config.compose == "inpaint":
            painted = ops.blend(filled[:, :, :3], painted, mask, threads=self.config.threads)
        return painted if pixels.shape[2] == 3 else np.dstack([painted, filled[:, :, 3]])

    def _paint(
        self,
        pixels: Pixels,
        disparity: Map,
        warped: tuple[Pixels, Pixels] | None,
        mask: Pixels | None,
        progress: Progress,
    ) -> Pixels:
        """The model's own right view, at its size; where the mask is 0 it may be the warped one."""
        height, width = pixels.shape[:2]
        high, wide = self.model.size_for(height, width)
        if (high, wide) == (height, width):
            small, moves = np.ascontiguousarray(pixels), np.ascontiguousarray(disparity)
        else:
            small = ops.resize(pixels, high, wide, filter="bilinear")
            # The nearest value, not a mean: between two surfaces there is no third.
            rows, columns = (np.arange(n) * 2 + 1 for n in (high, wide))
            moves = disparity[rows * height // (2 * high)][:, columns * width // (2 * wide)]
            moves = (moves * np.float32(wide / width)).astype(np.float32)
            warped = None
        if warped is None:
            authors = self.config.conditioning == "authors"
            law: ops.Law = "nearest" if authors else "surface"
            made = ops.warp(small, moves, law=law, wrap=authors, threads=self.config.threads)
            warped = made.view, made.holes
        noise = self.model.noise(high, wide, self.config.seed)
        layout = None if mask is None else self._lay_out(mask, high, wide, progress)
        return self.model(small, *warped, self.schedule, noise, layout=layout, progress=progress)

    def _lay_out(self, mask: Pixels, high: int, wide: int, progress: Progress) -> Layout:
        """The tiles of a mask of the picture's size, at the model's."""
        progress("tiles", 0, 1)
        height, width = mask.shape
        if (high, wide) != (height, width):
            where = np.zeros((high, wide), np.uint8)
            rows, columns = np.nonzero(mask)
            where[(rows * 2 + 1) * high // (2 * height), (columns * 2 + 1) * wide // (2 * width)] = 255
            mask = _grown(where, 0, 3, self.config.threads)  # by what resizing back mixes in
        layout = self.layout = self.model.lay_out(mask)
        if layout.whole:
            share = round(100 * min(1.0, layout.share))
            self.note = f"Tiles would come to {share} % of the picture, so the model saw it whole."
        return layout


def painting_mask(holes: Pixels, *, threads: int = 0) -> Pixels:
    """How much of a model's picture is taken for a view, 0 to 255: all in and round its holes, then less and less.

    Holes thinner than 3 pixels are left to :func:`secondeye.runtime.ops.fill`, which does them well: they are strewn
    along every slope of depth, and would have a model look at most of a picture. The others are grown by twice a
    radius of 2 to 16 pixels, a 270th of the height, and get a soft border of that radius.

    Args:
        holes: uint8 [H, W], not 0 where nothing landed.
        threads: 0 for one per core.
    """
    radius = min(16, max(2, round(holes.shape[0] / 270)))
    return ops.feather(_grown(holes, 1, 2 * radius, threads), radius, threads=threads)


def _grown(mask: Pixels, clean: int, by: int, threads: int) -> Pixels:
    """Not 0 within `by` pixels of a mask, of which pinholes and slivers of `clean` pixels are closed and left out."""
    unused = np.broadcast_to(np.int32(0), mask.shape)  # a map only tells which side to grow towards
    return ops.inpaint_mask(
        ops.Warped(mask, mask, unused), close=clean, speck=clean, far=by, near=by, tall=by, threads=threads
    )
