"""Histories in a lattice of voxels.

Photons: Woodcock tracking; every tentative collision scores the energy that a photon would hand over there on average
(collision estimator of kerma, unbiased, dense also in light tissue). Electrons: condensed history with a random hinge, energy
losses cut at 30 keV, hard collisions and bremsstrahlung one by one; an electron that cannot leave its voxel stops there.
Lattice axes are x, y, z in the order of the arrays' last to first index; lengths cm, densities g/cm³.
"""

import math
from typing import Any, NamedTuple

from numba import njit

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
from mrtai.engines.monte_carlo.random import uniform
from mrtai.engines.monte_carlo.tables import (
    COHERENT,
    FIRST,
    HARD_COLLISION,
    HARD_PHOTON,
    INCOHERENT,
    LOSS,
    PHOTO,
    PHOTONS_LEFT,
    RANGE,
    TOTAL,
    TRANSFER,
)
from mrtai.engines.monte_carlo.tally import score
from mrtai.units import ELECTRON_MASS_MEV

TWO_PI = 2.0 * math.pi
STACK = 64
"""Particles that wait while another is followed; one more is absorbed where it was born (never seen in tissue)."""
PHOTON, ELECTRON, POSITRON = 0.0, 1.0, 2.0


class Lattice(NamedTuple):
    """Matter in voxels.

    Attributes:
        density: g/cm³, shape ``(z, y, x)``; ``material``: index into ``MATERIALS``, same shape.
        edge: voxel edges x, y, z [cm].
        majorant: largest μ of all voxels [1/cm] over the photon table's energies.
    """

    density: Any
    material: Any
    edge: Any
    majorant: Any


@njit(cache=True)
def followed(lattice, t, cuts, states, i, stack, count, tally_electron, tally_photon):
    """Follow everything on the stack of row ``i`` to its end; particles are rows x, y, z, u, v, w, MeV, kind, weight."""
    while count > 0:
        count -= 1
        if stack[i, count, 7] == PHOTON:
            count = _photon(lattice, t, cuts, states, i, stack, count, tally_photon)
        else:
            count = _electron(lattice, t, cuts, states, i, stack, count, tally_electron)


@njit(cache=True)
def pushed(stack, i, count, x, y, z, u, v, w, energy, kind, weight):
    """Put a particle on the stack and return the new count; a full stack drops it (``STACK`` is far above what occurs)."""
    if count < STACK:
        stack[i, count, 0], stack[i, count, 1], stack[i, count, 2] = x, y, z
        stack[i, count, 3], stack[i, count, 4], stack[i, count, 5] = u, v, w
        stack[i, count, 6], stack[i, count, 7], stack[i, count, 8] = energy, kind, weight
        return count + 1
    return count


@njit(cache=True)
def _photon(lattice, t, cuts, states, i, stack, count, tally):
    """Follow one photon; returns the stack's count with what it set free."""
    x, y, z = stack[i, count, 0], stack[i, count, 1], stack[i, count, 2]
    u, v, w = stack[i, count, 3], stack[i, count, 4], stack[i, count, 5]
    energy, weight = stack[i, count, 6], stack[i, count, 8]
    nz, ny, nx = lattice.density.shape
    ex, ey, ez = 1.0 / lattice.edge[0], 1.0 / lattice.edge[1], 1.0 / lattice.edge[2]
    points = t.photon.shape[1]
    low, part = place(t.photon_log, points, energy)
    majorant = lattice.majorant[low] + part * (lattice.majorant[low + 1] - lattice.majorant[low])
    while True:
        path = -math.log(uniform(states, i)) / majorant
        x += u * path
        y += v * path
        z += w * path
        a, b, c = int(math.floor(z * ez)), int(math.floor(y * ey)), int(math.floor(x * ex))
        if a < 0 or b < 0 or c < 0 or a >= nz or b >= ny or c >= nx:
            return count
        material = lattice.material[a, b, c]
        real = lattice.density[a, b, c] / majorant
        voxel = (a * ny + b) * nx + c
        lower, upper = t.photon[material, low], t.photon[material, low + 1]
        transfer = lower[TRANSFER] + part * (upper[TRANSFER] - lower[TRANSFER])
        score(tally, i, voxel, weight * energy * transfer * real)
        total = lower[TOTAL] + part * (upper[TOTAL] - lower[TOTAL])
        r = uniform(states, i)
        if r >= total * real:
            continue
        r /= total * real
        if r < lower[COHERENT]:
            u, v, w = turned(u, v, w, coherent(energy, material, t, states, i), TWO_PI * uniform(states, i))
            continue
        if r < lower[INCOHERENT]:
            energy, cosine = incoherent(energy, material, t, states, i)
            u, v, w = turned(u, v, w, cosine, TWO_PI * uniform(states, i))
            if energy < cuts.photon_mev:
                score(tally, i, voxel, weight * energy)
                return count
            low, part = place(t.photon_log, points, energy)
            majorant = lattice.majorant[low] + part * (lattice.majorant[low + 1] - lattice.majorant[low])
            continue
        if r >= lower[PHOTO]:
            return _annihilated(x, y, z, weight, states, i, stack, count)
        return count


@njit(cache=True)
def _annihilated(x, y, z, weight, states, i, stack, count):
    """Put the two quanta of a positron at rest on the stack."""
    u, v, w = isotropic(states, i)
    count = pushed(stack, i, count, x, y, z, u, v, w, ELECTRON_MASS_MEV, PHOTON, weight)
    return pushed(stack, i, count, x, y, z, -u, -v, -w, ELECTRON_MASS_MEV, PHOTON, weight)


@njit(cache=True)
def _electron(lattice, t, cuts, states, i, stack, count, tally):
    """Follow one electron; returns the stack's count with what it set free."""
    x, y, z = stack[i, count, 0], stack[i, count, 1], stack[i, count, 2]
    u, v, w = stack[i, count, 3], stack[i, count, 4], stack[i, count, 5]
    energy, kind, weight = stack[i, count, 6], stack[i, count, 7], stack[i, count, 8]
    nz, ny, nx = lattice.density.shape
    edge = lattice.edge
    points = t.electron.shape[1]
    to_event = -math.log(uniform(states, i))
    while True:
        a, b, c = int(math.floor(z / edge[2])), int(math.floor(y / edge[1])), int(math.floor(x / edge[0]))
        if a < 0 or b < 0 or c < 0 or a >= nz or b >= ny or c >= nx:
            return count
        voxel = (a * ny + b) * nx + c
        density, material = lattice.density[a, b, c], lattice.material[a, b, c]
        low, part = place(t.electron_log, points, energy)
        rows = t.electron[material]
        range_left = rows[low, RANGE] + part * (rows[low + 1, RANGE] - rows[low, RANGE])
        room = _room(x, y, z, a, b, c, edge)
        if energy < cuts.electron_mev or range_left < room * density:
            count = _stopped(x, y, z, energy, weight, material, low, part, voxel, t, cuts, states, i, stack, count, tally)
            return _annihilated(x, y, z, weight, states, i, stack, count) if kind == POSITRON else count
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
        hinge = step * uniform(states, i)
        x, y, z, inside = _advanced(x, y, z, u, v, w, hinge, loss * weight, lattice, i, tally)
        if not inside:
            return count
        middle = max(energy - 0.5 * loss * step, cuts.electron_mev)
        low, part = place(t.electron_log, points, middle)
        u, v, w = turned(u, v, w, deflection(step, material, low, part, t, states, i), TWO_PI * uniform(states, i))
        x, y, z, inside = _advanced(x, y, z, u, v, w, step - hinge, loss * weight, lattice, i, tally)
        if not inside:
            return count
        energy -= loss * step
        if event:
            to_event = -math.log(uniform(states, i))
            energy, u, v, w, count = _hard_event(
                x, y, z, u, v, w, energy, weight, uniform(states, i) * (hard + photons) < hard, t, cuts, states, i, stack, count
            )


@njit(cache=True)
def _hard_event(x, y, z, u, v, w, energy, weight, collision, t, cuts, states, i, stack, count):
    """Set free an electron or a photon; returns the electron's energy and direction after, and the stack's count."""
    if collision:
        if energy > 2.0 * cuts.delta_mev:
            transfer = moller_transfer(energy, cuts.delta_mev, states, i)
            kept, freed = moller_cosines(energy, transfer)
            phi = TWO_PI * uniform(states, i)
            p, q, r = turned(u, v, w, freed, phi + math.pi)
            count = pushed(stack, i, count, x, y, z, p, q, r, transfer, ELECTRON, weight)
            u, v, w = turned(u, v, w, kept, phi)
            energy -= transfer
    elif energy > cuts.photon_mev:
        low, _ = place(t.electron_log, t.electron.shape[1], energy)
        photon = hard_photon(energy, low, cuts.photon_mev, t, states, i)
        p, q, r = turned(u, v, w, hard_photon_cosine(energy, states, i), TWO_PI * uniform(states, i))
        count = pushed(stack, i, count, x, y, z, p, q, r, photon, PHOTON, weight)
        energy -= photon
    return max(energy, 1e-6), u, v, w, count


@njit(cache=True)
def _stopped(x, y, z, energy, weight, material, low, part, voxel, t, cuts, states, i, stack, count, tally):
    """Leave the electron's energy in the voxel, less a bremsstrahlung photon of its remaining path."""
    rows = t.electron[material]
    expected = rows[low, PHOTONS_LEFT] + part * (rows[low + 1, PHOTONS_LEFT] - rows[low, PHOTONS_LEFT])
    r = uniform(states, i)
    if r < expected:
        # the emission's place on the path: where the remaining number equals r
        at = low
        while at > 0 and rows[at, PHOTONS_LEFT] > r:
            at -= 1
        emitter = min(t.energies[at + 1], energy)
        if emitter > cuts.photon_mev:
            photon = hard_photon(emitter, at, cuts.photon_mev, t, states, i)
            u, v, w = isotropic(states, i)
            count = pushed(stack, i, count, x, y, z, u, v, w, photon, PHOTON, weight)
            energy -= photon
    score(tally, i, voxel, weight * energy)
    return count


@njit(cache=True)
def _room(x, y, z, a, b, c, edge):
    """Return the distance [cm] to the nearest face of the voxel."""
    dx = x - c * edge[0]
    dy = y - b * edge[1]
    dz = z - a * edge[2]
    return min(min(dx, edge[0] - dx), min(dy, edge[1] - dy), min(dz, edge[2] - dz))


@njit(cache=True)
def _advanced(x, y, z, u, v, w, path, loss, lattice, i, tally):
    """Move ``path`` [g/cm²] on through as many voxels as it takes, scoring ``loss`` [MeV cm²/g] on the way; False when it left."""
    nz, ny, nx = lattice.density.shape
    edge = lattice.edge
    a, b, c = int(math.floor(z / edge[2])), int(math.floor(y / edge[1])), int(math.floor(x / edge[0]))
    while True:
        if a < 0 or b < 0 or c < 0 or a >= nz or b >= ny or c >= nx:
            return x, y, z, False
        density = lattice.density[a, b, c]
        fx = _to_face(x, u, c, edge[0])
        fy = _to_face(y, v, b, edge[1])
        fz = _to_face(z, w, a, edge[2])
        face = min(fx, fy, fz)
        way = path / max(density, 1e-9)
        voxel = (a * ny + b) * nx + c
        if way < face:
            score(tally, i, voxel, loss * path)
            return x + u * way, y + v * way, z + w * way, True
        score(tally, i, voxel, loss * face * density)
        path -= face * density
        x += u * face
        y += v * face
        z += w * face
        # the face's own coordinate is set exactly, just beyond it, so that the next voxel is found
        if face == fx:
            c, x = _beyond(c, u, edge[0])
        elif face == fy:
            b, y = _beyond(b, v, edge[1])
        else:
            a, z = _beyond(a, w, edge[2])


@njit(cache=True)
def _to_face(position, direction, index, edge):
    """Return the way [cm] to the voxel's face ahead on one axis."""
    if direction > 1e-12:
        return max(((index + 1) * edge - position) / direction, 0.0)
    if direction < -1e-12:
        return max((index * edge - position) / direction, 0.0)
    return 1e30


@njit(cache=True)
def _beyond(index, direction, edge):
    """Return the next voxel's index on one axis, and the coordinate just inside it."""
    if direction > 0:
        return index + 1, (index + 1) * edge + 1e-9 * edge
    return index - 1, index * edge - 1e-9 * edge
