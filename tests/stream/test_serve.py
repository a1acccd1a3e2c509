# SPDX-License-Identifier: Apache-2.0
"""The page: what a browser sees, who is let in, what a client may do."""

import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request

import browser
import pytest
from networks import brightness_network
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.stream.server import ServeOptions

COMMAND = (sys.executable, "-m", "secondeye")
LONG = 60.0  # seconds; nothing here takes so long, however busy the machine
needs_browser = pytest.mark.skipif(browser.find() is None, reason="no Chromium is installed")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def serving(*options, port=None, host="127.0.0.1"):
    """``secondeye serve`` as a user starts it; gives its port."""
    port = port or free_port()
    process = subprocess.Popen(
        [*COMMAND, "serve", "sample", "--size", "320x180", "--port", str(port),
         "--depth-model", "cues", "--depth-every", "4", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + LONG
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
                break
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.05)
        yield port
        assert process.poll() is None, process.stdout.read()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(LONG)
        process.stdout.close()


def get(port, path="/", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def stream(port, query="", **options):
    return connect(f"ws://127.0.0.1:{port}/stream{query}", origin=f"http://127.0.0.1:{port}", max_size=2**24, **options)


def frames(client, count, *, acknowledge=True):
    """The next pictures: (number, latency, layout, JPEG)."""
    found = []
    while len(found) < count:
        message = client.recv(timeout=LONG)
        if isinstance(message, str):
            continue
        number, latency, _, layout = struct.unpack_from("<IfdB", message)
        found.append((number, latency, layout, message[20:]))
        if acknowledge:
            client.send(json.dumps({"drawn": number}))
    return found


def state_of(client):
    """The next word about the state; pictures are not acknowledged."""
    while True:
        message = client.recv(timeout=LONG)
        if isinstance(message, str):
            return json.loads(message)


def state(client):
    while True:
        message = client.recv(timeout=LONG)
        if isinstance(message, str):
            return json.loads(message)
        client.send(json.dumps({"drawn": struct.unpack_from("<I", message)[0]}))


@pytest.fixture(scope="module")
def port():
    with serving() as one:
        yield one


@needs_browser
def test_a_browser_shows_the_stream_and_its_controls_act(tmp_path):
    with serving() as port, browser.Browser() as page:
        page.open(f"http://127.0.0.1:{port}/")
        page.until("window.secondeye && secondeye.frames > 3")
        before = page.ask("secondeye.frames")
        page.until(f"secondeye.frames > {before + 5}")
        assert page.ask("[secondeye.width, secondeye.height]") == [640, 180]
        assert page.ask("document.getElementById('notice').textContent") == ""
        shifts = "(() => { const w = 640, h = 180, g = document.getElementById('picture').getContext('webgl2'); draw();"
        shifts += (
            "const p = new Uint8Array(4 * w * h); g.readPixels(0, 0, w, h, g.RGBA, g.UNSIGNED_BYTE, p); let s = 0;"
        )
        shifts += (
            "for (let y = 0; y < h; ++y) for (let x = 0; x < 320; ++x) s += Math.abs(p[4*(y*w+x)] - p[4*(y*w+x+320)]);"
        )
        shifts += "return s / (320 * 180); })()"

        def slide(value):
            page.ask(f"(() => {{ const s = document.getElementById('strength'); s.value = {value};"
                     "s.dispatchEvent(new Event('input')); })()")  # fmt: skip
            page.until(f"Math.abs(secondeye.settings.strength - {value}) < 0.01")
            page.until(f"secondeye.frames > {page.ask('secondeye.frames') + 6}")
            return page.ask(shifts)

        flat, deep = slide(0), slide(8)
        assert deep > 2 * flat + 2
        for mode, wide in (("anaglyph", 320), ("cross", 640), ("wiggle", 320), ("left", 320), ("sbs", 640)):
            page.ask(f"document.querySelector('[data-mode={mode}]').click()")
            page.until(f"document.getElementById('picture').width === {wide}")
            page.picture(tmp_path / f"{mode}.png")
        page.ask("document.querySelector('[data-mode=depth]').click()")
        page.until("secondeye.layout === 9")
        page.picture(tmp_path / "depth.png")
        page.ask("document.querySelector('[data-mode=sbs]').click()")
        page.until("secondeye.layout === 0")
        # Every mode says how to look at it, and has a key.
        page.ask("document.dispatchEvent(new KeyboardEvent('keydown', {key: '3'}))")
        page.until("document.querySelector('[data-mode=anaglyph]').getAttribute('aria-pressed') === 'true'")
        assert "glasses" in page.ask("document.getElementById('how').textContent")
        page.ask("document.dispatchEvent(new KeyboardEvent('keydown', {key: '1'}))")
        page.until("document.getElementById('median').textContent.endsWith('ms')")
        page.until("Number(document.getElementById('rate').textContent) > 0")
        # A socket that is gone is opened again.
        page.ask("secondeye.socket.close()")
        page.until("document.getElementById('notice').textContent.includes('Trying again')")
        page.until("document.getElementById('notice').textContent === ''")
        now = page.ask("secondeye.frames")
        page.until(f"secondeye.frames > {now + 3}")
        assert page.ask("document.getElementById('vr').disabled") is True


# A headset of two eyes that looks straight ahead, as far as the page asks one: it shows the canvas, left and right.
HEADSET = """
const far = 100, near = 0.1, perspective = new Float32Array(
  [1.2, 0, 0, 0, 0, 1.2, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, 2 * far * near / (near - far), 0]);
const eye = (name, x) => ({ eye: name, projectionMatrix: perspective,
  transform: { inverse: { matrix: new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, -x, 0, 0, 1]) } } });
window.XRWebGLLayer = class { framebuffer = null; constructor(session, gl) { this.gl = gl; }
  getViewport(view) { const w = this.gl.canvas.width / 2, h = this.gl.canvas.height;
    return { x: view.eye === "right" ? w : 0, y: 0, width: w, height: h }; } };
WebGL2RenderingContext.prototype.makeXRCompatible = async () => {};
const session = { renderState: {}, updateRenderState(s) { Object.assign(this.renderState, s); },
  requestReferenceSpace: async () => ({}), end() { this.onend(); },
  requestAnimationFrame: (f) => requestAnimationFrame((t) => { if (window.secondeye.vr) {
    f(t, { getViewerPose: () => ({ views: [eye("left", -0.03), eye("right", 0.03)] }) });
    window.shown = (window.shown || 0) + 1; } }) };
const xr = { isSessionSupported: async () => true, requestSession: async () => session };
Object.defineProperty(navigator, "xr", { value: xr });
window.headset = session;
"""


@needs_browser
def test_each_eye_of_a_headset_sees_its_own_view():
    with serving("--strength", "6") as port, browser.Browser() as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=HEADSET)
        page.open(f"http://127.0.0.1:{port}/")
        page.until("window.secondeye && secondeye.frames > 5 && !document.getElementById('vr').disabled")
        page.ask("document.getElementById('vr').click()")
        page.until("window.shown > 3")
        # A row across both eyes, right after it was drawn.
        row = page.ask(
            "new Promise(done => requestAnimationFrame(() => {"
            "const g = document.getElementById('picture').getContext('webgl2');"
            "const w = g.canvas.width, p = new Uint8Array(4 * w); g.readPixels(0, g.canvas.height / 2, w, 1, g.RGBA,"
            "g.UNSIGNED_BYTE, p); done(Array.from(p)); }))"
        )
        left, right = (row[: len(row) // 2], row[len(row) // 2 :])
        assert max(left) > 60
        assert max(right) > 60
        assert sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left) > 2
        assert page.ask("document.getElementById('notice').textContent") == ""
        page.ask("headset.end()")
        shown = page.ask("shown")
        now = page.ask("secondeye.frames")
        page.until(f"secondeye.frames > {now + 3}")
        assert page.ask("shown") == shown


@needs_browser
def test_a_browser_without_the_token_sees_no_picture():
    with serving("--token", "let-me-in") as port, browser.Browser() as page:
        page.open(f"http://127.0.0.1:{port}/")
        assert "token and all" in page.until("document.body && document.body.innerText")
        page.open(f"http://127.0.0.1:{port}/?token=let-me-in")
        page.until("window.secondeye && secondeye.frames > 3")


@needs_browser
def test_a_page_says_that_its_token_is_no_more():
    port = free_port()
    with browser.Browser() as page:
        with serving("--token", "old", port=port):
            page.open(f"http://127.0.0.1:{port}/?token=old")
            page.until("window.secondeye && secondeye.frames > 1")
        page.until("document.getElementById('notice').textContent.includes('connection is gone')")
        with serving("--token", "new", port=port):
            page.until("document.getElementById('notice').textContent.includes('another token')")
        with serving("--token", "old", port=port):
            page.until("document.getElementById('notice').textContent === ''")


def test_files_and_their_headers(port):
    status, body, headers = get(port)
    assert status == 200
    assert b"<title>SecondEye</title>" in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert get(port, "/page.js")[2]["Content-Type"].startswith("text/javascript")
    assert get(port, "/../pyproject.toml")[0] == 404
    assert get(port, "/..%2fserver.py")[0] == 404
    assert get(port, Host="evil.example")[0] == 400


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_settings_reach_every_page_and_the_session(port, device, request):
    if device == "cpu":
        settings_reach(port)
    else:
        request.getfixturevalue("cuda")
        with serving("--device", "cuda", "--remember", "--view", "both") as there:
            settings_reach(there)


def settings_reach(port):
    with stream(port) as one, stream(port) as other:
        one.send(json.dumps({"set": {"strength": 4.5, "layout": "depth"}}))
        end = time.monotonic() + LONG
        while state(other)["settings"]["strength"] != 4.5:
            assert time.monotonic() < end
        assert frames(other, 12)[-1][2] == 9
        one.send(json.dumps({"set": {"strength": 2.5, "layout": "sbs"}}))
        assert frames(other, 12)[-1][2] == 0
        assert state(other)["clients"] == 2


def test_objects_are_told_apart_beside_the_frames(port, tmp_path):
    with stream(port) as client:
        assert "objects_age" not in state(client)["stages"]
    good = brightness_network(tmp_path / "net.onnx")
    with serving("--segment", str(good), "--key-every", "5") as other, stream(other) as client:
        end = time.monotonic() + 20
        while state(client)["stages"].get("objects_age", 0) <= 0:
            assert time.monotonic() < end, "no labels came"
        assert state(client)["error"] == ""


def test_a_page_that_does_not_draw_is_not_flooded(port):
    with stream(port) as lazy, stream(port) as eager:
        first = frames(eager, 1)[0][0]
        assert frames(eager, 30)[-1][0] - first >= 29
        got = 0
        with contextlib.suppress(TimeoutError):
            while True:
                got += not isinstance(lazy.recv(timeout=0.3), str)
        assert got == 2


def test_numbers_and_times_go_forward(port):
    with stream(port) as client:
        seen = frames(client, 20)
    numbers = [s[0] for s in seen]
    assert numbers == sorted(set(numbers))
    assert all(0 < s[1] < 1e3 * LONG for s in seen)
    assert all(s[3].startswith(b"\xff\xd8") and s[3].endswith(b"\xff\xd9") for s in seen)


@pytest.mark.parametrize(
    "message",
    ["{", "[]", '{"drawn": 1, "more": 2}', '{"set": {"depth": "x"}}', '{"set": {"strength": 99}}', '{"set": 3}',
     '{"set": {"layout": "rows"}}', '{"set": {"strength": NaN}}', '{"set": {"strength": "4"}}',
     '{"set": {"swap": "on"}}', '{"set": {"fill": null}}', "[" * 900, b"\x00\x01"],
)  # fmt: skip
def test_garbage_closes_that_connection_alone(port, message):
    with stream(port) as good, stream(port) as bad:
        frames(bad, 1)
        bad.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                bad.recv(timeout=LONG)
        assert closed.value.rcvd.code == 1003
        frames(good, 3)


def test_long_messages_and_floods_close_the_connection(port):
    with stream(port) as client:
        with pytest.raises(ConnectionClosed) as closed:
            client.send("x" * 100_000_000)
            while True:
                client.recv(timeout=LONG)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    with stream(port) as client:
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(2000):
                client.send('{"drawn": 1}')
            while True:
                client.recv(timeout=LONG)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1008
    with stream(port) as client:
        frames(client, 2)


@pytest.mark.parametrize(
    "said",
    [b"\x00" * 5000, b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 200_000 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
     b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
)  # fmt: skip
def test_garbage_on_the_socket_ends_that_socket(port, said):
    with socket.create_connection(("127.0.0.1", port), LONG) as raw:
        with contextlib.suppress(OSError):
            raw.sendall(said)
            raw.shutdown(socket.SHUT_WR)
        raw.settimeout(LONG)
        answer = b""
        with contextlib.suppress(OSError):
            while more := raw.recv(65536):
                answer += more
    assert answer == b"" or b" 4" in answer[:16]
    with stream(port) as good:
        frames(good, 2)


def test_the_page_can_be_used_without_seeing_it(port):
    import re

    text = get(port)[1].decode()
    assert '<html lang="en">' in text
    controls = re.findall(r"<(?:input|canvas)[^>]*>", text)
    for control in controls:
        labelled = "aria-label=" in control or 'class="check"' in text[: text.index(control)][-60:]
        assert labelled, control
    for landmark in ("<main>", "<header>", "<nav ", "<aside ", 'role="status"'):
        assert landmark in text


def test_who_is_let_in():
    with serving("--token", "s3cret", "--max-clients", "1") as port:
        assert get(port)[0] == 401
        assert get(port, "/?token=wrong")[0] == 401
        assert get(port, "/?token=s3cret")[0] == 200
        for query in ("", "?token=wrong", "?token=%00%ff"):
            with pytest.raises(InvalidStatus) as refused, stream(port, query):
                pass
            assert refused.value.response.status_code == 403
        with (
            pytest.raises(InvalidStatus),
            connect(f"ws://127.0.0.1:{port}/stream?token=s3cret", origin="http://evil.example"),
        ):
            pass
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(f"ws://127.0.0.1:{port}/stream?token=s3cret", origin="http://["),
        ):
            pass
        assert refused.value.response.status_code == 403
        with stream(port, "?token=s3cret") as first:
            frames(first, 1)
            with stream(port, "?token=s3cret") as second, pytest.raises(ConnectionClosed) as closed:
                second.recv(timeout=LONG)
            assert closed.value.rcvd.code == 1013
            frames(first, 2)


def test_the_source_ends_and_the_page_says_so(tmp_path):
    film = tmp_path / "short.mkv"
    subprocess.run(
        [*COMMAND, "live", "sample", "--size", "320x180", "--frames", "5",
         "--every", "--depth-model", "cues", "-o", str(film)], check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    with open(film, "rb") as pipe:
        process = subprocess.Popen(
            [*COMMAND, "serve", "-", "--port", str(port), "--depth-model", "cues"],
            stdin=pipe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            with contextlib.suppress(OSError), stream(port) as client:
                while not state(client)["error"]:
                    pass
                break
            time.sleep(0.1)
        else:
            pytest.fail("it never said so")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) is not None


def test_nothing_is_made_while_no_page_looks(port):
    with stream(port) as away:
        end, before, ready = time.monotonic() + LONG, -1, 0
        while ready != before:  # it draws nothing, as a hidden tab
            assert time.monotonic() < end
            before, ready = ready, state_of(away)["ready"]
        away.send('{"drawn": 1}')
        frames(away, 3)
    with stream(port) as client:
        first = state(client)["ready"]
    time.sleep(1.5)
    with stream(port) as client:
        assert state(client)["ready"] - first < 30  # of 45


@needs_browser
def test_a_page_that_cannot_show_says_so_and_one_that_lost_its_gpu_goes_on():
    with serving() as port, browser.Browser() as page:
        page.open(f"http://127.0.0.1:{port}/")
        page.until("window.secondeye && secondeye.frames > 3")
        dark = "(() => { draw(); const p = new Uint8Array(4); gl.readPixels(9, 9, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, p);"
        dark += "return p[0] + p[1] + p[2] === 0; })()"
        page.ask("window.lost = gl.getExtension('WEBGL_lose_context'); lost.loseContext()")
        page.until("gl.isContextLost()")
        page.ask("new Promise(done => setTimeout(done, 100))")
        page.ask("lost.restoreContext()")
        page.until(f"!gl.isContextLost() && !{dark}")
        # A picture that cannot be decoded is one picture less.
        page.ask("for (let k = 0; k < 4; ++k) taken(secondeye.socket, new ArrayBuffer(40))")
        now = page.ask("secondeye.frames")
        page.until(f"secondeye.frames > {now + 5}")
        # What has not changed is not said again.
        page.ask("window.said = 0; new MutationObserver((all) => { said += all.length; })"
                 ".observe(document.getElementById('strength-value'), { childList: true })")  # fmt: skip
        page.ask("new Promise(done => setTimeout(done, 2500))")
        assert page.ask("said") == 0
        # A slider on a fast screen moves more often than the server listens.
        page.ask("(() => { const s = document.getElementById('strength'); for (let k = 0; k < 400; ++k)"
                 "{ s.value = k / 100; s.dispatchEvent(new Event('input')); } })()")  # fmt: skip
        page.until("Math.abs(secondeye.settings.strength - 4) < 0.05")
        assert page.ask("secondeye.socket.readyState") == 1
        page.call("Page.addScriptToEvaluateOnNewDocument", source="const made = HTMLCanvasElement.prototype.getContext;"
                  "HTMLCanvasElement.prototype.getContext = function (kind) {"
                  "return kind === 'webgl2' ? null : made.call(this, kind); }")  # fmt: skip
        page.open(f"http://127.0.0.1:{port}/")
        page.until("window.secondeye && secondeye.state")
        assert "WebGL 2" in page.ask("document.getElementById('notice').textContent")


def test_many_frames_a_second_are_no_flood():
    with serving("--fps", "240", "--size", "64x64", "--depth-every", "1000") as port, stream(port) as client:
        begun = time.monotonic()
        frames(client, 600)
        assert time.monotonic() - begun < LONG


def test_who_asks_for_nothing_is_let_go():
    with serving("--max-clients", "1") as port, contextlib.ExitStack() as stack:
        for _ in range(24):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), LONG))
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: ")
        with stream(port) as client:
            end = time.monotonic() + LONG
            while get(port)[0] != 200:
                assert time.monotonic() < end
                time.sleep(0.5)
            assert state(client)["clients"] == 1  # a stream is no such connection


def test_a_page_on_another_address_of_this_machine():
    with serving("--host", "127.0.0.2", host="127.0.0.2") as port:
        assert urllib.request.urlopen(f"http://127.0.0.2:{port}/", timeout=LONG).status == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": "0.0.0.0"}, "served over TLS"),
        ({"host": "192.168.1.9", "tls_cert": "a.pem"}, "both --tls-cert and --tls-key"),
        ({"port": 70000}, "port 0 to 65535"),
        ({"max_clients": 0}, "clients 1 to 64"),
    ],
)
def test_unsafe_options_are_refused(options, said):
    with pytest.raises(InvalidInputError, match=said):
        ServeOptions(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--segment", "nothing.onnx"), "nothing.onnx: no such file; give sgt:FOLDER"),
        (("--key-every", "0"), "--key-every"),
        (("--depth-model", "nothing.onnx"), "nothing.onnx: no such file"),
        (("--tls-cert", "nothing.pem", "--tls-key", "nothing.pem"), "cannot be used as certificate and key"),
        (("--tls-cert", __file__, "--tls-key", __file__), "cannot be used as certificate and key"),
        (("--host", "192.0.2.1", "--insecure"), "192.0.2.1:"),  # an address that is nobody's (RFC 5737)
        (("--device", "tpu"), "'cuda'"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_an_address_is_told(options, said):
    command = [*COMMAND, "serve", "sample", "--size", "320x180", "--port", str(free_port()), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Open" not in done.stdout


def test_a_port_that_is_taken_is_told_in_one_line(port):
    done = subprocess.run(
        [*COMMAND, "serve", "sample", "--port", str(port)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"secondeye: 127.0.0.1:{port}: cannot be listened on (address already in use)")
    assert len(done.stderr.splitlines()) == 1


def test_the_address_that_is_told_can_be_opened():
    port = free_port()
    options = ["--size", "64x64", "--depth-model", "cues", "--port", str(port), "--token", "a b&c"]
    command = [*COMMAND, "serve", "sample", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[1]
            assert get(port, address.removeprefix(f"http://127.0.0.1:{port}"))[0] == 200
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(LONG) == 0


@pytest.mark.skipif(_native.cuda_device_count() > 0, reason="this machine has a GPU")
def test_without_a_gpu_it_says_so():
    command = [*COMMAND, "serve", "sample", "--size", "320x180", "--port", str(free_port()), "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "no NVIDIA GPU" in done.stderr
    assert "Traceback" not in done.stderr


def test_beyond_this_machine_there_is_always_a_token():
    assert ServeOptions(host="127.0.0.1").token is None
    assert len(ServeOptions(host="0.0.0.0", insecure=True).token) >= 20
    assert len(ServeOptions(host="0.0.0.0", tls_cert="a", tls_key="b").token) >= 20
    assert ServeOptions(host="::1").local
    assert ServeOptions(host="::1").reached == "[::1]"
    assert ServeOptions().reached == "127.0.0.1"
    assert ServeOptions(host="a.name", insecure=True).reached == "a.name"


def test_tls(tmp_path):
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *names]
    openssl = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert openssl.returncode == 0
    import ssl

    trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with serving("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")) as port:
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/", timeout=LONG, context=trust) as answer:
            assert answer.status == 200
        address = f"wss://127.0.0.1:{port}/stream"
        with connect(address, ssl=trust, origin=f"https://127.0.0.1:{port}", max_size=2**24) as client:
            frames(client, 2)
