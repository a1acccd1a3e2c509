# SPDX-License-Identifier: Apache-2.0
"""CLIP's text encoder for one short prompt, with the parameter names of transformers' files.

Used once, while a bundle is built: the prompt is empty, so its embedding is a constant. Source: Radford et al., 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int, eps: float, quick: bool) -> None:
        super().__init__()
        self.quick = quick
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.self_attn = _Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        h = self.mlp["fc1"](self.layer_norm2(x))
        h = h * torch.sigmoid(1.702 * h) if self.quick else F.gelu(h)
        return x + self.mlp["fc2"](h)


class TextEncoder(nn.Module):
    """The encoder of a transformers ``text_encoder/config.json`` (CLIPTextModel)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, eps = int(config["hidden_size"]), float(config.get("layer_norm_eps", 1e-5))
        quick = config.get("hidden_act", "quick_gelu") == "quick_gelu"
        self.embeddings = nn.ModuleDict(
            {
                "token_embedding": nn.Embedding(int(config["vocab_size"]), width),
                "position_embedding": nn.Embedding(int(config["max_position_embeddings"]), width),
            }
        )
        heads, inner = int(config["num_attention_heads"]), int(config["intermediate_size"])
        layers = [_Layer(width, heads, inner, eps, quick) for _ in range(int(config["num_hidden_layers"]))]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.final_layer_norm = nn.LayerNorm(width, eps=eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [N, T] -> [N, T, width], the last hidden state."""
        places = torch.arange(tokens.shape[1])
        x = self.embeddings["token_embedding"](tokens) + self.embeddings["position_embedding"](places)
        for layer in self.encoder["layers"]:
            x = layer(x)
        return self.final_layer_norm(x)
