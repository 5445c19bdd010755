"""Outlines say exactly which voxels are in: by area, by both rules of filling, and by our own reader."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrtai.physics.outline import area_and_centroid, outlines
from mrtai.physics.polygon import inside_fraction


def winding(polygon, x, y):
    """Winding number at (x, y) by crossings of a ray to the right."""
    turns = 0
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) > x:
            turns += 1 if y1 > y0 else -1
    return turns


def rings(*rows):
    return np.array([[c == "#" for c in row] for row in rows])


SHAPES = {
    "one voxel": rings("...", ".#.", "..."),
    "rectangle": rings("####", "####"),
    "ring": rings("###", "#.#", "###"),
    "two holes": rings("#####", "#.#.#", "#####"),
    "hole above hole": rings("###", "#.#", "###", "#.#", "###"),
    "island in a hole": rings("#####", "#...#", "#.#.#", "#...#", "#####"),
    "corner to corner": rings("#.", ".#"),
    "hole that touches a corner": rings("####", "#.##", "##.#", "####"),
    "ring open by a corner": rings("###.", "#.##", "####", ".###"),
    "wide hole": rings("#######", "#.....#", "###.###", "#######"),
}


def require_exact(mask):
    polygons = outlines(mask)
    assert sum(area_and_centroid(polygon)[0] for polygon in polygons) == pytest.approx(mask.sum(), abs=1e-9)
    numbers = np.array([[sum(winding(p, x, y) for p in polygons) for x in range(mask.shape[1])] for y in range(mask.shape[0])])
    # nothing but 0 and 1: the even-odd and the non-zero rule then agree
    assert np.array_equal(numbers, mask.astype(int))
    assert np.array_equal(inside_fraction(polygons, mask.shape) >= 0.5, mask)
    return polygons


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_come_back_exactly(name):
    require_exact(SHAPES[name])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from((0.1, 0.3, 0.5, 0.7, 0.9)))
def test_random_masks_come_back_exactly(seed, density):
    require_exact(np.random.default_rng(seed).random((9, 11)) < density)


def test_only_turns_are_kept_and_parts_are_apart():
    (rectangle,) = outlines(SHAPES["rectangle"])
    assert len(rectangle) == 4
    assert np.array_equal(rectangle.min(axis=0), [-0.5, -0.5]) and np.array_equal(rectangle.max(axis=0), [3.5, 1.5])
    assert len(outlines(SHAPES["corner to corner"])) == 2
    assert len(outlines(SHAPES["island in a hole"])) == 2
    assert len(outlines(SHAPES["two holes"])) == 1
    assert outlines(np.zeros((3, 3), bool)) == []


def test_area_and_centroid_of_a_ring_far_from_the_origin():
    (polygon,) = outlines(SHAPES["ring"])
    area, centroid = area_and_centroid(polygon + 1e6)
    assert area == pytest.approx(8)
    assert np.allclose(centroid, 1e6 + 1, atol=1e-6)
