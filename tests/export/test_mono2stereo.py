# SPDX-License-Identifier: Apache-2.0
"""A whole bundle from tiny random checkpoints of the real files' form, held against diffusers in PyTorch."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="building needs torch (pip install -e '.[dev-export]')")
pytest.importorskip("diffusers", reason="the reference is diffusers (pip install -e '.[dev-export]')")
pytest.importorskip("onnxscript", reason="building needs onnxscript (pip install -e '.[dev-export]')")
# These packages warn about themselves and each other.
pytestmark = [pytest.mark.filterwarnings("ignore")]

WHOLE = {
    "block_out_channels": [32, 64, 64, 64], "attention_head_dim": [2, 4, 4, 4], "cross_attention_dim": 32,
    "layers_per_block": 2, "norm_num_groups": 32, "norm_eps": 1e-5, "use_linear_projection": True, "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}  # fmt: skip
# Fewer of the same blocks: what is exported, where time goes with their number.
UNET = WHOLE | {
    "block_out_channels": [32, 64], "attention_head_dim": [2, 4], "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}  # fmt: skip
# And on one level alone.
LEVEL = UNET | {
    "block_out_channels": [32], "attention_head_dim": [2], "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
}  # fmt: skip
VAE = {
    "block_out_channels": [32, 32, 64, 64], "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 32,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip

BETWEEN = {"to_planes", "to_start", "to_pixels"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The files of a tiny Mono2Stereo, and diffusers' models with the same weights."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    base = folder / "stable-diffusion-2"
    unet = UNet2DConditionModel(sample_size=16, in_channels=12, **UNET).eval()
    state = {f"module.{name}": value for name, value in unet.state_dict().items()}
    torch.save({"model": state, "optimizer": {"x": torch.zeros(3)}, "best_mse": 0.1}, folder / "mono2stereo.ckpt")
    UNet2DConditionModel(sample_size=16, in_channels=4, **UNET).save_config(base / "unet")
    vae = AutoencoderKL(**VAE).eval()
    vae.save_pretrained(base / "vae")
    config = CLIPTextConfig(
        hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=3, vocab_size=100,
        hidden_act="gelu", bos_token_id=98, eos_token_id=99,
    )  # fmt: skip
    text = CLIPTextModel(config).eval()
    text.save_pretrained(base / "text_encoder")
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        steps_offset=1, set_alpha_to_one=False, clip_sample=False,
    )  # fmt: skip
    scheduler.save_pretrained(base / "scheduler")
    with torch.inference_mode():
        prompt = text(torch.tensor([[98, 99]])).last_hidden_state
    return folder, unet, vae, scheduler, prompt


def request_for(tiny, out, **changes):
    from secondeye.export.build_engine import Request, parse_shape

    folder = tiny[0]
    return Request(
        **{
            "checkpoint": folder / "mono2stereo.ckpt", "base": folder / "stable-diffusion-2", "depth": None,
            "shape": parse_shape("128x128:128x192:136x256"), "out": out, "cache": folder / "cache",
        } | changes
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tiny):
    from secondeye.export.build_engine import build

    return build(request_for(tiny, tiny[0] / "bundle"), lambda piece, step: None)


def on_one_level(tiny, folder, channels):
    """diffusers' network of one level, and the sources of a bundle that has it for the tiny one's."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(channels)
    unet = UNet2DConditionModel(sample_size=16, in_channels=channels, **LEVEL).eval()
    torch.save(unet.state_dict(), folder / "other.ckpt")
    shutil.copytree(tiny[0] / "stable-diffusion-2", folder / "base")
    unet.save_config(folder / "base" / "unet")
    return unet, {"checkpoint": folder / "other.ckpt", "base": folder / "base"}


def pictures(height, width):
    rng = np.random.default_rng(3)
    smooth = np.kron(rng.integers(0, 256, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    holes = np.zeros((height, width), np.uint8)
    holes[:, 40:52] = 255
    return smooth, np.roll(smooth, -5, 1), holes


def chain(tiny, unet, model, parts, steps):
    """The right view by diffusers, and by the bundle: uint8 [H, W, 3] each."""
    import torch

    vae, scheduler, prompt = tiny[2:]
    source, warped, holes = pictures(136, 168)
    noise = model.noise(136, 168, seed=5)
    got = model(source, warped, holes, model.schedule("ddim", steps, 0.8), noise)

    def planes(picture):
        return torch.from_numpy(picture.astype(np.float32) / 255 * 2 - 1).permute(2, 0, 1)[None]

    with torch.inference_mode():
        grey = planes(warped)
        grey[:, :, torch.from_numpy(holes) != 0] = 0
        left, right = (vae.encode(p).latent_dist.mean * 0.18215 for p in (planes(source), grey))
        mask = torch.nn.functional.max_pool2d(torch.from_numpy(holes != 0).float()[None, None], 8)
        latent = torch.from_numpy(noise)
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            given = {"source": left, "warped": right, "latent": latent, "mask": mask}
            together = torch.cat([given[name] for name in parts], 1)
            prediction = unet(together, t, encoder_hidden_states=prompt).sample
            latent = scheduler.step(prediction, t, latent, eta=0.0).prev_sample
        shown = vae.decode(latent / 0.18215).sample.clamp(-1, 1)
    return ((shown[0].permute(1, 2, 0).numpy() + 1) / 2 * 255).astype(np.uint8), got


def assert_within_a_level(want, got):
    apart = np.abs(got.astype(int) - want)
    assert (apart <= 1).mean() >= 0.999
    assert want.std() > 1  # there is a picture to compare


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_the_chain_is_diffusers(tiny, bundle, steps):
    from secondeye.runtime.models.mono2stereo import Mono2Stereo

    assert_within_a_level(*chain(tiny, tiny[1], Mono2Stereo(str(bundle)), ("source", "warped", "latent"), steps))


@pytest.mark.parametrize(
    ("channels", "layout", "parts"),
    [(8, "one-stage", ("source", "latent")), (9, "inpaint", ("latent", "mask", "warped"))],
)
def test_the_other_layouts_are_diffusers_too(tiny, bundle, tmp_path, channels, layout, parts):
    from secondeye.export.build_engine import build
    from secondeye.runtime.models.mono2stereo import Mono2Stereo

    unet, sources = on_one_level(tiny, tmp_path, channels)
    folder = build(request_for(tiny, tmp_path / "b", **sources), lambda piece, step: None)
    model = Mono2Stereo(str(folder))
    assert model.bundle.manifest.constants["layout"] == layout
    assert model.parts == parts
    assert_within_a_level(*chain(tiny, unet, model, parts, 2))


def test_a_unet_of_the_real_ones_blocks_is_diffusers(tiny):
    """The whole layout of levels and blocks, in PyTorch alone: the exported one has fewer of them."""
    import torch
    from diffusers import UNet2DConditionModel

    from secondeye.export.models.diffusion import UNet

    torch.manual_seed(1)
    theirs, prompt = UNet2DConditionModel(sample_size=16, in_channels=12, **WHOLE).eval(), tiny[-1]
    ours = UNet(WHOLE, 12).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        ours.fold(prompt)
        for height, width in ((16, 24), (17, 21)):
            x, steps = torch.randn(2, 12, height, width), torch.tensor([7, 981])
            want = theirs(x, steps, encoder_hidden_states=prompt.expand(2, -1, -1)).sample
            torch.testing.assert_close(ours(x, steps), want, atol=1e-4, rtol=1e-4)


def test_the_manifest_tells_the_error(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert set(manifest["engines"]) == {"encoder", "unet", "decoder", *BETWEEN}
    assert all("error" in engine for engine in manifest["engines"].values())


def test_what_a_gpu_does_between_the_engines_gives_numpys_bytes(bundle):
    from secondeye.runtime.bundle import read_bundle
    from secondeye.runtime.models import mono2stereo

    made = read_bundle(bundle)
    rng = np.random.default_rng(0)
    pixels, holes = rng.integers(0, 256, (1, 136, 168, 3), np.uint8), rng.integers(0, 3, (1, 136, 168), np.uint8)
    want = mono2stereo._planes(pixels)
    want[(holes != 0)[:, None].repeat(3, 1)] = 0
    planes = made.engine("to_planes").run({"picture": pixels, "holes": holes})["planes"]
    np.testing.assert_array_equal(planes, want)
    values = rng.uniform(-1.2, 1.2, want.shape).astype(np.float32)
    for one in (values, mono2stereo._planes(pixels)):
        picture = made.engine("to_pixels").run({"planes": one})["picture"]
        np.testing.assert_array_equal(picture, mono2stereo._bytes(one))
    noise, warped = rng.standard_normal((2, 1, 4, 17, 21), np.float32)
    given = {"noise": noise, "warped": warped, "share": np.array([0.3, 0.7], np.float32)}
    start = made.engine("to_start").run(given)["latent"]
    np.testing.assert_array_equal(start, np.float32(0.3) * noise + np.float32(0.7) * warped)


def test_onnx_takes_a_bundles_graphs(bundle):
    """Its checker refuses weights that have a second name, which a copy out of the cache must not have."""
    import onnx

    for path in bundle.glob("*.onnx"):
        onnx.checker.check_model(str(path))
        if path.stem not in BETWEEN:
            assert path.with_name(f"{path.name}.data").stat().st_nlink == 1


def test_plans_go_beside_the_graphs(tiny, bundle):
    pytest.importorskip("tensorrt_rtx", reason="plans need TensorRT-RTX (pip install -e '.[tensorrt-rtx]')")
    from secondeye.export.build_engine import build
    from secondeye.runtime.bundle import read_bundle

    request = request_for(tiny, tiny[0] / "plans", backend="tensorrt-rtx", target="sm_86,sm_89")
    told = []
    for _ in range(2):
        folder = build(request, lambda piece, step: told.append(step))
    assert told.count("found, built before") == 6  # the second time; the other bundle's hold ONNX Runtime's operators
    assert told.count("compile for sm_86, sm_89") == 6
    assert told.count("found for sm_86, sm_89, compiled before") == 6
    engines = read_bundle(folder).manifest.engines
    assert {plan.targets for one in engines.values() for plan in one.plans} == {("sm_86", "sm_89")}
    assert "MultiHeadAttention" in operators(bundle / "unet.onnx")
    assert not any(name.startswith("MultiHead") for file in folder.glob("*.onnx") for name in operators(file))


def operators(path):
    import onnx

    return {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}


def test_a_quantised_bundle_has_plans_and_runs_by_its_graphs(tiny):
    pytest.importorskip("tensorrt_rtx", reason="plans need TensorRT-RTX (pip install -e '.[tensorrt-rtx]')")
    from secondeye.export.build_engine import build
    from secondeye.runtime.models.mono2stereo import Mono2Stereo

    request = request_for(tiny, tiny[0] / "int4", backend="tensorrt-rtx", target="sm_89", precision="int4")
    model = Mono2Stereo(str(build(request, lambda piece, step: None)))
    for name, engine in model.bundle.manifest.engines.items():
        assert len(engine.plans) == 1
        if name in BETWEEN:
            continue
        assert (engine.precision, engine.opset) == ("int4", 21)
        assert 0 < engine.error["relative_rms"] < engine.error["bound"]
    want, got = chain(tiny, tiny[1], model, ("source", "warped", "latent"), 1)
    assert np.abs(got.astype(int) - want).mean() < 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "fp8"}, "is for tensorrt and tensorrt-rtx"),
        ({"target": "sm_89"}, "graphs are for any machine"),
        ({"backend": "vulkan"}, "expected one of onnx, tensorrt, tensorrt-rtx"),
    ],
)
def test_what_cannot_be_built_is_refused_before_any_work(tiny, tmp_path, changes, words):
    from secondeye import InvalidInputError
    from secondeye.export.build_engine import build

    with pytest.raises(InvalidInputError, match=words):
        build(request_for(tiny, tmp_path / "out", **changes), lambda piece, step: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may do all, and no setpriv here")
def test_a_folder_where_no_bundle_may_be_made_is_refused_before_any_work(tmp_path):
    code = "import sys; from secondeye.export.build_engine import *; Common(out=Path(sys.argv[1])).check()"
    before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    tmp_path.chmod(0o555)
    done = subprocess.run([*before, sys.executable, "-c", code, tmp_path / "b"], capture_output=True, text=True)
    tmp_path.chmod(0o755)
    assert f"--out: no folder may be made in {tmp_path}" in done.stderr


def test_what_is_no_bundle_is_not_replaced(tiny, bundle, tmp_path):
    from secondeye import InvalidInputError
    from secondeye.export.build_engine import build

    request_for(tiny, bundle).check()
    (tmp_path / "empty").mkdir()
    request_for(tiny, tmp_path / "empty").check()
    shutil.copytree(bundle, tmp_path / "mixed")
    (tmp_path / "mixed" / "notes.txt").touch()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "a web page"}')
    for name in ("mixed", "app"):
        with pytest.raises(InvalidInputError, match="is no bundle alone"):
            build(request_for(tiny, tmp_path / name), lambda piece, step: None)
    assert len(list((tmp_path / "mixed").iterdir())) > 2


@pytest.mark.parametrize(("out", "cache"), [("out", "out"), ("out", "out/cache"), ("out/work", "out"), (".", "cache")])
def test_a_cache_and_a_bundle_that_would_lie_in_each_other_are_refused_at_once(tiny, tmp_path, out, cache):
    from secondeye import InvalidInputError
    from secondeye.export.build_engine import build

    (tmp_path / "home").mkdir()
    with pytest.raises(InvalidInputError, match=r"--cache: .* would lie in each other"):
        build(request_for(tiny, tmp_path / "home" / out, cache=tmp_path / "home" / cache), pytest.fail)
    assert not list((tmp_path / "home").iterdir())


def test_a_link_leads_to_the_bundle_and_stays(tiny, bundle, tmp_path):
    from secondeye.export.build_engine import build

    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "bundle")  # which is not there yet
    for batch in (1, 2):
        build(request_for(tiny, tmp_path / "link", batch=batch), lambda piece, step: None)
        assert json.loads((tmp_path / "disk" / "bundle" / "manifest.json").read_text())["axes"]["batch"] == [1, batch]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
        assert (tmp_path / "link").is_symlink()


def test_builds_for_one_place_do_not_take_each_others_files(tiny, bundle, tmp_path, monkeypatch):
    from secondeye import InvalidInputError
    from secondeye.export import build_engine

    shutil.copytree(tiny[0] / "cache", tmp_path / "cache")
    request, whole = request_for(tiny, tmp_path / "out"), build_engine.copy_file

    def meanwhile(source, target):
        monkeypatch.setattr(build_engine, "copy_file", whole)
        build_engine.build(request_for(tiny, tmp_path / "out", batch=2, cache=tmp_path / "cache"), lambda *told: None)
        whole(source, target)

    monkeypatch.setattr(build_engine, "copy_file", meanwhile)
    for file in build_engine.build(request, lambda *told: None).iterdir():
        assert file.read_bytes() == (bundle / file.name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]
    # And what came to lie there while it was built is no bundle's to replace.
    with pytest.raises(InvalidInputError, match="is no bundle alone"):
        build_engine.build(
            request_for(tiny, tmp_path / "later"),
            lambda piece, step: (tmp_path / "later" / "mine").mkdir(parents=True, exist_ok=True),
        )
    assert (tmp_path / "later" / "mine").is_dir()


def test_a_second_build_finds_the_pieces(tiny, bundle):
    from secondeye.export.build_engine import build

    told = []
    again = build(request_for(tiny, tiny[0] / "again"), lambda piece, step: told.append(step))
    assert told.count("found, built before") == 6
    for file in bundle.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_half_precision_is_measured(tiny, tmp_path):
    from secondeye.export.build_engine import build
    from secondeye.export.graphs import ISLANDS

    folder = build(request_for(tiny, tmp_path / "half", precision="fp16"), lambda piece, step: None)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, engine in manifest["engines"].items():
        if name in BETWEEN:  # they read and write float32 and bytes
            assert engine["precision"] == "fp32"
            continue
        assert engine["precision"] == "fp16"
        assert 0 < engine["error"]["relative_rms"] <= engine["error"]["bound"]
        assert engine["error"]["fp32_island"] in ISLANDS


class Evil:
    def __reduce__(self):
        return (print, ("code in a pickle ran",))


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("scheduler/scheduler_config.json", {"timestep_spacing": "linspace"}, "timestep_spacing leading or trailing"),
        ("scheduler/scheduler_config.json", {"beta_end": float("nan")}, "0 < beta_start <= beta_end < 1"),
        ("scheduler/scheduler_config.json", {"beta_start": "x", "steps_offset": 100}, "steps_offset 0 to 99"),
        (
            "scheduler/scheduler_config.json",
            {"clip_sample": True, "trained_betas": [0.1]},
            "clip_sample True is not known",
        ),
        ("unet/config.json", {"layers_per_block": 10**9}, "layers_per_block 1000000000"),
        ("unet/config.json", {"attention_head_dim": 0}, "attention_head_dim 0"),
        ("vae/config.json", {"scaling_factor": None}, "scaling_factor over 0"),
        ("tokenizer/vocab.json", {"<|startoftext|>": 10**6}, "first and last token"),
    ],
)
def test_configurations_that_would_give_something_else_are_refused(tiny, tmp_path, file, changes, told):
    from secondeye import ModelFormatError
    from secondeye.export.models.mono2stereo import Sources, load

    base = tmp_path / "base"
    shutil.copytree(tiny[0] / "stable-diffusion-2", base)
    path = base / file
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | changes))
    with pytest.raises(ModelFormatError, match=told):
        load(Sources(checkpoint=tiny[0] / "mono2stereo.ckpt", base=base), tmp_path / "work", depth_size=(14, 14))


def test_a_configuration_that_makes_no_network_is_the_files_problem():
    from torch import nn

    from secondeye import ModelFormatError
    from secondeye.export.weights import Problems, checked

    problems = Problems()
    assert checked(lambda: nn.GroupNorm(7, 32), {}, "unet.ckpt", problems) is None
    with pytest.raises(ModelFormatError, match=r"unet\.ckpt: its configuration makes no network"):
        problems.tell()


def test_a_child_finds_packages_where_its_parent_does_and_not_in_the_working_folder(tmp_path, monkeypatch):
    from secondeye.export.weights import child_command

    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "probed.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))  # as PYTHONPATH or pip install --user
    for name in ("json.py", "runpy.py"):
        (tmp_path / name).write_text("raise SystemExit('run from the working folder')")
    done = subprocess.run(
        child_command("probed", "a b", "c"), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout) == ["a b", "c"], done.stderr


@pytest.mark.posix
def test_a_disk_without_locks_is_one_sentence(tmp_path, monkeypatch):
    import errno
    import fcntl

    from secondeye import MediaError
    from secondeye.export.cache import Cache

    def flock(*rest):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(MediaError, match="cannot be locked"), Cache(tmp_path).locked(lambda: None):
        pass


def test_what_a_file_of_weights_is_not_is_said(tmp_path):
    import torch
    from safetensors.torch import save_file

    from secondeye.export.weights import Problems, read_tensors

    class Worse:
        def __reduce__(self):
            return (os.system, ("true",))

    (tmp_path / "page.ckpt").write_text("<html>404</html>")
    (tmp_path / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3463726504\n")
    torch.save({"a": Evil()}, tmp_path / "code.ckpt")
    torch.save({"a": Worse()}, tmp_path / "worse.ckpt")
    torch.save({"a": torch.ones(2).to_sparse()}, tmp_path / "sparse.pt")
    save_file({}, tmp_path / "empty.safetensors")
    said = {
        "page.ckpt": "not a torch file", "pointer.pth": "not a torch file", "code.ckpt": "it holds code",
        "worse.ckpt": "it holds code", "sparse.pt": "entries that are no tensors: 1 (a)",
        "empty.safetensors": "holds no tensors",
    }  # fmt: skip
    problems = Problems()
    for name, text in said.items():
        assert read_tensors(tmp_path / name, tmp_path / "scratch", problems) == {}
        assert len(problems.of(name)) == 1
        assert text in problems.of(name)[0], name


def test_tensors_of_eight_bits_damaged_records_and_a_full_disk(tmp_path):
    import torch
    from safetensors.torch import save_file

    from secondeye import MediaError
    from secondeye.export.cache import Cache
    from secondeye.export.weights import TensorFile

    save_file({"a": torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn)}, tmp_path / "ema.safetensors")
    assert TensorFile(tmp_path, "ema").get("a").tolist() == [1.5, -2.0]
    cache = Cache(tmp_path / "cache")
    (cache.folder / "pieces" / "key").mkdir()
    (cache.folder / "pieces" / "key" / "record.json").write_text("[]")
    assert cache.find("key") is None
    assert not (cache.folder / "pieces" / "key").exists()
    told = r"no space left on device.*What was finished is kept"
    with pytest.raises(MediaError, match=told), cache.locked(lambda: None):
        raise OSError(28, "No space left on device")
    assert not (cache.folder / "work").exists()
    (cache.folder / "build.lock").unlink()
    (cache.folder / "build.lock").mkdir()  # it cannot be opened, as where the cache is another user's
    with pytest.raises(MediaError, match=r"cache: cannot be written"), cache.locked(lambda: None):
        pass


def test_bad_checkpoints_say_everything_at_once(tiny, tmp_path, capfd):
    import torch

    from secondeye import ModelFormatError
    from secondeye.export.build_engine import build

    folder, unet, *_ = tiny
    state = unet.state_dict()
    del state["conv_out.bias"]
    state["conv_in.bias"] = torch.zeros(7)
    torch.save(state, tmp_path / "wrong.ckpt")
    with pytest.raises(ModelFormatError) as raised:
        build(request_for(tiny, tmp_path / "out", checkpoint=tmp_path / "wrong.ckpt"), lambda piece, step: None)
    assert "conv_out.bias" in str(raised.value)
    assert "conv_in.bias" in str(raised.value)
    (tmp_path / "short.ckpt").write_bytes((folder / "mono2stereo.ckpt").read_bytes()[:4000])
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Evil()))
    for name in ("short.ckpt", "evil.ckpt"):
        with pytest.raises(ModelFormatError, match=name):
            build(request_for(tiny, tmp_path / "out", checkpoint=tmp_path / name), lambda piece, step: None)
    assert "code in a pickle ran" not in capfd.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_film_is_painted_by_the_bundle(bundle, tmp_path):
    import av

    from secondeye import FilmConfig, StereoConfig, convert_video

    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv444p"
        for k in range(5):
            picture = np.roll(pictures(128, 192)[0], 2 * k, 1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode(None))
    frames = []
    for name, more in (("fast", {}), ("one", {"mode": "quality"}), ("two", {"mode": "quality"})):
        stereo = StereoConfig(depth="cues", strength=8.0, **more, **({"bundle": bundle, "steps": 1} if more else {}))
        convert_video(film, tmp_path / f"{name}.mkv", FilmConfig(stereo=stereo, codec="ffv1"))
        with av.open(str(tmp_path / f"{name}.mkv")) as file:
            frames.append(np.stack([f.to_ndarray(format="rgb24") for f in file.decode(video=0)]))
    fast, one, two = frames
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[:, :, :192], fast[:, :, :192])
    assert (one[:, :, 192:] != fast[:, :, 192:]).any()
