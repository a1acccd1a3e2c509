# SPDX-License-Identifier: Apache-2.0
"""Small true bundles, written by hand: the runtime's tests need no torch."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from secondeye.runtime.bundle import EngineEntry, Manifest, TensorSpec
from secondeye.runtime.files import file_hash

DEPTH_SIZE = (28, 42)
PARTS = {
    "dual": ("source", "warped", "latent"),
    "one-stage": ("source", "latent"),
    "inpaint": ("latent", "mask", "warped"),
}


def scheduler_constants():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    return {"alphas": [float(a) for a in alphas], "final_alpha": float(alphas[0]), "prediction": "v_prediction",
            "spacing": "leading", "offset": 1}  # fmt: skip


def _save(path, nodes, inputs, outputs, constants=()):
    def value(name, dtype, shape):
        return helper.make_tensor_value_info(name, dtype, shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [value(*i) for i in inputs],
        [value(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)


def make_bundle(folder, *, layout="dual", size=((128, 1024), (128, 1024)), depth=True, prediction=0.0, batch=1):
    """A bundle whose encoder is the mean over 8 x 8 pixels, whose decoder repeats it, and whose network predicts
    `prediction` times the mean of its parts; returns the folder."""
    node, F = helper.make_node, TensorProto.FLOAT
    folder.mkdir()
    picture, latent = ["batch", 3, "high", "wide"], ["batch", 4, "height", "width"]
    spread = np.zeros((4, 3, 1, 1), np.float32)
    spread[:3, :, 0, 0] = np.eye(3)
    _save(
        folder / "encoder.onnx",
        [node("AveragePool", ["picture"], ["small"], kernel_shape=[8, 8], strides=[8, 8]),
         node("Conv", ["small", "spread"], ["latent"])],
        [("picture", F, picture)], [("latent", F, latent)], [("spread", spread)],
    )  # fmt: skip
    _save(
        folder / "decoder.onnx",
        [
            node("Conv", ["latent", "gather"], ["small"]),
            node("Resize", ["small", "", "scales"], ["picture"], mode="nearest"),
        ],
        [("latent", F, latent)], [("picture", F, picture)],
        [("gather", spread.transpose(1, 0, 2, 3)), ("scales", np.array([1, 1, 8, 8], np.float32))],
    )  # fmt: skip
    parts = PARTS[layout]
    channels = {name: 1 if name == "mask" else 4 for name in parts}
    mix = np.full((4, sum(channels.values()), 1, 1), prediction / sum(channels.values()), np.float32)
    nodes = [node("Concat", list(parts), ["all"], axis=1), node("Conv", ["all", "mix"], ["guess"]),
             node("Unsqueeze", ["keep", "axes"], ["keep4"]), node("Unsqueeze", ["gain", "axes"], ["gain4"]),
             node("Mul", ["keep4", "latent"], ["a"]), node("Mul", ["gain4", "guess"], ["b"]),
             node("Cast", ["timestep"], ["t"], to=F), node("Unsqueeze", ["t", "axes"], ["t4"]),
             node("Mul", ["t4", "none"], ["c"]), node("Sum", ["a", "b", "c"], ["next"])]  # fmt: skip
    inputs = [(n, F, ["batch", channels[n], "height", "width"]) for n in parts]
    inputs += [("timestep", TensorProto.INT64, ["batch"]), ("keep", F, ["batch"]), ("gain", F, ["batch"])]
    constants = [("mix", mix), ("axes", np.array([1, 2, 3], np.int64)), ("none", np.zeros(1, np.float32))]
    _save(folder / "unet.onnx", nodes, inputs, [("next", F, latent)], constants)
    engines = _between(folder) | {
        "encoder": entry(folder, "encoder", [spec("picture")], [spec("latent")]),
        "decoder": entry(folder, "decoder", [spec("latent")], [spec("picture")]),
        "unet": entry(
            folder,
            "unet",
            [*(TensorSpec(name=n, dtype="float32", shape=("batch", channels[n], "height", "width")) for n in parts),
             TensorSpec(name="timestep", dtype="int64", shape=("batch",)),
             TensorSpec(name="keep", dtype="float32", shape=("batch",)),
             TensorSpec(name="gain", dtype="float32", shape=("batch",))],
            [spec("next")],
        ),
    }  # fmt: skip
    if depth:
        _save(
            folder / "depth.onnx",
            [node("ReduceMean", ["picture", "axis"], ["m"], keepdims=0), node("Mul", ["m", "some"], ["s"]),
             node("Relu", ["s"], ["depth"])],
            [("picture", F, [1, 3, *DEPTH_SIZE])], [("depth", F, [1, *DEPTH_SIZE])],
            [("axis", np.array([1], np.int64)), ("some", np.array(2.0, np.float32))],
        )  # fmt: skip
        engines["depth"] = entry(
            folder,
            "depth",
            [TensorSpec(name="picture", dtype="float32", shape=(1, 3, *DEPTH_SIZE))],
            [TensorSpec(name="depth", dtype="float32", shape=(1, *DEPTH_SIZE))],
        )
    manifest = Manifest(
        kind="mono2stereo",
        axes={"batch": (1, batch), "height": tuple(n // 8 for n in size[0]), "width": tuple(n // 8 for n in size[1])},
        engines=engines,
        constants={"layout": layout, "latent_scale": 1.0, "latent_channels": 4, "latent_factor": 8,
                   "scheduler": scheduler_constants()},
        sources={},
        built_by={},
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(manifest.to_json())
    return folder


def _between(folder):
    """What a GPU does between the engines."""
    node, F, B = helper.make_node, TensorProto.FLOAT, TensorProto.UINT8
    pixels, planes = ["batch", "high", "wide"], ["batch", 3, "high", "wide"]
    latent = ["batch", 4, "height", "width"]
    one, two, top, least = (np.float32(v) for v in (1, 2, 255, -1))
    _save(
        folder / "to_planes.onnx",
        [node("Cast", ["picture"], ["a"], to=F), node("Div", ["a", "top"], ["b"]), node("Mul", ["b", "two"], ["c"]),
         node("Sub", ["c", "one"], ["d"]), node("Transpose", ["d"], ["e"], perm=[0, 3, 1, 2]),
         node("Cast", ["holes"], ["f"], to=TensorProto.BOOL), node("Unsqueeze", ["f", "axis"], ["g"]),
         node("Where", ["g", "zero", "e"], ["planes"])],
        [("picture", B, [*pixels, 3]), ("holes", B, pixels)], [("planes", F, planes)],
        [("top", top), ("two", two), ("one", one), ("zero", np.float32(0)), ("axis", np.array([1], np.int64))],
    )  # fmt: skip
    _save(
        folder / "to_start.onnx",
        [node("Split", ["share"], ["s", "t"], num_outputs=2), node("Mul", ["s", "noise"], ["a"]),
         node("Mul", ["t", "warped"], ["b"]), node("Add", ["a", "b"], ["latent"])],
        [("noise", F, latent), ("warped", F, latent), ("share", F, [2])], [("latent", F, latent)],
    )  # fmt: skip
    _save(
        folder / "to_pixels.onnx",
        [node("Clip", ["planes", "least", "one"], ["a"]), node("Add", ["a", "one"], ["b"]),
         node("Div", ["b", "two"], ["c"]), node("Mul", ["c", "top"], ["d"]),
         node("Transpose", ["d"], ["e"], perm=[0, 2, 3, 1]), node("Cast", ["e"], ["picture"], to=B)],
        [("planes", F, planes)], [("picture", B, [*pixels, 3])],
        [("top", top), ("two", two), ("one", one), ("least", least)],
    )  # fmt: skip
    area = ("batch", ("height", 8), ("width", 8))
    bytes_ = TensorSpec(name="picture", dtype="uint8", shape=(*area, 3))
    holes = TensorSpec(name="holes", dtype="uint8", shape=area)
    share = TensorSpec(name="share", dtype="float32", shape=(2,))
    made = TensorSpec(name="planes", dtype="float32", shape=spec("picture").shape)
    return {
        "to_planes": entry(folder, "to_planes", [bytes_, holes], [made]),
        "to_start": entry(folder, "to_start", [spec("noise"), spec("warped"), share], [spec("latent")]),
        "to_pixels": entry(folder, "to_pixels", [made], [bytes_]),
    }


def spec(name):
    shape = ("batch", 3, ("height", 8), ("width", 8)) if name == "picture" else ("batch", 4, "height", "width")
    return TensorSpec(name=name, dtype="float32", shape=shape)


def entry(folder, name, inputs, outputs):
    file = f"{name}.onnx"
    return EngineEntry(file=file, sha256=file_hash(folder / file), data=None, backend="onnx", opset=18,
                       precision="fp32", inputs=tuple(inputs), outputs=tuple(outputs), error={})  # fmt: skip
