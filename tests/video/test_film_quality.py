# SPDX-License-Identifier: Apache-2.0
"""Films in quality mode, over a small true bundle: painted where the warp has nothing, and the same after a kill."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from bundles import make_bundle
from kills import kill_with_a_segment

from secondeye import FilmConfig, InvalidInputError, StereoConfig, convert_video

RUN = """
import sys
import secondeye
clip, out, bundle, jobs = sys.argv[1:]
stereo = secondeye.StereoConfig(mode="quality", bundle=bundle, steps=2, strength=6.0)
config = secondeye.FilmConfig(stereo=stereo, preset="ultrafast", segment=24)
if __name__ == "__main__":
    secondeye.convert_video(clip, out, config, jobs=int(jobs))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("q") / "bundle", prediction=0.5)


@pytest.fixture(scope="module")
def film(tmp_path_factory, make_clip):
    """54 frames: three segments."""
    return make_clip(tmp_path_factory.mktemp("film") / "film.mkv", [40 * k for k in range(54)], sound=False)


def test_the_command_paints_what_the_warp_does_not_show(cli, film, bundle, tmp_path, look_at):
    words = ["convert", film, "--codec", "ffv1", "--depth-model", "cues", "--strength", "6", "--end", "0.4"]
    quality = ["--mode", "quality", "--bundle", bundle, "--steps", "2"]
    for name, more in (("fast.mkv", []), ("quality.mkv", quality), ("again.mkv", quality)):
        code, _, told = cli(*words, "-o", tmp_path / name, *more, "-v")
        assert code == 0, told
    assert "denoise" in told
    fast, painted, again = (look_at(tmp_path / f"{name}.mkv")[1] for name in ("fast", "quality", "again"))
    assert len(painted) == 10
    for a, b, c in zip(fast, painted, again, strict=True):
        apart = np.abs(a.astype(int) - b).max(axis=2)
        assert apart[:, :160].max() <= 3  # the left view is the source
        changed = (apart[:, 160:] > 8).mean()
        assert 0.002 < changed < 0.4  # holes and their borders, no more
        np.testing.assert_array_equal(b, c)


def test_maps_of_the_films_own_are_painted_by(film, bundle, tmp_path, look_at):
    """What the depth model said, given as maps, is painted alike."""
    fast = StereoConfig(depth="cues", widen=0, strength=6.0)
    plain = FilmConfig(stereo=fast, auto_convergence=False, codec="ffv1", end=0.4)
    convert_video(film, tmp_path / "maps.mkv", replace(plain, layout="disparity", end=None))
    quality = replace(plain, stereo=replace(fast, mode="quality", bundle=bundle, steps=2))
    convert_video(film, tmp_path / "want.mkv", quality)
    own = replace(quality, depth_map=str(tmp_path / "maps.mkv"))
    convert_video(film, tmp_path / "got.mkv", own)
    want, got = (look_at(tmp_path / f"{name}.mkv")[1] for name in ("want", "got"))
    np.testing.assert_array_equal(np.stack(got), np.stack(want))


@pytest.mark.posix
def test_kills_and_processes_change_nothing(film, bundle, tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, tmp_path / "run.py", film]
    subprocess.run([*command, tmp_path / "whole.mp4", bundle, "1"], check=True)
    subprocess.run([*command, tmp_path / "shared.mp4", bundle, "2"], check=True)
    assert (tmp_path / "shared.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    out = tmp_path / "killed.mp4"
    kill_with_a_segment([*command, out, bundle, "1"], out)
    assert not out.exists(), "the kill came too late"
    moved = shutil.copytree(bundle, tmp_path / "moved")  # the same bundle elsewhere is the same
    other = make_bundle(tmp_path / "other", prediction=0.25)
    stereo = StereoConfig(mode="quality", bundle=other, steps=2, strength=6.0)
    with pytest.raises(InvalidInputError, match=r"other settings .*bundle"):
        convert_video(film, out, FilmConfig(stereo=stereo, preset="ultrafast", segment=24))
    subprocess.run([*command, out, moved, "1"], check=True)
    assert out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_what_a_film_does_not_take(cli, film, bundle, tmp_path):
    for words, message in (
        (["--bundle", bundle, "--conditioning", "authors"], "conditioning"),
        ([], "needs a bundle"),
        (["--bundle", tmp_path], "not a bundle"),
        (["--bundle", tmp_path / "none"], "no such bundle"),
    ):
        code, _, told = cli("convert", film, "-o", tmp_path / "out.mkv", "--mode", "quality", *words)
        assert code == 2, told
        assert message in told
