# SPDX-License-Identifier: Apache-2.0
"""The full-size export's checkpoint of random tensors, and its way on after a kill."""

import json
import math
import sys

import pytest

pytest.importorskip("torch", reason="building needs torch (pip install -e '.[dev-export]')")
pytest.importorskip("onnxscript", reason="building needs onnxscript (pip install -e '.[dev-export]')")
pytestmark = [pytest.mark.filterwarnings("ignore")]

from secondeye.export import full_size


def test_the_full_size_checkpoint_has_every_tensor_and_holes_take_no_room(tmp_path):
    shapes = full_size.bagel_shapes()
    assert len(shapes) == 1223
    assert sum(math.prod(s) for s in shapes.values()) == 14_607_260_128
    assert len(full_size.autoencoder_shapes()) == 244
    small = {"a.norm.weight": (8,), "b.weight": (64, 32), "c.weight": (1 << 16, 32)}
    random = full_size.Random()
    full_size.write_random(tmp_path / "x.safetensors", small, random, lambda name: name != "c.weight")
    from safetensors.torch import load_file

    read = load_file(tmp_path / "x.safetensors")
    assert {n: tuple(t.shape) for n, t in read.items()} == small
    assert abs(float(read["a.norm.weight"].float().mean()) - 1) < 0.3
    assert abs(float(read["b.weight"].float().std()) * 32**0.5 - 1) < 0.1
    assert not read["c.weight"].any()
    wanted = full_size.needed_by(["prefill_3", "flow_27"], 28)
    assert wanted("language_model.model.layers.3.mlp.up_proj.weight")
    assert wanted("llm2vae.weight")
    assert not wanted("language_model.model.layers.13.mlp.up_proj.weight")
    steps = {"vit": (30.0, 90.0), "flow_0": (90.0, 400.0), "flow_13": (60.0, 300.0), "flow_27": (30.0, 150.0)}
    records = [{"step": n, "seconds": t, "mb": mb, "peak_gib": 5.0} for n, (t, mb) in steps.items()]
    assert full_size.whole(records) == pytest.approx({"minutes": 28.5, "gb": 8.44, "peak_gib": 5.0})


def test_a_run_that_was_killed_goes_on(tmp_path, monkeypatch, capsys):
    sizes = {"WIDE": 128, "NARROW": 32, "HEAD": 16, "INNER": 96, "WORDS": 32, "VIT": 32, "VIT_INNER": 48}
    for name, size in (sizes | {"VIT_LAYERS": 1, "SHARD_BYTES": 1 << 20}).items():
        monkeypatch.setattr(full_size, name, size)
    monkeypatch.setattr(
        full_size.sgt_bagel.load, "__kwdefaults__", full_size.sgt_bagel.load.__kwdefaults__ | {"graph_bytes": 1}
    )
    words = ["full_size", "--work", str(tmp_path / "work"), "--layers", "4", "--graphs", "prefill_1,prefill_2"]
    whole, made = full_size.make_graph, []

    def killed(graph, *rest):
        made.append(graph.name)
        if len(made) == 2:
            raise KeyboardInterrupt
        return whole(graph, *rest)

    monkeypatch.setattr(full_size, "make_graph", killed)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(KeyboardInterrupt):
        full_size.main()
    notes = json.loads((tmp_path / "work" / "measured.json").read_text())
    assert [one["step"] for one in notes["results"]] == ["write", "check", "prefill_1"]
    monkeypatch.setattr(sys, "argv", [*words, "--precision", "int8"])
    with pytest.raises(SystemExit):
        full_size.main()
    assert "of another run" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*words, "--json", str(tmp_path / "found.json")])
    full_size.main()
    assert made == ["prefill_1", "prefill_2", "prefill_2"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["results"][:3] == notes["results"]
    assert [one["step"] for one in found["results"]] == ["write", "check", "prefill_1", "prefill_2"]
    assert found["all_layers"]["peak_gib"] > 0
    assert not (tmp_path / "work").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    monkeypatch.setattr(sys, "argv", ["full_size", "--work", str(tmp_path / "other")])
    with pytest.raises(SystemExit):
        full_size.main()
    assert "holds something else" in capsys.readouterr().err
