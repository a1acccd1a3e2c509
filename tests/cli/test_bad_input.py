# SPDX-License-Identifier: Apache-2.0
"""Bad input: one line that says what, why and what to do; exit code 1 or 2; nothing half-written."""

import os
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image


@pytest.fixture
def refused(cli, tmp_path):
    """Runs convert, expects a refusal, and gives its one line."""

    def run(*words, code=2, out="never.png"):
        before = {p for p in tmp_path.rglob("*") if p.is_file()}
        got, _, err = cli("convert", *words, "-o", tmp_path / out)
        lines = [line for line in err.splitlines() if not line.startswith("note:")]
        assert got == code, err
        assert len(lines) == 1, err
        assert lines[0].startswith("secondeye: ")
        assert "Traceback" not in err
        assert {p for p in tmp_path.rglob("*") if p.is_file()} == before
        return lines[0]

    return run


def png_header(width, height):
    """A PNG that claims a size and has nothing behind it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, data, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_no_such_file(refused, tmp_path):
    assert "no such file" in refused(tmp_path / "nothing.jpg")


def test_a_folder_where_a_depth_map_is_meant(refused, photo, tmp_path):
    assert "no map for 1 of 1 pictures" in refused(photo, "--depth-map", tmp_path)


def without_rights(*words):
    """Runs the command where folders' modes hold, for root too."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may do all, and no setpriv here")
    drop = "-dac_override,-dac_read_search"
    before = ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}"] if os.geteuid() == 0 else []
    command = [*before, sys.executable, "-m", "secondeye", *map(str, words), "--depth-model", "cues"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.posix
def test_folders_without_rights(photo, tmp_path):
    shut, pictures = tmp_path / "shut", tmp_path / "pictures"
    for folder in (shut, pictures, pictures / "within"):
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(photo.read_bytes())
    shut.chmod(0o555)
    done = without_rights("convert", photo, "-o", shut / "out.png")
    assert done.returncode == 2
    assert "no file may be made in the folder" in done.stderr
    done = without_rights("live", "sample", "--frames", "2", "-o", shut / "out.mkv")
    assert done.returncode == 2
    assert "no file may be made in the folder" in done.stderr
    shut.chmod(0)
    done = without_rights("convert", shut, "-o", tmp_path / "never")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "shut: cannot be read (permission denied)." in done.stderr
    (pictures / "within").chmod(0)
    done = without_rights("convert", pictures, "-r", "-o", tmp_path / "out")
    assert done.returncode == 0
    assert "within: cannot be read (permission denied); it is left out." in done.stderr
    assert "1 converted" in done.stderr
    (pictures / "within").chmod(0o755)


def test_an_interrupt_while_the_command_is_loaded_has_no_traceback():
    interrupted = (
        "import runpy, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "runpy.run_module('secondeye', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, b"")


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no pictures" in refused(tmp_path / "empty")


def test_a_truncated_jpeg(refused, photo):
    photo.write_bytes(photo.read_bytes()[:3000])
    assert "cut short" in refused(photo)


@pytest.mark.parametrize("size", [(1, 1), (20000, 1), (1, 20000)])
def test_too_small_or_too_long(refused, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "odd.png")
    assert f"{size[0]} x {size[1]}" in refused(tmp_path / "odd.png")


def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(refused, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(40000, 40000))
    assert "megapixels" in refused(tmp_path / "bomb.png")


def test_text_called_png(refused, tmp_path):
    (tmp_path / "x.png").write_text("hello, I am text, not a picture at all")
    assert "looks like text" in refused(tmp_path / "x.png")


def test_a_phones_heic_is_named(refused, tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    assert "looks like HEIC" in refused(tmp_path / "IMG_1.HEIC")


def test_values_that_are_no_numbers_are_not_called_damage(refused, tmp_path, scene):
    values = scene[1].astype(np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    said = refused(tmp_path / "nan.tif")
    assert "has values that are not numbers" in said
    assert "damaged" not in said


DEEPER = "is a file" if os.name == "nt" else "cannot be made"


@pytest.mark.parametrize(("out", "said"), [("taken/", "is a file"), ("taken/deeper/", DEEPER)])
def test_a_folder_that_cannot_be_made(cli, photo, tmp_path, out, said):
    (tmp_path / "taken").write_text("a file")
    code, _, err = cli("convert", photo, "-o", f"{tmp_path}/{out}")
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("suffix", [".jps", ".mpo"])
def test_a_stereo_photo_takes_no_other_layout(refused, photo, suffix):
    assert "leave --layout out" in refused(photo, "--layout", "anaglyph", out=f"a{suffix}")


def test_an_empty_file(refused, tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    assert "empty" in refused(tmp_path / "x.png")


def test_an_animated_gif_gives_its_first_frame_and_says_so(cli, tmp_path, scene, read):
    frames = [Image.fromarray(np.roll(scene[0], 20 * i, axis=1)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    code, _, err = cli("convert", tmp_path / "a.gif", "-o", tmp_path / "a.png")
    assert code == 0
    assert "3 frames; the first is used" in err
    assert np.abs(read(tmp_path / "a.png")[:, :384].astype(int) - scene[0]).mean() < 12


def test_cmyk_is_converted_and_said(cli, tmp_path, scene, read):
    Image.fromarray(scene[0]).convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    code, _, err = cli("convert", tmp_path / "c.jpg", "-o", tmp_path / "c.png")
    assert code == 0
    assert "CMYK" in err
    assert np.abs(read(tmp_path / "c.png")[:, :384].astype(int) - scene[0]).mean() < 4


def test_nan_in_a_depth_map(refused, photo, tmp_path, scene):
    values = scene[1].copy()
    values[3, 4:9] = np.nan
    np.save(tmp_path / "d.npy", values)
    assert "5 of its" in refused(photo, "--depth-map", tmp_path / "d.npy")


def test_a_depth_map_of_colours_or_pickles(refused, photo, tmp_path, scene):
    assert "must be grey" in refused(photo, "--depth-map", photo)
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], object), allow_pickle=True)
    assert "NumPy" in refused(photo, "--depth-map", tmp_path / "p.npy")


def test_an_output_that_cannot_be_written_loses_nothing(cli, photo, tmp_path):
    code, _, err = cli("convert", photo, "-o", tmp_path / "none" / "x.png")
    assert code == 2
    assert "does not exist; make it first" in err
    existing = tmp_path / "kept.png"
    existing.write_bytes(b"precious")
    code, _, err = cli("convert", photo, "-o", existing, "--strength", "500")
    assert code == 2
    assert existing.read_bytes() == b"precious"


def test_output_equal_to_input(cli, photo):
    before = photo.read_bytes()
    code, _, err = cli("convert", photo, "-o", photo)
    assert code == 2
    assert "is the source itself" in err
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--preview", "{photo}"), "is the source itself"),
        (("--save-depth", "{photo}"), "is the source itself"),
        (("--depth-map", "{map}", "--preview", "{map}"), "is read by this command"),
        (("--preview", "{out}"), "two results would become this file"),
        (("--preview", "{out}.png", "--save-depth", "{out}.png"), "two results would become this file"),
        (("--preview", "{folder}/none/sheet.png"), "does not exist; make it first"),
        (("--preview", "{folder}"), "cannot tell the format"),
        (("--save-depth", "{folder}/depth.xyz"), "cannot tell the format"),
    ],
)
def test_results_that_would_take_a_files_place_or_have_none(refused, photo, tmp_path, scene, words, says):
    depth = tmp_path / "map.png"
    Image.fromarray(scene[0][:, :, 0]).save(depth)
    before = photo.read_bytes(), depth.read_bytes()
    places = {"photo": photo, "map": depth, "out": tmp_path / "never.png", "folder": tmp_path}
    assert says in refused(photo, *(word.format(**places) for word in words))
    assert (photo.read_bytes(), depth.read_bytes()) == before


def test_a_second_run_over_a_folder_does_not_convert_the_results_of_the_first(cli, photo, tmp_path):
    for _ in range(2):
        code, _, err = cli("convert", tmp_path, "--depth-model", "cues")
        assert code == 0, err
        assert "1 converted" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.jpg", "photo_SBS.png"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--strength", "-5"), "strength: expected 0 to 20"),
        (("--strength", "500"), "strength: expected 0 to 20"),
        (("--strength", "nan"), "strength"),
        (("--strength", "lots"), "40px or 0.8deg"),
        (("--strength", "1deg"), "screen: degrees need one"),
        (("--strength", "900px"), "percent of the width"),
        (("--screen", "big"), "0.6x0.7"),
        (("--screen", "0x1"), "metres"),
        (("--convergence", "2"), "convergence: expected 0 to 1"),
        (("--layout", "hologram"), "sbs"),
        (("--anaglyph", "purple"), "dubois-red-cyan"),
        (("--view", "left"), "right, both"),
        (("--size", "huge"), "1920x1080"),
        (("--size", "4x4"), "too small"),
        (("--size", "99999x99999"), "over the limit"),
        (("--device", "tpu"), "cpu, cuda"),
        (("--format", "bmp"), "one of png"),
        (("--depth-model", "nothing.onnx"), "no such file"),
        (("--depth-model", "depth-anything-v2-small"), "secondeye models get"),
    ],
)
def test_options_out_of_range(refused, photo, words, says, monkeypatch, tmp_path):
    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path))
    assert says in refused(photo, *words)


def test_an_output_format_that_is_not_known_or_too_small(refused, photo):
    assert "end the name in" in refused(photo, out="x.xyz")
    assert "--format: expected one of png, jpg" in refused(photo, "--format", "gif")
    assert "WebP holds at most" in refused(photo, "--size", "9000x400", out="x.webp")


def make_onnx(path, inputs, outputs, op="Identity"):
    """A one-node ONNX model."""
    nodes = [helper.make_node(op, [inputs[0].name], [outputs[0].name])]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def test_onnx_files_that_are_no_depth_models(refused, photo, tmp_path):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"this is not a protobuf at all" * 10)
    assert "not an ONNX model" in refused(photo, "--depth-model", junk)
    words = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 5])
    same = helper.make_tensor_value_info("out", TensorProto.INT64, [1, 5])
    text = make_onnx(tmp_path / "text.onnx", [words], [same])
    assert "expected one float picture input" in refused(photo, "--depth-model", text)
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 32, 32])
    colour = make_onnx(tmp_path / "colour.onnx", [picture], [other])
    assert "expected one map" in refused(photo, "--depth-model", colour)
