# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries go in without a copy; the GPU's side runs with `pytest -m gpu` where there is one."""

import numpy as np
import pytest

from secondeye import BackendUnavailableError, InvalidInputError, _native, ops

RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (37, 211, 3), np.uint8)
DISPARITY = (np.sin(np.arange(211) / 9.0) * 6 + RNG.integers(0, 2, (37, 1)) * 3).astype(np.float32)


class Tensor:
    """A host array of a library that speaks DLPack and nothing else."""

    def __init__(self, a):
        self.a = a

    def __dlpack__(self, **options):
        return self.a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


class OnDevice:
    """The interface of a GPU array; its address is never read, since no call on it gets that far here."""

    def __init__(self, a, **changes):
        self.a = a
        self.__cuda_array_interface__ = {
            "shape": a.shape, "typestr": a.dtype.str, "data": (a.ctypes.data, False), "strides": None, "version": 3,
            **changes,
        }  # fmt: skip


def test_dlpack_is_read_in_place():
    want = ops.warp(PICTURE, DISPARITY)
    out = ops.Warped(np.empty_like(want.view), np.empty_like(want.holes), np.empty_like(want.map))
    got = ops.warp(Tensor(PICTURE), Tensor(DISPARITY), out=ops.Warped(*(Tensor(a) for a in out)))
    np.testing.assert_array_equal(got.view, want.view)
    np.testing.assert_array_equal(out.map, want.map)  # written through, not into a copy


def test_host_and_device_do_not_mix():
    with pytest.raises(InvalidInputError, match="some arrays lie on the host"):
        ops.pack(OnDevice(PICTURE), PICTURE, out=OnDevice(np.empty((37, 422, 3), np.uint8)))


@pytest.mark.skipif(_native.cuda_device_count() > 0, reason="this machine has a GPU")
def test_device_arrays_without_a_gpu_are_a_clear_error():
    with pytest.raises(BackendUnavailableError, match="no such backend"):
        ops.pack(OnDevice(PICTURE), OnDevice(PICTURE), out=OnDevice(np.empty((37, 422, 3), np.uint8)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"typestr": "nonsense"}, "malformed"),
        ({"data": 7}, "malformed"),
        ({"mask": object()}, "masked"),
        ({"typestr": "<f8"}, "expected uint8"),
        ({"shape": (37, 211)}, "expected shape"),
        ({"shape": (0, 211, 3)}, "1 to 16384"),
        ({"data": (16, True)}, "overlaps"),
    ],
)
def test_malformed_device_arrays_are_refused(change, message):
    bad = OnDevice(PICTURE, **change)
    with pytest.raises(InvalidInputError, match=message):
        if "data" in change and isinstance(change["data"], tuple):
            ops.pack(OnDevice(PICTURE), OnDevice(PICTURE), "rows", out=bad)  # an output that may not be written
        else:
            ops.pack(bad, bad, out=OnDevice(np.empty((37, 422, 3), np.uint8)))


def test_an_unknown_library_has_to_bring_its_output():
    with pytest.raises(InvalidInputError, match="pass out="):
        ops.pack(OnDevice(PICTURE), OnDevice(PICTURE))


def test_torch_tensors_come_back_as_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    got = ops.pack(torch.from_numpy(PICTURE), torch.from_numpy(PICTURE.copy()))
    assert isinstance(got, torch.Tensor)
    np.testing.assert_array_equal(got.numpy(), ops.pack(PICTURE, PICTURE))


# ---- on a GPU ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cuda():
    """torch, on a machine where our CUDA kernels run."""
    torch = pytest.importorskip("torch", reason="torch carries the arrays to the GPU")
    if not torch.cuda.is_available() or _native.cuda_device_count() == 0:
        pytest.skip("no GPU, or a build without CUDA kernels")
    return torch


SIZES = [(1, 1), (3, 5), (7, 333), (37, 211), (5, 4099), (270, 480)]


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("eye", ["right", "left"])
def test_the_device_returns_the_references_bytes(cuda, size, channels, eye):
    rng = np.random.default_rng(size[1])
    picture = rng.integers(0, 256, (*size, channels), np.uint8)
    disparity = np.repeat(rng.normal(size=(size[0], size[1] // 6 + 1)) * 6, 6, 1)[:, : size[1]].astype(np.float32)
    disparity[rng.random(size) < 0.01] = np.nan
    cells = rng.normal(size=(9, 13)).astype(np.float32) * 4

    def up(a):
        return cuda.from_numpy(a).cuda()

    for law in ("surface", "nearest"):
        want = ops.warp(picture, disparity, eye=eye, law=law)
        got = ops.warp(up(picture), up(disparity), eye=eye, law=law)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.cpu().numpy(), b)
        np.testing.assert_array_equal(ops.fill(got, eye=eye).cpu().numpy(), ops.fill(want, eye=eye))
        np.testing.assert_array_equal(ops.inpaint_mask(got, eye=eye).cpu().numpy(), ops.inpaint_mask(want, eye=eye))
    same = ops.upsample(up(cells), up(picture), threshold=1.0), ops.upsample(cells, picture, threshold=1.0)
    np.testing.assert_array_equal(same[0].cpu().numpy(), same[1])
    np.testing.assert_array_equal(
        ops.widen_foreground(up(disparity), 2).cpu().numpy(), ops.widen_foreground(disparity, 2)
    )
    other = np.ascontiguousarray(picture[::-1])
    for layout in ("sbs", "tb", "rows", "columns", "checkerboard"):
        packed = ops.pack(up(picture), up(other), layout)
        np.testing.assert_array_equal(packed.cpu().numpy(), ops.pack(picture, other, layout))
    if channels == 3:
        np.testing.assert_array_equal(ops.anaglyph(up(picture), up(other)).cpu().numpy(), ops.anaglyph(picture, other))
    np.testing.assert_array_equal(ops.resize(up(picture), 11, 17).cpu().numpy(), ops.resize(picture, 11, 17))
    np.testing.assert_array_equal(ops.prepare(up(picture), 32, 64).cpu().numpy(), ops.prepare(picture, 32, 64))
