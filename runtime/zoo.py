# SPDX-License-Identifier: Apache-2.0
"""Public depth models by name: where they are, under which licence, and how to fetch one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError, MediaError

_CONFIG = "preprocessor_config.json"


@dataclass(frozen=True, kw_only=True)
class PublicModel:
    """One public model.

    Attributes:
        name: as given to ``secondeye models get`` and ``--depth-model``.
        repository, file: where it lies on the Hugging Face hub.
        licence: of the weights, as its authors state it.
        commercial: whether that licence allows commercial use.
        summary: one line for the table.
    """

    name: str
    repository: str
    file: str
    licence: str
    commercial: bool
    summary: str


MODELS: dict[str, PublicModel] = {
    model.name: model
    for model in (
        PublicModel(
            name="depth-anything-v2-small", repository="onnx-community/depth-anything-v2-small",
            file="onnx/model.onnx", licence="Apache-2.0", commercial=True,
            summary="25 M parameters, 99 MB: the best small one",
        ),
        PublicModel(
            name="depth-anything-v2-base", repository="onnx-community/depth-anything-v2-base",
            file="onnx/model.onnx", licence="CC-BY-NC-4.0", commercial=False,
            summary="98 M parameters, 390 MB",
        ),
        PublicModel(
            name="depth-anything-v2-large", repository="onnx-community/depth-anything-v2-large",
            file="onnx/model.onnx", licence="CC-BY-NC-4.0", commercial=False,
            summary="335 M parameters, 1.3 GB",
        ),
        PublicModel(
            name="dpt-hybrid-midas", repository="Xenova/dpt-hybrid-midas",
            file="onnx/model.onnx", licence="Apache-2.0", commercial=True,
            summary="MiDaS 3.0 hybrid, 123 M parameters, 490 MB",
        ),
    )
}  # fmt: skip


def cache_folder() -> Path:
    """Where fetched models are kept: $SECONDEYE_CACHE, else the user's cache folder."""
    given = os.environ.get("SECONDEYE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secondeye"


def _find(name: str) -> PublicModel:
    if name not in MODELS:
        raise InvalidInputError(f"model: expected one of {', '.join(MODELS)}, got {name!r}.")
    return MODELS[name]


def local_path(name: str) -> Path | None:
    """The file of a public model that has been fetched, else None.

    Raises:
        InvalidInputError: no such model.
    """
    model = _find(name)
    path = cache_folder() / "models" / model.name / model.file
    return path if path.is_file() else None


def _knock(endpoint: str) -> None:
    """Fail at once where the hub cannot be reached; its own client would try for half a minute."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    place = urlsplit(endpoint)
    if place.scheme in getproxies() or not place.hostname:
        return  # a proxy decides
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        socket.create_connection((place.hostname, port), timeout=5.0).close()
    except OSError as error:
        raise ConnectionError(f"no connection to {place.hostname}: {error.strerror or error}") from error


def get(name: str, *, accept_licence: bool = False) -> Path:
    """Fetch a public model, unless it is here already.

    Args:
        name: a name in :data:`MODELS`.
        accept_licence: needed for weights that are not for commercial use.

    Returns:
        The ONNX file.

    Raises:
        InvalidInputError: no such model, or its licence was not accepted.
        BackendUnavailableError: huggingface_hub is not installed.
        MediaError: no internet, or the hub does not have it.
    """
    model = _find(name)
    here = local_path(name)
    if here is not None:
        return here
    if not model.commercial and not accept_licence:
        raise InvalidInputError(
            f"{name}: its weights are under {model.licence}, not for commercial use; "
            "add --accept-licence if that suits you."
        )
    try:
        from huggingface_hub import constants, hf_hub_download
    except ImportError as error:
        raise BackendUnavailableError(
            f"{name}: fetching needs huggingface_hub; install it with: pip install 'secondeye[models]'."
        ) from error
    folder = cache_folder() / "models" / model.name
    try:
        _knock(constants.ENDPOINT)
        hf_hub_download(model.repository, _CONFIG, local_dir=folder)
        return Path(hf_hub_download(model.repository, model.file, local_dir=folder))
    except Exception as error:  # the hub's, the HTTP library's and the system's exceptions share no base
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")
        raise MediaError(
            f"{name}: cannot be fetched from {model.repository} ({reason}); check the internet connection, or put "
            f"the file at {folder / model.file} yourself. The built-in model needs no download."
        ) from error
