"""Many histories: threads on the CPU, one thread a history on a GPU; both run the same compiled physics."""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from mrtai.engines.monte_carlo.interactions import isotropic
from mrtai.engines.monte_carlo.random import started, uniform
from mrtai.engines.monte_carlo.source import Emission, Sites, emitted, placed
from mrtai.engines.monte_carlo.tables import Cuts, Tables
from mrtai.engines.monte_carlo.voxels import STACK, Lattice, followed
from mrtai.engines.threads import parallel


class World(NamedTuple):
    """What histories run in: matter, its physics and cuts, what is emitted and where."""

    lattice: Lattice
    physics: Tables
    cuts: Cuts
    emission: Emission
    sites: Sites


FIELDS: Final = 9
"""Of a particle on the stack."""


@njit(cache=True)
def one(index, row, seed, r, world, states, stack, electron, photon):
    """Run history ``index`` with the working row ``row``: born where ``r`` of all decays falls, followed to its end."""
    states[row] = started(seed, index)
    x, y, z = placed(world.sites, world.lattice.density.shape, world.lattice.edge, r, states, row)
    energy, kind = emitted(world.emission, states, row)
    u, v, w = isotropic(states, row)
    stack[row, 0, 0], stack[row, 0, 1], stack[row, 0, 2] = x, y, z
    stack[row, 0, 3], stack[row, 0, 4], stack[row, 0, 5] = u, v, w
    stack[row, 0, 6], stack[row, 0, 7], stack[row, 0, 8] = energy, kind, 1.0 / energy
    followed(world.lattice, world.physics, world.cuts, states, row, stack, 1, electron, photon)


@njit(cache=True, nogil=True)
def _share(first, last, row, rows, seed, world, states, stack, electron, photon):
    for index in range(first + row, last, rows):
        # systematic over the sites: the n-th history of the batch falls into the n-th share of all decays
        states[row] = started(seed ^ 0x5DEECE66D, index)
        r = (index - first + uniform(states, row)) / (last - first)
        one(index, row, seed, r, world, states, stack, electron, photon)


def on_cpu(first: int, last: int, seed: int, world: World, electron: Any, photon: Any) -> None:
    """Add histories ``first`` to ``last`` to the tallies of shape ``(threads, voxels)``, one row a thread."""
    rows = electron.shape[0]
    states, stack = working_rows(rows)

    def work(row: int) -> None:
        _share(first, last, row, rows, seed, world, states, stack, electron, photon)

    parallel(work, rows)


def working_rows(rows: int) -> tuple[Any, Any]:
    """Return random states and particle stacks of so many threads."""
    # states 128 bytes apart: in one cache line, threads would wait for each other at every random number
    return np.zeros((rows, 16), dtype=np.uint64)[:, 0], np.zeros((rows, STACK, FIELDS))
