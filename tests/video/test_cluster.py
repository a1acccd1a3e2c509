# SPDX-License-Identifier: Apache-2.0
"""A film over a Ray cluster: the same bits, and workers that are lost."""

import importlib.metadata
import subprocess
import sys

import pytest

from secondeye import BackendUnavailableError

RUN = """
import functools, os, signal, sys
import secondeye
from secondeye.runtime.video.cluster import share_over_ray

def work(folder, group):
    if group == [1] and not os.path.exists(folder + "/lost"):
        open(folder + "/lost", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if group == [9]:
        raise secondeye.MediaError("no such thing")
    return group

if __name__ == "__main__":
    import ray

    clip, out, folder = sys.argv[1:]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    config = secondeye.FilmConfig(stereo=secondeye.StereoConfig(depth="cues"), preset="ultrafast", segment=24)
    secondeye.convert_video(clip, out + "/one.mp4", config)
    secondeye.convert_video(clip, out + "/ray.mp4", config, cluster="local")
    assert open(out + "/one.mp4", "rb").read() == open(out + "/ray.mp4", "rb").read()
    done = []
    work = functools.partial(work, folder)
    share_over_ray(work, [[0], [1], [2]], "local", done.append)
    assert sorted(done) == [[0], [1], [2]] and os.path.exists(folder + "/lost")
    try:
        share_over_ray(work, [[9]], "local", done.append)
    except secondeye.MediaError as error:
        print(error)
"""


@pytest.mark.skipif(not list(importlib.metadata.distributions(name="ray")), reason="ray is not installed")
def test_a_cluster_gives_the_same_bits_and_survives_lost_workers(tmp_path, clip):
    (tmp_path / "run.py").write_text(RUN)
    words = [sys.executable, tmp_path / "run.py", clip, tmp_path, tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no such thing" in done.stdout


def test_no_ray_is_told(monkeypatch):
    from secondeye.runtime.video.cluster import share_over_ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailableError, match=r"secondeye\[ray\]"):
        share_over_ray(print, [[0]], "local", print)
