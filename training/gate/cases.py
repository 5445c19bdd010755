"""What the gate judges by: cases whose inputs are locked by their digest, and the dose errors that a model makes in them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Errors = Mapping[str, list[float]]
"""Relative dose errors by what they are of (``kidney_left``, ``one scan``): -1 where a dose is missing altogether."""


PARTS: Final = 101


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the locked set.

    Attributes:
        name: with its seed, or the folder of a real one.
        sha256: digest of everything that is judged by: inputs and truth.
        judge: dose errors of the bundle in a folder.
        real: a patient's images, which a checkout does not bring.
    """

    name: str
    sha256: str
    judge: Callable[[Path], Errors]
    real: bool = False


def digest(arrays: Iterable[NDArray[Any]]) -> str:
    """Return the SHA-256 of arrays, in their order, by the means of ``PARTS`` parts of each to a thousandth of the largest.

    Another picture, seed or anatomy is told; that libraries round otherwise on another machine is not.
    """
    told = hashlib.sha256()
    for array in arrays:
        parts = np.array_split(np.asarray(array, dtype=np.float64).ravel(), PARTS)
        means = np.array([part.mean() if part.size else 0.0 for part in parts])
        largest = float(np.abs(means).max()) or 1.0
        told.update(f"{np.shape(array)} {largest:.3g} {np.rint(1000.0 * means / largest).astype(int).tolist()}".encode())
    return told.hexdigest()
