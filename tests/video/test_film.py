# SPDX-License-Identifier: Apache-2.0
"""Films from end to end: time, sound, tags, layouts, kills, processes, and what cannot be a film."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kills import kill_with_a_segment

import secondeye
from secondeye import FilmConfig, InvalidInputError, MediaError, StereoConfig, convert_video

FAST = {"codec": "h264", "preset": "ultrafast"}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_time_sound_and_tags_are_the_sources(cli, clip, tmp_path, look_at, suffix):
    out = tmp_path / f"out{suffix}"
    code, _, told = cli("convert", clip, "-o", out, "--depth-model", "cues", "--preset", "ultrafast", "--layout", "sbs")
    assert code == 0, told
    times, frames, sound, facts = look_at(out)
    want_times, _, want_sound, want_facts = look_at(clip)
    np.testing.assert_allclose(times, want_times, atol=0.0006)
    if suffix == ".mkv":  # the encoder's run-up before the film begins has no place there
        want_sound = [one for one in want_sound if one[0] >= 0]
    assert [data for _, data in sound] == [data for _, data in want_sound]
    np.testing.assert_allclose([t for t, _ in sound], [t for t, _ in want_sound], atol=0.0006)
    assert facts["tags"] == want_facts["tags"]
    assert frames[0].shape == (96, 320, 3)
    if suffix == ".mkv":
        assert facts["metadata"]["stereo_mode"] == "left_right"
    assert "60 frames, 1 shot" in told
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_rate_is_told(clip, tmp_path, suffix):
    """By the container and by the video in it, which players on televisions believe."""
    import av

    convert_video(clip, tmp_path / f"out{suffix}", FilmConfig(stereo=StereoConfig(depth="cues"), end=0.4, **FAST))
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert file.streams.video[0].average_rate == 25
        assert file.streams.video[0].codec_context.framerate == 25


def test_a_rate_that_the_timestamps_deny_is_not_believed(make_clip, tmp_path):
    """Without a rate in the container, the clock that the video names is taken for one."""
    from secondeye.runtime.video import media

    info = media.probe(make_clip(tmp_path / "slow.mkv", [100 * k for k in range(20)], sound=False))
    assert (info.rate, info.constant) == (10, True)
    assert not media.probe(make_clip(tmp_path / "vfr.mkv", [0, 40, 95, 120, 180], sound=False)).constant


def test_variable_frame_rate_is_kept(make_clip, tmp_path, look_at):
    rng = np.random.default_rng(4)
    source = make_clip(tmp_path / "vfr.mkv", np.cumsum(rng.integers(11, 90, 40)).tolist(), sound=False)
    convert_video(source, tmp_path / "out.mkv", FilmConfig(stereo=StereoConfig(depth="cues"), **FAST))
    times = np.array(look_at(source)[0])
    np.testing.assert_allclose(look_at(tmp_path / "out.mkv")[0], times - times[0], atol=0.0006)


def test_a_part_begins_at_zero_with_its_sound(clip, tmp_path, look_at):
    config = FilmConfig(stereo=StereoConfig(depth="cues"), start=0.8, end=1.6, **FAST)
    convert_video(clip, tmp_path / "part.mkv", config)
    times, _, sound, _ = look_at(tmp_path / "part.mkv")
    np.testing.assert_allclose(times, np.arange(20) * 0.04, atol=0.0006)
    original = dict(look_at(clip)[2])
    shifted = {data: t for t, data in original.items()}
    assert all(abs(shifted[data] - 0.8 - t) < 0.0011 for t, data in sound)
    assert 0 <= sound[0][0] < 1024 / 48000
    assert 0.75 < sound[-1][0] < 0.8


def test_the_left_view_is_the_source(clip, tmp_path, look_at):
    config = FilmConfig(stereo=StereoConfig(depth="cues"), codec="ffv1")
    convert_video(clip, tmp_path / "out.mkv", config)
    got, want = look_at(tmp_path / "out.mkv")[1], look_at(clip)[1]
    assert max(np.abs(a[:, :160].astype(int) - b).mean() for a, b in zip(got, want, strict=True)) < 1.0


def test_odd_sides_lose_a_line(make_clip, tmp_path, look_at):
    source = make_clip(tmp_path / "odd.avi", [40 * k for k in range(8)], size=(161, 97), sound=False, codec="mpeg4")
    convert_video(source, tmp_path / "out.mkv", FilmConfig(stereo=StereoConfig(depth="cues"), **FAST))
    assert look_at(tmp_path / "out.mkv")[3]["size"] == (320, 96)


RUN = """
import os, signal, sys, time
import secondeye
config = secondeye.FilmConfig(stereo=secondeye.StereoConfig(depth="cues"), preset="ultrafast", segment=24)
seen = 0

def killed(now):
    global seen
    seen += 1
    if seen == int(sys.argv[4]):
        time.sleep(float(sys.argv[5]))
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    progress = killed if len(sys.argv) > 4 else None
    secondeye.convert_video(sys.argv[1], sys.argv[2], config, jobs=int(sys.argv[3]), progress=progress)
"""


@pytest.fixture(scope="module")
def longer(tmp_path_factory, make_clip):
    """150 frames with a cut; and its conversion, uninterrupted."""
    folder = tmp_path_factory.mktemp("longer")
    (folder / "run.py").write_text(RUN)
    clip = make_clip(folder / "clip.mp4", [40 * k for k in range(150)], cut_at=70)
    subprocess.run([sys.executable, folder / "run.py", clip, folder / "whole.mp4", "1"], check=True)
    return folder


@pytest.mark.posix
def test_kills_change_nothing(longer, tmp_path):
    """Killed some milliseconds after some frame of each run: the moment does not hang on the machine's speed."""
    out = tmp_path / "killed.mp4"
    command = [sys.executable, str(longer / "run.py"), str(longer / "clip.mp4"), str(out), "1"]
    chance = random.Random(5)
    for frames in (3, 30, 20, 40):
        ended = subprocess.run([*command, str(frames), str(chance.uniform(0, 0.02))])
        assert ended.returncode == -signal.SIGKILL
        assert not out.exists()
    subprocess.run(command, check=True)
    assert out.read_bytes() == (longer / "whole.mp4").read_bytes()


def test_processes_change_nothing(longer, tmp_path):
    out = tmp_path / "shared.mp4"
    subprocess.run([sys.executable, longer / "run.py", longer / "clip.mp4", out, "3"], check=True)
    assert out.read_bytes() == (longer / "whole.mp4").read_bytes()


@pytest.mark.posix
def test_no_process_outlives_a_killed_run(longer, tmp_path):
    if not Path("/proc/self/task").exists():
        pytest.skip("needs Linux's /proc to see them")
    out = tmp_path / "killed.mp4"
    process = subprocess.Popen([sys.executable, longer / "run.py", longer / "clip.mp4", out, "2"])
    while not list(tmp_path.glob("killed.mp4.parts/[0-9]*.json")):
        assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(_runs(pid) for pid in children):
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in children)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_shots_are_counted(longer, tmp_path):
    config = FilmConfig(stereo=StereoConfig(depth="cues"), **FAST)
    report = convert_video(longer / "clip.mp4", tmp_path / "out.mp4", config)
    assert (report.frames, report.shots) == (150, 2)


def test_progress_tells_the_shot(longer, tmp_path):
    """Its number and length so far, after a stop in the middle of it too."""
    from secondeye.runtime.cli._film import status

    config = FilmConfig(stereo=StereoConfig(depth="cues"), segment=24, **FAST)
    seen = []

    def told(now):
        seen.append(now)
        if len(seen) == 125:
            raise MediaError("stopped here")

    with pytest.raises(MediaError, match="stopped here"):
        convert_video(longer / "clip.mp4", tmp_path / "out.mp4", config, progress=told)
    convert_video(longer / "clip.mp4", tmp_path / "out.mp4", config, progress=told)
    want = [(1, k + 1) if k < 70 else (2, k - 69) for k in range(150)]
    assert [(now.shot, now.shot_frames) for now in seen[:125]] == want[:125]
    again = seen[125:]
    assert again[0].done > 24
    assert [(now.shot, now.shot_frames) for now in again] == want[-len(again) :]
    assert {now.total for now in seen} == {150}
    text = status(again[-1], 12.34)
    assert text.startswith("12.3 frames/s, shot 2: 80 frames, slowest: ")
    assert text.rpartition(" ")[2] in again[-1].timings
    assert status(again[-1], None).startswith("shot 2")


def test_other_settings_do_not_mix(longer, tmp_path):
    out = tmp_path / "mixed.mp4"
    command = [sys.executable, str(longer / "run.py"), str(longer / "clip.mp4"), str(out), "1"]
    kill_with_a_segment(command, out)
    config = FilmConfig(stereo=StereoConfig(depth="cues", strength=1.0), preset="ultrafast", segment=24)
    with pytest.raises(InvalidInputError, match=r"stereo\.strength was 2\.5, now 1\.0"):
        convert_video(longer / "clip.mp4", out, config)
    # A part that was damaged is made again.
    part = sorted(tmp_path.glob("mixed.mp4.parts/*.seg"))[0]
    part.write_bytes(part.read_bytes()[:-9])
    subprocess.run(command, check=True)
    assert out.read_bytes() == (longer / "whole.mp4").read_bytes()


def test_a_truncated_film_gives_what_it_has(make_clip, tmp_path, look_at):
    whole = make_clip(tmp_path / "whole.mkv", [40 * k for k in range(60)], sound=False)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    convert_video(tmp_path / "cut.mkv", tmp_path / "out.mkv", FilmConfig(stereo=StereoConfig(depth="cues"), **FAST))
    assert 10 < len(look_at(tmp_path / "out.mkv")[0]) < 60


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.mp4", None, "no such file"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"this is no film, it is a sentence. " * 99, "no film that can be read"),
        ("list.mkv", b"#EXTM3U\nhttp://127.0.0.1:9/a.ts\n", "no film that can be read"),
    ],
)
def test_what_is_no_film_is_refused(cli, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, _, told = cli("convert", tmp_path / name, "-o", tmp_path / "out.mp4")
    assert code == 2
    assert message in told
    assert "Traceback" not in told
    assert not list(tmp_path.glob("out*"))


def test_a_film_without_pictures_is_refused(cli, tmp_path):
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        track = file.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        file.mux(track.encode(frame))
        file.mux(track.encode(None))
    code, _, told = cli("convert", tmp_path / "sound.mp4")
    assert (code, "has no video" in told) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--codec", "mpeg1"], "codec: expected one of"),
        (["-o", "OUT.gif"], "expected a name ending in"),
        (["-o", "OUT.webm"], "WebM takes the codec av1"),
        (["-o", "OUT.mov", "--codec", "ffv1"], "MOV does not take ffv1; choose .mkv"),
        (["-o", "OUT.avi", "--codec", "hevc-nvenc"], "AVI does not take hevc-nvenc; choose .mp4 or .mov or .mkv"),
        (["--start", "9", "--end", "3"], "0 <= start < end"),
        (["--start", "99"], "nothing is left"),
        (["--layout", "separate"], "for films expected"),
        (["--convergence", "auto,"], "expected 0 to 1, or auto"),
        (["--jobs", "0"], "1 to 64 processes"),
        (["--preview", "x.png"], "go with pictures"),
    ],
)
def test_bad_options_are_refused(cli, clip, tmp_path, words, message):
    words = [w.replace("OUT", str(tmp_path / "out")) for w in words]
    extra = [] if "-o" in words else ["-o", tmp_path / "out.mp4"]
    code, _, told = cli("convert", clip, *words, *extra)
    assert code == 2, told
    assert message in told


def test_urls_are_refused():
    with pytest.raises(InvalidInputError, match="only local files"):
        convert_video("http://127.0.0.1:9/film.mp4", "out.mp4")


def test_the_source_is_not_overwritten(clip):
    with pytest.raises(InvalidInputError, match="is the source itself"):
        convert_video(clip, clip)


def test_nowhere_to_write(clip, tmp_path):
    with pytest.raises(MediaError, match="does not exist"):
        convert_video(clip, tmp_path / "no" / "out.mp4")


def test_public_names():
    assert {"FilmConfig", "FilmReport", "convert_video"} <= set(secondeye.__all__)


def test_a_floating_window_covers_what_one_eye_alone_sees(make_clip, tmp_path, look_at):
    from secondeye.runtime.video.draw import window_of
    from secondeye.runtime.video.temporal import Steady

    config = FilmConfig(
        stereo=StereoConfig(depth="cues", strength=4.0, convergence=0.25), auto_convergence=False, floating_window=True,
        codec="ffv1",
    )  # fmt: skip
    steady = Steady(0, np.zeros((4, 4), np.float32), 0.0, False, (0.75, 0.1))
    assert window_of(config, steady, 1000) == (20, 0)  # 4 % of the width, half of the depth in front of the screen
    assert window_of(config, Steady(0, steady.depth, 0.0, False, (0.2, 1.0)), 1000) == (0, 30)
    source = make_clip(tmp_path / "film.mkv", [40 * k for k in range(6)], sound=False)
    report = convert_video(source, tmp_path / "out.mkv", config)
    frame = look_at(tmp_path / "out.mkv")[1][3]
    width = report.shot_list[0].window / 100 * 160
    dark = frame.max(axis=(0, 2)) < 8
    bars = int(dark[:10].sum()), int(dark[310:].sum())
    assert max(bars) == round(width)
    assert max(bars) > 0


def test_what_lies_behind_the_screen_needs_no_window(clip, tmp_path):
    stereo = StereoConfig(depth="cues", convergence=1.0)
    config = FilmConfig(stereo=stereo, auto_convergence=False, floating_window=True, end=0.4, **FAST)
    report = convert_video(clip, tmp_path / "out.mkv", config)
    assert report.shot_list[0].window == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--codec", "h264-nvenc"], "h264_nvenc"),
        (["--preset", "quickest"], "does it have a preset 'quickest'"),
        (["--codec", "mv-hevc", "--preset", "quickest"], "does it have a preset 'quickest'"),
    ],
)
def test_an_encoder_that_does_not_start_is_told_first(cli, clip, tmp_path, words, message, monkeypatch):
    def load(_):
        raise AssertionError("a model was loaded")

    if "h264-nvenc" in words and shutil.which("nvidia-smi"):
        pytest.skip("a GPU that encodes")
    monkeypatch.setattr("secondeye.runtime.converter.StereoConverter.load", load)
    code, _, told = cli("convert", clip, "-o", tmp_path / "out.mp4", *words)
    assert code != 0
    assert message in told
    assert not list(tmp_path.iterdir())
