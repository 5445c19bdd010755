"""Arrays along other axes than ours, and back.

Ours are ``(z, y, x)`` in LPS, which lead to S, P and L: ``SPL``. A network of axes ``RAS`` wants ``(x, y, z)`` with x to the right
and y to the front.
"""

from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrtai.values.bundle import DIRECTIONS, OUR_AXES, require_axes

Number = TypeVar("Number", bound=np.generic)
Lengths = tuple[int, int, int]

_LEADING: Final = 1
"""Channels come before the three axes."""


def turned(array: NDArray[Number], axes: str) -> NDArray[Number]:
    """Return an array of shape ``(channels, z, y, x)`` along ``axes``."""
    order = _order(axes)
    there = np.transpose(array, (0, *(n + _LEADING for n in order)))
    return np.flip(there, _backwards(axes))


def turned_back(array: NDArray[Number], axes: str) -> NDArray[Number]:
    """Return an array of shape ``(channels, …)`` along ``axes`` as one of shape ``(channels, z, y, x)``."""
    forwards = np.flip(array, _backwards(axes))
    return np.transpose(forwards, (0, *(n + _LEADING for n in np.argsort(_order(axes)).tolist())))


def lengths_back(lengths: Any, axes: str) -> Lengths:
    """Return lengths along ``axes`` as lengths ``(z, y, x)``."""
    order = _order(axes)
    z, y, x = (int(lengths[order.index(axis)]) for axis in range(3))
    return z, y, x


def _order(axes: str) -> list[int]:
    """Return, for each of the network's axes, which of ours it is."""
    require_axes(axes)
    return [next(n for n, pair in enumerate(DIRECTIONS) if letter in pair) for letter in axes]


def _backwards(axes: str) -> tuple[int, ...]:
    return tuple(n + _LEADING for n, letter in enumerate(axes) if letter not in OUR_AXES)
