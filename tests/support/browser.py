# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over its DevTools protocol: open a page, ask it things, take its picture."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect


def find():
    """Chromium's path, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """One page. As a context manager it ends the browser."""

    def __init__(self, width=1280, height=760):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [
                find(), "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--remote-debugging-port=0",
                "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-certificate-errors",
                f"--user-data-dir={self._folder.name}", f"--window-size={width},{height}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": self._folder.name},
        )  # fmt: skip
        port = self._until(
            lambda: Path(self._folder.name, "DevToolsActivePort").read_text().split()[0], OSError, IndexError
        )
        pages = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=60).read())
        address = next(p for p in pages if p["type"] == "page")["webSocketDebuggerUrl"]
        self._closing = contextlib.ExitStack()
        self._socket = self._closing.enter_context(connect(address, max_size=2**26))
        self._numbers = itertools.count(1)
        self.call("Page.enable")

    def _until(self, ask, *errors, seconds=60):
        end = time.monotonic() + seconds
        while True:
            try:
                return ask()
            except errors:
                assert time.monotonic() < end, "the browser did not start"
                time.sleep(0.05)

    def call(self, method, **params):
        """One command of the protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, address):
        """Go to a page."""
        self.call("Page.navigate", url=address)

    def ask(self, expression):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression, seconds=60):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not (value := self.ask(expression)):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.05)
        return value

    def picture(self, path):
        """A screenshot, as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing.close()
        self._process.terminate()
        self._process.wait(60)
        self._folder.cleanup()
