"""What is emitted and where, as arrays that compiled code draws from."""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from mrtai.engines.monte_carlo.random import uniform
from mrtai.engines.monte_carlo.voxels import ELECTRON, PHOTON, POSITRON
from mrtai.values.grid import Array
from mrtai.values.spectrum import Spectrum

BETA_BINS: Final = 2000


class Emission(NamedTuple):
    """Lines and beta bins; one is drawn with a chance in proportion to the energy it carries, and weighs 1/energy.

    So every history carries the same energy and the emitted energy is exact.

    Attributes:
        low_mev, high_mev: borders of the bin, equal for a line; shape ``(bins,)``.
        cumulated: chance of a bin at or before, shape ``(bins,)``, ending at 1.
        kind: ``PHOTON``, ``ELECTRON`` or ``POSITRON``, shape ``(bins,)``.
        mev_per_decay: all energy.
    """

    low_mev: Any
    high_mev: Any
    cumulated: Any
    kind: Any
    mev_per_decay: float


def photons(spectrum: Spectrum) -> Emission:
    """Return the gamma and X lines."""
    lines = spectrum.photons
    return _emission(lines[:, 0], lines[:, 0], lines[:, 1], np.full(len(lines), PHOTON))


def electrons(spectrum: Spectrum) -> Emission:
    """Return conversion and Auger lines and the betas' full spectrum, positrons apart."""
    lines = spectrum.electrons
    low, high, share = _beta_bins(spectrum.betas)
    parts = [(lines[:, 0], lines[:, 0], lines[:, 1], ELECTRON)]
    parts += [(low, high, share * (1.0 - spectrum.positrons), ELECTRON), (low, high, share * spectrum.positrons, POSITRON)]
    return _emission(
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        np.concatenate([p[2] for p in parts]),
        np.concatenate([np.full(p[0].size, p[3]) for p in parts]),
    )


def _beta_bins(betas: Array) -> tuple[Array, Array, Array]:
    if not betas.size:
        return np.empty(0), np.empty(0), np.empty(0)
    borders = np.linspace(betas[0, 0], betas[-1, 0], BETA_BINS + 1)
    middle = 0.5 * (borders[1:] + borders[:-1])
    share = np.interp(middle, betas[:, 0], betas[:, 1]) * np.diff(borders)
    return borders[:-1], borders[1:], share


def _emission(low: Array, high: Array, share: Array, kind: Array) -> Emission:
    energy = share * 0.5 * (low + high)
    used = energy > 0
    total = float(energy.sum())
    cumulated = np.cumsum(energy[used]) / total if total > 0 else np.empty(0)
    return Emission(low[used], high[used], cumulated, kind[used], total)


@njit(cache=True)
def drawn(cumulated, r):
    """Return the first index whose cumulated chance exceeds ``r``."""
    low, high = 0, cumulated.size - 1
    while low < high:
        middle = (low + high) // 2
        if cumulated[middle] > r:
            high = middle
        else:
            low = middle + 1
    return low


@njit(cache=True)
def emitted(emission, states, i):
    """Return energy [MeV] and kind of one emission."""
    n = drawn(emission.cumulated, uniform(states, i))
    energy = emission.low_mev[n] + (emission.high_mev[n] - emission.low_mev[n]) * uniform(states, i)
    return max(energy, 1e-6), emission.kind[n]


class Sites(NamedTuple):
    """Voxels with activity: flat index and cumulated share of all decays, both of shape ``(sites,)``."""

    voxel: Any
    cumulated: Any


@njit(cache=True)
def placed(sites, shape, edge, r, states, i):
    """Return a point evenly in the voxel that ``r`` of all decays falls into: x, y, z [cm]."""
    voxel = sites.voxel[drawn(sites.cumulated, r)]
    c = voxel % shape[2]
    b = (voxel // shape[2]) % shape[1]
    a = voxel // (shape[2] * shape[1])
    return (c + uniform(states, i)) * edge[0], (b + uniform(states, i)) * edge[1], (a + uniform(states, i)) * edge[2]
