# SPDX-License-Identifier: Apache-2.0
"""Depth Anything V2: DINOv2 features and a DPT head, from either of the two layouts of its published weights.

The original repository's ``depth_anything_v2_vits.pth`` (vitb, vitl) and transformers' safetensors hold the same
tensors under other names. Widths, depth and head sizes are read off the tensors. The graph is made for one input size;
the position embedding is interpolated for it once. Source: Yang et al., Depth Anything V2, 2024; Oquab et al., 2023.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secondeye.export.models.diffusion import LayerNorm
from secondeye.export.weights import Problems, checked

PATCH = 14
Tensors = dict[str, Tensor]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.in_fp32 = heads, False
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        if self.in_fp32:
            q, k, v = q.float(), k.float(), v.float()
        mixed = F.scaled_dot_product_attention(q, k, v).to(x.dtype)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(width, eps=1e-6), LayerNorm(width, eps=1e-6)
        self.attn, self.ls1, self.ls2 = _Attention(width, heads), _Scale(width), _Scale(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))


class _Features(nn.Module):
    """DINOv2: [N, 3, 14 h, 14 w] to four maps of features [N, C, h, w]."""

    def __init__(self, width: int, blocks: int, inner: int, grid: int) -> None:
        super().__init__()
        self.taps = [4, 11, 17, 23] if blocks == 24 else [blocks // 4 * (i + 1) - 1 for i in range(4)]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, stride=PATCH)})
        self.blocks = nn.ModuleList([_Block(width, max(1, width // 64), inner) for _ in range(blocks)])
        self.norm = LayerNorm(width, eps=1e-6)

    def fold(self, height: int, width: int) -> None:
        """Interpolate the position embedding for an input of height x width, as the original code does."""
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        grid = round(rest.shape[1] ** 0.5)
        rows, columns = height // PATCH, width // PATCH
        if (rows, columns) != (grid, grid):
            square = rest.reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
            scale = ((rows + 0.1) / grid, (columns + 0.1) / grid)  # the offset is the original's, against rounding
            square = F.interpolate(square, scale_factor=scale, mode="bicubic", antialias=False)
            rest = square.permute(0, 2, 3, 1).flatten(1, 2)
        self.register_buffer("places", torch.cat([first + self.cls_token, rest], dim=1).detach().clone())
        del self.pos_embed, self.cls_token, self.mask_token

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.patch_embed["proj"](x)
        height, width = x.shape[-2:]
        places = self.places.to(x.dtype)
        x = torch.cat([places[:, :1].expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2) + places[:, 1:]], dim=1)
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(self.norm(x)[:, 1:].transpose(1, 2).unflatten(2, (height, width)))
        return maps


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class _Fusion(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.resConfUnit1, self.resConfUnit2 = _Residual(width), _Residual(width)
        self.out_conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, beside: Tensor | None, size: tuple[int, int]) -> Tensor:
        if beside is not None:
            x = x + self.resConfUnit1(beside)
        x = F.interpolate(self.resConfUnit2(x), size=size, mode="bilinear", align_corners=True)
        return self.out_conv(x)


class _Head(nn.Module):
    def __init__(self, width: int, features: int, channels: list[int]) -> None:
        super().__init__()
        self.projects = nn.ModuleList([nn.Conv2d(width, c, 1) for c in channels])
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            ]
        )
        self.scratch = nn.ModuleDict()
        for i, c in enumerate(channels, 1):
            self.scratch[f"layer{i}_rn"] = nn.Conv2d(c, features, 3, padding=1, bias=False)
            self.scratch[f"refinenet{i}"] = _Fusion(features)
        self.scratch["output_conv1"] = nn.Conv2d(features, features // 2, 3, padding=1)
        self.scratch["output_conv2"] = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1), nn.ReLU()
        )

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        s = self.scratch
        layers = [s[f"layer{i + 1}_rn"](self.resize_layers[i](self.projects[i](x))) for i, x in enumerate(maps)]
        x, beside = layers[3], None
        for i in (3, 2, 1, 0):
            first = layers[i - 1].shape[-2:] if i else (2 * layers[0].shape[-2], 2 * layers[0].shape[-1])
            x = s[f"refinenet{i + 1}"](x, beside, (int(first[0]), int(first[1])))
            beside = layers[i - 1]
        x = F.interpolate(s["output_conv1"](x), size=size, mode="bilinear", align_corners=True)
        return s["output_conv2"](x)


class DepthAnythingV2(nn.Module):
    """Normalised pictures [N, 3, H, W], multiples of 14, to relative inverse depth [N, H, W], larger = nearer."""

    def __init__(self, width: int, blocks: int, inner: int, grid: int, features: int, channels: list[int]) -> None:
        super().__init__()
        self.pretrained = _Features(width, blocks, inner, grid)
        self.depth_head = _Head(width, features, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W], normalised, multiples of 14 -> relative inverse depth [N, H, W]."""
        size = (int(x.shape[-2]), int(x.shape[-1]))
        return F.relu(self.depth_head(self.pretrained(x), size)).squeeze(1)


_RENAMED = (
    (r"^backbone\.embeddings\.(cls_token|mask_token)$", r"pretrained.\1"),
    (r"^backbone\.embeddings\.position_embeddings$", "pretrained.pos_embed"),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "pretrained.patch_embed.proj."),
    (r"^backbone\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"pretrained.blocks.\1.attn.proj."),
    (r"^backbone\.encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1$", r"pretrained.blocks.\1.ls\2.gamma"),
    (r"^backbone\.encoder\.layer\.(\d+)\.", r"pretrained.blocks.\1."),
    (r"^backbone\.layernorm\.", "pretrained.norm."),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"depth_head.projects.\1."),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"depth_head.resize_layers.\1."),
    (r"^head\.conv1\.", "depth_head.scratch.output_conv1."),
    (r"^head\.conv2\.", "depth_head.scratch.output_conv2.0."),
    (r"^head\.conv3\.", "depth_head.scratch.output_conv2.2."),
)


def original_names(tensors: Tensors) -> Tensors:
    """Transformers' names become the original repository's; those of the original stay."""
    if not any(name.startswith("backbone.") for name in tensors):
        return dict(tensors)
    result: Tensors = {}
    for name, tensor in tensors.items():
        for pattern, new in _RENAMED:
            name, hits = re.subn(pattern, new, name)
            if hits:
                break
        found = re.match(r"^neck\.(?:convs\.(\d)|fusion_stage\.layers\.(\d))\.(.*)$", name)
        if found and found[1]:
            name = f"depth_head.scratch.layer{int(found[1]) + 1}_rn.{found[3]}"
        elif found:
            rest = found[3].replace("projection.", "out_conv.").replace("residual_layer", "resConfUnit")
            name = f"depth_head.scratch.refinenet{4 - int(found[2])}.{rest.replace('convolution', 'conv')}"
        result[name] = tensor
    for name in [n for n in result if ".attention.attention.query." in n]:
        parts = [result.pop(name.replace("query", part), None) for part in ("query", "key", "value")]
        if all(part is not None for part in parts):
            merged = torch.cat([part for part in parts if part is not None])
            result[name.replace("attention.attention.query", "attn.qkv")] = merged
    return result


def load_depth(tensors: Tensors, label: str, problems: Problems) -> Callable[[], DepthAnythingV2] | None:
    """A maker of the network with these weights; None, with the reasons in `problems`, when they are another's."""
    tensors = original_names(tensors)

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in tensors or tensors[name].ndim != rank:
            got = f"shape {list(tensors[name].shape)}" if name in tensors else "missing"
            problems.add(label, f"{name} is what tells the model's size: expected {rank} dimensions, got {got}")
            return (0,) * rank
        return tuple(tensors[name].shape)

    width, grid = shape("pretrained.pos_embed", 3)[2], round((shape("pretrained.pos_embed", 3)[1]) ** 0.5)
    inner = shape("pretrained.blocks.0.mlp.fc1.weight", 2)[0]
    features = shape("depth_head.scratch.layer1_rn.weight", 4)[0]
    channels = [shape(f"depth_head.projects.{i}.weight", 4)[0] for i in range(4)]
    numbers = [int(m[1]) for name in tensors if (m := re.match(r"pretrained\.blocks\.(\d+)\.", name))]
    blocks = max(numbers, default=-1) + 1
    if problems.of(label):
        return None
    if blocks % 4 or not 4 <= blocks <= 40 or max(width, inner, features, *channels) > 8192:
        problems.add(label, f"not the size of a Depth Anything V2 model: {blocks} blocks of {width} channels")
        return None
    return checked(lambda: DepthAnythingV2(width, blocks, inner, grid, features, channels), tensors, label, problems)


def lower_bound_size(height: int, width: int, side: int = 518) -> tuple[int, int]:
    """The input's size for a picture: shorter side at least `side`, both multiples of 14, as in the original code."""
    scale = max(side / height, side / width)

    def fit(length: float) -> int:
        whole = round(length / PATCH) * PATCH
        return whole if whole >= side else -(-int(length + 0.999) // PATCH) * PATCH

    return fit(scale * height), fit(scale * width)
