# SPDX-License-Identifier: Apache-2.0
"""An SGT bundle from a tiny random checkpoint of the real files' form, held against the recipe stated plainly."""

import itertools
import json
import shutil
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("torch", reason="building needs torch (pip install -e '.[dev-export]')")
pytest.importorskip(
    "diffusers", reason="the reference of the autoencoder is diffusers (pip install -e '.[dev-export]')"
)
pytest.importorskip("transformers", reason="building needs transformers (pip install -e '.[dev-export]')")
pytest.importorskip("onnxscript", reason="building needs onnxscript (pip install -e '.[dev-export]')")
pytestmark = [pytest.mark.filterwarnings("ignore")]

import sgt
import torch

from secondeye.export.build_engine import build_sgt
from secondeye.runtime.errors import InvalidInputError, ModelFormatError, ResourceLimitError
from secondeye.runtime.models import sgt as runtime

WORDS = [0, 4, 5, 6, 1]


@pytest.fixture(scope="module")
def tiny(sgt_builds):
    return sgt_builds[1]


@pytest.fixture(scope="module")
def built(sgt_builds):
    """The folder of one of sgt.BUNDLES, or what sgt.errors gives for a precision."""
    return lambda name: sgt_builds[0][name].result()


@pytest.fixture(scope="module")
def bundle(built):
    return built("bundle")


def picture(height=90, width=160):
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), np.uint8)


def prepared(model, pixels):
    """The thumbnail's patches and their places, as the recipe has them."""
    from PIL import Image

    height, width = model.thumbnail_size(*pixels.shape[:2])
    small = (
        np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1
    )
    patches, place = [], []
    for i in range(height // 14):
        for j in range(width // 14):
            patches.append(small[14 * i : 14 * i + 14, 14 * j : 14 * j + 14].reshape(-1))
            place.append(16 * i + j)
    return torch.tensor(np.array(patches)), torch.tensor(place)


def reference(tiny, model, pixels, steps, guidance, image_guidance, seed):
    """The whole chain by the recipe: one packed sequence for every evaluation."""
    _, state, vae = tiny
    with torch.inference_mode():
        vit = sgt.vit_tokens(state, *prepared(model, pixels))
        height, width = model.map_size(*pixels.shape[:2])
        spots = torch.tensor([64 * i + j for i in range(height // 16) for j in range(width // 16)])
        x = torch.tensor(np.random.default_rng(seed).standard_normal((len(spots), 64)).astype(np.float32))
        u = torch.linspace(1, 0, steps + 1)
        times = 3.0 * u / (1 + 2.0 * u)
        for now, then in itertools.pairwise(times):
            v = sgt.velocity(state, vit, WORDS, x, float(now), spots)
            if guidance > 1:
                alone = sgt.velocity(state, vit, None, x, float(now), spots)
                pushed = alone + guidance * (v - alone)
                v = pushed * (v.norm(dim=1, keepdim=True) / (pushed.norm(dim=1, keepdim=True) + 1e-8)).clamp(0, 1)
                if image_guidance > 1:
                    unseen = sgt.velocity(state, None, WORDS, x, float(now), spots)
                    v = unseen + image_guidance * (v - unseen)
            x = x - v * (now - then)
        rows, columns = height // 16, width // 16
        latent = x.view(rows, columns, 2, 2, 16)
        latent = torch.einsum("hwpqc->chpwq", latent).reshape(1, 16, 2 * rows, 2 * columns)
        planes = vae.decode(latent / 0.3611 + 0.1159).sample[0].clamp(-1, 1)
    return x.numpy(), (planes.permute(1, 2, 0).numpy() + 1) * 127.5


def test_sizes_are_those_of_the_authors_data_code(bundle):
    model = runtime.SgtBagel(bundle)
    thumbnails = {(1080, 1920): (126, 224), (1024, 1024): (224, 224), (480, 640): (168, 224), (858, 2048): (98, 224)}
    for size, want in thumbnails.items():
        assert model.thumbnail_size(*size) == want
    model.constants["size"] = 1024
    maps = {(1080, 1920): (576, 1024), (512, 512): (512, 512), (480, 640): (512, 688), (858, 2048): (432, 1024)}
    for size, want in maps.items():
        assert model.map_size(*size) == want


def test_every_stage_equals_the_recipe(tiny, bundle):
    model = runtime.SgtBagel(bundle)
    pixels = picture()
    patches, place = prepared(model, pixels)
    with torch.inference_mode():
        vit = sgt.vit_tokens(tiny[1], patches, place)
        tokens = model.tokens(pixels)
        np.testing.assert_allclose(tokens[0], vit.numpy(), atol=2e-5)
        spots = np.array([0, 1, 2, 64, 65, 66])
        latents = np.random.default_rng(1).standard_normal((6, 64)).astype(np.float32)
        context, now = model.context(tokens), 3 * 0.7 / (1 + 2 * 0.7)  # the fourth of ten steps
        for contexts in (("whole",), ("whole", "untold"), ("whole", "untold", "unseen")):
            got = model.velocity(latents, (3, 10), spots, context, contexts)
            assert len(got) == len(contexts)
            for flow, sight, words in zip(got, (vit, vit, None), (WORDS, None, WORDS), strict=False):
                want = sgt.velocity(tiny[1], sight, words, torch.tensor(latents), now, torch.tensor(spots))
                np.testing.assert_allclose(flow, want.numpy(), atol=3e-5)


@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize("guidance", [(1.0, 1.0), (4.0, 1.0), (4.0, 2.0)])
def test_picture_to_map_equals_the_recipe(tiny, bundle, steps, guidance):
    model = runtime.SgtBagel(bundle)
    pixels = picture()
    _, want = reference(tiny, model, pixels, steps, *guidance, seed=5)
    calls = []
    whole = model.run
    model.run = lambda engine, **inputs: (
        calls.append((engine, len(next(iter(inputs.values()))))) or whole(engine, **inputs)
    )
    got = model.colour_map(pixels, steps=steps, guidance=guidance[0], image_guidance=guidance[1], seed=5)
    assert got.shape == want.shape
    assert (np.abs(got - want) <= 1).mean() > 0.999
    batch = 1 + sum(scale > 1 for scale in guidance)
    assert [call for call in calls if call[0] == "flow_0"] == [("flow_0", batch)] * steps  # one call of a step


def test_weights_that_two_graphs_have_lie_in_the_bundle_once(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    engines, shared = manifest["engines"], manifest["constants"]["shared"]
    assert engines["prefill_0"]["data"] == engines["flow_0"]["data"]
    assert not (bundle / "prefill_0.onnx.data").exists()
    # All of its weights but the last layer's, which are not used, are the understanding half of the flow's.
    assert shared["prefill_0"] > 0.9 * 4 * (64 * (64 + 64 + 64 + 64) + 3 * 64 * 96)
    plan = runtime.plan_memory(runtime.read_bundle(bundle))
    assert plan.in_turn < plan.whole
    (bundle / "flow_0.onnx.data").rename(bundle / "aside")
    with pytest.raises(ModelFormatError, match=r"flow_0\.onnx\.data is missing; build"):
        runtime.SgtBagel(bundle)
    (bundle / "aside").rename(bundle / "flow_0.onnx.data")


def test_guidance_out_of_range_is_one_sentence(bundle):
    model = runtime.SgtBagel(bundle)
    with pytest.raises(InvalidInputError, match=r"steps 1 to 50 and guidance 1 to 20, got 51, 1\.0 and 1\.0"):
        model.colour_map(picture(), steps=51)
    with pytest.raises(InvalidInputError, match="needs guidance by the instruction"):
        model.colour_map(picture(), image_guidance=2.0)


def test_every_time_of_every_number_of_steps_is_folded():
    times = runtime.moments(50)
    assert len(times) == 774
    assert times == sorted(times)
    assert all(1 - Fraction(k, steps) in set(times) for steps in range(1, 51) for k in range(steps))


def test_layers_may_be_cut_into_any_graphs(bundle, built):
    one, two = runtime.SgtBagel(bundle), runtime.SgtBagel(built("cut"))
    assert (one.stages, two.stages) == (1, 2)
    maps = [model.colour_map(picture(), steps=2, guidance=2.0) for model in (one, two)]
    assert np.abs(maps[0].astype(int) - maps[1]).max() <= 1


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 2e-2), ("fp16", 2e-2), ("int8", 3e-2)])
def test_precisions_report_their_error(built, bundle, precision, bound):
    found = built(precision)
    for error, _ in found.values():
        assert 0 < error["relative_rms"] <= bound == error["bound"]
    whole = json.loads((bundle / "manifest.json").read_text())["constants"]["shared"]["prefill_0"]
    assert found["prefill_0"][1] < 0.8 * whole


def test_a_layer_like_the_one_before_takes_its_graph_and_is_the_same_to_the_byte(tiny, tmp_path, monkeypatch):
    from secondeye.export import traced
    from secondeye.export.graphs import make_graph
    from secondeye.export.models import sgt_bagel

    monkeypatch.setitem(sgt.LLM, "num_hidden_layers", 4)
    sgt.checkpoint(tmp_path / "four")
    graphs = {g.name: g for g in sgt_bagel.load(tmp_path / "four", instruction=sgt.TEXT, graph_bytes=1).graphs}
    monkeypatch.setattr(traced, "_templates", {})
    runs = []
    whole = traced._traced
    monkeypatch.setattr(traced, "_traced", lambda graph, module: runs.append(graph.name) or whole(graph, module))
    for precision in ("int4", "fp32"):
        for name in ("prefill_0", "prefill_1", "prefill_2", "prefill_3"):
            make_graph(graphs[name], precision, tmp_path / f"{name}.onnx", lambda step: None)
    assert runs == ["prefill_0", "prefill_1", "prefill_3"]
    traced._templates.clear()
    (tmp_path / "anew").mkdir()
    make_graph(graphs["prefill_2"], "fp32", tmp_path / "anew" / "prefill_2.onnx", lambda step: None)
    assert runs[3:] == ["prefill_2"]
    for file in ("prefill_2.onnx", "prefill_2.onnx.data"):
        assert (tmp_path / "anew" / file).read_bytes() == (tmp_path / file).read_bytes()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_packed_as_onnx_runtime_packs_them(bits):
    from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits

    from secondeye.export.quantise import packed_rows

    weight = torch.randn(50, 100, generator=torch.Generator().manual_seed(1))
    weight[3, 32:64] = 0
    values, scales = packed_rows(weight, bits)
    padded = np.zeros((128, 50), np.float32)
    padded[:100] = weight.numpy().T
    want, factors = np.zeros((50, 4, 4 * bits), np.uint8), np.zeros((50, 4), np.float32)
    zeros = np.zeros((50, 4), np.uint8)
    {4: quantize_matmul_4bits, 8: quantize_matmul_8bits}[bits](want, padded, factors, zeros, 32, 50, 128, True)
    np.testing.assert_array_equal(scales, factors)
    np.testing.assert_array_equal(values, want)


def test_a_bfloat16_checkpoint_loses_nothing_in_bf16(tmp_path):
    from safetensors.torch import load, save_file

    from secondeye.export.graphs import make_graph
    from secondeye.export.models import sgt_bagel

    sgt.checkpoint(tmp_path / "half")
    state = load((tmp_path / "half" / "ema.safetensors").read_bytes())  # no mapping of what is written over below
    save_file({n: t.to(torch.bfloat16) for n, t in state.items()}, tmp_path / "half" / "ema.safetensors")
    model = sgt_bagel.load(tmp_path / "half", instruction=sgt.TEXT, size=128)
    prefill = next(g for g in model.graphs if g.name == "prefill_0")
    assert make_graph(prefill, "bf16", tmp_path / "prefill.onnx", lambda step: None)["relative_rms"] < 1e-6


def test_int4_stages_are_loaded_in_turn_where_not_all_fit(built, monkeypatch):
    folder = built("int4")
    engines = json.loads((folder / "manifest.json").read_text())["engines"]
    errors = {name: engine["error"]["relative_rms"] for name, engine in engines.items()}
    assert all(0 < error <= 0.3 for name, error in errors.items() if name != "decoder")
    assert errors["vit"] < 0.03  # which keeps eight bits
    told = []
    want = runtime.SgtBagel(folder, told=told.append)
    assert want.plan.keeps_all
    monkeypatch.setattr(runtime, "available_bytes", lambda: (want.plan.whole + want.plan.in_turn) // 2)
    model = runtime.SgtBagel(folder, told=told.append)
    assert "all engines stay loaded" in told[0]
    assert "stages are loaded in turn" in told[1]
    maps = [one.colour_map(picture(), steps=2, seed=3) for one in (want, model)]
    np.testing.assert_array_equal(*maps)
    assert set(model._engines) == {"decoder"}


def test_the_edit_layout_equals_the_recipe(tiny, built):
    model, pixels = runtime.SgtBagel(built("edit")), picture()
    _, state, vae = tiny
    height, width = model.map_size(*pixels.shape[:2])
    from PIL import Image

    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    planes = torch.tensor(np.asarray(small, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    spots = model.spots(height, width)
    with torch.inference_mode():
        clean = (vae.encode(planes).latent_dist.mean - 0.1159) * 0.3611
        rows, columns = height // 16, width // 16
        clean = torch.einsum("chpwq->hwpqc", clean[0].view(16, rows, 2, columns, 2)).reshape(rows * columns, 64)
        patches, place = prepared(model, np.asarray(small))
        vit = sgt.vit_tokens(state, patches, place)
        np.testing.assert_allclose(model.tokens(pixels)[0], vit.numpy(), atol=2e-5)
        latents = np.random.default_rng(1).standard_normal((len(spots), 64)).astype(np.float32)
        context = model.context(model.tokens(pixels), model.seen(pixels))
        got = model.velocity(latents, (3, 10), spots, context, ("whole", "untold", "unseen"))
        now = 3 * 0.7 / (1 + 2 * 0.7)
        for flow, sights, words in zip(
            got, ((vit, clean), (vit, clean), (None, None)), (WORDS, None, WORDS), strict=True
        ):
            want = sgt.velocity(state, sights[0], words, torch.tensor(latents), now, torch.tensor(spots), sights[1])
            np.testing.assert_allclose(flow, want.numpy(), atol=5e-5)
    assert model.colour_map(pixels, steps=1).shape == (height, width, 3)


def test_the_edit_layout_sees_what_the_authors_data_code_gives(bundle):
    model = runtime.SgtBagel(bundle)
    model.constants |= {"size": 1024, "thumbnail": 980}
    model.edit = True
    seen = {(1080, 1920): (546, 980), (1024, 1024): (980, 980), (512, 512): (518, 518), (480, 640): (518, 686)}
    for size, want in seen.items():
        assert model.thumbnail_size(*size) == want


def test_shards_and_absent_tables_are_read(tiny, tmp_path):
    from safetensors.torch import load, save_file

    from secondeye.export.models import sgt_bagel

    sgt.checkpoint(tmp_path / "shards", shards=3)
    model = sgt_bagel.load(tmp_path / "shards", instruction=sgt.TEXT, size=128)
    assert [g.name for g in model.graphs] == ["vit", "prefill_0", "flow_0", "decoder"]
    shutil.copytree(tiny[0], tmp_path / "bare")
    state = load((tmp_path / "bare" / "ema.safetensors").read_bytes())  # no mapping of what is written over below
    del state["latent_pos_embed.pos_embed"], state["vit_pos_embed.pos_embed"]
    save_file(state, tmp_path / "bare" / "ema.safetensors")
    module = sgt_bagel.load(tmp_path / "bare", instruction=sgt.TEXT, size=128).graphs[0].build()
    table = module.vit_pos_embed.pos_embed
    assert table.shape == (256, 64)
    assert torch.equal(table[0, :16], torch.zeros(16))
    assert torch.allclose(table[1, 0], torch.sin(torch.tensor(1.0)))
    assert torch.allclose(table[16, 32], torch.sin(torch.tensor(1.0)))


def test_transformers_attention_is_ours_without_the_norms():
    from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer, SiglipVisionConfig

    from secondeye.export.models import bagel

    config = SiglipVisionConfig(hidden_size=32, intermediate_size=48, num_attention_heads=2, layer_norm_eps=1e-6)
    config._attn_implementation = "eager"
    theirs = SiglipEncoderLayer(config).eval()
    sizes = bagel.Config(
        hidden=64, layers=1, heads=4, kv_heads=2, inner=96, eps=1e-6, theta=1e4, vocabulary=8, vit_hidden=32,
        vit_layers=1, vit_heads=2, vit_inner=48, vit_eps=1e-6, vit_side=4,
    )  # fmt: skip
    ours = bagel.VitLayer(sizes).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 5, 32)
    with torch.inference_mode():
        want = theirs(x, None)
        want = want[0] if isinstance(want, tuple) else want
        assert torch.allclose(ours(x), want, atol=1e-5)


def test_transformers_qwen_layer_is_an_expert_of_ours():
    from transformers import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP, Qwen3RMSNorm, apply_rotary_pos_emb

    from secondeye.export.models import bagel

    config = Qwen3Config(hidden_size=64, intermediate_size=96, hidden_act="silu")
    mlp, x = Qwen3MLP(config).eval(), torch.randn(1, 5, 64)
    ours = bagel.Mlp(64, 96)
    ours.load_state_dict(mlp.state_dict())
    norm, mine = Qwen3RMSNorm(64, 1e-6), bagel.RMSNorm(64, 1e-6)
    sizes = bagel.Config(
        hidden=64, layers=1, heads=4, kv_heads=2, inner=96, eps=1e-6, theta=1e4, vocabulary=8, vit_hidden=32,
        vit_layers=1, vit_heads=2, vit_inner=48, vit_eps=1e-6, vit_side=4,
    )  # fmt: skip
    cos, sin = bagel.rotary(sizes, torch.arange(5))
    q = torch.randn(1, 4, 5, 16)
    with torch.inference_mode():
        assert torch.allclose(ours(x), mlp(x), atol=1e-6)
        assert torch.allclose(mine(x), norm(x), atol=1e-6)
        want, _ = apply_rotary_pos_emb(q, q, cos[None], sin[None])
        assert torch.allclose(bagel.rotated(q, cos, sin), want, atol=1e-6)


def test_the_command_segments_and_says_what_it_needs_and_got(bundle, cli, tmp_path, read):
    from PIL import Image

    Image.fromarray(picture()).save(tmp_path / "photo.png")
    words = ("--bundle", bundle, "-o", tmp_path / "labels.png", "--steps", 1)
    code, out, told = cli("segment", tmp_path / "photo.png", *words, "--preview", tmp_path / "sheet.png")
    assert code == 0, told
    assert "GiB of memory" in told
    labels = read(tmp_path / "labels.png")
    assert labels.shape == (90, 160)
    assert f"labels.png: {labels.max()} objects, confidence 0." in out
    assert "painted no colour map" in told  # random weights
    assert read(tmp_path / "sheet.png").ndim == 3
    code, _, told = cli("segment", tmp_path / "photo.png", "--bundle", bundle, "-o", tmp_path / "labels.jpg")
    assert code == 2
    assert "16-bit PNG" in told
    assert not (tmp_path / "labels.jpg").exists()
    before, labels = (tmp_path / "photo.png").read_bytes(), tmp_path / "new.png"
    for arguments, problem in (  # none of which waits for the model
        (("-o", tmp_path / "photo.png"), "files of their own"),
        (("-o", labels, "--preview", labels), "files of their own"),
        (("-o", tmp_path / "nowhere" / "new.png"), "does not exist"),
        (("-o", labels, "--preview", tmp_path / "nowhere" / "sheet.png"), "does not exist"),
        (("-o", labels, "--preview", tmp_path / "sheet.xyz"), "cannot tell the format"),
        (("-o", labels, "--seed", -1), "--seed"),
    ):
        code, _, told = cli("segment", tmp_path / "photo.png", "--bundle", bundle, *arguments)
        assert code == 2, arguments
        assert problem in told
        assert "GiB of memory" not in told
    assert not labels.exists()
    assert (tmp_path / "photo.png").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("most_steps", 10**30), ("most_steps", "x"), ("cuts", 1), ("latent_side", None), ("shift", []), ("shared", 7)],
)
def test_constants_of_another_kind_are_refused(bundle, tmp_path, name, value):
    shutil.copytree(bundle, tmp_path / "altered")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["constants"][name] = value
    (tmp_path / "altered" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFormatError, match=f"lacks {name}; build it again"):
        runtime.SgtBagel(tmp_path / "altered")


def test_tensorrt_rtx_builds_every_graph(built):
    pytest.importorskip("tensorrt_rtx", reason="plans need TensorRT-RTX (pip install -e '.[tensorrt-rtx]')")
    folder = built("plans")
    engines = json.loads((folder / "manifest.json").read_text())["engines"]
    assert set(engines) == {"vit", "prefill_0", "flow_0", "decoder"}
    for name, engine in engines.items():
        (plan,) = engine["plans"]
        assert plan["targets"] == ["sm_89"]
        assert (folder / plan["file"]).stat().st_size > 10_000, name
    assert runtime.SgtBagel(folder).colour_map(picture(), steps=1).dtype == np.uint8  # its graphs run on the CPU


def spoilt(tiny, tmp_path, name):
    folder = tmp_path / name
    shutil.copytree(tiny[0], folder)
    return folder


def test_bad_checkpoints_are_one_sentence_and_leave_nothing(tiny, tmp_path):
    from safetensors.torch import load, save_file

    def refused(folder, kind, *said, **changes):
        out = tmp_path / "out"
        with pytest.raises(kind) as caught:
            build_sgt(sgt.request(folder, out, cache=tmp_path / "cache", **changes), lambda piece, step: None)
        text = str(caught.value)
        assert "\n" not in text
        for words in said:
            assert words in text
        assert not out.exists()
        assert not list(tmp_path.glob(".out*"))

    folder = spoilt(tiny, tmp_path, "lacks")
    state = load((folder / "ema.safetensors").read_bytes())  # no mapping of what is written over below
    gone = [n for n in state if ".layers.1." in n and "moe_gen" in n]
    save_file({n: t for n, t in state.items() if n not in gone}, folder / "ema.safetensors")
    refused(folder, ModelFormatError, f"missing tensors: {len(gone)}")
    save_file(state | {"llm2vae.weight": torch.zeros(3, 3)}, folder / "ema.safetensors")
    refused(folder, ModelFormatError, "wrong shapes", "llm2vae.weight [3, 3] where [64, 64]")
    save_file(state | {"llm2vae.bias": torch.full((64,), float("nan"))}, folder / "ema.safetensors")
    refused(folder, ModelFormatError, "llm2vae.bias", "no finite numbers")
    (folder / "ema.safetensors").write_bytes((tiny[0] / "ema.safetensors").read_bytes()[:5000])
    refused(folder, ModelFormatError, "not a whole safetensors file")
    (folder / "ema.safetensors").unlink()
    refused(folder, ModelFormatError, "has none of ema.safetensors, model.safetensors")
    (folder / "ema.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    refused(folder, ModelFormatError, "leads outside its folder")

    folder = spoilt(tiny, tmp_path, "config")
    (folder / "llm_config.json").write_text(json.dumps(sgt.LLM | {"num_key_value_heads": 3}))
    (folder / "vit_config.json").write_text("{}")
    refused(folder, ModelFormatError, "vit_config.json: lacks hidden_size")
    shutil.copy(tiny[0] / "vit_config.json", folder)
    refused(folder, ModelFormatError, "do not fit each other")

    folder = spoilt(tiny, tmp_path, "tokenizer")
    refused(folder, InvalidInputError, "1 to 64 tokens, got 200", instruction="the " * 200)
    refused(folder, InvalidInputError, "multiple of 16", size=100)
    refused(folder, InvalidInputError, "--layout: expected one of trained, edit", layout="both")
    refused(folder, InvalidInputError, "--precision: expected one of fp32, bf16, fp16, int8, int4", precision="int3")
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, ModelFormatError, "its tokenizer cannot be read")


def test_a_bundle_that_does_not_fit_is_refused_before_it_is_loaded(bundle, monkeypatch):
    monkeypatch.setattr(runtime, "available_bytes", lambda: 1 << 20)
    with pytest.raises(ResourceLimitError, match=r"GiB of memory where 0\.0 are free"):
        runtime.SgtBagel(bundle)
