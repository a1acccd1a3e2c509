# SPDX-License-Identifier: Apache-2.0
"""A tiny BAGEL checkpoint with random weights and the real names, and the recipe stated plainly.

The recipe is the training form: one packed sequence, every token's expert by index, one mask, no cache.
"""

import json

import torch
from torch.nn import functional as F

LLM = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "vocab_size": 40,
}  # fmt: skip
VIT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48, "patch_size": 14,
    "image_size": 224, "layer_norm_eps": 1e-6,
}  # fmt: skip
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
TEXT = "segment the things"
BUNDLES = {
    "bundle": {}, "cut": {"graph_bytes": 1}, "int4": {"precision": "int4"}, "edit": {"layout": "edit"},
    "plans": {"backend": "tensorrt-rtx", "target": "sm_89"},
}  # fmt: skip
"""What test_sgt.py builds of one checkpoint; `graph_bytes` is of a graph's weights, over which its layers are cut."""
D, HEADS, KV, HEAD = 64, 4, 2, 16
LATENT_SIDE, VIT_SIDE = 64, 16


def tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate([*SPECIALS, "segment", "the", "things", "[UNK]"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(SPECIALS)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


def weights(seed=0):
    """Every tensor of ema.safetensors, by its real name."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def linear(name, out, into, bias=True):
        state[f"{name}.weight"] = torch.randn(out, into, generator=generator) / into**0.5
        if bias:
            state[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1

    def norm(name, width, bias=False):
        state[f"{name}.weight"] = 1 + 0.2 * torch.randn(width, generator=generator)
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)

    model = "language_model.model"
    state[f"{model}.embed_tokens.weight"] = torch.randn(LLM["vocab_size"], D, generator=generator)
    linear("language_model.lm_head", LLM["vocab_size"], D, bias=False)
    for i in range(LLM["num_hidden_layers"]):
        for e in ("", "_moe_gen"):
            at = f"{model}.layers.{i}"
            linear(f"{at}.self_attn.q_proj{e}", D, D)
            linear(f"{at}.self_attn.k_proj{e}", KV * HEAD, D)
            linear(f"{at}.self_attn.v_proj{e}", KV * HEAD, D)
            linear(f"{at}.self_attn.o_proj{e}", D, D, bias=False)
            norm(f"{at}.self_attn.q_norm{e}", HEAD)
            norm(f"{at}.self_attn.k_norm{e}", HEAD)
            for part, out, into in (("gate", 96, D), ("up", 96, D), ("down", D, 96)):
                linear(f"{at}.mlp{e}.{part}_proj", out, into, bias=False)
            norm(f"{at}.input_layernorm{e}", D)
            norm(f"{at}.post_attention_layernorm{e}", D)
    for e in ("", "_moe_gen"):
        norm(f"{model}.norm{e}", D)
    linear("time_embedder.mlp.0", D, 256)
    linear("time_embedder.mlp.2", D, D)
    linear("vae2llm", D, 64)
    linear("llm2vae", 64, D)
    state["latent_pos_embed.pos_embed"] = 0.3 * torch.randn(LATENT_SIDE**2, D, generator=generator)
    state["vit_pos_embed.pos_embed"] = 0.3 * torch.randn(VIT_SIDE**2, D, generator=generator)
    wide = VIT["hidden_size"]
    vision = "vit_model.vision_model"
    linear(f"{vision}.embeddings.patch_embedding", wide, 588)
    state[f"{vision}.embeddings.position_embedding.weight"] = torch.randn(VIT_SIDE**2, wide, generator=generator)
    for i in range(VIT["num_hidden_layers"] - 1):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{vision}.encoder.layers.{i}.self_attn.{part}", wide, wide)
        linear(f"{vision}.encoder.layers.{i}.mlp.fc1", 48, wide)
        linear(f"{vision}.encoder.layers.{i}.mlp.fc2", wide, 48)
        norm(f"{vision}.encoder.layers.{i}.layer_norm1", wide, bias=True)
        norm(f"{vision}.encoder.layers.{i}.layer_norm2", wide, bias=True)
    norm(f"{vision}.post_layernorm", wide, bias=True)
    linear("connector.fc1", D, wide)
    linear("connector.fc2", D, D)
    return state


def autoencoder():
    """diffusers' FLUX autoencoder, tiny, and its state by the names of ae.safetensors."""
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=[32, 32, 64, 64], layers_per_block=2, latent_channels=16, norm_num_groups=32,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()  # fmt: skip
    names = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    state = {}
    for name, value in vae.state_dict().items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        if "mid_block.attentions.0." in new:
            for ours, theirs in names.items():
                new = new.replace(f"mid_block.attentions.0.{ours}.", f"mid.attn_1.{theirs}.")
            value = value[:, :, None, None] if value.ndim == 2 else value
        parts = new.split(".")
        if parts[1] in ("down_blocks", "up_blocks"):
            up = parts[1] == "up_blocks"
            level = str(3 - int(parts[2])) if up else parts[2]
            rest = ["block", *parts[4:]] if parts[3] == "resnets" else ["upsample" if up else "downsample", *parts[5:]]
            parts = [parts[0], "up" if up else "down", level, *rest]
        state[".".join(parts)] = value.contiguous()
    return vae, state


def checkpoint(folder, *, shards=1):
    """The folder of a tiny checkpoint; gives (state, vae)."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    (folder / "llm_config.json").write_text(json.dumps(LLM))
    (folder / "vit_config.json").write_text(json.dumps(VIT))
    state = weights()
    if shards == 1:
        save_file(state, folder / "ema.safetensors")
    else:
        places = {name: f"ema-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(state)}
        for file in set(places.values()):
            save_file({n: t for n, t in state.items() if places[n] == file}, folder / file)
        (folder / "ema.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    vae, ae = autoencoder()
    save_file(ae, folder / "ae.safetensors")
    tokenizer(folder)
    return state, vae


def request(folder, out, **changes):
    from secondeye.export.build_engine import SgtRequest

    fields = {"checkpoint": folder, "out": out, "cache": folder.parent / "cache", "size": 128, "instruction": TEXT}
    return SgtRequest(**(fields | changes))


def build(folder, name, changes):
    """Builds a bundle beside the checkpoint; gives its folder."""
    from unittest import mock

    from secondeye.export.build_engine import build_sgt
    from secondeye.export.models import sgt_bagel

    changes = dict(changes)
    defaults = sgt_bagel.load.__kwdefaults__
    if "graph_bytes" in changes:
        defaults = defaults | {"graph_bytes": changes.pop("graph_bytes")}
    environment = {"SECONDEYE_CACHE": str(folder.parent / "own cache")}
    with mock.patch.object(sgt_bagel.load, "__kwdefaults__", defaults), mock.patch.dict("os.environ", environment):
        return build_sgt(request(folder, folder.parent / name, **changes), lambda piece, step: None)


def errors(folder, precision, names=("prefill_0", "flow_0")):
    """What graphs in a precision say of themselves, and the bytes of their weights, by name."""
    from secondeye.export.graphs import make_graph
    from secondeye.export.models import sgt_bagel

    graphs = {g.name: g for g in sgt_bagel.load(folder, instruction=TEXT, size=128).graphs}
    made, found = folder.parent / precision, {}
    made.mkdir()
    for name in names:
        told = make_graph(graphs[name], precision, made / f"{name}.onnx", lambda step: None)
        found[name] = told, (made / f"{name}.onnx.data").stat().st_size
    return found


# ---- the recipe --------------------------------------------------------------------------------------------------


def rms(x, weight):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight


def vit_tokens(state, patches, place):
    """patches [N, 588] -> tokens [N, D]."""
    at = "vit_model.vision_model"

    def layer(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    x = layer(f"{at}.embeddings.patch_embedding", patches) + state[f"{at}.embeddings.position_embedding.weight"][place]
    for i in range(VIT["num_hidden_layers"] - 1):
        one = f"{at}.encoder.layers.{i}"
        n = norm(f"{one}.layer_norm1", x)
        q, k, v = (layer(f"{one}.self_attn.{p}_proj", n).view(-1, 2, 16).transpose(0, 1) for p in "qkv")
        scores = torch.softmax(q @ k.transpose(1, 2) / 4.0, -1)
        x = x + layer(f"{one}.self_attn.out_proj", (scores @ v).transpose(0, 1).reshape(len(x), -1))
        h = F.gelu(layer(f"{one}.mlp.fc1", norm(f"{one}.layer_norm2", x)), approximate="tanh")
        x = x + layer(f"{one}.mlp.fc2", h)
    x = layer("connector.fc2", F.gelu(layer("connector.fc1", norm(f"{at}.post_layernorm", x)), approximate="tanh"))
    return x + state["vit_pos_embed.pos_embed"][place]


def velocity(state, vit, words, latents, time, spots, seen=None):
    """The flow at latents [T, 64]; vit or words None leaves the picture or the instruction out.

    seen: the picture's own latents [T, 64], in the edit layout.
    """
    embed = state["language_model.model.embed_tokens.weight"]
    start, end = embed[2][None], embed[3][None]

    def rows(x, moment):
        angle = moment * torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(128) / 128)[None]
        both = torch.cat([angle.cos(), angle.sin()], 1)
        stamp = F.linear(both, state["time_embedder.mlp.0.weight"], state["time_embedder.mlp.0.bias"])
        stamp = F.linear(F.silu(stamp), state["time_embedder.mlp.2.weight"], state["time_embedder.mlp.2.bias"])
        x = F.linear(x, state["vae2llm.weight"], state["vae2llm.bias"]) + stamp
        return x + state["latent_pos_embed.pos_embed"][spots]

    noise = rows(latents, time)
    blocks = [] if seen is None else [("full", torch.cat([start, rows(seen, 0.0), end]))]
    if vit is not None:
        blocks.append(("full", torch.cat([start, vit, end])))
    if words is not None:
        blocks.append(("causal", embed[words]))
    blocks.append(("noise", torch.cat([start, noise, end])))
    x = torch.cat([block for _, block in blocks])
    kind = torch.cat([torch.full((len(block),), i) for i, (_, block) in enumerate(blocks)])
    position, at = [], 0
    for mode, block in blocks:
        position += list(range(at, at + len(block))) if mode == "causal" else [at] * len(block)
        at += len(block) if mode == "causal" else 1
    i = torch.arange(len(x))
    sees = i[None] <= i[:, None]
    for number, (mode, _) in enumerate(blocks):
        inside = kind == number
        if mode != "causal":
            sees |= inside[:, None] & inside[None]
        if mode == "noise":
            sees &= ~(inside[None] & ~inside[:, None])
    last = len(blocks) - 1
    clean = [] if seen is None else [torch.nonzero(kind == 0).flatten()[1:-1]]
    noisy = torch.nonzero(kind == last).flatten()[1:-1]
    gen = torch.cat([*clean, noisy])
    und = torch.tensor([k for k in range(len(x)) if k not in set(gen.tolist())])
    frequency = 10000.0 ** (-torch.arange(0, HEAD, 2).double() / HEAD)
    angle = torch.tensor(position)[:, None].double() * frequency
    cos, sin = (f(torch.cat([angle, angle], 1)).float()[:, None] for f in (torch.cos, torch.sin))

    def turned(v):
        return v * cos + torch.cat([-v[..., HEAD // 2 :], v[..., : HEAD // 2]], -1) * sin

    for layer in range(LLM["num_hidden_layers"]):
        name = f"language_model.model.layers.{layer}"

        def both(function, width, x=x):
            out = torch.zeros(len(x), *width)
            out[und], out[gen] = function(und, ""), function(gen, "_moe_gen")
            return out

        def projected(part, heads, name=name, x=x):
            def one(index, e):
                n = rms(x[index], state[f"{name}.input_layernorm{e}.weight"])
                y = F.linear(
                    n, state[f"{name}.self_attn.{part}_proj{e}.weight"], state[f"{name}.self_attn.{part}_proj{e}.bias"]
                )
                y = y.view(-1, heads, HEAD)
                return y if part == "v" else rms(y, state[f"{name}.self_attn.{part}_norm{e}.weight"])

            return both(one, (heads, HEAD))

        q, k, v = turned(projected("q", HEADS)), turned(projected("k", KV)), projected("v", KV)
        k, v = (t.repeat_interleave(HEADS // KV, 1) for t in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, k) / HEAD**0.5
        scores = torch.softmax(scores.masked_fill(~sees[None], float("-inf")), -1)
        mixed = torch.einsum("hij,jhd->ihd", scores, v).reshape(len(x), -1)
        x = x + both(
            lambda index, e, m=mixed, n=name: F.linear(m[index], state[f"{n}.self_attn.o_proj{e}.weight"]), (D,)
        )

        def mlp(index, e, name=name, x=x):
            n = rms(x[index], state[f"{name}.post_attention_layernorm{e}.weight"])
            gate, up = (F.linear(n, state[f"{name}.mlp{e}.{p}_proj.weight"]) for p in ("gate", "up"))
            return F.linear(F.silu(gate) * up, state[f"{name}.mlp{e}.down_proj.weight"])

        x = x + both(mlp, (D,))
    out = rms(x[noisy], state["language_model.model.norm_moe_gen.weight"])
    return F.linear(out, state["llm2vae.weight"], state["llm2vae.bias"])
