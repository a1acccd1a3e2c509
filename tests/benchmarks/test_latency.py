# SPDX-License-Identifier: Apache-2.0
"""The latency benchmark and ``secondeye bench``: results, page, comparison, what is counted, watts and clocks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from secondeye.benchmarks.counted import SIZES, network_flops, stage_counts, warp_bytes
from secondeye.benchmarks.latency import built_in_flops
from secondeye.benchmarks.latency_page import _bars, _trimmed, page
from secondeye.benchmarks.power import PowerMeter, tegrastats_values


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A short true measurement: its JSON and its page."""
    folder = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [sys.executable, "-m", "secondeye", "bench", "--size", "160x96", "--depth", "cues", "--fps", "0", "--seconds",
         "30", "--frames", "40", "--stall", "--changes", "--remember", "--json", "out.json", "--html", "out.html"],
        cwd=folder, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "submit to ready" in done.stdout
    return folder / "out.json", folder / "out.html"


@pytest.mark.posix
def test_ctrl_c_ends_a_measurement_at_once(cli, tmp_path):
    threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    words = ("--size", "160x96", "--depth", "cues", "--seconds", "60", "--json", tmp_path / "x.json")
    assert cli("bench", *words)[0] == 130
    assert time.monotonic() - begun < 30
    assert not (tmp_path / "x.json").exists()


@pytest.mark.posix
def test_ctrl_c_ends_the_conversion_that_was_to_be_killed(tmp_path):
    def running():
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has just ended
                if f"{tmp_path}/" in (line := place.read_text(errors="replace")) and "killed0.mp4" in line:
                    return True
        return False

    command = [sys.executable, "-m", "secondeye.benchmarks.kills", "--seconds", "20", "--kills", "90"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while not running() and time.monotonic() < end:
            time.sleep(0.05)
        assert running()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert not running()


def test_a_result_holds_what_was_measured(measured):
    result = json.loads(measured[0].read_text())
    (row,) = result["results"]
    assert row["frames"] == 40
    assert row["stall"]
    assert row["changes"]
    assert row["remember"]
    assert sum(row["histogram_ms"]["counts"]) == 40
    assert sum(row["jitter_ms"]["counts"]) == 39
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert row["stages"]["warp"]["p50"] > 0
    assert row["counted"]["warp"]["mbytes"] == round(warp_bytes(96, 160) / 1e6, 2)
    assert 0 < row["counted"]["warp"]["share"] < 5
    assert "not_read" in row["power"]
    assert {"processor", "cores", "load"} <= set(result["machine"])


def test_the_page_is_one_file_with_plots(measured):
    text = measured[1].read_text()
    assert text.count("<svg") >= 2
    assert "Jitter" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    result = json.loads(measured[0].read_text())
    result["machine"]["processor"] = "<b>odd</b>"
    assert "<b>odd</b>" not in page(result)


def test_two_results_are_compared(cli, measured, tmp_path):
    code, out, _ = cli("bench", "--compare", measured[0], measured[0])
    assert code == 0
    assert out.count("1.00") == 3
    assert "then" not in out
    result = json.loads(measured[0].read_text())
    result["machine"]["processor"], result["results"][0]["device"] = "[b]another", "cuda"
    (tmp_path / "after.json").write_text(json.dumps(result))
    out = " ".join(cli("bench", "--compare", measured[0], tmp_path / "after.json")[1].split())
    assert "then [b]another" in out
    assert "device: cpu, then cuda" in out
    result["results"][0]["fps_in"] = 25.0
    (tmp_path / "after.json").write_text(json.dumps(result))
    code, _, err = cli("bench", "--compare", measured[0], tmp_path / "after.json")
    assert code == 2
    assert "no size with the same --depth-every and --fps" in " ".join(err.split())


def test_one_frame_is_a_measurement(cli, tmp_path):
    words = ("--size", "160x96", "--depth", "cues", "--seconds", "20", "--frames", "1", "--html", tmp_path / "x.html")
    code, _, err = cli("bench", *words)
    assert code == 0, err
    assert "frames/s out" in (tmp_path / "x.html").read_text()


def test_the_network_is_counted_at_the_size_that_a_session_feeds_it(monkeypatch):
    sizes = []
    monkeypatch.setattr("secondeye.benchmarks.latency.network_flops", lambda _, *size: sizes.append(size))
    for size in ((360, 640), (640, 360), (480, 640)):
        built_in_flops(*size)
    assert sizes == [(224, 416), (416, 224), (256, 352)]


def test_slow_frames_are_labelled_as_an_open_bin():
    counts = [0] * 39 + [5]
    plot = _bars(*_trimmed({"edges": [2.5 * k for k in range(40)], "counts": counts}), "t", "frames", "ms")
    assert ">97.5+</text>" in plot
    slow = [1] * 40
    assert ">97.5+</text>" in _bars(*_trimmed({"edges": [2.5 * k for k in range(40)], "counts": slow}), "t", "", "ms")


def test_the_jetsons_are_counted_and_say_so(cli):
    code, out, _ = cli("bench", "--counted")
    assert code == 0
    assert "counted, not measured" in " ".join(out.split())
    for name in ("Orin Nano", "Orin NX", "AGX Orin", "Thor"):
        assert name in out
    assert "2160p" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "big"], "--size: expected WIDTHxHEIGHT"),
        (["--size", "160x²"], "--size: expected WIDTHxHEIGHT"),
        (["--json", "no/folder.json"], "the folder no does not exist"),
        (["--mode", "dream"], "--mode: expected fast or quality"),
        (["--depth-every", "-3"], "--depth-every"),
        (["--compare", "no.json", "no.json"], "expected two results"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(cli, words, said):
    code, _, err = cli("bench", *words)
    assert code == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_a_network_is_counted_by_hand(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    kernel = helper.make_tensor("k", TensorProto.FLOAT, [8, 3, 3, 3], [0.0] * 216)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "k"], ["y"], pads=[1, 1, 1, 1])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, "h", "w"])], [kernel],
    )  # fmt: skip
    path = tmp_path / "one.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert network_flops(path, 10, 20) == 2 * 8 * 3 * 9 * 10 * 20
    counts = stage_counts(*SIZES["1080p"], 2.5e9)
    assert counts["depth"]["gflop"] == 2.5
    assert counts["pack"]["mbytes"] == round(1920 * 1080 * 12 / 1e6, 2)


def test_watts_of_a_board_and_of_a_pc(tmp_path):
    line = "RAM 2448/7620MB GR3D_FREQ 12%@[624] VDD_IN 4888mW/4700mW VDD_CPU_GPU_CV 900mW/900mW"
    assert tegrastats_values(line) == {"board_w": 4.888, "gpu_mhz": 624.0}
    assert tegrastats_values("RAM 1/2MB GR3D_FREQ 0% POM_5V_IN 2532/2532") == {"board_w": 2.532}
    assert tegrastats_values("nothing") == {}
    import threading

    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("1000000")
    (tmp_path / "cpuinfo").write_text("cpu MHz\t\t: 2000.0\ncpu MHz\t\t: 3000.0\n")
    done = threading.Event()

    def burn():
        value = 1_000_000
        while not done.wait(0.02):
            value += 100_000
            (tmp_path / "next").write_text(str(value))
            (tmp_path / "next").replace(zone / "energy_uj")

    burner = threading.Thread(target=burn)
    burner.start()
    with PowerMeter(tmp_path, tmp_path / "cpuinfo") as meter:
        done.wait(1.3)
    done.set()
    burner.join()
    report = meter.report()
    assert report["cpu_mhz"]["mean"] == 2500.0
    assert report["cpu_w"]["mean"] > 0.2
    assert not any("RAPL" in name for name in report["not_read"])
