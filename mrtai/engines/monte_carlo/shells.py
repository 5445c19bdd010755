"""Histories around a point source in unbounded water, scored in spherical shells: where the point kernels come from.

The same interactions as in voxels, with fine steps; photons hand their energy to electrons that are followed. Each step's
energy is scored at a random point of its path.
"""

import math
from typing import Any

from numba import njit

from mrtai.engines.monte_carlo.histories import working_rows
from mrtai.engines.monte_carlo.interactions import (
    coherent,
    deflection,
    hard_photon,
    hard_photon_cosine,
    incoherent,
    isotropic,
    moller_cosines,
    moller_transfer,
    place,
    turned,
)
from mrtai.engines.monte_carlo.random import started, uniform
from mrtai.engines.monte_carlo.source import Emission, emitted
from mrtai.engines.monte_carlo.tables import (
    COHERENT,
    FIRST,
    HARD_COLLISION,
    HARD_PHOTON,
    INCOHERENT,
    LOSS,
    PHOTO,
    TOTAL,
    Cuts,
    Tables,
)
from mrtai.engines.monte_carlo.voxels import ELECTRON, PHOTON, POSITRON, TWO_PI, pushed
from mrtai.engines.threads import parallel
from mrtai.units import ELECTRON_MASS_MEV

FREED = 3.0
"""Kind of an electron that a photon set free: its energy counts as the photon's."""

WATER_DENSITY_G_PER_CM3 = 1.0


@njit(cache=True)
def _scored(tally, row, part, inner2, per_log, x, y, z, energy):
    """Add the energy to the shell of a point; shells are even in the logarithm of r² beyond the first."""
    r2 = x * x + y * y + z * z
    shell = 0
    if r2 > inner2:
        shell = 1 + int(math.log(r2 / inner2) * per_log)
    if shell < tally.shape[2]:
        tally[row, part, shell] += energy


@njit(cache=True)
def _photon(material, t, cuts, states, i, stack, count, tally, inner2, per_log):
    x, y, z = stack[i, count, 0], stack[i, count, 1], stack[i, count, 2]
    u, v, w = stack[i, count, 3], stack[i, count, 4], stack[i, count, 5]
    energy, weight = stack[i, count, 6], stack[i, count, 8]
    points = t.photon.shape[1]
    far2 = inner2 * math.exp((tally.shape[2] - 1) / per_log)
    while True:
        low, part = place(t.photon_log, points, energy)
        lower, upper = t.photon[material, low], t.photon[material, low + 1]
        path = -math.log(uniform(states, i)) / (lower[TOTAL] + part * (upper[TOTAL] - lower[TOTAL])) / WATER_DENSITY_G_PER_CM3
        x, y, z = x + u * path, y + v * path, z + w * path
        if x * x + y * y + z * z > far2:
            return count
        r = uniform(states, i)
        if r < lower[COHERENT]:
            u, v, w = turned(u, v, w, coherent(energy, material, t, states, i), TWO_PI * uniform(states, i))
        elif r < lower[INCOHERENT]:
            kept, cosine = incoherent(energy, material, t, states, i)
            phi = TWO_PI * uniform(states, i)
            freed = energy - kept
            # momentum balance gives the electron's direction
            momentum = math.sqrt(max(freed * (freed + 2.0 * ELECTRON_MASS_MEV), 1e-18))
            forward = min(max((energy - kept * cosine) / momentum, -1.0), 1.0)
            p, q, s = turned(u, v, w, forward, phi + math.pi)
            count = pushed(stack, i, count, x, y, z, p, q, s, freed, FREED, weight)
            u, v, w = turned(u, v, w, cosine, phi)
            energy = kept
            if energy < cuts.photon_mev:
                _scored(tally, i, 1, inner2, per_log, x, y, z, weight * energy)
                return count
        elif r < lower[PHOTO]:
            # photoelectrons start sideways rather than forward; below 60 keV their range makes that immaterial
            p, q, s = isotropic(states, i)
            return pushed(stack, i, count, x, y, z, p, q, s, energy, FREED, weight)
        else:
            rest = 0.5 * (energy - 2.0 * ELECTRON_MASS_MEV)
            count = pushed(stack, i, count, x, y, z, u, v, w, rest, FREED, weight)
            count = pushed(stack, i, count, x, y, z, u, v, w, rest, FREED, weight)
            return _quanta(x, y, z, weight, states, i, stack, count)


@njit(cache=True)
def _quanta(x, y, z, weight, states, i, stack, count):
    p, q, s = isotropic(states, i)
    count = pushed(stack, i, count, x, y, z, p, q, s, ELECTRON_MASS_MEV, PHOTON, weight)
    return pushed(stack, i, count, x, y, z, -p, -q, -s, ELECTRON_MASS_MEV, PHOTON, weight)


@njit(cache=True)
def _electron(material, t, cuts, states, i, stack, count, tally, inner2, per_log):
    x, y, z = stack[i, count, 0], stack[i, count, 1], stack[i, count, 2]
    u, v, w = stack[i, count, 3], stack[i, count, 4], stack[i, count, 5]
    energy, kind, weight = stack[i, count, 6], stack[i, count, 7], stack[i, count, 8]
    tallied = 1 if kind == FREED else 0
    points = t.electron.shape[1]
    rows = t.electron[material]
    to_event = -math.log(uniform(states, i))
    while energy > cuts.electron_mev:
        low, part = place(t.electron_log, points, energy)
        loss = rows[low, LOSS] + part * (rows[low + 1, LOSS] - rows[low, LOSS])
        scatter = rows[low, FIRST] + part * (rows[low + 1, FIRST] - rows[low, FIRST])
        hard = rows[low, HARD_COLLISION] + part * (rows[low + 1, HARD_COLLISION] - rows[low, HARD_COLLISION])
        photons = rows[low, HARD_PHOTON] + part * (rows[low + 1, HARD_PHOTON] - rows[low, HARD_PHOTON])
        step = min(cuts.step_loss * energy / loss, cuts.step_scatter / scatter)
        event = (hard + photons) * step >= to_event
        if event:
            step = to_event / (hard + photons)
        else:
            to_event -= (hard + photons) * step
        # losses at the step's mean energy
        low, part = place(t.electron_log, points, energy - 0.5 * loss * step)
        loss = rows[low, LOSS] + part * (rows[low + 1, LOSS] - rows[low, LOSS])
        hinge, at = step * uniform(states, i), step * uniform(states, i)
        hx, hy, hz = x + u * hinge, y + v * hinge, z + w * hinge
        before = min(at, hinge) - hinge
        p, q, s = turned(u, v, w, deflection(step, material, low, part, t, states, i), TWO_PI * uniform(states, i))
        after = max(at - hinge, 0.0)
        lost = loss * step
        _scored(
            tally, i, tallied, inner2, per_log,
            hx + u * before + p * after, hy + v * before + q * after, hz + w * before + s * after, weight * lost,
        )  # fmt: skip
        u, v, w = p, q, s
        x, y, z = hx + u * (step - hinge), hy + v * (step - hinge), hz + w * (step - hinge)
        energy -= lost
        if event:
            to_event = -math.log(uniform(states, i))
            if uniform(states, i) * (hard + photons) < hard:
                if energy > 2.0 * cuts.delta_mev:
                    transfer = moller_transfer(energy, cuts.delta_mev, states, i)
                    kept, freed = moller_cosines(energy, transfer)
                    phi = TWO_PI * uniform(states, i)
                    p, q, s = turned(u, v, w, freed, phi + math.pi)
                    count = pushed(stack, i, count, x, y, z, p, q, s, transfer, FREED if tallied else ELECTRON, weight)
                    u, v, w = turned(u, v, w, kept, phi)
                    energy -= transfer
            elif energy > cuts.photon_mev:
                low, part = place(t.electron_log, points, energy)
                photon = hard_photon(energy, low, cuts.photon_mev, t, states, i)
                p, q, s = turned(u, v, w, hard_photon_cosine(energy, states, i), TWO_PI * uniform(states, i))
                count = pushed(stack, i, count, x, y, z, p, q, s, photon, PHOTON, weight)
                energy -= photon
    _scored(tally, i, tallied, inner2, per_log, x, y, z, weight * energy)
    return _quanta(x, y, z, weight, states, i, stack, count) if kind == POSITRON else count


@njit(cache=True, nogil=True)
def _share(first, last, row, rows, seed, material, t, cuts, emission, states, stack, tally, inner2, per_log):
    for index in range(first + row, last, rows):
        states[row] = started(seed, index)
        energy, kind = emitted(emission, states, row)
        u, v, w = isotropic(states, row)
        count = pushed(stack, row, 0, 0.0, 0.0, 0.0, u, v, w, energy, kind, 1.0 / energy)
        while count > 0:
            count -= 1
            if stack[row, count, 7] == PHOTON:
                count = _photon(material, t, cuts, states, row, stack, count, tally, inner2, per_log)
            else:
                count = _electron(material, t, cuts, states, row, stack, count, tally, inner2, per_log)


def around_a_point(
    histories: range, seed: int, material: int, t: Tables, cuts: Cuts, emission: Emission, shells: tuple[float, float], tally: Any
) -> None:
    """Add histories to ``tally``, shape ``(threads, 2, shells)``: electrons' energy and photons' energy as shares of what is emitted.

    ``shells`` are the first shell's outer radius [cm] and the number of shells per e-fold of the radius.
    """
    rows = tally.shape[0]
    states, stack = working_rows(rows)
    inner2, per_log = shells[0] ** 2, 0.5 * shells[1]

    def work(row: int) -> None:
        _share(histories.start, histories.stop, row, rows, seed, material, t, cuts, emission, states, stack, tally, inner2, per_log)

    parallel(work, rows)
