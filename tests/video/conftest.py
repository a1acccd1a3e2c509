# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import av
import numpy as np
import pytest

from secondeye.runtime.sample import render_sample


def write_clip(path, times, *, size=(160, 96), sound=True, cut_at=None, codec="libx264", audio="aac", tags=None):
    """A clip whose camera drifts over a rendered scene; `times` are its frames' timestamps, in 1/1000 s."""
    width, height = size
    wide, _ = render_sample(width + 2 * len(times), height)
    other = np.ascontiguousarray(255 - wide[::-1])
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        track = file.add_stream(audio, rate=48000) if sound else None
        for k, pts in enumerate(times):
            source = other if cut_at is not None and k >= cut_at else wide
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(source[:, 2 * k : 2 * k + width]), "rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if track is not None:
            samples = np.sin(np.arange(48 * times[-1]) * 0.05).astype(np.float32)
            for at in range(0, samples.size, 1024):
                sound_frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], "fltp", "mono")
                sound_frame.sample_rate, sound_frame.pts = 48000, at
                sound_frame.time_base = Fraction(1, 48000)
                file.mux(track.encode(sound_frame))
            file.mux(track.encode(None))
    return path


@pytest.fixture(scope="session")
def make_clip():
    """See write_clip."""
    return write_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """60 frames at 25 a second with sound."""
    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    return write_clip(path, [40 * k for k in range(60)], tags={"color_primaries": 1, "color_trc": 1, "colorspace": 1})


@pytest.fixture
def look_at():
    """Reads a film: (frame times in seconds, first frame's pixels, audio packets as (seconds, bytes), the stream)."""

    def read(path):
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            facts = {
                "size": (stream.width, stream.height),
                "aspect": stream.sample_aspect_ratio,
                "tags": tuple(
                    int(getattr(stream.codec_context, n)) for n in ("color_primaries", "color_trc", "colorspace")
                ),
                "metadata": dict(stream.metadata),
            }
            frames = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in file.decode(video=0)]
        with av.open(str(path)) as file:
            sound = [
                (round(float(p.pts * p.time_base), 6), bytes(p)) for p in file.demux(audio=0) if p.size
            ] if file.streams.audio else []  # fmt: skip
        return [t for t, _ in frames], [a for _, a in frames], sound, facts

    return read
