# SPDX-License-Identifier: Apache-2.0
"""Objects out of colour maps: exact ones, noisy ones, ones that are none."""

import io

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageFilter

from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.labels import PALETTE, components, find_objects, lab


def scene(seed, height=180, width=320, count=9):
    """Discs and boxes over a floor and a wall: (colour map, picture, exact labels)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    truth = np.where(y > height * 0.6, 2, 1).astype(np.int32)
    for k in range(count):
        cy, cx, r = rng.integers(20, height - 20), rng.integers(20, width - 20), rng.integers(14, 34)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < r * r if k % 2 else (abs(y - cy) < r) & (abs(x - cx) < r * 0.8)
        truth[inside] = k + 3
    truth = components(truth)
    # Colours repeat, but not between neighbours.
    colours = np.zeros(truth.max() + 1, int)
    beside = {k: set() for k in range(1, truth.max() + 1)}
    for a, b in ((truth[1:], truth[:-1]), (truth[:, 1:], truth[:, :-1])):
        for one, other in np.unique(np.stack([a[a != b], b[a != b]], 1), axis=0):
            beside[one].add(other)
            beside[other].add(one)
    for k in range(1, truth.max() + 1):
        free = [c for c in range(14) if c not in {colours[j] for j in beside[k] if j < k}]
        colours[k] = free[int(rng.integers(len(free)))]
    picture = rng.integers(30, 225, (truth.max() + 1, 3))[truth] + rng.normal(0, 5, (height, width, 3))
    return PALETTE[colours[truth]], np.clip(picture, 0, 255).astype(np.uint8), truth


def spoil(colour_map, quality=60, blur=1.0):
    picture = Image.fromarray(colour_map).filter(ImageFilter.GaussianBlur(blur))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def agreement(labels, truth, least):
    """Mean over true objects of the best intersection over union."""
    scores = []
    for k in range(1, truth.max() + 1):
        true = truth == k
        if true.sum() < least:
            continue
        found = np.bincount(labels[true])
        best = 0.0
        for label in np.flatnonzero(found):
            one = labels == label
            best = max(best, (one & true).sum() / (one | true).sum())
        scores.append(best)
    return float(np.mean(scores))


@pytest.mark.parametrize("seed", range(4))
def test_exact_maps_give_exact_objects(seed):
    colour_map, _, truth = scene(seed)
    found = find_objects(colour_map, least=0)
    assert found.confidence == 1.0
    big = [k for k in range(1, truth.max() + 1) if (truth == k).sum() >= 16]
    assert agreement(found.labels, truth, 16) > 0.999  # a speck of under 16 pixels may be given away
    assert len(big) <= found.labels.max() <= truth.max()
    sizes = np.bincount(found.labels.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()
    for label in range(1, found.labels.max() + 1):
        assert (colour_map[found.labels == label] == found.colours[label - 1]).mean() > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_blurred_and_compressed_maps_give_nearly_the_same_objects(seed):
    colour_map, picture, truth = scene(seed)
    spoilt = spoil(colour_map)
    plain = find_objects(spoilt)
    assert plain.confidence > 0.8
    assert agreement(plain.labels, truth, 300) > 0.9
    guided = find_objects(spoilt, picture)
    assert agreement(guided.labels, truth, 300) > 0.93
    border = np.zeros(truth.shape, bool)
    border[:, 1:] = truth[:, 1:] != truth[:, :-1]
    big = np.isin(truth, [k for k in range(1, truth.max() + 1) if (truth == k).sum() >= 300])
    count = sum((truth == k).sum() >= 300 for k in range(1, truth.max() + 1))
    assert abs(int(guided.labels.max()) - count) <= 4
    assert big.mean() > 0.9


def test_borders_follow_the_pictures_edges_at_its_size():
    snapped, blind = [], []
    for seed in range(10, 16):
        colour_map, picture, truth = scene(seed, 360, 640)
        small = Image.fromarray(colour_map).resize((320, 180), Image.Resampling.BICUBIC)
        small = spoil(np.asarray(small), 75, 0.8)
        found = find_objects(small, picture)
        assert found.labels.shape == (360, 640)
        snapped.append(agreement(found.labels, truth, 2000))
        plain = Image.fromarray(find_objects(small).labels.astype(np.int32))
        blind.append(agreement(np.asarray(plain.resize((640, 360), Image.Resampling.NEAREST)), truth, 2000))
    assert np.mean(snapped) > 0.9
    assert np.mean(snapped) > np.mean(blind)


def test_colours_of_its_own_are_found():
    colour_map, _, truth = scene(2)
    values = np.random.default_rng(9).permutation(
        np.array([(r, g, b) for r in (20, 140, 250) for g in (60, 200) for b in (10, 120, 240)])
    )
    table = {tuple(c): values[i % len(values)] for i, c in enumerate(np.unique(colour_map.reshape(-1, 3), axis=0))}
    other = np.array([table[tuple(c)] for c in colour_map.reshape(-1, 3)], np.uint8).reshape(colour_map.shape)
    found = find_objects(spoil(other, 80, 0.6))
    assert found.confidence > 0.8
    assert agreement(found.labels, truth, 300) > 0.9
    assert find_objects(other, palette=None).confidence > 0.95


def test_what_is_no_colour_map_says_so():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:120, 0:160]
    photo = np.stack([x * 1.5, y * 2, (x + y) * 0.9], 2) + rng.normal(0, 25, (120, 160, 3))
    photo = np.asarray(Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2)))
    assert find_objects(photo).confidence < 0.7
    assert find_objects(rng.integers(0, 256, (120, 160, 3), np.uint8)).confidence < 0.5


def plain_components(classes):
    """By flooding, one pixel after another."""
    out, number = np.zeros(classes.shape, int), 0
    for start in np.ndindex(classes.shape):
        if classes[start] == 0 or out[start]:
            continue
        number += 1
        queue = [start]
        out[start] = number
        while queue:
            y, x = queue.pop()
            for at in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                inside = 0 <= at[0] < classes.shape[0] and 0 <= at[1] < classes.shape[1]
                if inside and not out[at] and classes[at] == classes[start]:
                    out[at] = number
                    queue.append(at)
    return out


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 18), st.integers(1, 24)), st.integers(1, 4), st.integers(0, 10**6))
def test_components_are_those_of_a_flood(shape, kinds, seed):
    classes = np.random.default_rng(seed).integers(0, kinds + 1, shape).astype(np.int32)
    np.testing.assert_array_equal(components(classes), plain_components(classes))


def test_one_colour_one_pixel_and_the_same_twice():
    flat = np.full((40, 50, 3), 128, np.uint8)
    assert find_objects(flat).labels.max() == 1
    assert find_objects(np.zeros((1, 1, 3), np.uint8)).labels.tolist() == [[1]]
    colour_map, picture, _ = scene(5)
    one, other = (find_objects(spoil(colour_map), picture) for _ in range(2))
    np.testing.assert_array_equal(one.labels, other.labels)


def test_lab_is_that_of_the_books():
    known = {
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 0, 255): (32.30, 79.19, -107.86),
    }
    for colour, want in known.items():
        np.testing.assert_allclose(lab(np.array(colour, np.uint8)), want, atol=0.06)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(bad):
    with pytest.raises(InvalidInputError, match="colour_map: expected uint8"):
        find_objects(bad)
    with pytest.raises(InvalidInputError, match="palette"):
        find_objects(np.zeros((4, 4, 3), np.uint8), palette=np.zeros((1, 3), np.uint8))
