"""The same histories on a CUDA device: a grid of threads, each with its own random state and stack."""

from typing import Any, Final

import numpy as np
from numba import cuda

from mrtai.engines.monte_carlo.histories import FIELDS, World, one
from mrtai.engines.monte_carlo.random import started, uniform
from mrtai.engines.monte_carlo.voxels import STACK
from mrtai.values.refusal import DosimetryError

BLOCK: Final = 128
THREADS: Final = 131_072
"""In flight at once; stacks and states take 0.6 GB."""


def require_gpu() -> None:
    """Refuse where no CUDA device can be used."""
    if not cuda.is_available():
        raise DosimetryError("no CUDA device", where="--device cuda", found="no usable GPU", remedy="run with --device cpu", code="NO_CUDA")


@cuda.jit
def _histories(first, last, seed, world, states, stack, electron, photon):
    row = cuda.grid(1)  # type: ignore[attr-defined]
    if row >= states.size:
        return
    for index in range(first + row, last, states.size):
        states[row] = started(seed ^ 0x5DEECE66D, index)
        r = (index - first + uniform(states, row)) / (last - first)
        one(index, row, seed, r, world, states, stack, electron, photon)


def on_gpu(first: int, last: int, seed: int, world: World, electron: Any, photon: Any) -> None:
    """Add histories ``first`` to ``last`` to the tallies of shape ``(1, voxels)``."""
    rows = min(THREADS, last - first)
    states, stack = cuda.device_array(rows, np.uint64), cuda.device_array((rows, STACK, FIELDS), np.float64)
    tallies = cuda.to_device(electron), cuda.to_device(photon)
    there = World(*(_copied(part) for part in world))
    _histories[(rows + BLOCK - 1) // BLOCK, BLOCK](first, last, seed, there, states, stack, *tallies)
    for host, device in zip((electron, photon), tallies, strict=True):
        device.copy_to_host(host)


def _copied(part: Any) -> Any:
    """Return a named tuple with its arrays on the device."""
    return type(part)(*(cuda.to_device(x) if isinstance(x, np.ndarray) else x for x in part))
