# SPDX-License-Identifier: Apache-2.0
"""What separates a rendering from a photograph, in batches, on whatever device the pictures are.

Crop, flip, uneven light, colour, depth of field, blur, lost resolution, sharpening, noise and JPEG.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

_JPEG_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_JPEG_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *(99,) * 32,
)  # fmt: skip


class Augmenter:
    """Seeded; a batch's samples are treated each in its own way.

    Args:
        seed: of everything random.
        device: where the batches are.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._host = random.Random(seed)
        grid = torch.arange(8, dtype=torch.float32)
        wave = torch.cos(math.pi / 8 * (grid[None] + 0.5) * grid[:, None]) * 0.5
        wave[0] /= math.sqrt(2)
        self._wave = wave.to(self.device)  # the DCT's matrix, orthonormal
        self._tables = [torch.tensor(t, device=self.device).reshape(8, 8).float() for t in (_JPEG_LUMA, _JPEG_CHROMA)]

    def __call__(
        self, pictures: Tensor, maps: Tensor, size: tuple[int, int], *, defocus: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Treat a batch.

        Args:
            pictures: uint8 [N, H, W, 3], sRGB.
            maps: [N, H, W], disparity, or labels (then without `defocus`).
            size: height and width that come out, multiples of 16.
            defocus: blur some pictures where their disparity is far from one that is in focus.

        Returns:
            float32 [N, 3, h, w] in [0, 1], on levels of 255; float32 [N, 1, h, w], values of `maps`.
        """
        x, d = self.crop(pictures, maps, size)
        if defocus:
            x = self._defocus(x, d)
        return self.develop(x), d

    def crop(self, pictures: Tensor, maps: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """A random part, mirrored half the time, resized to `size`."""
        count, high, wide = maps.shape
        area = self._uniform(count, 0.45, 1.0)
        aspect = size[1] / size[0] * torch.exp(0.1 * self._normal(count))
        h = torch.sqrt(area * high * wide / aspect)
        shrink = torch.minimum(high / h, wide / (h * aspect)).clamp(max=1.0)
        h, w = h * shrink / high, h * shrink * aspect / wide  # as shares of the sides
        theta = torch.zeros(count, 2, 3, device=self.device)
        theta[:, 0, 0] = w * torch.where(self._chance(count, 0.5), -1.0, 1.0)
        theta[:, 1, 1] = h
        theta[:, 0, 2] = (1 - w) * self._uniform(count, -1, 1)
        theta[:, 1, 2] = (1 - h) * self._uniform(count, -1, 1)
        grid = F.affine_grid(theta, [count, 1, *size], align_corners=False)
        x = F.grid_sample(pictures.permute(0, 3, 1, 2).float() / 255, grid, padding_mode="border", align_corners=False)
        d = F.grid_sample(maps[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
        return x, d

    def develop(self, x: Tensor) -> Tensor:
        """Light, colour, optics, sensor and compression; [N, 3, H, W] in [0, 1]."""
        count, _, high, wide = x.shape

        def each(low: float, top: float) -> Tensor:
            return self._uniform(count, low, top)[:, None, None, None]

        def some(share: float) -> Tensor:
            return self._chance(count, share)[:, None, None, None]

        patches = torch.randn(count, 1, 4, 6, generator=self.generator, device=self.device)
        light = F.interpolate(patches, (high, wide), mode="bicubic", align_corners=False)
        x = x * torch.exp(light * each(0, 0.45) * some(0.5))
        x = x.clamp(min=1e-6) ** torch.exp(0.25 * self._normal(count))[:, None, None, None]
        gains = 0.15 * self._normal(count)[:, None] + 0.07 * self._normal(count * 3).reshape(count, 3)
        x = x * torch.exp(gains)[:, :, None, None]
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * torch.where(some(0.08), 0.0, each(0.3, 1.4))
        x = (x - 0.5) * each(0.6, 1.3) + 0.5
        blurred, sharpened = self._samples(count, 0.35, 0.15)
        x[blurred] = self._blur(x[blurred], self._uniform(len(blurred), 0.3, 1.6))
        y = x[sharpened]
        x[sharpened] = y + (y - self._blur(y, self._uniform(len(y), 0.3, 1.2))) * self._uniform(1, 0.3, 1.5)
        (lost,) = self._samples(count, 0.15)
        factor = self._host.uniform(1.2, 2.6)
        small = F.interpolate(x[lost], (round(high / factor), round(wide / factor)), mode="area")
        x[lost] = F.interpolate(small, (high, wide), mode="bilinear", align_corners=False)
        x = x.clamp(0, 1)
        grain = torch.randn(x.shape, generator=self.generator, device=self.device)
        x = x + grain * each(0, 0.05) * torch.where(some(0.5), 1.0, torch.sqrt(x)) * some(0.5)
        (coded,) = self._samples(count, 0.4)
        x[coded] = self._jpeg(x[coded].clamp(0, 1), self._uniform(len(coded), 25, 95))
        return (x.clamp(0, 1) * 255).round() / 255

    def _defocus(self, x: Tensor, d: Tensor) -> Tensor:
        (some,) = self._samples(x.shape[0], 0.2)
        sharp, flat = x[some], d[some].flatten(1)
        count = len(some)
        places = torch.randint(flat.shape[1], (count, 1), generator=self.generator, device=self.device)
        focus = flat.gather(1, places)
        spread = (flat - flat.mean(1, keepdim=True)).abs().mean(1, keepdim=True) + 1e-6
        share = ((flat - focus).abs() / spread * self._uniform(count, 0.2, 1.0)[:, None]).clamp(0, 1)
        soft = self._blur(sharp, self._uniform(count, 1.0, 3.0))
        x[some] = sharp + (soft - sharp) * share.reshape(d[some].shape)
        return x

    def _blur(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Gaussian, a sigma for each sample."""
        reach = 6
        at = torch.arange(-reach, reach + 1, device=self.device, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (at[None] / sigma[:, None]) ** 2)
        kernel = (kernel / kernel.sum(1, keepdim=True))[:, :, None, None, None]
        for dim in (2, 3):
            padded = F.pad(x, (0, 0, reach, reach) if dim == 2 else (reach, reach, 0, 0), mode="replicate")
            length = x.shape[dim]
            x = padded.narrow(dim, 0, length) * kernel[:, 0]
            for tap in range(1, 2 * reach + 1):
                x = x + padded.narrow(dim, tap, length) * kernel[:, tap]
        return x

    def _jpeg(self, x: Tensor, quality: Tensor) -> Tensor:
        """The loss that JPEG makes, 4:2:0, baseline tables at a quality for each sample."""
        scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None, None] / 100
        r, g, b = (x * 255).unbind(1)
        luma = 0.299 * r + 0.587 * g + 0.114 * b
        chroma = torch.stack([(b - luma) * 0.564, (r - luma) * 0.713], 1)
        luma = self._coded((luma - 128)[:, None], scale, self._tables[0])[:, 0] + 128
        chroma = self._coded(F.avg_pool2d(chroma, 2), scale, self._tables[1])
        blue, red = F.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False).unbind(1)
        out = torch.stack([luma + 1.403 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.773 * blue], 1)
        return out / 255

    def _coded(self, planes: Tensor, scale: Tensor, table: Tensor) -> Tensor:
        """Each 8 x 8 block's DCT rounded to the table's steps."""
        count, channels, high, wide = planes.shape
        blocks = planes.reshape(count, channels, high // 8, 8, wide // 8, 8).transpose(3, 4)
        steps = (table * scale).round().clamp(1, 255)[:, :, None, None]
        coded = (self._wave @ blocks @ self._wave.T / steps).round() * steps
        return (self._wave.T @ coded @ self._wave).transpose(3, 4).reshape(planes.shape)

    def _uniform(self, count: int, low: float, top: float) -> Tensor:
        return torch.rand(count, generator=self.generator, device=self.device) * (top - low) + low

    def _normal(self, count: int) -> Tensor:
        return torch.randn(count, generator=self.generator, device=self.device)

    def _chance(self, count: int, share: float) -> Tensor:
        return torch.rand(count, generator=self.generator, device=self.device) < share

    def _samples(self, count: int, *shares: float) -> list[list[int]]:
        """Which of a batch are treated in some ways that exclude each other: always as many, so that shapes stay."""
        order = self._host.sample(range(count), count)
        sizes = [max(1, round(share * count)) for share in shares]
        return [order[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
