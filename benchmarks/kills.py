# SPDX-License-Identifier: Apache-2.0
"""A film's conversion, killed again and again: is the file that comes out in the end the same?

    python -m secondeye.benchmarks.kills [--kills 100] [--json FILE]

A made clip of 20 seconds, with sound and cuts, is converted once without interruption. Then its conversion is begun,
killed (SIGKILL) at a random moment, begun again, killed again, until it is whole; and all that again, until there were
as many kills as asked for. Each finished file is held against the first, byte for byte.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from secondeye.benchmarks.machine import machine, result_place
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.errors import InternalError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.sample import render_sample

_RUN = """
import sys
import secondeye

if __name__ == "__main__":
    stereo = secondeye.StereoConfig(depth="cues")
    config = secondeye.FilmConfig(stereo=stereo, preset="ultrafast", segment=24)
    secondeye.convert_video(sys.argv[1], sys.argv[2], config, jobs=int(sys.argv[3]))
"""


def made_film(path: Path, frames: int, width: int, height: int) -> None:
    """A camera that drifts over rendered scenes, a cut every 90 frames, and a tone."""
    import av

    picture, _ = render_sample(width + 180, height)
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound: Any = file.add_stream("aac", rate=48000)
        for k in range(frames):
            scene = picture if k // 90 % 2 == 0 else 255 - picture[::-1]
            x = 2 * (k % 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(scene[:, x : x + width]), "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        wave = np.sin(np.arange(48000 * frames // 25) * 0.05).astype(np.float32)
        for at in range(0, wave.size, 1024):
            part = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], "fltp", "mono")
            part.sample_rate, part.pts, part.time_base = 48000, at, Fraction(1, 48000)
            file.mux(sound.encode(part))
        file.mux(sound.encode(None))


def _where(target: Path) -> str:
    """What a killed run was at."""
    folder = target.with_name(target.name + ".parts")
    if not (folder / "journal.json").exists():
        return "starting"
    done = len(list(folder.glob("*.json"))) - 1
    if list(target.parent.glob(f".{target.name}.*.part")):
        return "joining"
    return "first segment" if done == 0 else "later segments"


def main(
    kills: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seconds: Annotated[int, typer.Option(min=4, help="Length of the clip.")] = 20,
    width: Annotated[int, typer.Option(min=64)] = 320,
    height: Annotated[int, typer.Option(min=64)] = 180,
    jobs: Annotated[int, typer.Option(min=1, help="Processes of each run.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", callback=result_place, help="Write the results.")] = None,
) -> None:
    """Kill conversions at random moments and compare what comes out."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "run.py").write_text(_RUN)
        made_film(folder / "film.mp4", 25 * seconds, width, height)
        words = [sys.executable, str(folder / "run.py"), str(folder / "film.mp4")]
        begun = time.perf_counter()
        subprocess.run([*words, str(folder / "whole.mp4"), str(jobs)], check=True)
        whole = time.perf_counter() - begun
        wanted = (folder / "whole.mp4").read_bytes()
        done, finished, where = 0, 0, Counter[str]()
        while done < kills:
            target = folder / f"killed{finished}.mp4"
            # A new session, so that its processes die with it.
            process = subprocess.Popen([*words, str(target), str(jobs)], start_new_session=True)
            try:
                process.wait(timeout=rng.uniform(0.3, 0.6 * whole))
            except BaseException as error:  # Ctrl-C does not reach that session
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                done += 1
                where[_where(target)] += 1
                if not target.exists():
                    continue
            if process.returncode not in (0, -signal.SIGKILL):
                raise InternalError(f"a run failed with {process.returncode}.")
            if target.exists():
                if target.read_bytes() != wanted:
                    raise InternalError(f"after {done} kills the file differs from the uninterrupted one.")
                finished += 1
                target.unlink()
        if (target := folder / f"killed{finished}.mp4.parts").exists():
            subprocess.run([*words, str(target.with_suffix("")), str(jobs)], check=True)
            if target.with_suffix("").read_bytes() != wanted:
                raise InternalError("the last file differs from the uninterrupted one.")
            finished += 1
    result = {
        "machine": machine(), "clip": f"{seconds} s, {width} x {height}", "jobs": jobs, "kills": done,
        "killed_while": dict(where), "files_finished": finished, "files_that_differ": 0,
        "uninterrupted_s": round(whole, 1), "seed": seed,
    }  # fmt: skip
    Console().print_json(json.dumps(result))
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps(result, indent=1).encode())


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
