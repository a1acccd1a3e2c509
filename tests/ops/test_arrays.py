# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries go in without a copy; the GPU's side runs with `pytest -m gpu` where there is one."""

import numpy as np
import pytest

from secondeye import BackendUnavailableError, InvalidInputError, ResourceLimitError, _native, ops

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


def test_dlpack_before_1_0_is_written_too():
    class Old(Tensor):
        def __dlpack__(self, stream=None):
            return self.a.__dlpack__()

    out = np.empty((37, 422, 3), np.uint8)
    ops.pack(Old(PICTURE), Old(PICTURE), out=Old(out))
    np.testing.assert_array_equal(out, ops.pack(PICTURE, PICTURE))


def test_a_read_only_output_is_called_so():
    out = np.empty((37, 422, 3), np.uint8)
    out.setflags(write=False)
    for one in (out, Tensor(out)):
        with pytest.raises(InvalidInputError, match=r"read-?only|does not hand"):
            ops.pack(PICTURE, PICTURE, out=one)
    with pytest.raises(InvalidInputError, match="pack: an output is read-only"):
        ops.pack(PICTURE, PICTURE, out=out)


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
        ({"data": (16, True)}, "read-only"),
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


def test_what_is_worked_out_on_the_host_takes_any_librarys_arrays_there():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    depth, mask = PICTURE[:, :, 0].astype(np.float32), PICTURE[:, :, 1].copy()
    made = ops.disparity(torch.from_numpy(depth), frame_width=211)
    assert isinstance(made, torch.Tensor)
    np.testing.assert_array_equal(made.numpy(), ops.disparity(depth, frame_width=211))
    assert ops.depth_range(torch.from_numpy(depth)) == ops.depth_range(depth)
    assert ops.mask_tiles(torch.from_numpy(mask), tile=16, overlap=8) == ops.mask_tiles(mask, tile=16, overlap=8)
    for call in (
        lambda: ops.disparity(OnDevice(depth), frame_width=211),
        lambda: ops.depth_range(OnDevice(depth)),
        lambda: ops.mask_tiles(OnDevice(mask)),
    ):
        with pytest.raises(InvalidInputError, match="bring it there"):
            call()


# ---- torch's tensors, on the host and on a GPU -------------------------------------------------------------

SIZES = [(1, 1), (3, 5), (7, 333), (37, 211), (5, 4099), (270, 480)]


def assert_same(got, want):
    """Tensors of torch against arrays of numpy, bit for bit; tuples part by part."""
    if isinstance(want, tuple):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert_same(a, b)
        return
    a = got.cpu().numpy()
    assert a.dtype == want.dtype
    np.testing.assert_array_equal(np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(want).view(np.uint8))


def every_op(move, size, channels, eye):
    """Every op over arrays that `move` brings somewhere, against the same op over numpy's."""
    rng = np.random.default_rng(size[1])
    picture = rng.integers(0, 256, (*size, channels), np.uint8)
    other = picture[::-1].copy()
    disparity = np.repeat(rng.normal(size=(size[0], size[1] // 6 + 1)) * 6, 6, 1)[:, : size[1]].astype(np.float32)
    disparity[rng.random(size) < 0.01] = np.nan
    cells = rng.normal(size=(9, 13)).astype(np.float32) * 4
    labels = rng.integers(0, 3, size).astype(np.uint16)

    def both(op, *arrays, **options):
        want = op(*arrays, **options)
        got = op(*(move(a) for a in arrays), **{k: move(v) for k, v in options.items()})
        assert_same(got, want)
        return got, want

    for law in ("surface", "nearest"):
        got, want = both(ops.warp, picture, disparity, eye=eye, law=law)
        assert_same(ops.fill(got, eye=eye), ops.fill(want, eye=eye))
        mask, host_mask = ops.inpaint_mask(got, eye=eye, tall=3), ops.inpaint_mask(want, eye=eye, tall=3)
        assert_same(mask, host_mask)
        assert_same(ops.mask_cells(mask, kind="area"), ops.mask_cells(host_mask, kind="area"))
        soft, host_soft = ops.feather(mask, 3), ops.feather(host_mask, 3)
        assert_same(soft, host_soft)
        assert_same(ops.blend(move(picture), move(other), soft), ops.blend(picture, other, host_soft))
    scales = (-1.0, -0.25, 0.5, 1.0)
    assert_same(ops.warp_views(move(picture), move(disparity), scales), ops.warp_views(picture, disparity, scales))
    both(ops.warp, (picture / 255).astype(np.float16).transpose(2, 0, 1).copy().transpose(1, 2, 0), disparity, eye=eye)
    both(ops.warp, picture[:, ::2], disparity[:, ::2].copy(), eye=eye)  # every second column, in place
    both(ops.upsample, cells, picture, threshold=1.0)
    both(ops.upsample, cells, picture, threshold=1.0, labels=labels)
    both(ops.widen_foreground, disparity, radius=2)
    both(ops.level, np.nan_to_num(disparity), scale=1.7, offset=-3.25)
    half = rng.integers(0, 256, ((size[0] + 1) // 2, (size[1] + 1) // 2, 2), np.uint8)
    both(ops.nv12, np.ascontiguousarray(other[:, :, 1]), half, channels=channels)
    for layout in ("sbs", "tb", "rows", "columns", "checkerboard"):
        both(ops.pack, picture, other, layout=layout)
    if channels == 3:
        both(ops.anaglyph, picture, other)
    grey = np.ascontiguousarray(picture[:, :, 0])
    both(ops.motion, grey, np.roll(grey, 1, 1), radius=2)
    for height, width in ((11, 17), (11, 17), (300, 400)):  # the second time with weights that are there already
        assert_same(ops.resize(move(picture), height, width), ops.resize(picture, height, width))
    for dtype in (np.float32, np.float16):
        tensor, host = (ops.prepare(a, 32, 64, dtype=dtype) for a in (move(picture), picture))
        assert_same(tensor, host)
        assert_same(ops.restore(tensor), ops.restore(host))


@pytest.mark.parametrize("size", SIZES[:4])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_op_takes_torchs_tensors(size, channels):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    every_op(lambda a: torch.from_numpy(a) if isinstance(a, np.ndarray) else a, size, channels, "right")


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("eye", ["right", "left"])
def test_the_device_returns_the_references_bytes(cuda, size, channels, eye):
    every_op(lambda a: cuda.from_numpy(a).cuda() if isinstance(a, np.ndarray) else a, size, channels, eye)


@pytest.mark.gpu
def test_rows_that_do_not_fit_into_shared_memory_are_a_clear_error(cuda):
    wide = cuda.zeros((3, 16384, 3), dtype=cuda.uint8, device="cuda")
    warped = ops.warp(wide, cuda.zeros((3, 16384), device="cuda"))
    with pytest.raises(ResourceLimitError, match="shared memory"):
        ops.inpaint_mask(warped, tall=64)


@pytest.mark.gpu
def test_an_op_runs_on_the_stream_of_its_library(cuda):
    stream = cuda.cuda.Stream()
    with cuda.cuda.stream(stream):
        source = cuda.full((1080, 1920, 3), 7, dtype=cuda.uint8, device="cuda")
        got = ops.pack(source, source)
    stream.synchronize()
    assert bool((got == 7).all())
