"""The slow exact twin of the fast convolution: one shift and add per kernel voxel."""

import itertools

import numpy as np

from mrtai.values.grid import Array


def convolved(source: Array, octant: Array) -> Array:
    """Return Σ_n source(x - n) kernel(n), nothing beyond the borders; both arrays (z, y, x).

    Args:
        source: what each voxel emits.
        octant: kernel for steps ≥ 0 along each axis; the other octants are its mirror images.
    """
    result = np.zeros(source.shape)
    reach = [min(n, k) for n, k in zip(source.shape, octant.shape, strict=True)]
    for step in itertools.product(*(range(-n + 1, n) for n in reach)):
        to = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(step, source.shape, strict=True))
        frm = tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(step, source.shape, strict=True))
        a, b, c = (abs(s) for s in step)
        result[to] += octant[a, b, c] * source[frm]
    return result


def octant_sum(octant: Array) -> float:
    """Return the sum over all eight octants of which ``octant`` is one: the energy per decay inside the kernel's box.

    ``octant`` has shape ``(z, y, x)`` in steps from 0.
    """
    doubled = octant.copy()
    for axis in range(3):
        doubled = np.moveaxis(doubled, axis, 0)
        doubled[1:] *= 2.0
        doubled = np.moveaxis(doubled, 0, axis)
    return float(doubled.sum())
