# SPDX-License-Identifier: Apache-2.0
"""Plans of TensorRT-RTX, built for desktop GPUs on a machine that has none."""

from dataclasses import replace

import onnx
import pytest
from bundles import make_bundle

pytest.importorskip("tensorrt_rtx", reason="plans need TensorRT-RTX (pip install -e '.[tensorrt-rtx]')")

from secondeye.export import engines
from secondeye.export.engines import choose_target, compile_checked, compile_plan
from secondeye.runtime.backends.cuda import Gpu, find_gpu
from secondeye.runtime.bundle import read_bundle
from secondeye.runtime.errors import BackendUnavailableError, EngineError, ExportError, InvalidInputError
from secondeye.runtime.files import file_hash
from secondeye.runtime.plans import Plan, check_plan, read_secret

AXES = {"batch": (1, 1, 2), "height": (16, 17, 24), "width": (16, 24, 32)}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path / "cache"))
    return read_bundle(make_bundle(tmp_path / "bundle", prediction=0.5))


def no_gpu():
    try:
        find_gpu()
    except BackendUnavailableError:
        return True
    return False


def built(bundle, name, made, target):
    entry = bundle.manifest.engines[name]
    return compile_plan(bundle.folder, entry, AXES, target, "key", made, timing=made, steps=1000)


def test_plans_are_built_without_a_gpu(bundle, tmp_path):
    target = replace(choose_target("tensorrt-rtx", "89, sm_120"), gpu=None)
    assert target.names == ("sm_89", "sm_120")
    for name in bundle.manifest.engines:
        plan = built(bundle, name, tmp_path, target)
        path = tmp_path / plan.file
        assert path.stat().st_size > 10_000
        assert plan.sha256 == file_hash(path)
        assert plan.check == {"status": "not run", "reason": "no such GPU where it was built"}
        assert plan.seal == plan.seal_under(read_secret())
        assert check_plan(tmp_path, plan) == path.read_bytes()


def test_a_plan_is_refused_by_another_version_and_when_altered(bundle, tmp_path):
    plan = built(bundle, "encoder", tmp_path, replace(choose_target("tensorrt-rtx", "sm_86"), gpu=None))
    older = replace(plan, version="1.0.0")
    with pytest.raises(EngineError, match=r"built by TensorRT-RTX 1\.0\.0"):
        check_plan(tmp_path, replace(older, seal=older.seal_under(read_secret())))
    with (tmp_path / plan.file).open("r+b") as file:
        file.seek(200)
        file.write(b"\xff\xff")
    with pytest.raises(EngineError, match="altered or damaged"):
        check_plan(tmp_path, plan)


def test_without_a_gpu_a_plan_does_not_open(bundle, tmp_path):
    if not no_gpu():
        pytest.skip("this machine has a GPU")
    plan = built(bundle, "encoder", bundle.folder, choose_target("tensorrt-rtx", "sm_89"))
    entry = replace(bundle.manifest.engines["encoder"], plans=(plan,))
    bundle.manifest.engines["encoder"] = entry
    with pytest.raises(BackendUnavailableError, match="no NVIDIA GPU"):
        bundle.engine("encoder", device="tensorrt-rtx")


def test_targets():
    everything = choose_target("tensorrt-rtx", "auto").names
    if no_gpu():
        assert {"sm_75", "sm_86", "sm_89", "sm_120"} <= set(everything)
        with pytest.raises(BackendUnavailableError, match="tensorrt"):
            choose_target("tensorrt", "auto")
    assert choose_target("tensorrt-rtx", "sm_89").gpu is None or find_gpu().target == "sm_89"
    for text in ("sm_70", "sm_89,sm_87", "", "x"):
        with pytest.raises(InvalidInputError, match="--target"):
            choose_target("tensorrt-rtx", text)


@pytest.mark.parametrize(("here", "text", "names", "runs"), [
    ("sm_89", "auto", ("sm_89",), True), ("sm_89", "sm_86,sm_89", ("sm_86", "sm_89"), True),
    ("sm_89", "sm_120", ("sm_120",), False),
])  # fmt: skip
def test_only_a_plan_for_the_gpu_at_hand_is_run_on_it(monkeypatch, here, text, names, runs):
    monkeypatch.setattr(engines, "find_gpu", lambda: Gpu(name="a GPU", target=here))
    target = choose_target("tensorrt-rtx", text)
    assert (target.names, target.gpu) == (names, "a GPU" if runs else None)


def test_a_gpu_that_the_builder_does_not_know_is_told(monkeypatch):
    monkeypatch.setattr(engines, "find_gpu", lambda: Gpu(name="an H100", target="sm_90"))
    with pytest.raises(InvalidInputError, match=r"builds for sm_75.* here, got 'sm_90'"):
        choose_target("tensorrt-rtx", "auto")


@pytest.mark.parametrize(("precision", "rounds"), [("fp32", False), ("fp16", False), ("int4", True)])
def test_float32_is_not_rounded_behind_the_manifests_back(bundle, tmp_path, monkeypatch, precision, rounds):
    asked = []

    def child(request, label):
        asked.append(request["tf32"])
        return {"sha256": "0" * 64}

    monkeypatch.setattr(engines, "_in_child", child)
    entry = replace(bundle.manifest.engines["encoder"], precision=precision)
    target = replace(choose_target("tensorrt-rtx", "sm_89"), gpu=None)
    compile_plan(bundle.folder, entry, AXES, target, "key", tmp_path, timing=tmp_path, steps=1000)
    assert asked == [rounds]


def rewrite(bundle, nodes):
    """The bundle's encoder with other nodes between its input and output."""
    path = bundle.folder / "encoder.onnx"
    model = onnx.load(path)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([onnx.helper.make_node("Det", ["picture"], ["latent"])], "refuses it"),
        ([onnx.helper.make_node("Relu", ["nothing"], ["latent"])], "refuses it"),
    ],
)
def test_a_graph_that_is_not_taken(bundle, tmp_path, nodes, words):
    rewrite(bundle, nodes)
    with pytest.raises(ExportError, match=words) as caught:
        built(bundle, "encoder", tmp_path, replace(choose_target("tensorrt-rtx", "sm_89"), gpu=None))
    assert "encoder.onnx: TensorRT-RTX" in str(caught.value)
    assert not list(tmp_path.glob("*.plan"))


def plan_with(error):
    return Plan(file="x", sha256="", backend="tensorrt-rtx", version="1", targets=("sm_89",), graph="", key="",
                check={"status": "run", "gpu": "a GPU", "relative_rms": error, "max_abs": error})  # fmt: skip


@pytest.mark.parametrize(("precision", "asked"), [("fp16", [None, "norms", "most"]), ("fp32", [None])])
def test_an_engine_that_is_off_is_built_again_with_more_in_float32_and_then_refused(precision, asked):
    islands, floors = ("none", "norms", "most"), []

    def make(floor, good=99):
        floors.append(floor)
        record = {"error": {"bound": 0.01, "fp32_island": floor or (islands[0] if precision == "fp16" else "all")}}
        return record, plan_with(0.5 if len(floors) < good else 0.001)

    with pytest.raises(ExportError, match=r"differs from its graph by 0\.5"):
        compile_checked(precision, islands, make, "unet")
    assert floors == asked
    if precision == "fp16":
        floors.clear()
        record, _ = compile_checked(precision, islands, lambda floor: make(floor, good=2), "unet")
        assert record["error"]["fp32_island"] == "norms"
