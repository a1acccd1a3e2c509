# SPDX-License-Identifier: Apache-2.0
"""``secondeye doctor``: what this machine has, and what each missing thing would give."""

from __future__ import annotations

import os
import platform
from importlib import metadata, util

import typer

Row = tuple[str, bool, str]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> list[Row]:
    from secondeye import __version__, _native
    from secondeye.runtime.ops import isas

    memory = ""
    if hasattr(os, "sysconf"):
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB, "
    compiled, devices = _native.cuda_compiled(), _native.cuda_device_count()
    return [
        ("SecondEye", True, f"{__version__}, kernels {_native.version()}"),
        ("Python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("CPU", True, f"{_native.cpu_count()} cores, {memory}instruction sets {', '.join(isas())}"),
        (
            "CUDA build",
            compiled,
            "this build carries CUDA code"
            if compiled
            else "built without nvcc; with it on PATH a rebuild adds CUDA code",
        ),
        (
            "NVIDIA GPU",
            devices > 0,
            f"{devices} found" if devices else "none, or no driver; everything runs on the CPU",
        ),
    ]


def _runtimes() -> list[Row]:
    rows: list[Row] = []
    plain, gpu = _version("onnxruntime"), _version("onnxruntime-gpu")
    if plain and gpu:
        rows.append(
            (
                "ONNX Runtime",
                False,
                "both onnxruntime and onnxruntime-gpu are installed and overwrite each other; for a GPU: pip uninstall "
                "onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu",
            )
        )
    if util.find_spec("onnxruntime"):
        import onnxruntime as ort

        rows.append(("ONNX Runtime", True, f"{ort.__version__}: {', '.join(ort.get_available_providers())}"))
        cuda = "CUDAExecutionProvider" in ort.get_available_providers()
        why = (
            "depth on an NVIDIA GPU with --device cuda" if cuda else "pip install 'secondeye[cuda]' gives --device cuda"
        )
        rows.append(("  CUDA provider", cuda, why))
    else:
        rows.append(("ONNX Runtime", False, "missing; pip install onnxruntime gives every depth model"))
    from secondeye.runtime.errors import SecondEyeError
    from secondeye.runtime.plans import PACKAGES, need

    for backend, package in PACKAGES.items():
        try:
            rows.append((package.label, True, f"{need(backend).__version__}; build-engine --backend {backend}"))
        except SecondEyeError:
            gives = f"pip install 'secondeye[{package.extra}]' gives build-engine --backend {backend}"
            rows.append((package.label, False, gives))
    return rows


def _extras() -> list[Row]:
    gives = (
        ("huggingface-hub", "models", "secondeye models get"),
        ("uvicorn", "serve", "secondeye serve"),
        ("pyglet", "window", "secondeye live -o window"),
        ("nvidia-ml-py", "bench", "an NVIDIA GPU's watts and clocks in secondeye bench"),
        ("opencv-python-headless", "bench", "the benchmarks"),
        ("scikit-image", "bench", "SSIM in the benchmarks"),
        ("torch", "export", "training and exporting models"),
    )
    rows: list[Row] = []
    for name, extra, what in gives:
        version = _version(name)
        rows.append((name, bool(version), version or f"pip install 'secondeye[{extra}]' gives {what}"))
    return rows


def _pictures() -> list[Row]:
    import PIL
    from PIL import features

    rows: list[Row] = [("Pillow", True, PIL.__version__)]
    for name in ("jpg", "webp", "avif", "libtiff", "littlecms2"):
        have = bool(features.check(name))
        rows.append((f"  {name}", have, "yes" if have else "a Pillow wheel with it reads and writes that format"))
    rows.append(_films())
    return rows


def _films() -> Row:
    try:
        import av
        from av.codec import codecs_available
    except ImportError as error:
        return ("FFmpeg (PyAV)", False, f"films cannot be read: {error}")
    made = [name for name in ("libx264", "libx265", "libsvtav1", "h264_nvenc") if name in codecs_available]
    return ("FFmpeg (PyAV)", True, f"{av.__version__}, encoders {', '.join(made) or 'without H.264 and HEVC'}")


def _models() -> list[Row]:
    from secondeye.runtime.depth import BUILTIN, open_depth
    from secondeye.runtime.errors import SecondEyeError
    from secondeye.runtime.zoo import MODELS, local_path

    rows: list[Row] = []
    try:
        ours = open_depth(BUILTIN).runner == "kernels"  # type: ignore[attr-defined]  # a network
        rows.append(("built-in depth", True, f"opens, and runs {'on our own kernels' if ours else 'in ONNX Runtime'}"))
    except SecondEyeError as error:
        rows.append(("built-in depth", False, str(error)))
    here = [name for name in MODELS if local_path(name)]
    rows.append(("fetched models", bool(here), ", ".join(here) or "none; see: secondeye models list"))
    return rows


def doctor() -> None:
    """Print what this machine has, and what each missing thing would give."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for rows in (_machine(), _runtimes(), _models(), _pictures(), _extras()):
        for name, good, text in rows:
            table.add_row("[green]have[/]" if good else "[yellow]lack[/]", name, Text(text))
        table.add_section()
    Console().print(table)
    typer.echo("\nWhat is lacking is optional unless it says otherwise.")
