# SPDX-License-Identifier: Apache-2.0
"""FLUX's autoencoder under the names of its own ae.safetensors, on our encoder and decoder of diffusers' form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from secondeye.export.models.diffusion import Decoder, Encoder
from secondeye.export.weights import Problems, some

SCALE, SHIFT = 0.3611, 0.1159  # of latents
CHANNELS = 16
Side = Literal["encoder", "decoder"]
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_MAKERS: dict[str, type[nn.Module]] = {"encoder": Encoder, "decoder": Decoder}


class Decode(nn.Module):
    """Latents [1, 16, h, w] -> a picture [1, 3, 8 h, 8 w] in [-1, 1]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, latent: Tensor) -> Tensor:
        """See the class."""
        kind = self.inner.conv_in.weight.dtype  # type: ignore[union-attr]
        picture: Tensor = self.inner((latent / SCALE + SHIFT).to(kind))  # type: ignore[arg-type]
        return picture.float().clamp(-1.0, 1.0)


class Encode(nn.Module):
    """A picture [1, 3, 8 h, 8 w] in [-1, 1] -> latents [1, 16, h, w]: the mean, where the authors draw a sample."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, picture: Tensor) -> Tensor:
        """See the class."""
        moments: Tensor = self.inner(picture.to(self.inner.conv_in.weight.dtype))  # type: ignore[union-attr, arg-type]
        return (moments[:, :CHANNELS].float() - SHIFT) * SCALE


def maker(
    side: Side,
    shapes: dict[str, tuple[int, ...]],
    get: Callable[[str], Tensor],
    label: str,
    problems: Problems,
) -> Callable[[], nn.Module] | None:
    """A maker of the encoder or decoder whose weights are read when it is called; None, and why in `problems`.

    Args:
        side: which one.
        shapes: of the file's tensors, by name.
        get: reads one.
        label: the file's.
        problems: where reasons go.
    """
    stem = "up" if side == "decoder" else "down"
    levels = {name.split(".")[2] for name in shapes if name.startswith(f"{side}.{stem}.")}
    first, last = (shapes.get(f"{side}.{name}.weight", ()) for name in ("conv_in", "conv_out"))
    latents = (first[1] if side == "decoder" else last[0] // 2) if len(first) == len(last) == 4 else 0
    if latents != CHANNELS or len(levels) != 4:
        problems.add(label, f"ae.safetensors: no {side} of FLUX's autoencoder ({CHANNELS} channels, 4 levels)")
        return None
    widths = [shapes.get(f"{side}.{stem}.{i}.block.0.conv2.weight", (0,))[0] for i in range(4)]
    config = {
        "block_out_channels": widths, "layers_per_block": 2, "latent_channels": CHANNELS, "norm_num_groups": 32,
    }  # fmt: skip
    names = {_ours(name): name for name in shapes if name.startswith(f"{side}.")}

    def bare() -> nn.Module:
        with torch.device("meta"):
            return _MAKERS[side](config)

    wanted = {n: tuple(p.shape) for n, p in bare().named_parameters()}
    missing = [n for n in wanted if n not in names]
    wrong = [n for n, shape in wanted.items() if n in names and not _fits(shapes[names[n]], shape)]
    if missing or wrong:
        problems.add(label, f"ae.safetensors: missing or misshapen: {some([*missing, *wrong])}")
        return None

    def build() -> nn.Module:
        module = bare()
        state = {n: get(names[n]) for n in wanted}
        state = {n: t[:, :, 0, 0].contiguous() if t.ndim == 4 and len(wanted[n]) == 2 else t for n, t in state.items()}
        module.load_state_dict(state, strict=True, assign=True)
        return (Decode(module) if side == "decoder" else Encode(module)).eval().requires_grad_(False)

    return build


def _ours(name: str) -> str:
    """FLUX's name of a tensor -> ours."""
    _, *rest = name.split(".")
    if rest[0] in ("up", "down"):
        up = rest[0] == "up"
        level = str(3 - int(rest[1])) if up else rest[1]
        stage = [f"{rest[0]}_blocks", level]
        rest = [*stage, "resnets", *rest[3:]] if rest[2] == "block" else [*stage, f"{rest[0]}samplers", "0", *rest[3:]]
    elif rest[0] == "mid" and rest[1] == "attn_1":
        rest = ["mid_block", "attentions", "0", _ATTENTION[rest[2]], *rest[3:]]
    elif rest[0] == "mid":
        rest = ["mid_block", "resnets", str(int(rest[1][-1]) - 1), *rest[2:]]
    elif rest[0] == "norm_out":
        rest = ["conv_norm_out", *rest[1:]]
    return ".".join(rest).replace("nin_shortcut", "conv_shortcut")


def _fits(theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    """FLUX's attention is made of 1 x 1 convolutions where ours has linear layers."""
    return theirs == ours or (len(ours) == 2 and theirs == (*ours, 1, 1))
