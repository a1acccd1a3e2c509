# SPDX-License-Identifier: Apache-2.0
"""Weights that two graphs of a bundle have in common, on the disk once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from secondeye.export.cache import Cache, code_hash, content_key
from secondeye.runtime.bundle import EngineEntry, File

MOST_OWN = 64 << 20  # bytes of weights that a graph may take into itself

Piece = tuple[EngineEntry, list[Path]]


def share_weights(pieces: dict[str, Piece], takers: dict[str, str], cache: Cache, work: Path) -> dict[str, int]:
    """Let graphs read their weights from the data files of others, in place.

    Plans are compiled from graphs as they were, so an engine that has one keeps its own file.

    Args:
        pieces: of a bundle, by name: entry and files.
        takers: the engines that may do without a data file of their own, each with the one that has its weights.
        cache: where the graphs that were changed are kept.
        work: an empty folder's place.

    Returns:
        Bytes that each such engine uses of the other's file.
    """
    used: dict[str, int] = {}
    for name, donor in takers.items():
        (entry, files), (other, _) = pieces[name], pieces[donor]
        if entry.data is None or other.data is None or entry.plans:
            continue
        key = content_key({"graph": entry.graph_hash(), "weights of": other.graph_hash(), "code": code_hash()})
        found = cache.find(key)
        if found is None:
            work.mkdir()
            count = _shared(files[0], pieces[donor][1][0], work)
            found = cache.keep(key, work, {"shared": count})
        home, record = found
        if record["shared"] is None:
            continue
        used[name] = int(record["shared"])
        changed = replace(entry, sha256=record["files"][entry.file], data=File(**vars(other.data)))
        pieces[name] = changed, [home / entry.file]
    return used


def _shared(graph: Path, donor: Path, out: Path) -> int | None:
    """Write a graph anew into `out`, with another's data file for its own; None when too much of it is not there."""
    import onnx

    places = {key: place for _, key, place in _apart(onnx.load(str(donor), load_external_data=False), donor)}
    model = onnx.load(str(graph), load_external_data=False)
    found = list(_apart(model, graph))
    if sum(place[1] for _, key, place in found if key not in places) > MOST_OWN:
        return None
    count = 0
    for tensor, key, (offset, length) in found:
        del tensor.external_data[:]
        if key in places:
            count += length
            for name, value in (
                ("location", f"{donor.name}.data"),
                ("offset", places[key][0]),
                ("length", places[key][1]),
            ):
                tensor.external_data.add(key=name, value=str(value))
        else:
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.raw_data = np.fromfile(_data(graph), np.uint8, length, offset=offset).tobytes()
    onnx.save(model, str(out / graph.name))
    return count


def _data(graph: Path) -> Path:
    return graph.with_name(f"{graph.name}.data")


def _apart(model: Any, graph: Path) -> list[tuple[Any, tuple[Any, ...], tuple[int, int]]]:
    """(tensor, what it is, (offset, length) in the data file) of the weights that lie apart."""
    import onnx

    data = np.memmap(_data(graph), np.uint8, "r")
    result = []
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        told = {one.key: one.value for one in tensor.external_data}
        offset, length = int(told.get("offset", 0)), int(told["length"])
        digest = hashlib.sha256(data[offset : offset + length]).digest()
        result.append((tensor, (tensor.data_type, tuple(tensor.dims), digest), (offset, length)))
    return result
