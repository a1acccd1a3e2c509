# SPDX-License-Identifier: Apache-2.0
"""SGT (arXiv 2605.18714) on BAGEL: a picture in, a picture out in which every object has a colour of its own.

Graphs: ``vit`` (patches to tokens), ``prefill_K`` (some layers over picture and instruction: keys and values),
``flow_K`` (some layers of one evaluation of the flow), ``decoder`` (FLUX's, latents to a picture). Two layouts:

- ``trained``, the one that SGT was trained with: [mark, ViT tokens of a 224-pixel thumbnail, mark] [instruction]
  [mark, mark | latents];
- ``edit``, that of the authors' editing script, which SGT was not trained with: the picture's own latents come first
  ([mark, mark | latents], graphs ``encoder`` and ``look_K``), and the ViT sees up to 980 pixels.

Layers are cut into graphs of under 2 GiB, and weights are read tensor by tensor, so the 29 GB file needs one graph's
memory. The instruction, its mask and positions, every rotary table, and the embeddings of all times that 1 to 50 steps
take are folded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor as Array, nn

from secondeye.export.graphs import BOUNDS, Graph, Tensor
from secondeye.export.models import flux_vae
from secondeye.export.models.bagel import (
    GEN,
    PATCH_LATENT,
    POSITIONS,
    UND,
    Config,
    Flow,
    Layer,
    Look,
    Prefill,
    Vit,
    sincos_table,
)
from secondeye.export.weights import Problems, TensorFile, found_tensors, read_config, some
from secondeye.runtime.errors import InvalidInputError, ModelFormatError
from secondeye.runtime.files import file_hash
from secondeye.runtime.models.sgt import MAX_STEPS, moments, shifted

INSTRUCTION = "Segment instances with different colors."
MAX_WORDS = 64
LAYOUTS = {"trained": 224, "edit": 980}
"""What the ViT sees: the greatest side of the picture, pixels, by layout."""
SHIFT = 3.0  # of time, as the authors' scripts have it
GRAPH_BYTES = 2_000_000_000  # of a graph's weights in float32, about
MODEL = "language_model.model."
_LLM_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
             "rms_norm_eps", "rope_theta", "vocab_size")  # fmt: skip
_VIT_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size", "image_size")


@dataclass(frozen=True, kw_only=True)
class SgtBagel:
    """A loaded checkpoint, ready to make graphs of.

    Attributes:
        config: its sizes.
        constants: what the runtime needs to know, for the manifest.
        axes: least and greatest length of each named axis.
        graphs: vit, (encoder, look_0 ...,) prefill_0 ..., flow_0 ..., decoder, in the order in which they run.
    """

    config: Config
    constants: dict[str, Any]
    axes: dict[str, tuple[int, int]]
    graphs: tuple[Graph, ...]


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that matters, by role."""
    files = {f"weights_{i}": path for i, path in enumerate(found_tensors(folder, ("ema", "model")))}
    files |= {f"ae_{i}": path for i, path in enumerate(found_tensors(folder, ("ae",)))}
    for name in (
        "llm_config.json",
        "vit_config.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        files[name] = folder / name
    return {role: file_hash(path) for role, path in files.items() if path.is_file()}


def load(
    folder: Path,
    *,
    instruction: str = INSTRUCTION,
    size: int = 1024,
    layout: str = "trained",
    graph_bytes: int = GRAPH_BYTES,
) -> SgtBagel:
    """Read a checkpoint's configuration, check every tensor's name and shape; graphs read the weights when built.

    Args:
        folder: of BAGEL's files: llm_config.json, vit_config.json, ema.safetensors (or model.safetensors, or an index
            with its shards), ae.safetensors, the tokenizer's files.
        instruction: what the model is told.
        size: the greatest side of the colour map, pixels, a multiple of 16 from 64 to 1024.
        layout: of :data:`LAYOUTS`.
        graph_bytes: of float32 weights that one graph holds, about.

    Raises:
        InvalidInputError: the size or the instruction does not fit.
        ModelFormatError: everything that is wrong with the files.
    """
    if size % 16 or not 64 <= size <= 1024:
        raise InvalidInputError(f"--size: expected a multiple of 16 from 64 to 1024, got {size}.")
    if layout not in LAYOUTS:
        raise InvalidInputError(f"--layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}.")
    problems = Problems()
    config = _config(folder, problems)
    problems.tell()
    assert config is not None
    tensors, autoencoder = TensorFile(folder, "ema", "model"), TensorFile(folder, "ae")
    words, marks = _instruction(folder, instruction, config)
    layer = sum(p.numel() for p in _on_meta(lambda: Layer(config, (UND, GEN))).parameters())
    each = max(1, min(config.layers, graph_bytes // (4 * layer)))
    cuts = [range(i, min(i + each, config.layers)) for i in range(0, config.layers, each)]
    _check_names(config, cuts, tensors, problems)
    sides: tuple[flux_vae.Side, ...] = ("decoder", "encoder") if layout == "edit" else ("decoder",)
    vae = {
        side: flux_vae.maker(side, autoencoder.shapes, autoencoder.get, autoencoder.label, problems) for side in sides
    }
    problems.tell()
    embedding = f"{MODEL}embed_tokens.weight"
    text, ends = tensors.rows(embedding, words)[None], tensors.rows(embedding, marks)[None]

    start = 1 if layout == "edit" else 0
    times = torch.tensor([shifted(u, SHIFT) for u in moments(MAX_STEPS)], dtype=torch.float32)

    def layered(kind: str, layers: range) -> Callable[[], nn.Module]:
        makers: dict[str, Callable[[], nn.Module]] = {
            "prefill": lambda: Prefill(config, layers, text, ends, len(words), start),
            "flow": lambda: Flow(config, layers, ends),
            "look": lambda: Look(config, layers, ends),
        }

        def made() -> nn.Module:
            module = _filled(makers[kind], tensors, config)
            if isinstance(module, Flow) and module.first:
                module.fold_times(times if kind == "flow" else torch.zeros(1))
            return module

        return made

    plain = {side: made for side, made in vae.items() if made is not None}
    plain |= {"vit": lambda: _filled(lambda: Vit(config), tensors, config)}
    shapes = _Shapes(config=config, words=len(words), edit=layout == "edit")
    graphs = tuple(
        shapes.graph(name, layers, plain[name] if layers is None else layered(name.partition("_")[0], layers))
        for name, layers in _order(cuts, edit=layout == "edit")
    )
    most = (LAYOUTS[layout] // config.patch) ** 2
    spots = (size // 16) ** 2
    before = spots + 2 if layout == "edit" else 0
    axes = {
        "batch": (1, 3), "patches": (1, most), "context": (2 * len(words) + 3, 2 * len(words) + 2 + most),
        "past": (1, 2 * len(words) + 2 + most + before), "latents": (1, spots), "height": (2, size // 8),
        "width": (2, size // 8),
    }  # fmt: skip
    if layout == "edit":
        axes |= {"seen": (3, before)}
    constants = {
        "instruction": instruction, "words": len(words), "layers": config.layers, "kv_heads": config.kv_heads,
        "head": config.head, "size": size, "thumbnail": LAYOUTS[layout], "patch": config.patch,
        "vit_side": config.vit_side, "latent_side": config.latent_side, "shift": SHIFT, "layout": layout,
        "most_steps": MAX_STEPS, "cuts": [[c.start, c.stop] for c in cuts],
    }  # fmt: skip
    return SgtBagel(config=config, constants=constants, axes=axes, graphs=graphs)


def _config(folder: Path, problems: Problems) -> Config | None:
    llm = read_config(folder / "llm_config.json", _LLM_KEYS, "llm_config.json", problems)
    vit = read_config(folder / "vit_config.json", _VIT_KEYS, "vit_config.json", problems)
    if not llm or not vit:
        return None
    try:
        # BAGEL leaves SigLIP's last layer out: its own loader takes one off what the file says.
        config = Config(
            hidden=int(llm["hidden_size"]), layers=int(llm["num_hidden_layers"]), heads=int(llm["num_attention_heads"]),
            kv_heads=int(llm["num_key_value_heads"]), inner=int(llm["intermediate_size"]),
            eps=float(llm["rms_norm_eps"]),
            theta=float(llm["rope_theta"]), vocabulary=int(llm["vocab_size"]), vit_hidden=int(vit["hidden_size"]),
            vit_layers=int(vit["num_hidden_layers"]) - 1, vit_heads=int(vit["num_attention_heads"]),
            vit_inner=int(vit["intermediate_size"]), vit_eps=float(vit.get("layer_norm_eps", 1e-6)),
            vit_side=int(vit["image_size"]) // int(vit["patch_size"]), patch=int(vit["patch_size"]),
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        problems.add("llm_config.json, vit_config.json", f"hold something that is no number ({error})")
        return None
    numbers = (
        config.hidden,
        config.layers,
        config.heads,
        config.kv_heads,
        config.inner,
        config.vit_layers,
        config.vit_side,
    )
    if (
        min(numbers) < 1
        or max(numbers) > 1 << 16
        or config.hidden % (4 * config.heads)
        or config.heads % config.kv_heads
    ):
        problems.add("llm_config.json, vit_config.json", "sizes that do not fit each other, or are out of range")
        return None
    return config


def _instruction(folder: Path, text: str, config: Config) -> tuple[list[int], list[int]]:
    """(tokens of the instruction between its marks, the two marks round a picture)."""
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers raises many kinds
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise ModelFormatError(f"{folder}: its tokenizer cannot be read ({reason}).") from error
    names = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
    specials = [tokenizer.convert_tokens_to_ids(name) for name in names]
    if any(token is None or not 0 <= token < config.vocabulary for token in specials) or len(set(specials)) < 4:
        raise ModelFormatError(f"{folder}: its tokenizer lacks some of {', '.join(names)}.")
    words = [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    if not 1 <= len(words) <= MAX_WORDS:
        raise InvalidInputError(f"--instruction: expected 1 to {MAX_WORDS} tokens, got {len(words)}.")
    if max(words) >= config.vocabulary:
        raise ModelFormatError(f"{folder}: its tokenizer knows more words than the model.")
    return [specials[0], *words, specials[1]], [specials[2], specials[3]]


def _on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


def _theirs(name: str) -> str:
    """A parameter's name in the checkpoint."""
    return MODEL + name if name.startswith(("layers.", "norm_moe_gen.")) else name


def _table(name: str, config: Config) -> Array | None:
    """The fixed tables of positions, which a checkpoint may lack."""
    if name == "latent_pos_embed.pos_embed":
        return sincos_table(config.latent_side, config.hidden)
    return sincos_table(config.vit_side, config.hidden) if name == "vit_pos_embed.pos_embed" else None


def _check_names(config: Config, cuts: list[range], tensors: TensorFile, problems: Problems) -> None:
    """Every tensor that the graphs need is there, in its shape."""
    modules = [_on_meta(lambda: Vit(config))]
    marks = torch.zeros(1, 2, config.hidden)
    modules += [_on_meta(lambda c=cut: Flow(config, c, marks)) for cut in cuts]  # type: ignore[misc]
    wanted = {_theirs(n): tuple(p.shape) for module in modules for n, p in module.named_parameters()}
    wanted[f"{MODEL}embed_tokens.weight"] = (config.vocabulary, config.hidden)
    tables = {"latent_pos_embed.pos_embed", "vit_pos_embed.pos_embed"}
    missing = [n for n in wanted if n not in tensors.shapes and n not in tables]
    if missing:
        problems.add(tensors.label, f"missing tensors: {some(missing)}")
    wrong = [
        f"{n} {list(tensors.shapes[n])} where {list(shape)} is expected"
        for n, shape in wanted.items()
        if n in tensors.shapes and tensors.shapes[n] != shape
    ]
    if wrong:
        problems.add(tensors.label, f"wrong shapes: {some(wrong)}")


def _filled(make: Callable[[], nn.Module], tensors: TensorFile, config: Config) -> nn.Module:
    """A module with its weights, read now."""
    module = _on_meta(make)
    state = {}
    for name, _ in module.named_parameters():
        theirs = _theirs(name)
        table = None if theirs in tensors.shapes else _table(name, config)
        state[name] = tensors.get(theirs) if table is None else table
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def _order(cuts: list[range], *, edit: bool) -> list[tuple[str, range | None]]:
    """(name, layers) of every graph, in the order in which they run."""

    def each(kind: str) -> list[tuple[str, range | None]]:
        return [(f"{kind}_{number}", cut) for number, cut in enumerate(cuts)]

    ahead: list[tuple[str, range | None]] = [("encoder", None), *each("look")] if edit else []
    return [("vit", None), *ahead, *each("prefill"), *each("flow"), ("decoder", None)]


def _floats(name: str, *shape: Any) -> Tensor:
    return Tensor(name=name, dtype="float32", shape=shape)


def _places(name: str, axis: str) -> Tensor:
    return Tensor(name=name, dtype="int64", shape=(axis,))


@dataclass(frozen=True, kw_only=True)
class _Shapes:
    """Inputs, outputs and trial sizes of the graphs."""

    config: Config
    words: int
    edit: bool

    def graph(self, name: str, layers: range | None, build: Callable[[], nn.Module]) -> Graph:
        """A graph's description, around the maker of its module."""
        kind = name.partition("_")[0]
        described: dict[str, Any] = getattr(self, f"_{kind}")(layers)
        return Graph(name=name, build=build, bounds=BOUNDS | {"fp16": 2e-2}, **described)

    def _cached(self, layers: range, axis: Any, batch: Any = 1) -> list[Tensor]:
        shape = (len(layers), batch, self.config.kv_heads, axis, self.config.head)
        return [_floats(name, *shape) for name in ("keys", "values")]

    def _vit(self, _: None) -> dict[str, Any]:
        return {
            "inputs": (_floats("patches", 1, "patches", 3 * self.config.patch**2), _places("place", "patches")),
            "outputs": (_floats("tokens", 1, "patches", self.config.hidden),),
            "sizes": ({"patches": 12}, {"patches": 7}),
            "steps": self.config.vit_side**2,
            "least_bits": 8,  # all that the model sees of a picture goes through it, once
        }

    def _encoder(self, _: None) -> dict[str, Any]:
        return {
            "inputs": (_floats("picture", 1, 3, ("height", 8), ("width", 8)),),
            "outputs": (_floats("latent", 1, 16, "height", "width"),),
            "least": {"height": 2, "width": 2},
            "sizes": ({"height": 6, "width": 10}, {"height": 4, "width": 14}),
        }

    def _decoder(self, _: None) -> dict[str, Any]:
        return {
            "inputs": (_floats("latent", 1, 16, "height", "width"),),
            "outputs": (_floats("picture", 1, 3, ("height", 8), ("width", 8)),),
            "least": {"height": 2, "width": 2},
            "sizes": ({"height": 6, "width": 10}, {"height": 4, "width": 14}),
        }

    def _look(self, layers: range) -> dict[str, Any]:
        wide, first, last = self.config.hidden, layers.start == 0, layers.stop == self.config.layers
        state = (_floats("marks", 1, 2, wide), _floats("states", 1, "latents", wide))
        if first:
            state = (_floats("latents", 1, "latents", PATCH_LATENT), _places("spots", "latents"))
        on = () if last else (_floats("next_marks", 1, 2, wide), _floats("next_states", 1, "latents", wide))
        return {
            "inputs": state,
            "outputs": (*on, *self._cached(layers, ("latents", 1, 2))),
            "sizes": ({"latents": 6}, {"latents": 15}),
            "steps": self.config.latent_side**2,
        }

    def _prefill(self, layers: range) -> dict[str, Any]:
        wide, first, last = self.config.hidden, layers.start == 0, layers.stop == self.config.layers
        incoming = _floats("tokens", 1, "patches", wide) if first else _floats("states", 1, "context", wide)
        # What the last layer's keys and values are made of does not look at what went before.
        dead = last and len(layers) == 1
        seen = (
            [replace(t, name=f"seen_{t.name}") for t in self._cached(layers, "seen")] if self.edit and not dead else []
        )
        length: Any = ("patches", 1, 2 * self.words + 2) if first else "context"
        on = () if last else (_floats("next", 1, length, wide),)
        return {
            "inputs": (incoming, *(seen if self.edit and not dead else [])),
            "outputs": (*on, *self._cached(layers, length)),
            "least": {"context": 2 * self.words + 3},
            "sizes": tuple({"patches": n, "context": n + 2 * self.words + 2, "seen": n - 2} for n in (12, 7)),
        }

    def _flow(self, layers: range) -> dict[str, Any]:
        wide, first, last = self.config.hidden, layers.start == 0, layers.stop == self.config.layers
        state: tuple[Tensor, ...] = (_floats("marks", "batch", 2, wide), _floats("states", "batch", "latents", wide))
        if first:
            latents = _floats("latents", "batch", "latents", PATCH_LATENT)
            state = (latents, _places("moment", "batch"), _places("spots", "latents"))
        out: tuple[Tensor, ...] = (_floats("velocity", "batch", "latents", PATCH_LATENT),)
        if not last:
            out = (_floats("next_marks", "batch", 2, wide), _floats("next_states", "batch", "latents", wide))
        others = (_floats("mask", "batch", "past"), _places("position", "batch"))
        return {
            "inputs": (*state, *self._cached(layers, "past", "batch"), *others),
            "outputs": out,
            "sizes": ({"batch": 2, "latents": 6, "past": 9}, {"batch": 3, "latents": 15, "past": 4}),
            "steps": min(POSITIONS, self.config.latent_side**2),
        }
