# SPDX-License-Identifier: Apache-2.0
"""Depth models: a picture in, a map of nearness out.

A model is anything that is called with a uint8 [H, W, 3] sRGB picture and returns float32 [h, w], larger = nearer, on
any scale (relative inverse depth). ``open_depth`` gives the built-in network, the classical cues, or an ONNX file.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.backends.own import KernelSession, Runner, open_small
from secondeye.runtime.errors import (
    EngineError,
    InvalidInputError,
    MediaError,
    ModelFormatError,
    ResourceLimitError,
)
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.sessions import Device, run_network

Map = NDArray[np.float32]
Normalisation = Literal["auto", "imagenet", "half", "none"]
OutputKind = Literal["auto", "disparity", "depth"]

AUTO = "auto"
BUILTIN = "builtin"
CUES = "cues"

_MEAN_STD: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class DepthModel(Protocol):
    """What the converter needs of a depth model."""

    @property
    def name(self) -> str:
        """What to call it in reports."""

    def __call__(self, picture: NDArray[np.uint8]) -> Map:
        """uint8 [H, W, 3] -> float32 [h, w], larger = nearer."""


@dataclass(frozen=True, kw_only=True)
class DepthOptions:
    """How a user's ONNX depth model is fed; ``auto`` and None mean: found in the file, or beside it.

    Attributes:
        size: the shorter side of the network's input, pixels (a network of fixed size refuses another).
        normalisation: ``imagenet`` (mean and deviation of ImageNet), ``half`` ([-1, 1]) or ``none`` ([0, 1]).
        output: ``disparity`` when larger is nearer (Depth Anything V2, MiDaS), ``depth`` when larger is farther.
        device: ``cpu`` or ``cuda`` (onnxruntime's CUDA provider; no silent fall-back).
        threads: 0 for one per core.
        runner: what runs it: ``kernels`` (our own: small convolutional networks on the CPU, the built-in one among
            them; see ``secondeye/network.h``), ``onnxruntime``, or ``auto``: the kernels where they have its layers.
    """

    size: int | None = None
    normalisation: Normalisation = "auto"
    output: OutputKind = "auto"
    device: Device = "cpu"
    threads: int = 0
    runner: Runner = "auto"


def builtin_path() -> Path:
    """The built-in network's file."""
    return Path(str(resources.files("secondeye.runtime") / "assets" / "depth_builtin.onnx"))


def open_depth(
    spec: str | os.PathLike[str], options: DepthOptions | None = None, *, limits: Limits = DEFAULT_LIMITS
) -> DepthModel:
    """Open a depth model.

    Args:
        spec: ``builtin``, ``cues``, or the path of an ONNX file.
        options: how to feed it.
        limits: the largest model file that is opened.

    Raises:
        ModelFormatError: not an ONNX depth model.
        BackendUnavailableError: the device asked for cannot be had.
        MediaError: no such file.
    """
    options = options or DepthOptions()
    if str(spec) == CUES:
        return CueDepth()
    if str(spec) == BUILTIN:
        return OnnxDepth(builtin_path(), options, name="built-in depth", limits=limits)
    return OnnxDepth(Path(spec), options, limits=limits)


def least_depth(depth: NDArray[Any]) -> float:
    """What less depth counts as when it is inverted: a thousandth of the typical one, so that a zero does not become
    the only thing in the picture.
    """
    return max(1e-6, 1e-3 * float(np.median(np.abs(depth))))


class CueDepth:
    """The classical cues (height, saliency, sharpness, colour): no network, and the bar that one has to clear."""

    name = "classical cues"

    def __call__(self, picture: NDArray[np.uint8]) -> Map:
        """uint8 [H, W, 3] -> float32 [h, w], larger = nearer."""
        from secondeye.runtime.depth_cues import cue_disparity

        return cue_disparity(picture)


@dataclass(frozen=True, kw_only=True)
class _InputRule:
    """The size of the network's input for a picture's size."""

    fixed: tuple[int, int] | None = None
    shorter: int = 518
    multiple: int = 14
    area: int | None = None

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the input, both multiples; at most 4 times as long as high, so that memory is bounded."""
        if self.fixed is not None:
            return self.fixed
        aspect = min(4.0, max(0.25, width / height))
        if self.area is not None:
            high, wide = math.sqrt(self.area / aspect), math.sqrt(self.area * aspect)
        else:
            high, wide = self.shorter * max(1.0, 1.0 / aspect), self.shorter * max(1.0, aspect)
        step = self.multiple
        return max(step, round(high / step) * step), max(step, round(wide / step) * step)


class OnnxDepth:
    """A depth network in ONNX, run by our own kernels or by ONNX Runtime; ``runner`` says by which.

    The file's metadata (ours), or a ``preprocessor_config.json`` beside it (transformers' layout), say how to feed
    it; otherwise ImageNet normalisation and a shorter side of 518 in steps of 14 are taken (Depth Anything V2), or
    384 in steps of 32 (MiDaS) where the network refuses those. A fixed input size is always obeyed.
    """

    def __init__(
        self,
        path: Path,
        options: DepthOptions | None = None,
        *,
        name: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._options = options or DepthOptions()
        self.name = name or path.name
        self._label = str(path)
        self._session = _open_session(path, self._options, limits)
        self.runner: Runner = "kernels" if isinstance(self._session, KernelSession) else "onnxruntime"
        self._input = self._only_input()
        self._channels_last = _is_channels_last(self._input.shape)
        self._output_name = _pick_output(self._label, self._session.get_outputs())
        self._dtype = np.float16 if self._input.type == "tensor(float16)" else np.float32
        meta = _found_settings(path, self._session)
        self._mean, self._std = self._normalisation(meta)
        kind = self._options.output if self._options.output != "auto" else meta.get("output", "disparity")
        self._invert = kind == "depth"
        self._rule = self._probe(self._rules(meta))

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for a picture's."""
        return self._rule.size_for(height, width)

    def __call__(self, picture: NDArray[np.uint8]) -> Map:
        """uint8 [H, W, 3] -> float32 [h, w], larger = nearer."""
        height, width = self.input_size(picture.shape[0], picture.shape[1])
        tensor = ops.prepare(
            picture, height, width, mean=self._mean, std=self._std, filter="bilinear", dtype=self._dtype
        )
        values = self._run(tensor)
        if self._invert:
            # A thousandth of the typical depth keeps a zero from becoming the only thing in the picture.
            floor = np.float32(max(1e-6, 1e-3 * float(np.median(values))))
            values = (np.float32(1.0) / np.maximum(values, floor)).astype(np.float32)
        return values

    def _only_input(self) -> Any:
        inputs = self._session.get_inputs()
        fits = (
            len(inputs) == 1
            and inputs[0].type in ("tensor(float)", "tensor(float16)")
            and len(inputs[0].shape) == 4
            and (_takes(inputs[0].shape[1], 3) or _takes(inputs[0].shape[3], 3))
        )
        if not fits:
            got = "; ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise ModelFormatError(
                f"{self._label}: not a depth model: expected one float picture input [1, 3, H, W], got {got}."
            )
        return inputs[0]

    def _normalisation(self, meta: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self._options.normalisation != "auto":
            return _MEAN_STD[self._options.normalisation]
        found: tuple[tuple[float, ...], tuple[float, ...]] = meta.get("mean_std", _MEAN_STD["imagenet"])
        return found

    def _rules(self, meta: dict[str, Any]) -> list[_InputRule]:
        shape = list(self._input.shape)
        high, wide = (shape[1], shape[2]) if self._channels_last else (shape[2], shape[3])
        size = self._options.size
        if isinstance(high, int) and isinstance(wide, int):
            if size is not None and size != min(high, wide):
                raise InvalidInputError(
                    f"{self._label}: its input is fixed at {wide} x {high}; leave the depth size out."
                )
            return [_InputRule(fixed=(high, wide))]
        if "multiple" in meta:
            multiple = int(meta["multiple"])
            if size is not None:
                return [_InputRule(shorter=size, multiple=multiple)]
            return [_InputRule(shorter=int(meta.get("shorter", 518)), multiple=multiple, area=meta.get("area"))]
        return [_InputRule(shorter=size or 518, multiple=14), _InputRule(shorter=size or 384, multiple=32)]

    def _probe(self, rules: list[_InputRule]) -> _InputRule:
        """The first rule that the network takes, found by running it (which warms it up too)."""
        failure: Exception | None = None
        for rule in rules:
            height, width = rule.size_for(480, 640)
            if isinstance(self._session, KernelSession):  # which knows without a run
                try:
                    channels, high, wide = self._session.shape(height, width)
                except InvalidInputError as error:
                    failure = error
                    continue
                if channels != 1 or min(high, wide) < 8:
                    raise ModelFormatError(
                        f"{self._label}: not a depth model: expected one map of numbers as output, got "
                        f"{channels} of {wide} x {high}."
                    )
                return rule
            noise = np.random.default_rng(1).random((1, 3, height, width), np.float32).astype(self._dtype)
            try:
                self._run(noise)
            except EngineError as error:
                failure = error
                continue
            return rule
        raise ModelFormatError(f"{self._label}: not a depth model that runs: {failure}")

    def _run(self, tensor: NDArray[Any]) -> Map:
        if self._channels_last:
            tensor = np.ascontiguousarray(tensor.transpose(0, 2, 3, 1))
        raw = run_network(self._session, self._label, tensor, self._output_name)
        values = np.squeeze(raw)
        if values.ndim != 2 or min(values.shape) < 8 or values.dtype.kind != "f":
            raise ModelFormatError(
                f"{self._label}: not a depth model: expected one map of numbers as output, got {raw.dtype} {raw.shape}."
            )
        if not np.isfinite(values).all():
            raise EngineError(f"{self._label}: gave values that are not finite; use a float32 export of it.")
        return np.ascontiguousarray(values, np.float32)


def _open_session(path: Path, options: DepthOptions, limits: Limits) -> Any:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise MediaError(
            f"{path}: no such file; give 'builtin', 'cues' or an ONNX file (secondeye models lists public ones)."
        ) from error
    if path.is_dir():
        raise MediaError(f"{path}: is a folder where an ONNX file is meant.")
    if size > limits.max_model_bytes:
        raise ResourceLimitError(f"{path}: {size >> 20} MiB is over the limit of {limits.max_model_bytes >> 20} MiB.")
    return open_small(path, device=options.device, threads=options.threads, runner=options.runner)


def _takes(dimension: object, size: int) -> bool:
    """Whether an ONNX dimension (a number, a name or None) admits a size."""
    return not isinstance(dimension, int) or dimension == size


def _is_channels_last(shape: list[Any]) -> bool:
    return shape[3] == 3 and shape[1] != 3


def _pick_output(label: str, outputs: list[Any]) -> str:
    floats = [
        o for o in outputs if o.type in ("tensor(float)", "tensor(float16)") and len(o.shape or [0] * 4) in (3, 4)
    ]
    if not floats:
        got = "; ".join(f"{o.name}: {o.type} {o.shape}" for o in outputs)
        raise ModelFormatError(f"{label}: not a depth model: expected a float map [1, H, W] as output, got {got}.")
    named = [o for o in floats if any(word in o.name.lower() for word in ("depth", "disp"))]
    return str((named or floats)[0].name)


def _found_settings(path: Path, session: Any) -> dict[str, Any]:
    """What the model's own metadata, or a preprocessor_config.json beside it, say about its input."""
    meta = session.get_modelmeta().custom_metadata_map
    found: dict[str, Any] = {}
    if "input_multiple" in meta:
        found["multiple"] = _number(meta["input_multiple"])
        high, _, wide = meta.get("input_size", "256x384").partition("x")
        found["area"] = _number(high) * _number(wide)
        found["mean_std"] = _MEAN_STD.get(meta.get("normalisation", "none"), _MEAN_STD["none"])
        found["output"] = "depth" if meta.get("kind") == "depth" else "disparity"
        return found
    for folder in (path.parent, path.parent.parent):
        config = folder / "preprocessor_config.json"
        if config.is_file() and config.stat().st_size < 1 << 20:
            return _transformers_settings(config)
    return found


def _transformers_settings(config: Path) -> dict[str, Any]:
    try:
        data = json.loads(config.read_text("utf-8"))
        found: dict[str, Any] = {}
        if data.get("do_normalize", True) and "image_mean" in data:
            mean = tuple(float(v) for v in data["image_mean"])
            std = tuple(float(v) for v in data["image_std"])
            if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
                raise ValueError("image_mean and image_std need three numbers each")
            found["mean_std"] = (mean, std)
        elif data.get("do_normalize") is False:
            found["mean_std"] = _MEAN_STD["none"]
        if data.get("ensure_multiple_of"):
            found["multiple"] = int(data["ensure_multiple_of"])
            size = data.get("size", {})
            found["shorter"] = int(min(size.get("height", 518), size.get("width", 518)))
        return found
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFormatError(f"{config}: cannot be understood ({error}); mend it or move it away.") from error


def _number(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 4096:
        raise ModelFormatError(f"the model's metadata names a size of {value}; expected 1 to 4096.")
    return value
