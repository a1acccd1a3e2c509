# SPDX-License-Identifier: Apache-2.0
"""Objects of films: key frames, what is carried between them, and that a film is the same however it was made."""

import subprocess
import sys

import numpy as np
import pytest
from networks import brightness_network

from secondeye import FilmConfig, InvalidInputError, StereoConfig, convert_video
from secondeye.runtime.sample import render_sample
from secondeye.runtime.video.look import Look, look
from secondeye.runtime.video.objects import ObjectTrack, with_subject

HEIGHT, WIDTH = 96, 160


class Teacher:
    """Knows the objects of a moving scene; counts how often it is asked."""

    def __init__(self, labels, confidence=1.0):
        self.labels, self.confidence, self.at, self.asked = labels, confidence, 0, []

    def __call__(self, picture):
        self.asked.append(self.at)
        return self.labels[:, self.at * 2 : self.at * 2 + WIDTH].copy(), self.confidence


@pytest.fixture(scope="module")
def scene():
    """A wide picture, its nearness, and its objects: the near and the far things."""
    picture, nearness = render_sample(WIDTH + 120, HEIGHT)
    return picture, nearness, (1 + np.digitize(nearness, np.quantile(nearness, (0.4, 0.8)))).astype(np.uint16)


def run(scene, track, teacher, frames, first=0, cut_at=None):
    picture, nearness, _ = scene
    before, given = None, []
    for k in range(first, first + frames):
        part = slice(2 * k, 2 * k + WIDTH)
        pixels = np.ascontiguousarray(picture[:, part])
        if cut_at is not None and k >= cut_at:
            pixels = np.ascontiguousarray(255 - pixels[::-1])
        teacher.at = k
        before = look(pixels, np.ascontiguousarray(nearness[:, part], np.float32), before)
        given.append(track(k, pixels, before))
    return given


def test_key_frames_are_every_nth_and_the_first_of_a_shot(scene):
    teacher = Teacher(scene[2])
    track = ObjectTrack(teacher, 12, 0)
    run(scene, track, teacher, 40, cut_at=30)
    assert {0, 12, 24, 30, 36} <= set(teacher.asked)
    assert track.keys == len(teacher.asked) < 9


def test_labels_move_with_the_picture_and_do_not_drift(scene):
    teacher = Teacher(scene[2])
    given = run(scene, ObjectTrack(teacher, 24, 0), teacher, 15)
    assert teacher.asked == [0]
    for k in (1, 7, 14):
        true = scene[2][:, 2 * k : 2 * k + WIDTH]
        known = given[k] != 0
        assert known.mean() > 0.6
        assert (given[k] == true)[known].mean() > 0.95
        stale = scene[2][:, :WIDTH]  # what standing still would give
    assert (given[14] != true)[known].mean() < 0.5 * (stale != true)[known].mean()


def test_when_too_much_is_unknown_it_is_asked_again(scene):
    teacher = Teacher(scene[2])
    picture, nearness, labels = scene
    teacher.labels = np.tile(labels, (1, 4))
    track, before = ObjectTrack(teacher, 48, 0), None
    wide, near = np.tile(picture, (1, 3, 1)), np.tile(nearness, (1, 3)).astype(np.float32)
    for k in range(16):  # 10 pixels a frame: after a few frames much of the first is out of sight
        pixels = np.ascontiguousarray(wide[:, 10 * k : 10 * k + WIDTH])
        before = look(pixels, np.ascontiguousarray(near[:, 10 * k : 10 * k + WIDTH]), before)
        track(k, pixels, before)
    assert 2 <= track.keys <= 8


def test_labels_depend_on_no_more_than_the_last_key_frame(scene):
    teacher = Teacher(scene[2])
    whole = run(scene, ObjectTrack(teacher, 12, 0), teacher, 36)
    later = run(scene, ObjectTrack(teacher, 12, 7), teacher, 29, first=7)
    assert later[:5] == [None] * 5
    for k in range(12, 36):
        np.testing.assert_array_equal(whole[k], later[k - 7])


def test_an_unsure_teacher_leaves_frames_without_labels(scene):
    teacher = Teacher(scene[2], confidence=0.3)
    assert run(scene, ObjectTrack(teacher, 12, 0), teacher, 14) == [None] * 14
    assert teacher.asked == [0, 12]


def test_the_subject_is_the_near_object_in_the_middle():
    depth = np.full((60, 80), 0.2, np.float32)
    labels = np.ones((60, 80), np.uint16)
    for name, (top, left), near in ((2, (20, 30), 0.6), (3, (0, 60), 0.9)):
        depth[top : top + 20, left : left + 20], labels[top : top + 20, left : left + 20] = near, name
    plain = Look(np.zeros((60, 80), np.uint8), depth, (0.1, 1.0, 0.25))
    assert with_subject(plain, labels).marks[:3] == pytest.approx((0.1, 1.0, 0.6))
    assert with_subject(plain, None) is plain
    assert with_subject(plain, np.zeros_like(labels)) is plain


RUN = """
import sys
import secondeye
stereo = secondeye.StereoConfig(depth="cues", segment=sys.argv[4])
config = secondeye.FilmConfig(stereo=stereo, preset="ultrafast", segment=24, key_every=int(sys.argv[5]))
if __name__ == "__main__":
    secondeye.convert_video(sys.argv[1], sys.argv[2], config, jobs=int(sys.argv[3]))
"""


def test_a_film_with_objects_is_the_same_for_any_processes_and_after_a_stop(make_clip, tmp_path):
    network = brightness_network(tmp_path / "net.onnx")
    clip = make_clip(tmp_path / "clip.mp4", [40 * k for k in range(100)], cut_at=55, sound=False)
    (tmp_path / "run.py").write_text(RUN)
    for name, jobs in (("one.mp4", "1"), ("three.mp4", "3")):
        command = [sys.executable, tmp_path / "run.py", clip, tmp_path / name, jobs, network, "17"]
        subprocess.run(command, check=True)
    whole = (tmp_path / "one.mp4").read_bytes()
    assert (tmp_path / "three.mp4").read_bytes() == whole

    stereo = StereoConfig(depth="cues", segment=network)
    config = FilmConfig(stereo=stereo, preset="ultrafast", segment=24, key_every=17)

    def stop(told):
        if told.done == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_video(clip, tmp_path / "stopped.mp4", config, progress=stop)
    report = convert_video(clip, tmp_path / "stopped.mp4", config)
    assert report.reused >= 24
    assert (tmp_path / "stopped.mp4").read_bytes() == whole
    assert report.timings["objects"] > 0
    config = FilmConfig(stereo=StereoConfig(depth="cues"), preset="ultrafast", segment=24)
    plain = convert_video(clip, tmp_path / "plain.mp4", config)
    assert plain.output.read_bytes() != whole


def test_another_segmenter_does_not_go_on_with_the_parts(clip, tmp_path):
    network = brightness_network(tmp_path / "net.onnx")

    def config():
        return FilmConfig(stereo=StereoConfig(depth="cues", segment=network), preset="ultrafast", segment=24)

    def stop(told):
        if told.done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_video(clip, tmp_path / "out.mp4", config(), progress=stop)
    brightness_network(network, outputs=3)
    with pytest.raises(InvalidInputError, match=r"other settings \(stereo\.segment was"):
        convert_video(clip, tmp_path / "out.mp4", config())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--segment", "labels.png"], "labels of one picture"),
        (["--key-every", "49"], "expected 1 to 48 frames, got 49"),
    ],
)
def test_what_does_not_fit_a_film_is_a_sentence(cli, clip, tmp_path, options, told):
    code, _, err = cli("convert", clip, "-o", tmp_path / "out.mp4", *options)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out.mp4").exists()
