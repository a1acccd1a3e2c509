# SPDX-License-Identifier: Apache-2.0
"""The small graphs round a diffusion model's engines, as files of ``runtime/assets``: what a GPU does between them.

    python -m secondeye.export.picture_graphs runtime/assets

``to_planes``: pictures [N, H, W, 3] uint8 as [-1, 1] planes, 0 where `holes` is not. ``to_start``: a schedule's first
latent, share[0] * noise + share[1] * warped. ``to_pixels``: planes as pictures, (v + 1) / 2 * 255, truncated. Each is
operation by operation what :mod:`secondeye.runtime.models.mono2stereo` does in numpy.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def make() -> dict[str, Any]:
    """Every graph, by name, as an onnx.ModelProto."""
    from onnx import TensorProto, helper, numpy_helper

    F, B, node = TensorProto.FLOAT, TensorProto.UINT8, helper.make_node
    picture, planes, latent = ["n", "h", "w", 3], ["n", 3, "h", "w"], ["n", 4, "y", "x"]

    def model(name: str, nodes: list[Any], ins: list[Any], out: Any, constants: dict[str, Any]) -> Any:
        values = [helper.make_tensor_value_info(*one) for one in (*ins, out)]
        kept = [numpy_helper.from_array(np.array(value), key) for key, value in constants.items()]
        graph = helper.make_graph(nodes, name, values[:-1], values[-1:], kept)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="secondeye")
        made.ir_version = 10
        return made

    one, two, top, least, zero = (np.float32(v) for v in (1, 2, 255, -1, 0))
    return {
        "to_planes": model(
            "to_planes",
            [
                node("Cast", ["picture"], ["a"], to=F), node("Div", ["a", "top"], ["b"]),
                node("Mul", ["b", "two"], ["c"]), node("Sub", ["c", "one"], ["d"]),
                node("Transpose", ["d"], ["e"], perm=[0, 3, 1, 2]), node("Cast", ["holes"], ["f"], to=TensorProto.BOOL),
                node("Unsqueeze", ["f", "axis"], ["g"]), node("Where", ["g", "zero", "e"], ["planes"]),
            ],
            [("picture", B, picture), ("holes", B, ["n", "h", "w"])], ("planes", F, planes),
            {"top": top, "two": two, "one": one, "zero": zero, "axis": np.array([1])},
        ),
        "to_start": model(
            "to_start",
            [
                node("Split", ["share"], ["s", "t"], num_outputs=2), node("Mul", ["s", "noise"], ["a"]),
                node("Mul", ["t", "warped"], ["b"]), node("Add", ["a", "b"], ["latent"]),
            ],
            [("noise", F, latent), ("warped", F, latent), ("share", F, [2])], ("latent", F, latent), {},
        ),
        "to_pixels": model(
            "to_pixels",
            [
                node("Clip", ["planes", "least", "one"], ["a"]), node("Add", ["a", "one"], ["b"]),
                node("Div", ["b", "two"], ["c"]), node("Mul", ["c", "top"], ["d"]),
                node("Transpose", ["d"], ["e"], perm=[0, 2, 3, 1]), node("Cast", ["e"], ["picture"], to=B),
            ],
            [("planes", F, planes)], ("picture", B, picture), {"top": top, "two": two, "one": one, "least": least},
        ),
    }  # fmt: skip


def main(folder: Path) -> None:
    """Write the files."""
    from secondeye.runtime.files import atomic_write

    for name, model in make().items():
        with atomic_write(folder / f"{name}.onnx") as file:
            file.write(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
