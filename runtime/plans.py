# SPDX-License-Identifier: Apache-2.0
"""Plans of TensorRT and TensorRT-RTX in a bundle: what they are for, and who may open them.

A plan is machine code from a file, so this machine opens only what it built: each plan carries a seal, the HMAC-SHA256
of its hash and of everything it was made from, under a secret that the first build writes to ``engine.key`` in the
cache folder (mode 600). Whoever builds for a fleet gives its machines that file; $SECONDEYE_ENGINE_KEY names another
place.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from secondeye.runtime.errors import BackendUnavailableError, EngineError, MediaError
from secondeye.runtime.files import atomic_write, explain_os_error
from secondeye.runtime.sessions import first_line
from secondeye.runtime.zoo import cache_folder


class Package(NamedTuple):
    """A backend's Python module, the extra that brings it, and its name."""

    module: str
    extra: str
    label: str


PACKAGES = {
    "tensorrt": Package("tensorrt", "tensorrt", "TensorRT"),
    "tensorrt-rtx": Package("tensorrt_rtx", "tensorrt-rtx", "TensorRT-RTX"),
}
_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One plan of an engine.

    Attributes:
        file, sha256: in the bundle's folder.
        backend, version: that built it and alone can open it.
        targets: GPU architectures, as ``sm_89``.
        graph: SHA-256 of the graph that it was compiled from.
        key: SHA-256 of everything it was made from: graph, weights, shapes, precision, backend, version, targets.
        seal: see the module.
        check: ``{"status": "not run", "reason": ...}``, or the error against the graph on the GPU that built it.
    """

    file: str
    sha256: str
    backend: str
    version: str
    targets: tuple[str, ...]
    graph: str
    key: str
    seal: str = ""
    check: dict[str, Any] = field(default_factory=dict)

    def seal_under(self, secret: bytes) -> str:
        """What its seal has to be."""
        told = asdict(self) | {"seal": "", "file": ""}
        return hmac.new(secret, json.dumps(told, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def need(backend: str) -> Any:
    """The module of a backend.

    Raises:
        BackendUnavailableError: it is not installed, or its libraries cannot be loaded.
    """
    package = PACKAGES[backend]
    try:
        return import_module(package.module)
    except (ImportError, OSError) as error:
        raise BackendUnavailableError(
            f"{package.label} is not here ({first_line(error)}); install with: pip install "
            f"'secondeye[{package.extra}]'."
        ) from error


def listener(module: Any) -> tuple[Any, list[str]]:
    """A logger of a backend that prints nothing, and the list where its errors go."""
    lines: list[str] = []

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity <= module.ILogger.ERROR:
                lines.append(" ".join(text.split()))

    return Log(), lines


def secret_file() -> Path:
    """Where the secret lies."""
    given = os.environ.get("SECONDEYE_ENGINE_KEY")
    return Path(given) if given else cache_folder() / "engine.key"


def read_secret(*, make: bool = False) -> bytes | None:
    """The secret that seals plans; None when no build has made one.

    Raises:
        MediaError: it cannot be read or made, or is none.
    """
    path = secret_file()
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                pass
            else:
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_bytes(_KEY_BYTES))
        secret = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MediaError(f"{path}: cannot be used ({explain_os_error(error)}).") from error
    if len(secret) < _KEY_BYTES:
        raise MediaError(f"{path}: not a key of {_KEY_BYTES} bytes; remove it and build the bundle again.")
    return secret


def check_plan(folder: Path, plan: Plan) -> bytes:
    """The bytes of a plan that this machine may open.

    Raises:
        EngineError: it was built elsewhere or by another version, or is altered.
        BackendUnavailableError: its backend is not installed.
        MediaError: it cannot be read.
    """
    secret = read_secret()
    if secret is None or not hmac.compare_digest(plan.seal, plan.seal_under(secret)):
        raise EngineError(
            f"{plan.file}: an engine that this machine did not build, and an engine is code; build the bundle here, or "
            f"put the builder's engine.key at {secret_file()}."
        )
    module = need(plan.backend)
    if module.__version__ != plan.version:
        label = PACKAGES[plan.backend].label
        raise EngineError(
            f"{plan.file}: built by {label} {plan.version} where {module.__version__} is installed; build the bundle "
            "again."
        )
    try:
        data = (folder / plan.file).read_bytes()
    except OSError as error:
        raise MediaError(f"{folder / plan.file}: cannot be read ({explain_os_error(error)}).") from error
    if hashlib.sha256(data).hexdigest() != plan.sha256:
        raise EngineError(f"{plan.file}: altered or damaged (its SHA-256 differs); build the bundle again.")
    return data


def read_kernels(plan: Plan, gpu: str) -> bytes | None:
    """The kernels that TensorRT-RTX finished for a plan on a GPU; None where this machine has kept none."""
    secret = read_secret()
    try:
        data = _kernels_file(plan, gpu).read_bytes()
    except OSError:
        return None
    seal, blob = data[:32], data[32:]
    whole = secret is not None and hmac.compare_digest(seal, _kernels_seal(secret, plan, gpu, blob))
    return blob if whole else None


def keep_kernels(plan: Plan, gpu: str, blob: bytes) -> None:
    """Keep them for the next process, under the machine's seal: they are code as the plan is.

    Raises:
        MediaError: they cannot be written.
    """
    secret, path = read_secret(make=True), _kernels_file(plan, gpu)
    assert secret is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{path.parent}: cannot be made ({explain_os_error(error)}).") from error
    with atomic_write(path) as file:
        file.write(_kernels_seal(secret, plan, gpu, blob) + blob)


def _kernels_file(plan: Plan, gpu: str) -> Path:
    return cache_folder() / "kernels" / hashlib.sha256(f"{plan.sha256} {gpu}".encode()).hexdigest()


def _kernels_seal(secret: bytes, plan: Plan, gpu: str, blob: bytes) -> bytes:
    told = f"kernels {plan.sha256} {plan.version} {gpu} ".encode()
    return hmac.new(secret, told + hashlib.sha256(blob).digest(), hashlib.sha256).digest()


def find_plan(plans: tuple[Plan, ...], backend: str) -> Plan | None:
    """The plan for a backend, if there is one."""
    return next((one for one in plans if one.backend == backend), None)


def plan_from(data: Any, problems: list[str], where: str) -> dict[str, Any]:
    """The parts of a plan that are not a file's, out of a JSON tree; what does not fit goes to `problems`."""
    data = data if isinstance(data, dict) else {}
    parts: dict[str, Any] = {}
    for name in ("backend", "version", "graph", "key", "seal"):
        parts[name] = data.get(name)
        if not isinstance(parts[name], str):
            problems.append(f"{where}{name}: expected str, got {type(parts[name]).__name__}")
    if parts["backend"] not in PACKAGES:
        problems.append(f"{where}backend: {parts['backend']!r} is none of {', '.join(PACKAGES)}")
    targets, check = data.get("targets"), data.get("check")
    if not isinstance(targets, list) or not all(isinstance(one, str) for one in targets):
        problems.append(f"{where}targets: expected a list of architectures, got {targets!r}")
        targets = []
    if not isinstance(check, dict):
        problems.append(f"{where}check: expected dict, got {type(check).__name__}")
        check = {}
    return {**parts, "targets": tuple(targets), "check": check}
