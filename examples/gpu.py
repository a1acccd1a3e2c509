# SPDX-License-Identifier: Apache-2.0
"""One frame on a GPU, from picture to pair, and nothing of it on the host: the network's input, a depth network by ONNX
Runtime, its range, warp and layout, all queued on one stream.

pip install 'secondeye[cuda]' torch opencv-python
python gpu.py depth_anything_v2_vits.onnx photo.jpg pair.png
"""

import sys
import time

import cv2
import numpy as np
import onnxruntime as ort
import torch

import secondeye
from secondeye import ops

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # Depth Anything's


class Converter:
    """Pictures of one size; every call may be queued before the one before it is done."""

    def __init__(self, network: str, height: int, width: int, size: tuple[int, int] = (518, 924)) -> None:
        self.stream, self.size = torch.cuda.Stream(), size
        on_it = {"user_compute_stream": str(self.stream.cuda_stream)}
        self.session = ort.InferenceSession(network, providers=[("CUDAExecutionProvider", on_it)])
        if self.session.get_providers()[0] != "CUDAExecutionProvider":
            sys.exit("gpu.py: ONNX Runtime cannot start its CUDA provider; see secondeye doctor")
        self.input = torch.empty((1, 3, *size), device="cuda")
        self.depth = torch.empty((1, *size), device="cuda")
        self.binding, self.options = self.session.io_binding(), ort.RunOptions()
        self.options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        one, other = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name
        self.binding.bind_input(one, "cuda", 0, np.float32, tuple(self.input.shape), self.input.data_ptr())
        self.binding.bind_output(other, "cuda", 0, np.float32, tuple(self.depth.shape), self.depth.data_ptr())
        self.path = secondeye.FramePath(width, height, map_size=(size[1], size[0]), device="cuda")

    def __call__(self, picture: torch.Tensor, out: torch.Tensor, **look: object) -> None:
        """picture: uint8 [height, width, 3] on the GPU; out: of the layout's shape. Ready when `stream` is."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            ops.prepare(picture, *self.size, mean=MEAN, std=STD, out=self.input)
            self.session.run_with_iobinding(self.binding, self.options)
            values = self.depth.reshape(-1).sort().values  # nearness lies between the hundredths
            low, high = values[len(values) // 100], values[-1 - len(values) // 100]
            nearness = ((self.depth[0] - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
            self.path(picture, nearness, out=out, **look)


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    image = cv2.imread(sys.argv[2])
    if image is None:
        sys.exit(f"gpu.py: {sys.argv[2]} cannot be read")
    picture = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1])).cuda()
    height, width = picture.shape[:2]
    convert = Converter(sys.argv[1], height, width)
    pair = torch.empty((height, 2 * width, 3), dtype=torch.uint8, device="cuda")
    convert(picture, pair, layout="sbs", strength=2.5)
    convert.stream.synchronize()
    begun = time.perf_counter()
    for _ in range(100):
        convert(picture, pair, layout="sbs", strength=2.5)
    convert.stream.synchronize()
    print(f"{10 * (time.perf_counter() - begun):.2f} ms a frame")
    cv2.imwrite(sys.argv[3], pair.cpu().numpy()[:, :, ::-1])


if __name__ == "__main__":
    main()
