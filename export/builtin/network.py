# SPDX-License-Identifier: Apache-2.0
"""The built-in depth network: an EfficientNet-Lite0 encoder and a light decoder with skip connections.

Encoder: Tan and Le, EfficientNet (ICML 2019), the Lite0 variant (ReLU6, no squeeze-and-excite), ImageNet weights.
Decoder: depthwise-separable fusion at strides 16, 8, 4 and 2, a last one at full resolution that sees the picture.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# kernel, stride, expansion, channels, repeats (EfficientNet-B0's table; Lite0 has the same widths and depths)
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_SKIPS = (0, 2, 4, 10, 15)  # the blocks whose outputs, at strides 2, 4, 8, 16 and 32, feed the decoder
_SKIP_CHANNELS = (16, 24, 40, 112, 320)


def _relu6(x: Tensor) -> Tensor:
    """ReLU6 as every onnxscript exports it: one Clip, which our kernels run; of ``F.relu6`` some make a Min."""
    return F.hardtanh(x, 0.0, 6.0)


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for even sizes: at stride 2 the extra column is on the far side."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H / stride, W / stride]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return F.conv2d(x, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        total = kernel - stride
        low = total // 2
        return F.conv2d(F.pad(x, (low, total - low) * 2), self.weight, self.bias, stride, 0, 1, self.groups)


class Block(nn.Module):
    """MBConv without squeeze-and-excite; the names are those of the public checkpoint."""

    def __init__(self, wide: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = wide * expansion
        if expansion != 1:
            self._expand_conv = SameConv(wide, middle, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(middle, eps=1e-3)
        self._depthwise_conv = SameConv(middle, middle, kernel, stride, groups=middle, bias=False)
        self._bn1 = nn.BatchNorm2d(middle, eps=1e-3)
        self._project_conv = SameConv(middle, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=1e-3)
        self.residual = stride == 1 and wide == out
        self.expands = expansion != 1

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H / stride, W / stride]."""
        y = _relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = _relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class Encoder(nn.Module):
    """EfficientNet-Lite0 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks: list[Block] = []
        wide = 32
        for kernel, stride, expansion, out, repeats in _STAGES:
            for index in range(repeats):
                blocks.append(Block(wide, out, kernel, stride if index == 0 else 1, expansion))
                wide = out
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W] in about [-1, 1] -> features at strides 2, 4, 8, 16 and 32."""
        x = _relu6(self._bn0(self._conv_stem(x)))
        features = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in _SKIPS:
                features.append(x)
        return features

    def load_imagenet(self, path: str | Path) -> None:
        """Load the public ImageNet checkpoint (a state dict); the classifier's tensors are left out."""
        state = torch.load(path, weights_only=True, map_location="cpu")
        wanted = self.state_dict()
        self.load_state_dict({name: state[name] for name in wanted})


class Separable(nn.Module):
    """Depthwise 5 x 5, pointwise, batch norm, ReLU."""

    def __init__(self, wide: int, out: int, kernel: int = 5) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(wide, wide, kernel, padding=kernel // 2, groups=wide, bias=False)
        self.bn0 = nn.BatchNorm2d(wide)
        self.pointwise = nn.Conv2d(wide, out, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W]."""
        return F.relu(self.bn1(self.pointwise(F.relu(self.bn0(self.depthwise(x))))))


class DepthNet(nn.Module):
    """Picture to relative disparity.

    Input: float32 [N, 3, H, W], RGB in [0, 1], H and W multiples of 32. Output: float32 [N, 1, H, W], larger =
    nearer, scale and offset free.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        widths = (24, 40, 64, 96, 160)
        self.top = nn.Sequential(nn.Conv2d(320, widths[4], 1, bias=False), nn.BatchNorm2d(widths[4]), nn.ReLU())
        # What the whole picture is about, given to every place of it.
        self.context = nn.Linear(320, widths[4])
        self.skips = nn.ModuleList(nn.Conv2d(_SKIP_CHANNELS[i], widths[i], 1, bias=False) for i in range(4))
        # Wide kernels where a cell is large, small ones where only edges are left to draw.
        kernels = (3, 3, 5, 5)
        self.fuse = nn.ModuleList(
            nn.Sequential(
                Separable(widths[i] + widths[i + 1], widths[i], kernels[i]), Separable(widths[i], widths[i], kernels[i])
            )
            for i in range(4)
        )
        self.full = nn.Sequential(
            nn.Conv2d(11, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 1, 3, padding=1),
        )
        self.coarse = nn.Conv2d(widths[0], 1, 3, padding=1)
        self.thin = nn.Conv2d(widths[0], 8, 1)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        x = image * (255.0 / 128.0) - (127.0 / 128.0)
        features = self.encoder(x)
        y = self.top(features[4]) + self.context(features[4].mean((2, 3)))[:, :, None, None]
        for i in (3, 2, 1, 0):
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = self.fuse[i](torch.cat([y, self.skips[i](features[i])], 1))
        coarse = F.interpolate(self.coarse(y), scale_factor=2.0, mode="bilinear", align_corners=False)
        y = F.interpolate(self.thin(y), scale_factor=2.0, mode="bilinear", align_corners=False)
        return coarse + self.full(torch.cat([y, x], 1))
