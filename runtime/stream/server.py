# SPDX-License-Identifier: Apache-2.0
"""A web page that shows a live session: side by side, anaglyph, wiggle, depth, and immersive through WebXR.

Frames go out as JPEG over a WebSocket, each after a header of 20 bytes (little-endian: number uint32, latency in ms
float32, time float64, layout uint8 and three of padding). A client acknowledges what it has drawn, and gets at most two
frames ahead of that: a slow one sees fewer frames, and none waits for it. Settings come as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ipaddress
import json
import secrets
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from secondeye.runtime.errors import (
    BackendUnavailableError,
    InvalidInputError,
    MediaError,
    SecondEyeError,
    SessionError,
)
from secondeye.runtime.files import explain_os_error
from secondeye.runtime.live import LiveSession
from secondeye.runtime.live_config import LAYOUT_CODES, LiveConfig
from secondeye.runtime.stream.sources import Source

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

HEADER = struct.Struct("<IfdB3x")
PROMPT = 10.0  # seconds in which a connection has to ask for something
AHEAD = 2  # frames that a page gets and has not drawn yet
AWAY = 1.0  # seconds without a word from pages that have not drawn theirs, until no more are made
SETTINGS = ("strength", "convergence", "layout", "view", "swap", "fill")
_LAYOUTS = ("sbs", "depth")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where the page is and who may look.

    Attributes:
        host, port: where to listen. Beyond this machine only with TLS, or `insecure`; a token is then made.
        token: what a client has to show; None asks for none, on this machine alone.
        tls_cert, tls_key: PEM files.
        insecure: listen beyond this machine without TLS.
        max_clients: who comes later is turned away.
        quality: of the JPEGs, 1 to 100.
        message_bytes: the longest message that a client may send.
        messages_per_second: how many.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    insecure: bool = False
    max_clients: int = 4
    quality: int = 85
    message_bytes: int = 1024
    messages_per_second: int = 120

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535 or not 1 <= self.max_clients <= 64 or not 1 <= self.quality <= 100:
            raise InvalidInputError("expected port 0 to 65535, clients 1 to 64, quality 1 to 100.")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise InvalidInputError("TLS needs both --tls-cert and --tls-key.")
        if self.local or (self.tls_cert and self.token):
            return
        if not self.tls_cert and not self.insecure:
            raise InvalidInputError(
                f"{self.host}: beyond this machine the page is served over TLS (--tls-cert, --tls-key), "
                "or with --insecure where you trust the network."
            )
        if not self.token:
            object.__setattr__(self, "token", secrets.token_urlsafe(16))

    @property
    def local(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    @property
    def reached(self) -> str:
        """The host's name in an address that can be opened: this machine's own where all of them are listened on."""
        host = self.host
        with contextlib.suppress(ValueError, OSError):
            every = ipaddress.ip_address(host)
            if every.is_unspecified:
                family, outside = (
                    (socket.AF_INET, "192.0.2.1") if every.version == 4 else (socket.AF_INET6, "2001:db8::1")
                )
                with socket.socket(family, socket.SOCK_DGRAM) as asked:
                    asked.connect((outside, 9))  # sends nothing: the system says by which of its addresses it would go
                    host = asked.getsockname()[0]
        return f"[{host}]" if ":" in host else host


@dataclass(eq=False)
class _Client:
    """One page: the number of the last frame that it got, how many it has not drawn yet, when it spoke."""

    sent: int = 0
    ahead: int = 0
    told: int = -1
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    heard: deque[float] = field(default_factory=deque)


class Hub:
    """The session between its source and the pages: one thread feeds it, one fetches and compresses.

    Args:
        source: of frames; the hub closes it.
        config: of the session; width and height are the source's, and layout is the page's.
        options: see :class:`ServeOptions`.
    """

    def __init__(self, source: Source, config: LiveConfig, options: ServeOptions) -> None:
        self.options = options
        self.error = ""
        self._source = source
        self._session = LiveSession(config)
        self._clients: set[_Client] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._latest: tuple[int, bytes] = (0, b"")
        self._asked = -AWAY  # when a page had last drawn a frame
        self._version = 0  # of the settings
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._feed, self._fetch)]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; pages are woken on `loop`."""
        self._loop = loop
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End within a second or two."""
        self._stop.set()
        self._source.close()
        self._session.close()
        for thread in self._threads:
            thread.join(2)

    def _feed(self) -> None:
        try:
            for frame, due in self._source.frames():
                if self._stop.is_set():
                    return
                if self._watched():
                    self._session.submit(frame, due)
            self.error = "the source has ended"
        except SessionError:
            return
        except SecondEyeError as error:
            self.error = str(error)
        except Exception as error:  # our own bug: the pages are told, too
            self.error = f"reading the source failed ({type(error).__name__}); the server's output says where"
            self._changed()
            raise
        self._changed()

    def _watched(self) -> bool:
        """Whether a page looks; one in a hidden tab, or whose machine sleeps, draws nothing."""
        clients = tuple(self._clients)
        ready = any(client.ahead < AHEAD for client in clients)
        return ready or (bool(clients) and time.monotonic() - self._asked < AWAY)

    def _fetch(self) -> None:
        from PIL import Image

        number = 0
        while not self._stop.is_set():
            try:
                frame = self._session.wait(0.5)
            except SessionError:
                return
            if frame is None or not self._watched():
                continue
            number += 1
            # The picture's own: the settings may have changed since it was made.
            layout = LAYOUT_CODES["depth" if frame.picture.shape[1] == self._session.config.width else "sbs"]
            file = io.BytesIO()
            file.write(HEADER.pack(number, frame.latency_ms, time.time(), layout))
            Image.fromarray(frame.picture).save(file, "JPEG", quality=self.options.quality)
            del frame
            self._latest = (number, file.getvalue())
            self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for client in self._clients:
            client.wake.set()

    def _changed(self) -> None:
        self._version += 1
        self._wake()

    def state(self) -> str:
        """Settings and figures as JSON."""
        config, stats = self._session.config, self._session.stats
        return json.dumps(
            {
                "settings": {name: getattr(config, name) for name in SETTINGS},
                "size": [config.width, config.height],
                "ready": stats.ready, "dropped": stats.dropped, "clients": len(self._clients),
                "stages": {n: round(s.p50, 2) for n, s in stats.stages.items() if s.count or n != "objects_age"},
                "p99": round(stats.stages["total"].p99, 2),
                "error": self.error or self._session.depth_error or self._session.segment_error,
            }
        )  # fmt: skip

    # ---- a page's connection ----

    def admits(self, token: str | None) -> bool:
        """Whether a token is the right one."""
        return self.options.token is None or secrets.compare_digest((token or "").encode(), self.options.token.encode())

    async def serve(self, socket: WebSocket) -> None:
        """One connection, from its handshake to its end."""
        host = socket.headers.get("host", "")
        origin = socket.headers.get("origin", "").partition("://")[2]
        if origin != host or not self.admits(socket.query_params.get("token")):
            await socket.close(1008)  # before the handshake: 403
            return
        await socket.accept()
        if len(self._clients) >= self.options.max_clients:
            await socket.close(1013, "too many clients")
            return
        client = _Client()
        self._clients.add(client)
        try:
            async with contextlib.AsyncExitStack() as stack:
                tasks = [asyncio.create_task(work(socket, client)) for work in (self._send, self._receive)]
                stack.push_async_callback(_cancel, tasks)
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.discard(client)

    async def _send(self, socket: WebSocket, client: _Client) -> None:
        spoke = 0.0
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.wake.wait(), 1.0)
            client.wake.clear()
            number, data = self._latest
            if number > client.sent and client.ahead < AHEAD:
                client.sent = number
                client.ahead += 1
                await socket.send_bytes(data)
            if client.told != self._version or time.monotonic() - spoke > 1.0:
                client.told, spoke = self._version, time.monotonic()
                await socket.send_text(self.state())

    async def _receive(self, socket: WebSocket, client: _Client) -> None:
        from starlette.websockets import WebSocketDisconnect

        try:
            while True:
                text = await socket.receive_text()
                now = time.monotonic()
                client.heard.append(now)
                while client.heard and now - client.heard[0] > 1.0:
                    client.heard.popleft()
                if len(client.heard) > self.options.messages_per_second:
                    await socket.close(1008, "too many messages")
                    return
                if not self._heard(client, text):
                    await socket.close(1003, "not understood")
                    return
        except (WebSocketDisconnect, KeyError):  # KeyError: bytes came where text is meant
            with contextlib.suppress(RuntimeError):
                await socket.close(1003)

    def _heard(self, client: _Client, text: str) -> bool:
        """Obeys a message; gives whether it was one."""
        try:
            message = json.loads(text)
            if not isinstance(message, dict) or not set(message) <= {"drawn", "set"}:
                return False
            if "drawn" in message and client.ahead > 0:
                client.heard.pop()  # it is the answer to a frame, however many there are in a second
                client.ahead -= 1
                self._asked = time.monotonic()
                client.wake.set()
            wanted: dict[str, Any] = message.get("set", {})
            if not isinstance(wanted, dict) or not set(wanted) <= set(SETTINGS):
                return False
            if wanted.get("layout", "sbs") not in _LAYOUTS:
                return False
            if wanted:
                self._session.set(**wanted)
                self._changed()
        except (ValueError, TypeError, RecursionError):
            return False
        return True


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def application(hub: Hub) -> Starlette:
    """The ASGI application: the page and its stream.

    Raises:
        BackendUnavailableError: the extra ``serve`` is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import PlainTextResponse, Response
        from starlette.routing import Route, WebSocketRoute
    except ImportError as error:
        raise BackendUnavailableError("the page needs the extra 'serve': pip install 'secondeye[serve]'.") from error
    files = resources.files("secondeye.runtime") / "assets" / "page"
    kinds = {"index.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in kinds:
            return PlainTextResponse("no such page\n", 404, headers=_HEADERS)
        # Only the page itself is kept back: the script and the style say nothing.
        if name == "index.html" and not hub.admits(request.query_params.get("token")):
            return PlainTextResponse(
                "open the address that secondeye serve printed, token and all\n", 401, headers=_HEADERS
            )
        return Response((files / name).read_bytes(), media_type=kinds[name], headers=_HEADERS)

    async def stream(socket: WebSocket) -> None:
        await hub.serve(socket)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        hub.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            await asyncio.to_thread(hub.close)

    # Another site that has its name point here (DNS rebinding) is not answered.
    hosts = ["localhost", "127.0.0.1", "[::1]", hub.options.host] if hub.options.local else ["*"]
    return Starlette(
        routes=[Route("/", page), Route("/{name}", page), WebSocketRoute("/stream", stream)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        lifespan=lifespan,
    )


def listening(options: ServeOptions) -> socket.socket:
    """A socket that holds the page's address; it is listened on when the session stands.

    Raises:
        MediaError: it is another program's, or not this machine's.
    """
    place = f"{options.host}:{options.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise MediaError(
            f"{place}: cannot be listened on ({explain_os_error(error)}); give another --port or --host."
        ) from error
    return made


def serve(
    source: Source, config: LiveConfig, options: ServeOptions, *, opened: Callable[[], None] = lambda: None
) -> None:
    """Serve the page until interrupted.

    Args:
        source: of frames.
        config: of the session.
        options: see :class:`ServeOptions`.
        opened: called when the page can be opened.

    Raises:
        BackendUnavailableError: the extra ``serve`` is not installed.
        MediaError: the address cannot be listened on, or the certificate not be read.
        ModelFormatError, InvalidInputError: see :class:`secondeye.LiveSession`.
    """
    try:
        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ImportError as error:
        raise BackendUnavailableError("the page needs the extra 'serve': pip install 'secondeye[serve]'.") from error

    class Prompt(H11Protocol):
        """Ends connections that ask for nothing, or never to the end: they would fill the server up."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(PROMPT, self._late, None)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.loop.call_later(PROMPT, self._late, self.cycle)

        def _late(self, last: object) -> None:
            if self.cycle is last and self.transport.get_protocol() is self:  # else it is a WebSocket's by now
                self.transport.close()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                opened()

    if options.tls_cert:
        _check_certificate(options.tls_cert, str(options.tls_key))
    with listening(options) as place:
        settings = uvicorn.Config(
            application(Hub(source, config, options)), log_level="warning",
            http=Prompt, ws="websockets-sansio", ws_max_size=options.message_bytes, ws_max_queue=16,
            ws_per_message_deflate=False,
            ssl_certfile=options.tls_cert, ssl_keyfile=options.tls_key, limit_concurrency=options.max_clients * 4 + 16,
            timeout_graceful_shutdown=2, server_header=False,
        )  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):  # which is raised again when all is closed
            Server(settings).run(sockets=[place])


def _check_certificate(certificate: str, key: str) -> None:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise MediaError(
            f"{certificate}, {key}: cannot be used as certificate and key ({explain_os_error(error)})."
        ) from error
