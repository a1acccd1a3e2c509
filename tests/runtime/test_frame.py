# SPDX-License-Identifier: Apache-2.0
"""A frame's path where its pixels are: a session's bytes, on the CPU and as block programs; refusals; a GPU."""

import numpy as np
import pytest

import secondeye
from secondeye import FramePath, InvalidInputError, LiveConfig, LiveSession, _native, ops

HEIGHT, WIDTH = 45, 82
SCENE = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
RAMP = np.repeat(np.linspace(0, 1, 18, dtype=np.float32)[:, None], 30, 1)
LAYOUTS = ("sbs", "tb", "half-sbs", "half-tb", "rows", "columns", "checkerboard", "anaglyph", "right")


def nearness_of_session():
    """What a session makes of the ramp before it enlarges it, rounding for rounding."""
    low, high = (np.float32(v) for v in ops.depth_range(RAMP))
    slope = np.float32(1) / (high - low)
    return np.clip(slope * RAMP + -low * slope, 0, 1)


def path(**options):
    return FramePath(WIDTH, HEIGHT, map_size=(30, 18), **({"isa": "auto"} | options))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("view", ["right", "both"])
def test_it_gives_a_sessions_bytes_on_the_cpu_and_as_block_programs(layout, view):
    look = {"layout": layout, "view": view, "strength": 9.0, "convergence": 0.25, "swap": view == "both"}
    with LiveSession(
        LiveConfig(width=WIDTH, height=HEIGHT, depth=lambda _: RAMP, steady=0.0, policy="every", **look)
    ) as live:
        live.submit(SCENE, timeout=5)
        want = live.wait(5).picture.copy()
    for isa in ("auto", "blocks"):
        np.testing.assert_array_equal(path(isa=isa)(SCENE, nearness_of_session(), **look), want, err_msg=isa)


def test_it_is_the_ops_one_after_another():
    nearness = np.random.default_rng(2).random((18, 30), np.float32)
    got = path(widen=2)(SCENE, nearness, layout="tb", strength=6.0, convergence=0.5, fill=True)
    reach = np.float32(np.float32(0.04) * np.float32(WIDTH))
    plane = ops.upsample(nearness * reach, SCENE, threshold=1.0)
    plane = ops.smooth_edges(ops.widen_foreground(plane, radius=2, threshold=1.0))
    moved = ops.level(plane, 1.5, -np.float32(0.5) * np.float32(np.float32(0.06) * np.float32(WIDTH)))
    right = ops.fill(ops.warp(SCENE, moved))
    np.testing.assert_array_equal(got, ops.pack(SCENE, right, "tb"))


@pytest.mark.parametrize("isa", ["auto", "blocks"])
def test_nv12_goes_in_and_the_caller_owns_what_comes_out(isa):
    rng = np.random.default_rng(9)
    luma = rng.integers(16, 236, (HEIGHT, WIDTH), np.uint8)
    chroma = rng.integers(16, 240, ((HEIGHT + 1) // 2, (WIDTH + 1) // 2, 2), np.uint8)
    out = np.empty((HEIGHT, 2 * WIDTH + 6, 4), np.uint8)[:, : 2 * WIDTH]  # rows with a pitch, as surfaces have
    frames = path(channels=4, nv12="bt601", isa=isa)
    assert frames(luma, RAMP, chroma=chroma, out=out) is out
    rgba = ops.nv12(luma, chroma, standard="bt601", channels=4)
    np.testing.assert_array_equal(out, path(channels=4)(rgba, RAMP))
    np.testing.assert_array_equal(out[:, :WIDTH], rgba)


def test_parameters_may_change_with_every_frame():
    frames = path()
    first = frames(SCENE, RAMP, strength=8.0)
    flat = frames(SCENE, RAMP, strength=0.0, layout="right")
    np.testing.assert_array_equal(flat, SCENE)
    frames(SCENE, RAMP, layout="anaglyph", fill=False)
    np.testing.assert_array_equal(frames(SCENE, RAMP, strength=8.0), first)
    assert frames.memory_bytes > 20 * WIDTH * HEIGHT


@pytest.mark.parametrize(
    ("made", "given", "look", "said"),
    [
        ({}, (SCENE[:-1], RAMP), {}, "size"),
        ({}, (SCENE.astype(np.float32), RAMP), {}, "type"),
        ({}, (SCENE, RAMP[:-1]), {}, "size"),
        ({}, (SCENE, RAMP.astype(np.float64)), {}, "type"),
        ({}, (SCENE, RAMP), {"layout": "depth"}, "range"),
        ({}, (SCENE, RAMP), {"roll": 5.0}, "range"),
        ({}, (SCENE, RAMP), {"strength": 50.0}, "strength: expected 0 to 20"),
        ({}, (SCENE, RAMP), {"out": np.empty((3, 3, 3), np.uint8)}, "out: expected"),
        ({}, (SCENE, RAMP), {"chroma": SCENE}, "chroma: expected with a path"),
        ({"nv12": "bt709"}, (SCENE[:, :, 0], RAMP), {}, "chroma: expected with a path"),
        ({"nv12": "ntsc"}, (), {}, "nv12: expected one of"),
        ({"device": "tpu"}, (), {}, "device: expected cpu or cuda"),
    ],
)
def test_what_does_not_fit_is_refused(made, given, look, said):
    with pytest.raises(InvalidInputError) as refused:
        path(**made)(*given, **look)
    assert said.split()[0] in str(refused.value) or said in str(refused.value)


def test_an_output_that_is_its_own_input_is_refused():
    with pytest.raises(InvalidInputError):
        path()(SCENE, RAMP, layout="right", out=SCENE)


@pytest.mark.skipif(_native.cuda_device_count() > 0, reason="this machine has a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(secondeye.BackendUnavailableError, match="no NVIDIA GPU"):
        path(device="cuda")


# ---- on a GPU --------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_graph_gives_the_cpus_bytes(cuda, layout):
    on_device, on_host = path(device="cuda"), path()
    picture, nearness = cuda.from_numpy(SCENE).cuda(), cuda.from_numpy(RAMP).cuda()
    out = None
    for strength in (4.0, 4.0, 9.0, 0.0, 4.0):  # launched again, recorded anew, other launches, and back
        out = on_device(picture, nearness, layout=layout, strength=strength, view="both", out=out)
        want = on_host(SCENE, RAMP, layout=layout, strength=strength, view="both")
        np.testing.assert_array_equal(out.cpu().numpy(), want)


@pytest.mark.gpu
def test_it_keeps_the_callers_stream(cuda):
    on_device = path(device="cuda", nv12="bt709")
    rng = np.random.default_rng(1)
    luma = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    chroma = rng.integers(0, 256, ((HEIGHT + 1) // 2, (WIDTH + 1) // 2, 2), np.uint8)
    stream = cuda.cuda.Stream()
    with cuda.cuda.stream(stream):
        cuda.cuda._sleep(50_000_000)
        given = [cuda.from_numpy(a).pin_memory().to("cuda", non_blocking=True) for a in (luma, RAMP, chroma)]
        got = on_device(given[0], given[1], chroma=given[2])
    stream.synchronize()
    np.testing.assert_array_equal(got.cpu().numpy(), path(nv12="bt709")(luma, RAMP, chroma=chroma))
