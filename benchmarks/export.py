# SPDX-License-Identifier: Apache-2.0
"""A full-size Mono2Stereo export: time, memory and bytes.

    python -m secondeye.benchmarks.export [--precision fp16] [--shape 768x1280] [--run 256x384] [--json FILE]

Makes files of the real ones' names, shapes and sizes with seeded random weights (UNet of 866 million parameters as a
torch pickle in float32, Stable Diffusion 2's autoencoder and text encoder, Depth Anything V2 Small), builds a bundle of
them with the command that a user runs, as a process of its own, and tells what that took. ``--run`` then paints one
picture with the bundle. Needs 8 GB of disk beside the bundle.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from secondeye.benchmarks.machine import console, machine
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.errors import ExportError, InvalidInputError
from secondeye.runtime.files import atomic_write, check_place

UNET = {
    "block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024,
    "layers_per_block": 2, "norm_num_groups": 32, "norm_eps": 1e-5, "use_linear_projection": True, "out_channels": 4,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}  # fmt: skip
VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4, "norm_num_groups": 32}
TEXT = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23,
    "vocab_size": 49408, "max_position_embeddings": 77, "hidden_act": "gelu",
}  # fmt: skip
SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "prediction_type": "v_prediction", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False,
}  # fmt: skip
DEPTH = (384, 12, 1536, 37, 64, [48, 96, 192, 384])


_BRANCH_ENDS = ("conv2.weight", "to_out.0.weight", "net.2.weight", "proj_out.weight")


def random_weights(make: Any, seed: int, branches: float = 1.0, *, device: str = "cpu") -> dict[str, Any]:
    """Seeded random tensors of a module's names and shapes: matrices keep their input's size, norms are ones.

    The last matrices of residual branches are `branches` times that. Another device has other numbers.
    """
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    with torch.device("meta"):
        wanted = make().state_dict()
    tensors = {}
    for name, like in wanted.items():
        if like.ndim >= 2:
            fan = like[0].numel()
            scale = branches if name.endswith(_BRANCH_ENDS) else 1.0
            tensors[name] = torch.randn(like.shape, generator=generator, device=device) * (scale / fan**0.5)
        else:
            ones = name.endswith(("weight", "gamma"))
            tensors[name] = (torch.ones if ones else torch.zeros)(like.shape, device=device)
    return tensors


def narrowed(config: dict[str, Any], share: float) -> dict[str, Any]:
    """A network's configuration with a share of its channels; heads and norms keep about the channels that each has."""
    widths = [round(width * share) for width in config["block_out_channels"]]
    heads = [max(1, int(n * share)) for n in config.get("attention_head_dim", ())]
    narrow = config | {"block_out_channels": widths, "norm_num_groups": round(config["norm_num_groups"] * share)}
    return narrow | ({"attention_head_dim": heads} if heads else {})


def make_sources(folder: Path, share: float = 1.0, branches: float = 1.0) -> None:
    """The files that a user of Mono2Stereo has, with random weights.

    Args:
        folder: is made.
        share: of the real networks' channels; below 1 the text encoder has 2 layers, since what it gives is folded.
        branches: of residual branches; at 1 every pixel of a random network depends on the whole picture, while in a
            trained one a branch adds little.
    """
    import torch
    from safetensors.torch import save_file

    # The rooms with torch in them are asked by name: the benchmarks' types are checked without it.
    diffusion = import_module("secondeye.export.models.diffusion")
    base = folder / "stable-diffusion-2"
    unet_config, vae_config = narrowed(UNET, share), narrowed(VAE, share)
    text_config = TEXT if share == 1.0 else TEXT | {"num_hidden_layers": 2}
    for part, config in (("unet", unet_config), ("vae", vae_config), ("text_encoder", text_config)):
        (base / part).mkdir(parents=True)
        (base / part / "config.json").write_text(json.dumps(config))
    (base / "scheduler").mkdir()
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    unet = {f"module.{n}": t for n, t in random_weights(lambda: diffusion.UNet(unet_config, 12), 1, branches).items()}
    torch.save({"model": unet}, folder / "mono2stereo.ckpt")
    del unet
    vae = random_weights(lambda: diffusion.Autoencoder(vae_config), 2, branches)
    save_file(vae, base / "vae" / "diffusion_pytorch_model.safetensors")
    text = import_module("secondeye.export.models.clip_text")
    named = {f"text_model.{n}": t for n, t in random_weights(lambda: text.TextEncoder(text_config), 3).items()}
    save_file(named, base / "text_encoder" / "model.safetensors")
    depth = import_module("secondeye.export.models.depth_anything_v2")
    torch.save(random_weights(lambda: depth.DepthAnythingV2(*DEPTH), 4), folder / "depth_anything_v2_vits.pth")


def _build(sources: Path, work: Path, arguments: list[str]) -> dict[str, Any]:
    """Run ``secondeye build-engine``; seconds per piece, the greatest resident memory, the bundle's bytes."""
    command = [
        sys.executable, "-m", "secondeye", "build-engine", "mono2stereo",
        "--checkpoint", str(sources / "mono2stereo.ckpt"), "--base", str(sources / "stable-diffusion-2"),
        "--depth", str(sources / "depth_anything_v2_vits.pth"),
        "--out", str(work / "bundle"), "--cache", str(work / "cache"), *arguments,
    ]  # fmt: skip
    begun = time.perf_counter()
    steps: list[tuple[float, str]] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            steps.append((time.perf_counter() - begun, line.strip()))
            typer.echo(f"{steps[-1][0]:7.1f} s  {line.strip()}", err=True)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise ExportError(f"the build failed after {seconds:.0f} s ({steps[-1][1] if steps else 'no output'}).")
    pieces: dict[str, float] = {}
    for (start, line), (end, _) in zip(steps, [*steps[1:], (seconds, "")], strict=True):
        piece = line.partition(":")[0]
        pieces[piece] = round(pieces.get(piece, 0.0) + end - start, 1)
    files = {path.name: path.stat().st_size for path in sorted((work / "bundle").iterdir())}
    manifest = json.loads((work / "bundle" / "manifest.json").read_text())
    return {
        "seconds": round(seconds, 1),
        "seconds_per_piece": {k: v for k, v in pieces.items() if k in (*manifest["engines"], "sources", "bundle")},
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
        "bundle_gb": round(sum(files.values()) / 1e9, 3),
        "files": files,
        "errors": {name: one["error"] for name, one in manifest["engines"].items()},
    }


PAINT = """
import json, resource, sys, time
from secondeye import StereoConfig, StereoConverter
from secondeye.runtime.sample import render_sample
bundle, height, width, steps = sys.argv[1], *map(int, sys.argv[2:])
begun = time.perf_counter()
converter = StereoConverter(StereoConfig(
    mode="quality", bundle=bundle, scheduler="warped", steps=steps, compose="generated"))
picture, _ = render_sample(width, height)
converter.load()
opened = time.perf_counter() - begun
frame = converter.convert(picture)
print(json.dumps({"size": f"{width} x {height}", "steps": steps, "seconds_to_open": round(opened, 1),
    "ms": {k: round(v) for k, v in frame.timings.items()},
    "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)}))
"""


def _paint(bundle: Path, height: int, width: int, steps: int) -> dict[str, Any]:
    """One picture through quality mode, in a process of its own."""
    command = [sys.executable, "-c", PAINT, str(bundle), str(height), str(width), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportError(f"painting failed ({done.stderr.strip().splitlines()[-1] if done.stderr else 'killed'}).")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8 or int4.")] = "fp16",
    shape: Annotated[str, typer.Option(help="As build-engine takes it.")] = "128x128:768x1280:1088x1920",
    backend: Annotated[str, typer.Option(help="onnx, tensorrt or tensorrt-rtx.")] = "onnx",
    target: Annotated[str, typer.Option(help="GPU architectures of plans.")] = "auto",
    run: Annotated[str | None, typer.Option(help="Paint one picture of HEIGHTxWIDTH with the bundle.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of that picture.")] = 2,
    folder: Annotated[
        Path | None, typer.Option(help="Keep sources and bundle here; a second run takes them up.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results.")] = None,
) -> None:
    """Export a full-size model with random weights and tell what it takes."""
    if json_file is not None:
        check_place(json_file)
    size = [int(n) for n in run.split("x")] if run and run.replace("x", "").isdigit() and run.count("x") == 1 else []
    if run and not size:
        raise InvalidInputError(f"--run: expected HEIGHTxWIDTH such as 256x384, got {run!r}.")
    home = folder or Path(tempfile.mkdtemp(prefix="secondeye-export-"))
    try:
        sources = home / "sources"
        if not (sources / "depth_anything_v2_vits.pth").is_file():
            shutil.rmtree(sources, ignore_errors=True)
            # Forked, so that what random weights take is not counted with the build.
            code = "import sys; from pathlib import Path; from secondeye.benchmarks.export import make_sources; "
            subprocess.run([sys.executable, "-c", f"{code}make_sources(Path(sys.argv[1]))", str(sources)], check=True)
        words = ["--precision", precision, "--shape", shape, "--backend", backend]
        if backend != "onnx":
            words += ["--target", target]
        result: dict[str, Any] = {
            "machine": machine(),
            "load_average": os.getloadavg()[0],
            "precision": precision,
            "backend": backend,
        }
        result |= _build(sources, home, words)
        if size:
            result["painted"] = _paint(home / "bundle", size[0], size[1], steps)
    finally:
        if folder is None:
            shutil.rmtree(home, ignore_errors=True)
    table = Table(title=f"Mono2Stereo at full size, {precision}, {backend}")
    table.add_column("what")
    table.add_column("value", justify="right")
    for name in ("seconds", "peak_memory_gib", "bundle_gb"):
        table.add_row(name.replace("_", " "), str(result[name]))
    for name, one in result["errors"].items():
        table.add_row(f"{name}: relative error", f"{one['relative_rms']:.2g}")
    console().print(table)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps(result, indent=1).encode())


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
