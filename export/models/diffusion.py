# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion's networks as modules that export well, with the parameter names of diffusers' files.

Only what the family of Stable Diffusion 2 uses is here. What is constant at run time is folded once the weights are
in: the prompt's keys and values, the time embedding of every training step, the latent scale, the quantisation
convolution. Sizes need not be multiples of 8 latents: an upsampler goes to its skip's size, as in diffusers.

Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022; the layout of diffusers'
UNet2DConditionModel, AutoencoderKL and transformers' CLIPTextModel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TRAIN_STEPS = 1000


class GroupNorm(nn.GroupNorm):
    """Group norm in the precision of its own weights, which may be more than its input's."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, ...] -> the same."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer norm in the precision of its own weights, which may be more than its input's."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> the same."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention of `width` channels over `context` channels; ``folded`` when the context is constant."""

    def __init__(self, width: int, heads: int, context: int | None = None, *, bias: bool = False) -> None:
        super().__init__()
        self.heads, self.in_fp32 = heads, False
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context or width, width, bias=bias)
        self.to_v = nn.Linear(context or width, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Identity()])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def fold(self, context: Tensor) -> None:
        """Keep the keys and values [1, heads, tokens, width / heads] of a constant context [1, tokens, C]."""
        key, value = self._split(self.to_k(context)), self._split(self.to_v(context))
        del self.to_k, self.to_v
        self.register_buffer("key", key.detach().clone())
        self.register_buffer("value", value.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[N, tokens, width] -> the same."""
        q = self._split(self.to_q(x))
        if hasattr(self, "key"):
            k, v = (t.expand(x.shape[0], -1, -1, -1) for t in (self.key, self.value))
        else:
            k, v = self._split(self.to_k(x)), self._split(self.to_v(x))
        if self.in_fp32:
            q, k, v = q.float(), k.float(), v.float()
        mixed = F.scaled_dot_product_attention(q, k, v).to(x.dtype)
        return self.to_out[0](mixed.transpose(1, 2).flatten(2))


class GatedGelu(nn.Module):
    """A linear layer whose one half gates the other through GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., inner]."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """A transformer block's two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GatedGelu(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    """Self attention, attention over the prompt, two linear layers; each with a norm and a residual."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = LayerNorm(width), LayerNorm(width), LayerNorm(width)
        self.attn1 = Attention(width, heads)
        self.attn2 = Attention(width, heads, context)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, tokens, width] -> the same."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x))
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the pixels of [N, C, H, W]."""

    def __init__(self, width: int, heads: int, context: int, groups: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = GroupNorm(groups, width, eps=1e-6)
        self.proj_in: nn.Module = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, context)])
        self.proj_out: nn.Module = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        height, width = x.shape[-2:]
        h = self.norm(x)
        h = self.proj_in(h.flatten(2).transpose(1, 2)) if self.linear else self.proj_in(h).flatten(2).transpose(1, 2)
        h = self.transformer_blocks[0](h)
        if self.linear:
            h = self.proj_out(h).transpose(1, 2).unflatten(2, (height, width))
        else:
            h = self.proj_out(h.transpose(1, 2).unflatten(2, (height, width)))
        return x + h


class ResnetBlock(nn.Module):
    """Two convolutions round a time embedding (none in the autoencoder: `time` 0)."""

    def __init__(self, inputs: int, outputs: int, groups: int, eps: float, time: int = 0) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, inputs, eps=eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        if time:
            self.time_emb_proj = nn.Linear(time, outputs)
        self.norm2 = GroupNorm(groups, outputs, eps=eps)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """[N, inputs, H, W], time [N, T] -> [N, outputs, H, W]."""
        h = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            h = h + self.time_emb_proj(time)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.conv_shortcut(x) + h


class Sampler(nn.Module):
    """The convolution of a down- or upsampler, under diffusers' name for it."""

    def __init__(self, width: int, *, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H / stride, W / stride]."""
        return self.conv(x)


class Stage(nn.Module):
    """One resolution: residual blocks, each with a transformer where `transformers` holds any, then a sampler."""

    def __init__(self, resnets: Sequence[ResnetBlock], transformers: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if transformers:
            self.attentions = nn.ModuleList(transformers)

    def one(self, index: int, x: Tensor, time: Tensor | None = None) -> Tensor:
        """The block at `index`."""
        x = self.resnets[index](x, time)
        return self.attentions[index](x) if hasattr(self, "attentions") else x


class MidStage(Stage):
    """A residual block, attention, a residual block."""

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """[N, C, H, W] -> the same."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time)), time)


def sinusoid(steps: Tensor, width: int) -> Tensor:
    """Time steps [N] as [N, width], cosines first (flip_sin_to_cos, freq_shift 0)."""
    half = width // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
    angle = steps.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class UNet(nn.Module):
    """The denoiser of a diffusers ``unet/config.json``, its first convolution taking `channels` channels."""

    def __init__(self, config: dict[str, Any], channels: int) -> None:
        super().__init__()
        widths = list(config["block_out_channels"])
        heads = config["attention_head_dim"]
        heads = [heads] * len(widths) if isinstance(heads, int) else list(heads)
        layers, groups = int(config["layers_per_block"]), int(config["norm_num_groups"])
        eps, context = float(config["norm_eps"]), int(config["cross_attention_dim"])
        linear, time = bool(config.get("use_linear_projection", False)), 4 * widths[0]

        def resnet(inputs: int, outputs: int) -> ResnetBlock:
            return ResnetBlock(inputs, outputs, groups, eps, time)

        def transformer(level: int) -> SpatialTransformer:
            return SpatialTransformer(widths[level], heads[level], context, groups, linear)

        self.width = widths[0]
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.time_embedding = nn.ModuleDict({"linear_1": nn.Linear(widths[0], time), "linear_2": nn.Linear(time, time)})
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        last = widths[0]
        skips = [last]
        for level, (kind, width) in enumerate(zip(config["down_block_types"], widths, strict=True)):
            crossed = kind.startswith("CrossAttn")
            stage = Stage(
                [resnet(last if i == 0 else width, width) for i in range(layers)],
                [transformer(level) for _ in range(layers)] if crossed else [],
            )
            skips += [width] * layers
            if level < len(widths) - 1:
                stage.downsamplers = nn.ModuleList([Sampler(width, stride=2)])
                skips.append(width)
            self.down_blocks.append(stage)
            last = width
        self.mid_block = MidStage([resnet(last, last), resnet(last, last)], [transformer(len(widths) - 1)])
        for index, kind in enumerate(config["up_block_types"]):
            level = len(widths) - 1 - index
            resnets = []
            for _ in range(layers + 1):
                resnets.append(resnet(last + skips.pop(), widths[level]))
                last = widths[level]
            crossed = kind.startswith("CrossAttn")
            stage = Stage(resnets, [transformer(level) for _ in range(layers + 1)] if crossed else [])
            if level > 0:
                stage.upsamplers = nn.ModuleList([Sampler(last)])
            self.up_blocks.append(stage)
        self.conv_norm_out = GroupNorm(groups, widths[0], eps=eps)
        self.conv_out = nn.Conv2d(widths[0], int(config["out_channels"]), 3, padding=1)

    def fold(self, prompt: Tensor) -> None:
        """Fold the prompt's embedding [1, tokens, C] and the time embedding of every training step."""
        for module in self.modules():
            if isinstance(module, TransformerBlock):
                module.attn2.fold(prompt)
        first, second = self.time_embedding["linear_1"], self.time_embedding["linear_2"]
        table = F.silu(second(F.silu(first(sinusoid(torch.arange(TRAIN_STEPS), self.width)))))
        self.register_buffer("time_table", table.detach().clone())
        del self.time_embedding

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """x [N, channels, H, W], step int64 [N] of 0..999 -> prediction [N, 4, H, W]."""
        time = F.embedding(step, self.time_table).to(x.dtype)
        x = self.conv_in(x)
        skips = [x]
        for stage in self.down_blocks:
            for i in range(len(stage.resnets)):
                x = stage.one(i, x, time)
                skips.append(x)
            if hasattr(stage, "downsamplers"):
                x = stage.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block(x, time)
        for stage in self.up_blocks:
            for i in range(len(stage.resnets)):
                x = stage.one(i, torch.cat([x, skips.pop()], dim=1), time)
            if hasattr(stage, "upsamplers"):
                x = stage.upsamplers[0](F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class PixelAttention(Attention):
    """The autoencoder's attention: one head over all pixels of [N, C, H, W], with its own norm and residual."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__(width, 1, bias=True)
        self.group_norm = GroupNorm(groups, width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        height, width = x.shape[-2:]
        h = super().forward(self.group_norm(x).flatten(2).transpose(1, 2))
        return x + h.transpose(1, 2).unflatten(2, (height, width))


def _vae_stage(inputs: int, width: int, count: int, groups: int) -> Stage:
    return Stage([ResnetBlock(inputs if i == 0 else width, width, groups, 1e-6) for i in range(count)])


def _vae_middle(width: int, groups: int) -> MidStage:
    return MidStage(
        [ResnetBlock(width, width, groups, 1e-6) for _ in range(2)],
        [PixelAttention(width, groups)],
    )


class Encoder(nn.Module):
    """Pictures [N, 3, 8 H, 8 W] in [-1, 1] to the moments (after ``fold``: the scaled mean) of latents [N, 4, H, W]."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        widths, groups = list(config["block_out_channels"]), int(config["norm_num_groups"])
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        last = widths[0]
        for level, width in enumerate(widths):
            stage = _vae_stage(last, width, int(config["layers_per_block"]), groups)
            if level < len(widths) - 1:
                stage.downsamplers = nn.ModuleList([Sampler(width, stride=2, padding=0)])
            self.down_blocks.append(stage)
            last = width
        self.mid_block = _vae_middle(last, groups)
        self.conv_norm_out = GroupNorm(groups, last, eps=1e-6)
        self.conv_out = nn.Conv2d(last, 2 * int(config["latent_channels"]), 3, padding=1)

    def fold(self, quant: nn.Conv2d, scale: float) -> None:
        """Make one convolution of the last one, the quantisation (its mean half) and the latent scale."""
        half = quant.out_channels // 2
        mix = (quant.weight[:half, :, 0, 0] * scale).double()
        weight = torch.einsum("oi,ichw->ochw", mix, self.conv_out.weight.double())
        bias = mix @ self.conv_out.bias.double() + quant.bias[:half].double() * scale  # type: ignore[union-attr]
        self.conv_out = nn.Conv2d(self.conv_out.in_channels, half, 3, padding=1)
        self.conv_out.weight = nn.Parameter(weight.float())
        self.conv_out.bias = nn.Parameter(bias.float())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.conv_in(x)
        for stage in self.down_blocks:
            for i in range(len(stage.resnets)):
                x = stage.one(i, x)
            if hasattr(stage, "downsamplers"):
                x = stage.downsamplers[0](F.pad(x, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents [N, 4, H, W] (after the quantisation's inverse) to pictures [N, 3, 8 H, 8 W], about [-1, 1]."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        widths, groups = list(config["block_out_channels"])[::-1], int(config["norm_num_groups"])
        self.conv_in = nn.Conv2d(int(config["latent_channels"]), widths[0], 3, padding=1)
        self.mid_block = _vae_middle(widths[0], groups)
        self.up_blocks = nn.ModuleList()
        last = widths[0]
        for level, width in enumerate(widths):
            stage = _vae_stage(last, width, int(config["layers_per_block"]) + 1, groups)
            if level < len(widths) - 1:
                stage.upsamplers = nn.ModuleList([Sampler(width)])
            self.up_blocks.append(stage)
            last = width
        self.conv_norm_out = GroupNorm(groups, last, eps=1e-6)
        self.conv_out = nn.Conv2d(last, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.mid_block(self.conv_in(x))
        for stage in self.up_blocks:
            for i in range(len(stage.resnets)):
                x = stage.one(i, x)
            if hasattr(stage, "upsamplers"):
                x = stage.upsamplers[0](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """Both halves with the convolutions round the latent, as one file holds them."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        channels = int(config["latent_channels"])
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
