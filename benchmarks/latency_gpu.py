# SPDX-License-Identifier: Apache-2.0
"""A frame on a GPU: half side by side from RGB, with and without a depth network, on the device and from the host.

    python -m secondeye.benchmarks.latency_gpu [--part kernels ...] [--network NET.onnx] [--json FILE]
    python -m secondeye.benchmarks.latency_gpu --make-network NET.onnx

Parts: ``kernels`` (launches one after another, and as one CUDA graph), ``host`` (frames on the host, 1 and 3 lanes),
``torch``, ``compiled`` and ``ort`` (with the network, by PyTorch, by torch.compile, by ONNX Runtime's CUDA provider),
``live`` (sessions, on the CPU and on the GPU). The network is Depth Anything V2 Small's with random weights in float16,
at 518 x 924; the ONNX file is written by the project's exporter. Each part keeps the rows of others in the JSON file,
so that each may have a process of its own. ``--device cpu`` tries the program out.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from secondeye.benchmarks.export import DEPTH, random_weights
from secondeye.benchmarks.kernels_device import open_device
from secondeye.benchmarks.latency import frames_of, run
from secondeye.benchmarks.machine import console, machine, result_place
from secondeye.runtime import ops
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.errors import SecondEyeError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.frame import FramePath
from secondeye.runtime.live_config import LiveConfig

SIZES = {"1080p": (1080, 1920), "4k": (2160, 3840)}
INPUT = (518, 924)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PARTS = ("kernels", "host", "torch", "compiled", "ort", "live")
LOOK: dict[str, Any] = {"layout": "half-sbs", "strength": 2.5, "convergence": 0.5}
Row = dict[str, Any]


class Bench:
    """Where frames are, and how calls on them are timed."""

    def __init__(self, device: str, seconds: float, shape: tuple[int, int]) -> None:
        self.torch: Any = open_device() if device == "cuda" else import_module("torch")
        self.device, self.seconds, self.shape = device, seconds, shape
        self.compiled: Any = None

    def wait(self) -> None:
        """For all that was queued."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def row(self, part: str, size: str, what: str, call: Callable[[], object]) -> Row:
        """Frames one after another, each waited for; and as many as go, waited for at the end."""
        begun = time.perf_counter()
        for _ in range(3):
            call()
            self.wait()
        warm_s, times = time.perf_counter() - begun, list[float]()
        end = time.perf_counter() + self.seconds
        while (now := time.perf_counter()) < end or len(times) < 3:
            call()
            queued = time.perf_counter()
            self.wait()
            times.append((time.perf_counter() - now) * 1e3)
            host_ms = (queued - now) * 1e3
        count = max(3, min(200, int(self.seconds * 1e3 / statistics.median(times))))
        begun = time.perf_counter()
        for _ in range(count):
            call()
        self.wait()
        each = (time.perf_counter() - begun) / count * 1e3
        return figures(part, size, what, times) | {
            "queue_ms": round(each, 3), "host_ms": round(host_ms, 3), "warm_up_s": round(warm_s, 2)
        }  # fmt: skip

    def picture(self, size: tuple[int, int]) -> Any:
        """A frame, on the device."""
        return self.torch.from_numpy(frames_of(*size, 1)[0]).to(self.device)

    def path(self, size: tuple[int, int], *, graph: bool = True) -> FramePath:
        """For frames of this size and the network's map."""
        height, width = size
        options: dict[str, Any] = {"device": self.device, "graph": graph}
        return FramePath(width, height, map_size=(self.shape[1], self.shape[0]), **options)

    def out(self, size: tuple[int, int]) -> Any:
        """A stereo picture to write into."""
        return self.torch.empty((size[0], size[1], 3), dtype=self.torch.uint8, device=self.device)

    def nearness(self) -> Any:
        """A map with edges, 0 to 1."""
        y, x = np.mgrid[: self.shape[0], : self.shape[1]]
        steps = ((y // 40 + x // 60) % 5).astype(np.float32) / 4
        return self.torch.from_numpy(steps).to(self.device)


def figures(part: str, size: str, what: str, times: list[float]) -> Row:
    """Milliseconds of frames, as a row."""
    return {
        "part": part, "size": size, "what": what, "p50_ms": round(statistics.median(times), 3),
        "p99_ms": round(float(np.quantile(times, 0.99)), 3), "frames": len(times),
    }  # fmt: skip


def spread(torch: Any, depth: Any) -> Any:
    """The network's map as nearness 0 to 1, between its hundredths, without the host: float32 [h, w]."""
    values = depth.reshape(-1).sort().values
    rest = values.numel() // 100
    low, high = values[rest], values[-1 - rest]
    return ((depth - low) / torch.clamp(high - low, min=1e-6)).clamp(0, 1)


def network(torch: Any, shape: tuple[int, int], device: str) -> Any:
    """Depth Anything V2 Small with random weights, for inputs of one size: float32 [1, 3, h, w] -> [1, h, w]."""
    rooms = import_module("secondeye.export.models.depth_anything_v2")
    inside = import_module("secondeye.export.models.mono2stereo")._Depth
    model = rooms.DepthAnythingV2(*DEPTH)
    model.load_state_dict(random_weights(lambda: rooms.DepthAnythingV2(*DEPTH), 4))
    module = inside(model, *shape).eval().requires_grad_(False)
    return (module.half() if device == "cuda" else module).to(device)


def make_network(path: Path, shape: tuple[int, int]) -> dict[str, Any]:
    """The same as an ONNX file in float16."""
    graphs = import_module("secondeye.export.graphs")
    torch = import_module("torch")
    graph = graphs.Graph(
        name="depth", build=lambda: network(torch, shape, "cpu"), sizes=({},),
        inputs=(graphs.Tensor(name="picture", dtype="float32", shape=(1, 3, *shape)),),
        outputs=(graphs.Tensor(name="depth", dtype="float32", shape=(1, *shape)),),
    )  # fmt: skip
    told: dict[str, Any] = graphs.make_graph(graph, "fp16", path, lambda step: console().print(step))
    return told


def kernels(bench: Bench, name: str, size: tuple[int, int]) -> Iterator[Row]:
    """Frames and nearness on the device."""
    picture, nearness, out = bench.picture(size), bench.nearness(), bench.out(size)
    for what, graph in (("launches one after another", False), ("one CUDA graph", True)):
        path = bench.path(size, graph=graph)
        yield bench.row("kernels", name, what, partial(path, picture, nearness, out=out, **LOOK))


def host(bench: Bench, name: str, size: tuple[int, int]) -> Iterator[Row]:
    """Frames that lie on the host, and come back there; from submit to the picture, and all of them."""
    frames, nearness = frames_of(*size, 4), bench.nearness().cpu().numpy()
    out = np.empty((size[0], size[1], 3), np.uint8)
    path = bench.path(size)
    for lanes in (1, 3):
        pipe, begun, times = path.pipe(lanes), list[float](), list[float]()
        start = end = 0.0
        for k in range(1 << 30):
            if k == 2 * lanes:  # warm
                start, end, times = time.perf_counter(), time.perf_counter() + bench.seconds, []
            elif k > 2 * lanes + 3 and time.perf_counter() > end:
                break
            if len(begun) == lanes:
                pipe.wait(out)
                times.append((time.perf_counter() - begun.pop(0)) * 1e3)
            begun.append(time.perf_counter())
            pipe.submit(frames[k % 4], nearness, **LOOK)
        each = (time.perf_counter() - start) / len(times) * 1e3
        yield figures("host", name, f"through page-locked memory, {lanes} lane{'s' * (lanes > 1)}", times) | {
            "queue_ms": round(each, 3)
        }


def _by_torch(bench: Bench, part: str, module: Any, name: str, size: tuple[int, int], named: str) -> Iterator[Row]:
    torch, path = bench.torch, bench.path(size, graph=False)
    picture, out = bench.picture(size), bench.out(size)
    tensor = torch.empty((1, 3, *bench.shape), dtype=torch.float32, device=bench.device)

    def frame() -> None:
        ops.prepare(picture, *bench.shape, mean=MEAN, std=STD, out=tensor)
        path(picture, spread(torch, module(tensor)[0]), out=out, **LOOK)

    with torch.inference_mode():
        yield bench.row(part, name, f"{named}, the network alone", lambda: module(tensor))
        yield bench.row(part, name, f"{named}, whole frame", frame)
        if bench.device != "cuda":
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                frame()
        torch.cuda.current_stream().wait_stream(stream)
        want, graph = out.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            frame()
        out.zero_()
        graph.replay()
        row = bench.row(part, name, f"{named}, whole frame as one CUDA graph", graph.replay)
        yield row | {"same_picture": bool((out == want).all().item())}


def by_torch(bench: Bench, name: str, size: tuple[int, int]) -> Iterator[Row]:
    """The network by PyTorch, operator after operator."""
    module = network(bench.torch, bench.shape, bench.device)
    yield from _by_torch(bench, "torch", module, name, size, f"PyTorch {bench.torch.__version__}")


def compiled(bench: Bench, name: str, size: tuple[int, int]) -> Iterator[Row]:
    """The network by torch.compile."""
    if bench.compiled is None:
        bench.compiled = bench.torch.compile(network(bench.torch, bench.shape, bench.device))
    yield from _by_torch(bench, "compiled", bench.compiled, name, size, f"torch.compile {bench.torch.__version__}")


def by_ort(bench: Bench, name: str, size: tuple[int, int], file: Path) -> Iterator[Row]:
    """The network by ONNX Runtime on the same stream, its input and output bound where they are."""
    import onnxruntime as ort

    torch, graphed = bench.torch, (False, True) if bench.device == "cuda" else (False,)
    for graph in graphed:
        stream = torch.cuda.Stream() if bench.device == "cuda" else None
        options, provider = ort.SessionOptions(), "CPUExecutionProvider"
        settings: dict[str, str] = {}
        if stream is not None:
            provider = "CUDAExecutionProvider"
            settings = {"user_compute_stream": str(stream.cuda_stream), "enable_cuda_graph": str(int(graph))}
        session = ort.InferenceSession(str(file), options, providers=[(provider, settings)])
        if session.get_providers()[0] != provider:
            raise SecondEyeError(f"ONNX Runtime {ort.__version__} cannot start {provider}.")
        tensor = torch.empty((1, 3, *bench.shape), dtype=torch.float32, device=bench.device)
        depth = torch.empty((1, *bench.shape), dtype=torch.float32, device=bench.device)
        picture, out, path = bench.picture(size), bench.out(size), bench.path(size)
        binding, free = session.io_binding(), ort.RunOptions()
        free.add_run_config_entry("disable_synchronize_execution_providers", "1")
        place = bench.device, 0, np.float32
        binding.bind_input(session.get_inputs()[0].name, *place, list(tensor.shape), tensor.data_ptr())
        binding.bind_output(session.get_outputs()[0].name, *place, list(depth.shape), depth.data_ptr())
        near = torch.empty(bench.shape, dtype=torch.float32, device=bench.device)

        def alone(session: Any = session, free: Any = free, binding: Any = binding) -> None:
            session.run_with_iobinding(binding, free)

        def frame(
            alone: Any = alone, picture: Any = picture, tensor: Any = tensor, depth: Any = depth, near: Any = near,
            path: Any = path, out: Any = out,
        ) -> None:  # fmt: skip
            ops.prepare(picture, *bench.shape, mean=MEAN, std=STD, out=tensor)
            alone()
            near.copy_(spread(torch, depth[0]))
            path(picture, near, out=out, **LOOK)

        named = f"ONNX Runtime {ort.__version__} {provider}{', its CUDA graph' if graph else ''}"
        with torch.cuda.stream(stream) if stream is not None else torch.no_grad():
            yield bench.row("ort", name, f"{named}, the network alone", alone)
            yield bench.row("ort", name, f"{named}, whole frame", frame)


def live(bench: Bench, name: str, size: tuple[int, int]) -> Iterator[Row]:
    """Sessions, as fast as frames are taken; with the built-in network, and with a map that is there at once."""
    ready = bench.nearness().cpu().numpy()
    for device in ("cpu", bench.device) if bench.device == "cuda" else ("cpu",):
        for what, depth in (("a map that is ready", lambda _: ready), ("the built-in network", "builtin")):
            options: dict[str, Any] = {"device": device, "depth": depth, "policy": "every", "layout": "half-sbs"}
            row: Row = {"part": "live", "size": name, "what": f"session, {device}, {what}"}
            try:
                config = LiveConfig(width=size[1], height=size[0], **options)
                result = run(config, fps=0, seconds=max(1.0, bench.seconds), stall=False, changes=False)
            except SecondEyeError as error:
                yield row | {"refused": str(error)}
                continue
            yield row | {
                "p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"], "frames": result["frames"],
                "queue_ms": round(1e3 / result["fps_out"], 3), "stages": result["stages"],
                "cores_used": result["cores_used"],
            }  # fmt: skip


def device_of(bench: Bench) -> dict[str, Any]:
    """What it was measured on."""
    found: dict[str, Any] = machine() | {"torch": bench.torch.__version__}
    if bench.device == "cuda":
        facts = bench.torch.cuda.get_device_properties(0)
        found |= {"gpu": facts.name, "cuda": bench.torch.version.cuda}
    return found


def show(rows: list[Row]) -> None:
    """Rows as a table."""
    table = Table("part", "size", "what", "p50 ms", "p99 ms", "ms each, queued", "host ms", "frames")
    for row in rows:
        cells = [row.get(k, "") for k in ("p50_ms", "p99_ms", "queue_ms", "host_ms", "frames")]
        table.add_row(
            row["part"],
            row["size"],
            row["what"],
            *(row.get("refused", str(c)) if k == 0 else str(c) for k, c in enumerate(cells)),
        )
    console().print(table)


def main(
    part: Annotated[list[str], typer.Option(help=", ".join(PARTS))] = list(PARTS),  # noqa: B006
    size: Annotated[list[str], typer.Option(help="1080p, 4k or HEIGHTxWIDTH.")] = list(SIZES),  # noqa: B006
    network: Annotated[Path | None, typer.Option(help="The ONNX file of --make-network, for the part ort.")] = None,
    make_network_file: Annotated[Path | None, typer.Option("--make-network", help="Write it, and end.")] = None,
    input_size: Annotated[str, typer.Option("--input", help="Of the network, multiples of 14.")] = "518x924",
    seconds: Annotated[float, typer.Option(help="Per row.")] = 2.0,
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the program out.")] = "cuda",
    file: Annotated[
        Path | None, typer.Option("--json", callback=result_place, help="Rows of other parts in it are kept.")
    ] = None,
) -> None:
    """Frames on a GPU; see the module's text."""
    height, width = (int(side) for side in input_size.split("x"))
    if make_network_file is not None:
        console().print(make_network(make_network_file, (height, width)))
        return
    bench = Bench(device, seconds, (height, width))
    parts: dict[str, Callable[..., Iterator[Row]]] = {
        "kernels": kernels, "host": host, "torch": by_torch, "compiled": compiled, "live": live,
        "ort": partial(by_ort, file=network or Path("depth.onnx")),
    }  # fmt: skip
    rows: list[Row] = []
    if file is not None and file.is_file():
        rows = [row for row in json.loads(file.read_text())["rows"] if row["part"] not in part]
    for one in part:
        for name in size:
            sides = SIZES.get(name) or tuple(int(side) for side in name.split("x"))
            made = list[Row]()
            try:
                made.extend(parts[one](bench, name, sides))
            except (SecondEyeError, RuntimeError, ValueError) as error:
                made.append(
                    {
                        "part": one,
                        "size": name,
                        "what": "failed",
                        "refused": str(error).strip().partition("\n")[0][:300],
                    }
                )
            rows.extend(made)
            show(made)
            if file is not None:
                result = {"machine": device_of(bench), "network_input": input_size, "rows": rows}
                with atomic_write(file) as target:
                    target.write(json.dumps(result, indent=1).encode() + b"\n")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
