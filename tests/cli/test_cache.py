# SPDX-License-Identifier: Apache-2.0
"""``secondeye cache``: what is kept is shown and removed, but never the key, and nothing under a build that runs."""

import pytest

from secondeye.runtime.files import try_lock


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path))
    for name, size in (("models/m/model.onnx", 2), ("engines/pieces/p/graph.onnx", 3), ("kernels/k", 1)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(size << 20))
    (tmp_path / "engines" / "build.lock").touch()
    (tmp_path / "engine.key").write_bytes(bytes(32))
    return tmp_path


def left(home):
    return sorted(p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file())


def test_what_is_kept_is_shown_with_its_size(cli, home):
    code, out, _ = cli("cache")
    assert code == 0
    assert out.splitlines()[0] == str(home)
    sizes = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:]}
    assert sizes == {"models": "2.0", "builds": "3.0", "kernels": "1.0"}
    assert len(left(home)) == 5


def test_what_is_named_goes_and_the_key_stays(cli, home):
    assert cli("cache", "--clear", "builds")[2] == "builds: 3.0 MiB removed\n"
    assert left(home) == ["engine.key", "engines/build.lock", "kernels/k", "models/m/model.onnx"]
    assert cli("cache", "--clear", "all")[0] == 0
    assert left(home) == ["engine.key", "engines/build.lock"]
    assert cli("cache", "--clear", "all")[0] == 0  # of nothing


def test_a_build_that_runs_keeps_its_pieces(cli, home):
    with (home / "engines" / "build.lock").open("a+b") as lock:
        assert try_lock(lock)
        code, _, err = cli("cache", "--clear", "builds")
    assert code == 2
    assert "a build is running" in err
    assert len(left(home)) == 5


def test_another_word_removes_nothing(cli, home):
    code, _, err = cli("cache", "--clear", "models", "--clear", "everything")
    assert code == 2
    assert "got everything" in err
    assert len(left(home)) == 5
