# SPDX-License-Identifier: Apache-2.0
"""What a frame costs by counting: a network's operations, the stages' bytes, and what that makes on a Jetson."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

# Published: dense fp16 TFLOP/s of the tensor cores, fp32 TFLOP/s, GB/s of memory, GiB of memory.
DEVICES = {
    "Orin Nano 8 GB": (10.2, 1.28, 68.0, 8),
    "Orin NX 16 GB": (15.0, 1.88, 102.4, 16),
    "AGX Orin 64 GB": (42.6, 5.32, 204.8, 64),
    "Thor T5000": (257.0, 8.06, 273.0, 128),
}
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920), "2160p": (2160, 3840)}
SLOWER = 2.5  # a well-made engine takes up to this much more than its floor


def network_flops(path: Path, height: int, width: int) -> float | None:
    """Multiplications and additions of an ONNX network's convolutions and matrix products; None without onnx."""
    try:
        import onnx
        from onnx import shape_inference
    except ImportError:
        return None
    model = onnx.load(str(path))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, value in zip(dims, (1, 3, height, width), strict=True):
        dim.dim_value = value
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, list[int]] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0.0
    for node in graph.node:
        out = shapes.get(node.output[0], [])
        if node.op_type == "Conv":
            total += 2.0 * float(np.prod(out)) * float(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "ConvTranspose":
            total += 2.0 * float(np.prod(shapes[node.input[0]])) * float(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("MatMul", "Gemm") and shapes.get(node.input[0]):
            total += 2.0 * float(np.prod(out)) * shapes[node.input[0]][-1]
    return total


def warp_bytes(height: int, width: int) -> int:
    """Bytes that a frame's warp has to move, each input read once and each output written once: upsample, widen and
    smooth, the disparity of the view, warp with holes and map, fill."""
    n = height * width
    return n * (3 + 4) + n * 8 + n * 8 + n * 8 + n * (3 + 4 + 3 + 1 + 4) + n * (3 + 1 + 4 + 3)


def pack_bytes(height: int, width: int) -> int:
    """Bytes that side by side moves: two views read, one picture written."""
    return height * width * 12


def stage_counts(height: int, width: int, flops: float | None) -> dict[str, dict[str, float]]:
    """Operations and bytes per stage of a frame."""
    counts: dict[str, dict[str, float]] = {
        "warp": {"mbytes": round(warp_bytes(height, width) / 1e6, 2)},
        "pack": {"mbytes": round(pack_bytes(height, width) / 1e6, 2)},
    }
    if flops is not None:
        counts["depth"] = {"gflop": round(flops / 1e9, 3)}
    return counts


def presets(flops: float, name: str) -> Table:
    """For every Jetson the precision and the largest picture whose counted frame fits into 1/30 and 1/60 s."""
    table = Table(
        title=f"Jetsons, counted, not measured: milliseconds of a frame with\n{name}: floor to {SLOWER} times\n"
        "the floor, and the largest picture that then fits at 30 and 60 frames/s",
        box=box.SIMPLE,
        padding=(0, 1),
        pad_edge=False,
    )
    for heading in ("device", "", "network", *SIZES, "30/s", "60/s"):
        table.add_column(heading, justify="left" if heading in ("device", "") else "right", no_wrap=True)
    for device, (half, single, bandwidth, _) in DEVICES.items():
        for precision, tflops in (("fp16", half), ("fp32", single)):
            network = flops / tflops / 1e9
            floors = {
                size: network + (warp_bytes(h, w) + pack_bytes(h, w)) / bandwidth / 1e6
                for size, (h, w) in SIZES.items()
            }
            fits = [
                next((size for size, ms in reversed(floors.items()) if SLOWER * ms <= 1000 / rate), "none")
                for rate in (30, 60)
            ]
            table.add_row(
                device, precision, f"{network:.2f}", *(f"{ms:.1f}-{SLOWER * ms:.0f}" for ms in floors.values()),
                *fits,
            )  # fmt: skip
    return table
