"""Polygons on pixels keep their area."""

import numpy as np
import pytest

from mrtai.physics.polygon import inside_fraction
from tests.physics.shoelace import shoelace_area


def circle(radius, centre=(15.3, 14.8), points=400):
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)])


def square(x0, y0, x1, y1):
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def test_the_shares_add_up_to_the_polygons_area():
    # along y the midpoint rule with eight lines a row is good to 1e-3 of a circle of ten pixels
    assert inside_fraction([circle(10)], (32, 32)).sum() == pytest.approx(abs(shoelace_area(circle(10))), rel=1e-3)


def test_a_square_on_pixel_borders_fills_its_pixels_exactly():
    share = inside_fraction([square(1.5, 2.5, 4.5, 5.5)], (8, 8))
    expected = np.zeros((8, 8))
    expected[3:6, 2:5] = 1.0
    assert share == pytest.approx(expected, abs=1e-12)


def test_half_a_pixel_is_a_half():
    share = inside_fraction([square(-0.5, -0.5, 2.0, 0.0)], (3, 4))
    assert share[0] == pytest.approx([0.5, 0.5, 0.25, 0.0])


def test_a_polygon_in_a_polygon_is_a_hole():
    ring = inside_fraction([circle(10), circle(4)[::-1]], (32, 32)).sum()
    assert ring == pytest.approx(abs(shoelace_area(circle(10))) - abs(shoelace_area(circle(4))), rel=2e-3)


def test_a_keyhole_gives_the_same_ring_as_two_contours():
    outer, inner = circle(10), circle(4)[::-1]
    keyhole = np.vstack([outer, outer[:1], np.roll(inner, 1, axis=0), np.roll(inner, 1, axis=0)[:1]])
    assert inside_fraction([keyhole], (32, 32)) == pytest.approx(inside_fraction([outer, inner], (32, 32)), abs=1e-9)


def test_what_lies_outside_the_image_is_cut_off():
    assert inside_fraction([square(-10, -10, 100, 100)], (5, 6)) == pytest.approx(np.ones((5, 6)))
    assert inside_fraction([square(-10, -10, -5, 100)], (5, 6)).sum() == 0.0
    assert inside_fraction([], (5, 6)).sum() == 0.0
