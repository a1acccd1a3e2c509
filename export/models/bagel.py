# SPDX-License-Identifier: Apache-2.0
"""BAGEL's networks as modules that export well, with the parameter names of its files.

A mixture of transformers: each layer has two sets of weights, one for understanding (text, ViT tokens, the marks round
a picture) and one (``_moe_gen``) for the latents that are being made; attention is joint. What moves through the layers
is laid out so that nothing is scattered: a picture's block shares one rotary position and sees all of itself, so its
two marks may stand before its latents.

Source: Deng et al., Emerging Properties in Unified Multimodal Pretraining (BAGEL), arXiv 2505.14683; Qwen2.5 (RMS norm,
rotary positions, grouped keys) and SigLIP for its parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UND, GEN = "", "_moe_gen"
PATCH_LATENT = 64  # values of a latent token: 2 x 2 of 16 channels
POSITIONS = 512  # rotary positions that a flow step knows


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of the language model and of the ViT, by their names in llm_config.json and vit_config.json."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    eps: float
    theta: float
    vocabulary: int
    vit_hidden: int
    vit_layers: int
    vit_heads: int
    vit_inner: int
    vit_eps: float
    vit_side: int  # patches along a side of its table of positions
    patch: int = 14
    latent_side: int = 64

    @property
    def head(self) -> int:
        """Channels of an attention head."""
        return self.hidden // self.heads


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32 whatever the input."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same."""
        y = x.float()
        y = y * torch.rsqrt((y * y).mean(-1, keepdim=True) + self.eps)
        return self.weight * y.to(x.dtype)


class Mlp(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def rotary(config: Config, positions: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin [*positions, head], each half the same angles."""
    frequency = config.theta ** (-torch.arange(0, config.head, 2, dtype=torch.float64, device="cpu") / config.head)
    angle = positions.double()[..., None] * frequency
    both = torch.cat([angle, angle], dim=-1)
    return both.cos().float(), both.sin().float()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position on [..., head]: the halves are the pairs."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Grouped attention: q [B, heads, R, head], k and v [B, kv heads, S, head] -> [B, R, heads * head]."""
    times = q.shape[1] // k.shape[1]
    k = k[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)
    v = v[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class Layer(nn.Module):
    """One layer with the weights of the experts that are asked for."""

    def __init__(self, config: Config, experts: tuple[str, ...]) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        wide, narrow = config.heads * config.head, config.kv_heads * config.head
        self.self_attn = nn.Module()
        for expert in experts:
            attention = self.self_attn
            attention.add_module(f"q_proj{expert}", nn.Linear(config.hidden, wide))
            attention.add_module(f"k_proj{expert}", nn.Linear(config.hidden, narrow))
            attention.add_module(f"v_proj{expert}", nn.Linear(config.hidden, narrow))
            attention.add_module(f"o_proj{expert}", nn.Linear(wide, config.hidden, bias=False))
            attention.add_module(f"q_norm{expert}", RMSNorm(config.head, config.eps))
            attention.add_module(f"k_norm{expert}", RMSNorm(config.head, config.eps))
            self.add_module(f"mlp{expert}", Mlp(config.hidden, config.inner))
            self.add_module(f"input_layernorm{expert}", RMSNorm(config.hidden, config.eps))
            self.add_module(f"post_attention_layernorm{expert}", RMSNorm(config.hidden, config.eps))

    def part(self, name: str, expert: str) -> nn.Module:
        """A module of the attention's, of one expert."""
        return self.self_attn.get_submodule(name + expert)

    def qkv(self, x: Tensor, expert: str) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, R, hidden] -> q, k (normed, not yet rotated) and v, [B, heads, R, head]."""
        n = self.get_submodule(f"input_layernorm{expert}")(x)

        def split(name: str, heads: int) -> Tensor:
            return self.part(name, expert)(n).unflatten(-1, (heads, -1))

        q = self.part("q_norm", expert)(split("q_proj", self.heads)).transpose(1, 2)
        k = self.part("k_norm", expert)(split("k_proj", self.kv_heads)).transpose(1, 2)
        return q, k, split("v_proj", self.kv_heads).transpose(1, 2)

    def finish(self, x: Tensor, mixed: Tensor, expert: str) -> Tensor:
        """The residuals of attention and of the MLP."""
        x = x + self.part("o_proj", expert)(mixed)
        normed = self.get_submodule(f"post_attention_layernorm{expert}")(x)
        return x + self.get_submodule(f"mlp{expert}")(normed)


class Prefill(nn.Module):
    """Some layers over [mark, picture, mark, instruction, instruction]: keys and values for the flow steps to see.

    The picture's block sees itself; the instruction sees the picture and what it said before; both see what went
    before them, where something did. The instruction's second copy sees itself alone, for guidance by the picture to
    compare with. The picture stands at position `start`, the instruction after it, a word each, and its copy where it
    does: only distances between positions count. The last layer of all gives keys and values alone, the rest of it
    is unused.
    """

    def __init__(
        self,
        config: Config,
        layers: range,
        text: Tensor | None,
        marks: Tensor | None,
        words: int,
        start: int = 0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(i): Layer(config, (UND,)) for i in layers})
        self.words, self.start, self.last = words, start, layers.stop == config.layers
        self.first = layers.start == 0
        if self.first:
            assert text is not None
            assert marks is not None
            self.register_buffer("text", text, persistent=False)  # [1, words, hidden]
            self.register_buffer("marks", marks, persistent=False)  # [1, 2, hidden]
        cos, sin = rotary(config, torch.arange(start, start + words + 1, device="cpu"))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        causal = torch.full((words, words), -30000.0, device="cpu").triu(1)
        self.register_buffer("causal", causal, persistent=False)

    def _placed(self, x: Tensor) -> Tensor:
        """The rows rotated by their positions; at position 0 nothing turns."""
        picture, text = x[:, :, : -2 * self.words], x[:, :, -2 * self.words :]
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        if self.start:
            picture = rotated(picture, cos[:1], sin[:1])
        return torch.cat([picture, rotated(text, cos[1:].repeat(2, 1), sin[1:].repeat(2, 1))], dim=2)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """tokens [1, N, hidden] (first) or states [1, S, hidden] -> (states unless last), keys, values.

        With a start over 0 two inputs more: keys and values of what went before. All are [layers, 1, kv heads, S,
        head]; those that are given back are of picture and instruction (twice) alone.
        """
        x, *past = inputs
        names = list(self.layers)
        some = self.layers[names[0]]
        assert isinstance(some, Layer)
        x = x.to(some.part("q_proj", UND).weight.dtype)
        if self.first:
            x = torch.cat([self.marks[:, :1], x, self.marks[:, 1:], self.text, self.text], dim=1)
        keys, values = [], []
        for i, name in enumerate(names):
            layer = self.layers[name]
            assert isinstance(layer, Layer)
            q, k, v = layer.qkv(x, UND)
            q, k = self._placed(q), self._placed(k)
            keys.append(k)
            values.append(v)
            if self.last and name == names[-1]:
                break
            n, causal = self.words, self.causal.to(q.dtype)
            alone = attend(q[:, :, -n:], k[:, :, -n:], v[:, :, -n:], causal)
            q, k, v = q[:, :, :-n], k[:, :, :-n], v[:, :, :-n]
            if past:
                k = torch.cat([past[0][i].to(k.dtype), k], dim=2)
                v = torch.cat([past[1][i].to(v.dtype), v], dim=2)
            seen = attend(q[:, :, :-n], k[:, :, :-n], v[:, :, :-n])
            said = attend(q[:, :, -n:], k, v, F.pad(causal, (k.shape[2] - n, 0)))
            x = layer.finish(x, torch.cat([seen, said, alone], dim=1), UND)
        result = (torch.stack(keys).float(), torch.stack(values).float())
        return result if self.last else (x.float(), *result)


class Flow(nn.Module):
    """Some layers of one evaluation of the flow: [mark, mark | latents], which see each other and what went before.

    First: latents [B, T, 64], moment int64 [B] (a row of those of :meth:`fold_times`), place int64 [T] -> states; last:
    states -> velocity [B, T, 64].
    """

    def __init__(self, config: Config, layers: range, marks: Tensor | None) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(i): Layer(config, (UND, GEN)) for i in layers})
        self.first, self.last = layers.start == 0, layers.stop == config.layers
        if self.first:
            assert marks is not None
            self.register_buffer("marks", marks, persistent=False)
            self.vae2llm = nn.Linear(PATCH_LATENT, config.hidden)
            self.time_embedder = nn.Module()
            self.time_embedder.mlp = nn.Sequential(
                nn.Linear(256, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden)
            )
            self.latent_pos_embed = nn.Module()
            count = config.latent_side**2
            self.latent_pos_embed.register_parameter("pos_embed", nn.Parameter(torch.zeros(count, config.hidden)))
            frequency = torch.exp(
                -math.log(10000.0) * torch.arange(128, dtype=torch.float64, device="cpu") / 128
            ).float()
            self.register_buffer("frequency", frequency, persistent=False)
        if self.last:
            self.norm_moe_gen = RMSNorm(config.hidden, config.eps)
            self.llm2vae = nn.Linear(config.hidden, PATCH_LATENT)
        cos, sin = rotary(config, torch.arange(POSITIONS, device="cpu"))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def fold_times(self, times: Tensor) -> None:
        """Put the embeddings of all the times that will be asked for, [n] in 0..1, in place of their network."""
        angle = times[:, None] * self.frequency
        with torch.no_grad():
            table = self.time_embedder.get_submodule("mlp")(torch.cat([angle.cos(), angle.sin()], dim=1))
        del self.time_embedder, self.frequency
        self.moments = nn.Parameter(table, requires_grad=False)

    def _begin(self, latents: Tensor, moment: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.vae2llm.weight
        embedded = F.embedding(moment, self.moments)
        table = self.latent_pos_embed.get_parameter("pos_embed")
        gen = self.vae2llm(latents.to(weight.dtype)) + embedded[:, None] + F.embedding(place, table)[None]
        return self.marks.to(weight.dtype).expand(latents.shape[0], -1, -1), gen

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The first's three or the others' two inputs, then past keys and values, mask [B, P], position int64 [B].

        States are marks [B, 2, hidden] and latents [B, T, hidden]; past keys and values are [layers, B, kv heads, P,
        head]; the mask is added to the scores of what went before (0, or a very negative number where it is padding).
        """
        *state, keys, values, mask, position = inputs
        und, gen = self._begin(*state) if self.first else (state[0], state[1])
        some = next(iter(self.layers.values()))
        assert isinstance(some, Layer)
        kind = some.part("q_proj", UND).weight.dtype
        und, gen = und.to(kind), gen.to(kind)
        cos, sin = (F.embedding(position, t)[:, None, None].to(kind) for t in (self.cos, self.sin))
        scores = F.pad(mask[:, None, None], (0, gen.shape[1] + 2)).to(kind)
        names = list(self.layers)
        for i, name in enumerate(names):
            layer = self.layers[name]
            assert isinstance(layer, Layer)
            (uq, uk, uv), (gq, gk, gv) = layer.qkv(und, UND), layer.qkv(gen, GEN)
            uq, uk, gq, gk = (rotated(t, cos, sin) for t in (uq, uk, gq, gk))
            k = torch.cat([keys[i].to(kind), uk, gk], dim=2)
            v = torch.cat([values[i].to(kind), uv, gv], dim=2)
            gen = layer.finish(gen, attend(gq, k, v, scores), GEN)
            if not (self.last and name == names[-1]):
                und = layer.finish(und, attend(uq, k, v, scores), UND)
        if not self.last:
            return und.float(), gen.float()
        return (self.llm2vae(self.norm_moe_gen(gen)).float(),)


class Look(Flow):
    """Some layers over the picture's own latents, in the edit layout: [mark, mark | latents] at time and position 0.

    First: latents [1, T, 64], place int64 [T]; the others: marks [1, 2, hidden], states [1, T, hidden] -> (marks,
    states unless last), keys and values [layers, 1, kv heads, 2 + T, head].
    """

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if self.first:
            latents, place = inputs
            und, gen = self._begin(latents, torch.zeros(1, dtype=torch.int64), place)
        else:
            und, gen = inputs
        some = next(iter(self.layers.values()))
        assert isinstance(some, Layer)
        kind = some.part("q_proj", UND).weight.dtype
        und, gen = und.to(kind), gen.to(kind)
        keys, values = [], []
        names = list(self.layers)
        for name in names:
            layer = self.layers[name]
            assert isinstance(layer, Layer)
            (uq, uk, uv), (gq, gk, gv) = layer.qkv(und, UND), layer.qkv(gen, GEN)
            k, v = torch.cat([uk, gk], dim=2), torch.cat([uv, gv], dim=2)
            keys.append(k)
            values.append(v)
            if self.last and name == names[-1]:
                break
            gen, und = layer.finish(gen, attend(gq, k, v), GEN), layer.finish(und, attend(uq, k, v), UND)
        result = (torch.stack(keys).float(), torch.stack(values).float())
        return result if self.last else (und.float(), gen.float(), *result)


class VitLayer(nn.Module):
    """SigLIP's encoder layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.vit_hidden
        self.heads = config.vit_heads
        self.layer_norm1 = nn.LayerNorm(width, eps=config.vit_eps)
        self.layer_norm2 = nn.LayerNorm(width, eps=config.vit_eps)
        self.self_attn = nn.ModuleDict(
            {name: nn.Linear(width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        )
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, config.vit_inner), "fc2": nn.Linear(config.vit_inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        """[1, N, width] -> the same."""
        n = self.layer_norm1(x)
        q, k, v = (self.self_attn[f"{t}_proj"](n).unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in "qkv")
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.self_attn["out_proj"](mixed)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x)), approximate="tanh"))


class Vit(nn.Module):
    """The picture's patches to the language model's tokens: SigLIP, a connector of two layers, fixed positions."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        vision = nn.Module()
        vision.embeddings = nn.Module()
        vision.embeddings.patch_embedding = nn.Linear(3 * config.patch**2, config.vit_hidden)
        vision.embeddings.position_embedding = nn.Embedding(config.vit_side**2, config.vit_hidden)
        vision.encoder = nn.Module()
        vision.encoder.layers = nn.ModuleList([VitLayer(config) for _ in range(config.vit_layers)])
        vision.post_layernorm = nn.LayerNorm(config.vit_hidden, eps=config.vit_eps)
        self.vit_model = nn.Module()
        self.vit_model.vision_model = vision
        self.connector = nn.ModuleDict(
            {"fc1": nn.Linear(config.vit_hidden, config.hidden), "fc2": nn.Linear(config.hidden, config.hidden)}
        )
        self.vit_pos_embed = nn.Module()
        self.vit_pos_embed.register_parameter("pos_embed", nn.Parameter(torch.zeros(config.vit_side**2, config.hidden)))

    def forward(self, patches: Tensor, place: Tensor) -> Tensor:
        """patches [1, N, 588] in [-1, 1], (row, column, channel); place int64 [N] -> tokens [1, N, hidden]."""
        vision = self.vit_model.vision_model
        x = vision.embeddings.patch_embedding(patches.to(vision.embeddings.patch_embedding.weight.dtype))
        x = x + vision.embeddings.position_embedding(place)[None]
        for layer in vision.encoder.layers:
            x = layer(x)
        x = self.connector["fc2"](F.gelu(self.connector["fc1"](vision.post_layernorm(x)), approximate="tanh"))
        return (x + F.embedding(place, self.vit_pos_embed.get_parameter("pos_embed"))[None]).float()


def sincos_table(side: int, width: int) -> Tensor:
    """The fixed two-dimensional table of positions [side * side, width]: first half by column, second by row."""

    def line(places: Tensor) -> Tensor:
        count = width // 4
        angle = places[:, None] * (10000.0 ** (-torch.arange(count, dtype=torch.float64) / count))
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.cat([line(column.flatten().double()), line(row.flatten().double())], dim=1).float()
