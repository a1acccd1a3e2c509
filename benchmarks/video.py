# SPDX-License-Identifier: Apache-2.0
"""Films end to end: frames a second, the share of each stage, beside a pure transcode; and memory over a long film.

    python -m secondeye.benchmarks.video [--json FILE]
    python -m secondeye.benchmarks.video --memory 20000 [--json FILE]

A made clip (a camera that drifts over a rendered scene, with grain) goes through `convert_video`, full side by side.
The pure transcode decodes the same clip and encodes the converted film's own pixels, with the same encoder and
settings: what any program must do that writes this film. Then every stage is run by itself, one after another, in the
same process:

  library  decoding, the depth network, encoding
  ours     pixels out of the decoder's frames, steady depth, disparity, warp, fill, layout, pixels into the encoder's

Processor time (of all threads) is what is compared: it depends least on what else the machine does.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from secondeye.benchmarks.machine import console, machine, memory_mib, result_place
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.sample import render_sample
from secondeye.runtime.video import media
from secondeye.runtime.video.config import FilmConfig
from secondeye.runtime.video.draw import Ring, draw_frame, read_frame
from secondeye.runtime.video.encode import SegmentWriter
from secondeye.runtime.video.film import convert_video
from secondeye.runtime.video.look import Look, look
from secondeye.runtime.video.temporal import TemporalState

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
OURS = ("pixels out", "steady", "disparity", "warp", "fill", "layout", "pixels in")


class Stages:
    """Wall and processor time of named stages, seconds."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what is done inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu


def made_film(path: Path, frames: int, width: int, height: int, *, grain: bool = True) -> None:
    """A camera that drifts over a rendered scene."""
    import av

    picture, _ = render_sample(width + 2 * min(frames, 400), height)
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(height, 2 * width, 1)).astype(np.float32) * 4
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "16"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for k in range(frames):
            x = 2 * (k % 400)
            pixels = picture[:, x : x + width]
            if grain:
                at = int(rng.integers(width))
                pixels = np.clip(pixels + noise[:, at : at + width], 0, 255).astype(np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")))
        file.mux(video.encode(None))


def transcode(source: Path, converted: list[Any], info: media.FilmInfo, config: FilmConfig, target: Path) -> Stages:
    """Decode the source, encode the converted film's frames."""
    stages = Stages()
    frames = media.frames(info)
    size = (converted[0][0].width, converted[0][0].height)
    writer = SegmentWriter(target, info, size, config.codec, config.quality, config.preset)
    for k, frame in enumerate(converted):
        with stages.stage("decode"):
            next(frames)
        with stages.stage("encode"):
            writer.encode(frame, int(info.pts[k]))
    with stages.stage("encode"):
        writer.close()
    return stages


def by_stage(info: media.FilmInfo, config: FilmConfig, target: Path) -> tuple[Stages, list[Any]]:
    """Every stage by itself, one after another; and the frames that were encoded."""
    stages, kept = Stages(), []
    converter = StereoConverter(config.stereo)
    depth = converter.load()
    read = media.PixelReader(info)
    state, before = TemporalState(), None
    waiting: list[Any] = []
    writer = SegmentWriter(target, info, (2 * info.width, info.height), config.codec, config.quality, config.preset)
    frames = media.frames(info)
    made, ring = 0, Ring()
    while True:
        with stages.stage("decode"):
            found = next(frames, None)
        ready = []
        if found is not None:
            with stages.stage("pixels out"):
                pixels, _ = read_frame(read, found[1], info, config)
            with stages.stage("depth network"):
                nearness = depth(pixels)
            with stages.stage("steady"):
                one: Look = look(pixels, nearness, before)
                before = one
                ready = state.push(one)
            waiting.append(pixels)
        else:
            with stages.stage("steady"):
                ready = state.flush()
        for steady in ready:
            wall, cpu = time.perf_counter(), time.process_time()
            frame, picture = draw_frame(converter, config, waiting.pop(0), None, steady, ring)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            total = 1e-3 * sum(frame.timings.values())
            for name, ms in (*frame.timings.items(), ("layout", 1e3 * max(0.0, wall - total))):
                stages.wall[name] = stages.wall.get(name, 0.0) + 1e-3 * ms
                stages.cpu[name] = stages.cpu.get(name, 0.0) + cpu * 1e-3 * ms / wall
            with stages.stage("pixels in"):
                shown = writer.prepared(writer.framed(picture))
            kept.append(shown)
            with stages.stage("encode"):
                writer.encode(shown, int(info.pts[made]))
            made += 1
        if found is None:
            break
    with stages.stage("encode"):
        writer.close()
    return stages, kept


def measure(name: str, frames: int, rounds: int, folder: Path) -> dict[str, Any]:
    """One size: frames a second, stages, and our part of the transcode."""
    width, height = SIZES[name]
    source = folder / f"{name}.mp4"
    made_film(source, frames, width, height)
    config = FilmConfig(stereo=StereoConfig())
    report = convert_video(source, folder / f"{name}_SBS.mp4", config)
    info = media.probe(source)
    parts, own, wall = [], [], []
    stages = pure = Stages()
    for _ in range(rounds):
        stages, kept = by_stage(info, config, folder / "ours.nut")
        pure = transcode(source, kept, info, config, folder / "pure.nut")
        ours = sum(stages.cpu[s] for s in OURS)
        own.append(ours)
        parts.append(ours / sum(pure.cpu.values()))
        wall.append(sum(stages.wall[s] for s in OURS) / sum(pure.wall.values()))
    ms = {s: round(1e3 * t / frames, 2) for s, t in stages.cpu.items()}
    return {
        "size": name, "frames": frames, "codec": config.codec,
        "end_to_end_frames_per_s": round(report.frames / report.seconds, 2),
        "stage_cpu_ms_a_frame": ms,
        "transcode_cpu_ms_a_frame": {s: round(1e3 * t / frames, 2) for s, t in pure.cpu.items()},
        "ours_cpu_ms_a_frame": round(1e3 * statistics.median(own) / frames, 2),
        "ours_of_transcode_cpu": round(statistics.median(parts), 3),
        "ours_of_transcode_cpu_each": [round(p, 3) for p in parts],
        "ours_of_transcode_wall": round(statistics.median(wall), 3),
    }  # fmt: skip


def memory_slope(frames: int, folder: Path) -> dict[str, Any]:
    """How this process's memory grows over a long film of small frames, MiB for 1000 of them."""
    source = folder / "long.mp4"
    made_film(source, frames, 64, 48, grain=False)
    seen: list[tuple[int, float]] = []

    def told(now: Any) -> None:
        if now.done % 100 == 0:
            seen.append((now.done, memory_mib()))

    config = FilmConfig(stereo=StereoConfig(depth="cues"), preset="ultrafast")
    convert_video(source, folder / "long_SBS.mp4", config, progress=told)
    settled = np.array([one for one in seen if one[0] >= frames // 5])
    slope, start = np.polyfit(settled[:, 0], settled[:, 1], 1)
    noise = float(np.std(settled[:, 1] - (slope * settled[:, 0] + start)))
    return {
        "frames": frames, "size": "64 x 48", "mib_for_1000_frames": round(1000 * float(slope), 4),
        "mib_over_the_film": round(float(slope) * (frames - frames // 5), 2), "noise_mib": round(noise, 2),
        "mib_at_start_and_end": [round(float(settled[0, 1]), 1), round(float(settled[-1, 1]), 1)],
    }  # fmt: skip


def main(
    frames: Annotated[int, typer.Option(min=30, help="Of each clip.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Of the stages and the transcode; medians are told.")] = 3,
    memory: Annotated[int, typer.Option(min=0, help="Measure memory over so many frames instead.")] = 0,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", callback=result_place, help="Write the results; what this run does not measure is kept there."
        ),
    ] = None,
) -> None:
    """Measure films end to end."""
    screen = console()
    kept: dict[str, Any] = {}
    if json_file is not None and json_file.exists():
        try:
            kept = {**json.loads(json_file.read_text("utf-8"))}
        except (ValueError, TypeError) as error:
            raise InvalidInputError(
                f"--json: {json_file} is there and no result of this benchmark ({error})."
            ) from error
    with tempfile.TemporaryDirectory() as name:
        if memory:
            result: dict[str, Any] = {"machine": machine(), "memory": memory_slope(memory, Path(name))}
            screen.print_json(json.dumps(result["memory"]))
        else:
            rows = [measure(size, frames, rounds, Path(name)) for size in SIZES]
            result = {"machine": machine(), "results": rows}
            for row in rows:
                table = Table(title=f"{row['size']}, full side by side, {row['codec']}: processor time a frame")
                for heading in ("stage", "ms", "of the transcode"):
                    table.add_column(heading, justify="left" if heading == "stage" else "right")
                total = sum(row["transcode_cpu_ms_a_frame"].values())
                for stage, ms in row["stage_cpu_ms_a_frame"].items():
                    table.add_row(stage + (" (ours)" if stage in OURS else ""), f"{ms:.1f}", f"{ms / total:.0%}")
                table.add_row(
                    "ours together", f"{row['ours_cpu_ms_a_frame']:.1f}", f"{row['ours_of_transcode_cpu']:.0%}"
                )
                table.add_row("pure transcode", f"{total:.1f}", "100%")
                screen.print(table)
                screen.print(f"end to end: {row['end_to_end_frames_per_s']} frames/s")
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps({**kept, **result}, indent=1).encode())


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
