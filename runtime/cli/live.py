# SPDX-License-Identifier: Apache-2.0
"""``secondeye live`` and ``secondeye serve``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

if TYPE_CHECKING:
    from secondeye.runtime.live import LiveSession

WINDOW_LAYOUTS = ("sbs", "anaglyph", "half-sbs", "tb", "half-tb", "rows", "columns", "checkerboard", "right", "depth")

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="camera (or /dev/videoN; on Windows video=NAME), screen, a film, - for standard input, an address (--allow-network), "
        "or sample: a picture that moves, to try it.",
    ),
]
Size = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT that frames are scaled to (and a camera is asked for).")]
Strength = Annotated[float, typer.Option(help="Disparity range in percent of the width; about 3 is comfortable.")]
Convergence = Annotated[float, typer.Option(help="What lies on the screen: 0 the farthest, 1 the nearest.")]
View = Annotated[str, typer.Option(help="right: the frame is the left view; both: each eye moves half way.")]
Depth = Annotated[str, typer.Option(help="builtin, cues, or an ONNX depth model.")]
DepthEvery = Annotated[
    int, typer.Option(min=0, max=1000, help="Depth for every n-th frame, carried along in between; 0: on the side.")
]
Rate = Annotated[
    float, typer.Option(min=1, max=240, help="Frames a second that camera, screen or sample are asked for.")
]
Network = Annotated[bool, typer.Option("--allow-network", help="Let SOURCE be an address (rtsp, http ...).")]
Remember = Annotated[
    bool, typer.Option("--remember", help="Uncovered places show what was seen there before (still or panning camera).")
]
Segment = Annotated[
    str,
    typer.Option(
        help="Who tells objects apart, so that the edges of depth fall on their borders: off, sgt:FOLDER (a bundle), an "
        "ONNX segmentation network, or labels of what a still camera sees (16-bit PNG, .npy). It works beside the frames; "
        "none waits for it."
    ),
]
KeyEvery = Annotated[
    int,
    typer.Option(
        min=1,
        max=1000,
        help="With --segment: frames from one key frame, on which objects are told apart, to the next, if that is as fast.",
    ),
]
Threads = Annotated[int, typer.Option(min=0, max=256, help="0: one per core.")]
Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="cuda: pictures and the built-in network on the GPU.")]


def _source(spec: str, size: str | None, rate: float, network: bool, *, loop: bool, paced: bool = True) -> Any:
    from secondeye.runtime.cli._words import two_numbers
    from secondeye.runtime.errors import InvalidInputError
    from secondeye.runtime.stream.sources import Source, SourceOptions

    wanted = None if size is None else two_numbers(size)
    if size is not None and wanted is None:
        raise InvalidInputError(f"--size: expected WIDTHxHEIGHT, got {size!r}.")
    options = SourceOptions(size=wanted, rate=rate, loop=loop, paced=paced, allow_network=network)
    try:
        return Source(spec, options)
    except KeyboardInterrupt:  # a thread may still wait in FFmpeg, and Python's own end would crash under it
        os._exit(130)


def _check_terminal(output: str, kind: str) -> None:
    """Refuse to print a film on a terminal."""
    from secondeye.runtime.errors import InvalidInputError

    if output == "-" and sys.stdout.isatty():
        raise InvalidInputError(
            f"standard output is a terminal, and {kind} is no text: add -o window, -o FILE.mkv, or | ffplay -"
        )


def _turn(session: LiveSession, key: str) -> None:
    """What a key of the window does."""
    config = session.config
    if key in "+-":
        session.set(strength=min(20.0, max(0.0, round(config.strength + (0.25 if key == "+" else -0.25), 2))))
    elif key in "[]":
        session.set(convergence=min(1.0, max(0.0, round(config.convergence + (0.05 if key == "]" else -0.05), 2))))
    elif key == "s":
        session.set(swap=not config.swap)
    elif key == "l":
        session.set(layout=WINDOW_LAYOUTS[(WINDOW_LAYOUTS.index(config.layout) + 1) % len(WINDOW_LAYOUTS)])


def live(
    source: SourceArgument = "camera",
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="window, a film (.mkv, .mp4, .mov, .ts, .nut), - for standard output, or "
            "/dev/videoN of a v4l2 loopback.",
        ),
    ] = "-",
    format: Annotated[str, typer.Option(help="Of standard output: nut or y4m as it is, mpegts compressed.")] = "nut",
    layout: Annotated[
        str, typer.Option(help="sbs, tb, half-sbs, half-tb, anaglyph, rows, columns, right, depth ...")
    ] = "sbs",
    strength: Strength = 2.5,
    convergence: Convergence = 0.5,
    view: View = "right",
    size: Size = None,
    depth_model: Depth = "builtin",
    depth_every: DepthEvery = 1,
    deadline: Annotated[
        float, typer.Option(min=0, help="Milliseconds; what would be late carries the last depth.")
    ] = 0.0,
    every: Annotated[
        bool, typer.Option("--every", help="Every frame comes out, as fast as it can, instead of the newest in time.")
    ] = False,
    remember: Remember = False,
    segment: Segment = "off",
    key_every: KeyEvery = 24,
    frames: Annotated[int, typer.Option(min=0, help="End after so many; 0: with the source.")] = 0,
    fps: Rate = 30.0,
    allow_network: Network = False,
    threads: Threads = 0,
    device: Device = "cpu",
) -> None:
    """Turn a camera, a screen or a film into 3D as it comes.

    Into a window: secondeye live camera -o window (extra 'window'), or secondeye live camera | ffplay -

    Into a file: secondeye live camera -o evening.mkv (Ctrl-C ends it well, and so does kill)
    """
    import threading

    from rich.console import Console

    from secondeye.runtime.cli._guard import end_as_interrupted
    from secondeye.runtime.errors import InvalidInputError, SessionError
    from secondeye.runtime.live import LiveSession
    from secondeye.runtime.live_config import LiveConfig
    from secondeye.runtime.stream.sinks import Sink
    from secondeye.runtime.stream.window import HELP, Window
    from secondeye.runtime.video.signals import signal_of

    if Path(output).is_file() and Path(source).is_file() and os.path.samefile(source, output):
        raise InvalidInputError(f"{output}: is the source itself; choose another name.")
    origin = _source(source, size, fps, allow_network, loop=False, paced=not every)
    config = LiveConfig(
        width=origin.width, height=origin.height, strength=strength, convergence=convergence, view=cast(Any, view),
        layout=cast(Any, layout), depth=depth_model, depth_every=depth_every, deadline_ms=deadline, threads=threads,
        policy="every" if every else "newest", remember=remember, segment=segment, key_every=key_every,
        device=device,
    )  # fmt: skip
    _check_terminal(output, format)
    end_as_interrupted()
    fault: list[Exception] = []
    handed = last = 0  # how many frames, and the ticket of the last one
    over = threading.Event()

    def feed(session: LiveSession) -> None:
        nonlocal handed, last
        try:
            for frame, due in origin.frames():
                ticket = session.submit(frame, due, timeout=None)
                if ticket is not None:
                    handed, last = handed + 1, ticket
                if frames and handed >= frames:
                    return
        except SessionError:
            return
        except Exception as error:  # handed to the calling thread
            fault.append(error)
        finally:
            over.set()

    def opened(session: LiveSession) -> Sink | Window:
        if output != "window":
            told = signal_of(layout, "dubois-red-cyan")
            return Sink(output, kind=format, rate=fps, signal=told, aspect=origin.aspect)
        typer.echo(HELP, err=True)
        wide = 2 * origin.width if layout == "sbs" else origin.width
        high = 2 * origin.height if layout == "tb" else origin.height
        return Window(wide, high, lambda key: _turn(session, key), float(origin.aspect))

    with LiveSession(config) as session, opened(session) as sink:
        feeder = threading.Thread(target=feed, args=(session,), daemon=True)
        feeder.start()
        shown = 0
        try:
            while not sink.ended:
                ended = over.is_set()
                result = session.wait(0.3)
                sink.tick()
                if result is not None:
                    sink.write(result.picture, result.timestamp)
                    shown = result.ticket
                    del result
                elif ended and shown >= last:  # the last one is never dropped, however long it takes
                    break
        except KeyboardInterrupt:
            pass
        finally:
            origin.close()
            stats = session.stats
    feeder.join(2)
    if fault:
        raise fault[0]
    total = stats.stages["total"]
    Console(stderr=True).print(
        f"{sink.written} frames; submit to ready {total.p50:.1f} ms (p99 {total.p99:.1f}); {stats.dropped} dropped, "
        f"depth for {stats.depth_runs}"
        + (f", objects for {stats.keys_labelled} of {stats.keys_offered}" if stats.keys_offered else "")
        + (f"; {origin.damaged} of its frames could not be decoded and are left out" if origin.damaged else "")
        + "".join(f"; {error}" for error in (session.depth_error, session.segment_error) if error)
    )


def serve(
    source: SourceArgument = "camera",
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine only with TLS or --insecure.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8765,
    token: Annotated[
        str | None, typer.Option(help="What the page's address has to carry; made up where it is needed.")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(help="Certificate, PEM.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its key, PEM.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond this machine without TLS.")] = False,
    max_clients: Annotated[int, typer.Option(min=1, max=64)] = 4,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs.")] = 85,
    strength: Strength = 2.5,
    convergence: Convergence = 0.5,
    view: View = "right",
    size: Size = None,
    depth_model: Depth = "builtin",
    depth_every: DepthEvery = 1,
    remember: Remember = False,
    segment: Segment = "off",
    key_every: KeyEvery = 24,
    fps: Rate = 30.0,
    allow_network: Network = False,
    threads: Threads = 0,
    device: Device = "cpu",
) -> None:
    """Show live 3D on a web page: side by side, anaglyph, wiggle, depth, and in a headset through WebXR."""
    from urllib.parse import quote

    from secondeye.runtime.live_config import LiveConfig
    from secondeye.runtime.stream.server import ServeOptions, serve as run

    options = ServeOptions(
        host=host, port=port, token=token, tls_cert=tls_cert, tls_key=tls_key, insecure=insecure,
        max_clients=max_clients, quality=quality,
    )  # fmt: skip
    origin = _source(source, size, fps, allow_network, loop=True)
    config = LiveConfig(
        width=origin.width, height=origin.height, strength=strength, convergence=convergence, view=cast(Any, view),
        depth=depth_model, depth_every=depth_every, threads=threads, remember=remember, segment=segment, key_every=key_every,
        device=device,
    )  # fmt: skip
    scheme = "https" if tls_cert else "http"
    query = f"/?token={quote(options.token, safe='')}" if options.token else "/"
    address = f"{scheme}://{options.reached}:{port}{query}"
    run(origin, config, options, opened=lambda: typer.echo(f"Open {address} (Ctrl-C ends)"))
