# SPDX-License-Identifier: Apache-2.0
"""Mono2Stereo (arXiv 2503.22262): a Stable Diffusion 2 UNet that sees the source and its warp beside the noise.

The layout is read off the first convolution: 12 channels (source, warped, latent: the authors' dual condition), 8
(source, latent: one stage, left to right) or 9 (latent, mask, warped: warp and inpaint, as Stable Diffusion's
inpainting models). A step is one graph: it ends with the scheduler's arithmetic, next = keep * latent + gain *
prediction, so that any scheduler that is affine in both (DDIM of every prediction type) is two numbers a step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor as Array, nn

from secondeye.export.graphs import Graph, Tensor
from secondeye.export.models.clip_text import TextEncoder
from secondeye.export.models.depth_anything_v2 import load_depth
from secondeye.export.models.diffusion import TRAIN_STEPS, Autoencoder, UNet
from secondeye.export.weights import Problems, checked, read_config, read_tensors
from secondeye.runtime.files import file_hash

LAYOUTS: dict[int, tuple[str, tuple[str, ...]]] = {
    12: ("dual", ("source", "warped", "latent")),
    8: ("one-stage", ("source", "latent")),
    9: ("inpaint", ("latent", "mask", "warped")),
}
LATENT_CHANNELS = 4
FACTOR = 8
LEAST = 16
"""The least side of a latent: 128 pixels."""


class _Encode(nn.Module):
    def __init__(self, vae: Autoencoder, scale: float) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.encoder.fold(vae.quant_conv, scale)

    def forward(self, picture: Array) -> Array:
        return self.encoder(picture.to(self.encoder.conv_in.weight.dtype)).float()


class _Decode(nn.Module):
    def __init__(self, vae: Autoencoder, scale: float) -> None:
        super().__init__()
        self.inverse, self.decoder = vae.post_quant_conv, vae.decoder
        self.inverse.weight.data = self.inverse.weight.data / scale

    def forward(self, latent: Array) -> Array:
        picture = self.decoder(self.inverse(latent.to(self.inverse.weight.dtype)))
        return picture.float().clamp(-1.0, 1.0)


class _Step(nn.Module):
    """The inputs in the layout's order, then timestep, keep, gain; the latent's place in the layout is known."""

    def __init__(self, unet: UNet, layout: tuple[str, ...]) -> None:
        super().__init__()
        self.unet, self.at = unet, layout.index("latent")

    def forward(self, *inputs: Array) -> Array:
        *parts, timestep, keep, gain = inputs
        x = torch.cat(parts, dim=1).to(self.unet.conv_in.weight.dtype)
        prediction = self.unet(x, timestep).float()
        return keep[:, None, None, None] * parts[self.at] + gain[:, None, None, None] * prediction


class _Depth(nn.Module):
    def __init__(self, model: nn.Module, height: int, width: int) -> None:
        super().__init__()
        self.model = model
        self.model.pretrained.fold(height, width)  # type: ignore[union-attr, operator]

    def forward(self, picture: Array) -> Array:
        weight = self.model.pretrained.patch_embed["proj"].weight  # type: ignore[union-attr, index]
        depth: Array = self.model(picture.to(weight.dtype)).float()
        return depth


class _ToPlanes(nn.Module):
    """Pictures as [-1, 1] planes, 0 (mid grey) where nothing landed."""

    def forward(self, picture: Array, holes: Array) -> Array:
        planes = (picture.float() / 255 * 2 - 1).permute(0, 3, 1, 2)
        return planes * (1 - holes.float().clamp(0.0, 1.0))[:, None]


class _ToStart(nn.Module):
    """A schedule's first latent."""

    def forward(self, noise: Array, warped: Array, share: Array) -> Array:
        return share[0] * noise + share[1] * warped


class _ToPixels(nn.Module):
    """Planes as pictures, truncated, as the authors' code does."""

    def forward(self, planes: Array) -> Array:
        return ((planes.clamp(-1.0, 1.0) + 1) / 2 * 255).permute(0, 2, 3, 1).to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The files that a Mono2Stereo bundle is made of.

    Attributes:
        checkpoint: the UNet: torch pickle or safetensors.
        base: a diffusers folder of Stable Diffusion 2: vae, text_encoder, scheduler, unet/config.json.
        depth: Depth Anything V2, either layout of names; None for a bundle without depth.
    """

    checkpoint: Path
    base: Path
    depth: Path | None = None

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file that matters, by role."""
        found = {"unet": self.checkpoint, "vae": _weights(self.base / "vae", "diffusion_pytorch_model")}
        found["text_encoder"] = _weights(self.base / "text_encoder", "model", "pytorch_model")
        for role in ("unet", "vae", "text_encoder"):
            found[f"{role}_config"] = self.base / role / "config.json"
        found["scheduler"] = self.base / "scheduler" / "scheduler_config.json"
        found["tokenizer"] = self.base / "tokenizer" / "vocab.json"
        if self.depth is not None:
            found["depth"] = self.depth
        return {role: file_hash(path) for role, path in found.items() if path.is_file()}


def _weights(folder: Path, *stems: str) -> Path:
    names = [f"{stem}{end}" for end in (".safetensors", ".fp16.safetensors", ".bin") for stem in stems]
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


_UNET_KEYS = ("block_out_channels", "attention_head_dim", "cross_attention_dim", "layers_per_block",
              "norm_num_groups", "norm_eps", "down_block_types", "up_block_types", "out_channels")  # fmt: skip
_VAE_KEYS = ("block_out_channels", "layers_per_block", "latent_channels", "norm_num_groups")
_TEXT_KEYS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size",
              "max_position_embeddings")  # fmt: skip
_SCHEDULER_KEYS = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps")
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True, kw_only=True)
class Mono2Stereo:
    """Loaded sources, ready to make graphs of.

    Attributes:
        layout: ``dual``, ``one-stage`` or ``inpaint``.
        constants: what the runtime needs to know, for the manifest.
        graphs: encoder, unet, decoder and (with depth weights) depth.
    """

    layout: str
    constants: dict[str, Any]
    graphs: tuple[Graph, ...]


def load(sources: Sources, scratch: Path, *, depth_size: tuple[int, int]) -> Mono2Stereo:
    """Read and check every file.

    Args:
        sources: the files.
        scratch: a folder for converted pickles, kept until the graphs are made.
        depth_size: (height, width) of the depth network's input, multiples of 14.

    Raises:
        ModelFormatError: one message with everything that is wrong with any of the files.
    """
    problems = Problems()
    unet, channels, context = _load_unet(sources, scratch, problems)
    vae, scale = _load_vae(sources.base, scratch, problems)
    prompt = _empty_prompt(sources.base, scratch, problems)
    scheduler = _load_scheduler(sources.base, problems)
    depth = None
    if sources.depth is not None:
        tensors = read_tensors(sources.depth, scratch, problems)
        depth = load_depth(tensors, sources.depth.name, problems) if tensors else None
    if prompt is not None and unet is not None and prompt.shape[-1] != context:
        problems.add("text_encoder", f"gives {prompt.shape[-1]} channels where the UNet takes {context}")
    problems.tell()
    assert unet is not None
    assert vae is not None
    assert prompt is not None
    layout, order = LAYOUTS[channels]

    def step() -> nn.Module:
        module = unet()
        with torch.no_grad():
            module.fold(prompt)
        return _Step(module, order)

    builders: dict[str, Callable[[], nn.Module]] = {
        "encoder": lambda: _Encode(vae(), scale),
        "unet": step,
        "decoder": lambda: _Decode(vae(), scale),
    }
    if depth is not None:
        builders["depth"] = lambda: _Depth(depth(), *depth_size)
    constants = {
        "layout": layout,
        "latent_scale": scale,
        "latent_channels": LATENT_CHANNELS,
        "latent_factor": FACTOR,
        "scheduler": scheduler,
    }
    return Mono2Stereo(layout=layout, constants=constants, graphs=_graphs(builders, order, depth_size))


def step_module(unet: UNet, layout: str = "dual") -> nn.Module:
    """One step of a folded network, with the scheduler's arithmetic."""
    return _Step(unet, next(order for name, order in LAYOUTS.values() if name == layout))


def step_graph(build: Callable[[], nn.Module], layout: str = "dual") -> Graph:
    """The description of one step's graph, at any size."""
    order = next(order for name, order in LAYOUTS.values() if name == layout)
    return _graphs({"encoder": build, "unet": build, "decoder": build}, order, (0, 0))[1]


_LATENT: tuple[Any, ...] = ("batch", LATENT_CHANNELS, "height", "width")
_PIXELS: tuple[Any, ...] = ("batch", ("height", FACTOR), ("width", FACTOR))
_PLANES: tuple[Any, ...] = ("batch", 3, *_PIXELS[1:])
# The first traces, so no length is 1 or equal to another; the second is odd in every way.
_COMMON: dict[str, Any] = {
    "sizes": ({"batch": 2, "height": 16, "width": 24}, {"batch": 1, "height": 17, "width": 21}),
    "least": {"height": LEAST, "width": LEAST},
}


def between() -> tuple[Graph, ...]:
    """What a GPU does between the engines, operation by operation as :mod:`secondeye.runtime.models.mono2stereo`."""
    picture = Tensor(name="picture", dtype="uint8", shape=(*_PIXELS, 3))
    holes = Tensor(name="holes", dtype="uint8", shape=_PIXELS)
    planes = Tensor(name="planes", dtype="float32", shape=_PLANES)
    noise, warped, latent = (Tensor(name=n, dtype="float32", shape=_LATENT) for n in ("noise", "warped", "latent"))
    share = Tensor(name="share", dtype="float32", shape=(2,))
    return (
        Graph(name="to_planes", build=_ToPlanes, inputs=(picture, holes), outputs=(planes,), **_COMMON),
        Graph(name="to_start", build=_ToStart, inputs=(noise, warped, share), outputs=(latent,), **_COMMON),
        Graph(name="to_pixels", build=_ToPixels, inputs=(planes,), outputs=(picture,), **_COMMON),
    )


def _graphs(
    builders: dict[str, Callable[[], nn.Module]], order: tuple[str, ...], depth_size: tuple[int, int]
) -> tuple[Graph, ...]:
    picture = Tensor(name="picture", dtype="float32", shape=_PLANES)
    latent = Tensor(name="latent", dtype="float32", shape=_LATENT)
    parts = [
        Tensor(name=name, dtype="float32", shape=("batch", 1 if name == "mask" else LATENT_CHANNELS, "height", "width"))
        for name in order
    ]
    numbers = [
        Tensor(name=name, dtype=dtype, shape=("batch",))
        for name, dtype in (("timestep", "int64"), ("keep", "float32"), ("gain", "float32"))
    ]
    graphs = [
        Graph(name="encoder", build=builders["encoder"], inputs=(picture,), outputs=(latent,), **_COMMON),
        Graph(
            name="unet",
            build=builders["unet"],
            inputs=(*parts, *numbers),
            outputs=(Tensor(name="next", dtype="float32", shape=latent.shape),),
            steps=TRAIN_STEPS,
            **_COMMON,
        ),
        Graph(name="decoder", build=builders["decoder"], inputs=(latent,), outputs=(picture,), **_COMMON),
    ]
    if "depth" in builders:
        graphs.append(
            Graph(
                name="depth",
                build=builders["depth"],
                inputs=(Tensor(name="picture", dtype="float32", shape=(1, 3, *depth_size)),),
                outputs=(Tensor(name="depth", dtype="float32", shape=(1, *depth_size)),),
                sizes=({},),
            )
        )
    return tuple(graphs)


def _load_unet(sources: Sources, scratch: Path, problems: Problems) -> tuple[Callable[[], UNet] | None, int, int]:
    """(maker, channels of the first convolution, channels of the prompt)."""
    config = read_config(sources.base / "unet" / "config.json", _UNET_KEYS, "unet/config.json", problems)
    label = sources.checkpoint.name
    tensors = read_tensors(sources.checkpoint, scratch, problems)
    if not tensors:
        return None, 0, 0
    first = tensors.get("conv_in.weight")
    channels = int(first.shape[1]) if first is not None and first.ndim == 4 else 0
    if channels not in LAYOUTS:
        got = "no conv_in.weight" if first is None else f"conv_in.weight of {list(first.shape)}"
        takes = ", ".join(f"{n} ({name})" for n, (name, _) in LAYOUTS.items())
        problems.add(label, f"expected a UNet whose first convolution takes {takes} channels, got {got}")
        return None, 0, 0
    if not config:
        return None, 0, 0
    strange = _strange(config)
    if strange:
        problems.add("unet/config.json", strange)
        return None, 0, 0
    maker = checked(lambda: UNet(config, channels), tensors, label, problems)
    return maker, channels, int(config["cross_attention_dim"])


def _strange(config: dict[str, Any]) -> str | None:
    """What this configuration asks for that the module does not do."""
    fixed = {"act_fn": "silu", "flip_sin_to_cos": True, "freq_shift": 0, "center_input_sample": False,
             "downsample_padding": 1, "mid_block_scale_factor": 1, "dual_cross_attention": False,
             "class_embed_type": None, "addition_embed_type": None, "encoder_hid_dim": None, "time_cond_proj_dim": None,
             "resnet_time_scale_shift": "default", "time_embedding_type": "positional",
             "out_channels": LATENT_CHANNELS}  # fmt: skip
    wrong = [f"{key} {config[key]!r}" for key, value in fixed.items() if key in config and config[key] != value]
    blocks = {"CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
    kinds = [*config["down_block_types"], *config["up_block_types"]]
    wrong += [f"block {kind!r}" for kind in kinds if kind not in blocks]
    wrong += _not_counts(config, ("block_out_channels", "attention_head_dim", "layers_per_block"))
    levels = len(config["block_out_channels"]) if isinstance(config["block_out_channels"], list) else 0
    if len(config["down_block_types"]) != levels or len(config["up_block_types"]) != levels:
        wrong.append(f"{len(kinds)} block types for {levels} levels")
    return f"not a Stable Diffusion 2 UNet: {', '.join(wrong)}" if wrong else None


def _not_counts(config: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    """Those that are not whole numbers of a sensible size, or lists of them."""
    wrong = []
    for key in keys:
        values = config[key] if isinstance(config[key], list) else [config[key]]
        most = 16 if key == "layers_per_block" else 8192
        if not 1 <= len(values) <= 8 or not all(type(value) is int and 1 <= value <= most for value in values):
            wrong.append(f"{key} {str(config[key])[:60]}")
    return wrong


def _load_vae(base: Path, scratch: Path, problems: Problems) -> tuple[Callable[[], Autoencoder] | None, float]:
    config = read_config(base / "vae" / "config.json", _VAE_KEYS, "vae/config.json", problems)
    path = _weights(base / "vae", "diffusion_pytorch_model")
    tensors = read_tensors(path, scratch, problems)
    if not tensors or not config:
        return None, 0.0
    strange = _not_counts(config, ("block_out_channels", "layers_per_block", "norm_num_groups"))
    if strange:
        problems.add("vae/config.json", f"not an autoencoder's: {', '.join(strange)}")
        return None, 0.0
    if config["latent_channels"] != LATENT_CHANNELS or len(config["block_out_channels"]) != 4:
        problems.add("vae/config.json", "expected 4 latent channels and 4 levels (a factor of 8)")
        return None, 0.0
    renamed = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if "attentions" in parts and parts[-2] in _OLD_ATTENTION:
            parts[-2] = _OLD_ATTENTION[parts[-2]]
        renamed[".".join(parts)] = tensor
    scale = config.get("scaling_factor", 0.18215)
    if not _is_number(scale) or not 0 < scale < 100:
        problems.add("vae/config.json", f"expected a scaling_factor over 0, got {str(scale)[:60]}")
        return None, 0.0
    return checked(lambda: Autoencoder(config), renamed, path.name, problems), scale


def _empty_prompt(base: Path, scratch: Path, problems: Problems) -> Array | None:
    """The embedding [1, 2, C] of the empty prompt: its two tokens are the beginning and the end."""
    config = read_config(base / "text_encoder" / "config.json", _TEXT_KEYS, "text_encoder/config.json", problems)
    path = _weights(base / "text_encoder", "model", "pytorch_model")
    label = f"text_encoder/{path.name}"
    tensors = read_tensors(path, scratch / "text_encoder", problems)
    if not tensors or not config:
        return None
    named = {n.removeprefix("text_model."): t for n, t in tensors.items() if not n.endswith("position_ids")}
    maker = checked(lambda: TextEncoder(config), named, label, problems)
    count = config["vocab_size"]
    if type(count) is not int:
        problems.add("text_encoder/config.json", f"expected a vocab_size, got {str(count)[:60]}")
        return None
    vocabulary = base / "tokenizer" / "vocab.json"
    tokens = [count - 2, count - 1]
    if vocabulary.is_file():
        try:
            words = json.loads(vocabulary.read_text("utf-8"))
            tokens = [words.get("<|startoftext|>", tokens[0]), words.get("<|endoftext|>", tokens[1])]
        except (OSError, ValueError, RecursionError, AttributeError):
            problems.add("tokenizer/vocab.json", "not a table of tokens")
            return None
    if not all(type(token) is int and 0 <= token < count for token in tokens):
        told = f"its first and last token are {tokens} where the text encoder has {count}"
        problems.add("tokenizer/vocab.json", told)
        return None
    if maker is None:
        return None
    with torch.inference_mode():
        return maker()(torch.tensor([tokens])).clone()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _load_scheduler(base: Path, problems: Problems) -> dict[str, Any]:
    """The scheduler's table and conventions: cumulated alphas as diffusers computes them, in float32."""
    label = "scheduler/scheduler_config.json"
    config = read_config(base / "scheduler" / "scheduler_config.json", _SCHEDULER_KEYS, label, problems)
    if not config:
        return {}
    count, kind = config["num_train_timesteps"], config["beta_schedule"]
    prediction, spacing = config.get("prediction_type", "epsilon"), config.get("timestep_spacing", "leading")
    ends, offset = (config["beta_start"], config["beta_end"]), config.get("steps_offset", 0)
    wrong = []
    if count != TRAIN_STEPS or kind not in ("scaled_linear", "linear"):
        wrong.append(f"expected {TRAIN_STEPS} linear or scaled_linear steps, got {count!r} {kind!r}")
    if prediction not in ("v_prediction", "epsilon", "sample"):
        wrong.append(f"expected prediction_type v_prediction, epsilon or sample, got {prediction!r}")
    if spacing not in ("leading", "trailing"):
        wrong.append(f"expected timestep_spacing leading or trailing, got {spacing!r}")
    if not all(_is_number(end) for end in ends) or not 0 < ends[0] <= ends[1] < 1:
        wrong.append(f"expected 0 < beta_start <= beta_end < 1, got {ends[0]!r} and {ends[1]!r}")
    if type(offset) is not int or not 0 <= offset < 100:
        wrong.append(f"expected steps_offset 0 to 99, got {offset!r}")
    # What would change the arithmetic of a step, of which there is one here.
    others = ("trained_betas", "clip_sample", "thresholding", "rescale_betas_zero_snr")
    wrong += [f"{key} {str(config[key])[:60]} is not known here" for key in others if config.get(key)]
    if wrong:
        problems.add(label, "; ".join(wrong))
        return {}
    power = 0.5 if kind == "scaled_linear" else 1.0
    first, last = float(ends[0]) ** power, float(ends[1]) ** power
    betas = torch.linspace(first, last, count, dtype=torch.float32) ** (1 / power)
    alphas = torch.cumprod(1.0 - betas, dim=0)
    return {
        "alphas": [float(np.float32(a)) for a in alphas],
        "final_alpha": 1.0 if config.get("set_alpha_to_one", True) else float(alphas[0]),
        "prediction": prediction,
        "spacing": spacing,
        "offset": offset,
    }
