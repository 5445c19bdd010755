"""The area of a polygon by its corners: the exact twin of filling it."""

import numpy as np

from mrtai.values.grid import Array


def shoelace_area(corners: Array) -> float:
    """Return the signed area of a polygon with corners ``(points, 2)``, in the square of their unit."""
    x, y = corners[:, 0], corners[:, 1]
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
