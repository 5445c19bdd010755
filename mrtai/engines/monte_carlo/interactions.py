"""Single interactions: how a photon or an electron changes, one random draw at a time.

Compiled for the CPU; called from a CUDA kernel the same functions are compiled for the GPU. ``states[i]`` is the history's
random state (see ``random``); ``t`` the packed ``Tables``. Directions are unit vectors, energies MeV.
"""

import math

from numba import njit

from mrtai.engines.monte_carlo.random import uniform
from mrtai.engines.monte_carlo.tables import FIRST, QUANTILES, SECOND
from mrtai.units import ELECTRON_MASS_MEV, HC_MEV_ANGSTROM

TWO_PI = 2.0 * math.pi


@njit(cache=True)
def place(log, points, energy):
    """Return the lower index and the fraction above it of an energy in a table evenly spaced in its logarithm."""
    x = (math.log(energy) - log[0]) * log[1]
    x = min(max(x, 0.0), points - 1.001)
    low = int(x)
    return low, x - low


@njit(cache=True)
def turned(u, v, w, cosine, phi):
    """Return the direction turned by the polar angle of ``cosine`` and the azimuth ``phi``."""
    sine = math.sqrt(max(0.0, 1.0 - cosine * cosine))
    a, b = sine * math.cos(phi), sine * math.sin(phi)
    across = u * u + v * v
    if across < 1e-12:
        sign = 1.0 if w > 0 else -1.0
        return a, b, cosine * sign
    root = math.sqrt(across)
    x = u * cosine + (u * w * a - v * b) / root
    y = v * cosine + (v * w * a + u * b) / root
    z = w * cosine - root * a
    norm = 1.0 / math.sqrt(x * x + y * y + z * z)
    return x * norm, y * norm, z * norm


@njit(cache=True)
def isotropic(states, i):
    """Return a direction of equal chance over the sphere."""
    w = 2.0 * uniform(states, i) - 1.0
    phi = TWO_PI * uniform(states, i)
    sine = math.sqrt(1.0 - w * w)
    return sine * math.cos(phi), sine * math.sin(phi), w


@njit(cache=True)
def incoherent(energy, material, t, states, i):
    """Return the scattered photon's energy and the cosine of its angle: Klein–Nishina, rejected by the scattering function."""
    k = energy / ELECTRON_MASS_MEV
    lowest = 1.0 / (1.0 + 2.0 * k)
    flat, rising = -math.log(lowest), 0.5 * (1.0 - lowest * lowest)
    momenta = t.scattering.shape[1]
    while True:
        if uniform(states, i) * (flat + rising) < flat:
            kept = math.exp(-flat * uniform(states, i))
        else:
            kept = math.sqrt(lowest * lowest + (1.0 - lowest * lowest) * uniform(states, i))
        one_minus = (1.0 - kept) / (k * kept)
        sine2 = one_minus * (2.0 - one_minus)
        if uniform(states, i) > 1.0 - kept * sine2 / (1.0 + kept * kept):
            continue
        x = energy / HC_MEV_ANGSTROM * math.sqrt(max(0.0, 0.5 * one_minus)) * t.per_momentum
        low = int(x)
        bound = 1.0
        if low < momenta - 1:
            bound = t.scattering[material, low] + (x - low) * (t.scattering[material, low + 1] - t.scattering[material, low])
        if uniform(states, i) <= bound:
            return energy * kept, 1.0 - one_minus


@njit(cache=True)
def coherent(energy, material, t, states, i):
    """Return the cosine of a coherently scattered photon's angle: squared form factor, rejected by Thomson's (1 + cos²θ)/2."""
    most = (energy / HC_MEV_ANGSTROM) ** 2
    points = t.form_x2.size
    cumulated = _interpolated(t.form_x2, t.form, material, most, points)
    while True:
        wanted = cumulated * uniform(states, i)
        low, high = 0, points - 1
        while high - low > 1:
            middle = (low + high) // 2
            if t.form[material, middle] > wanted:
                high = middle
            else:
                low = middle
        step = t.form[material, high] - t.form[material, low]
        x2 = t.form_x2[low] + (t.form_x2[high] - t.form_x2[low]) * ((wanted - t.form[material, low]) / step if step > 0 else 0.0)
        cosine = 1.0 - 2.0 * min(x2 / most, 1.0)
        if uniform(states, i) < 0.5 * (1.0 + cosine * cosine):
            return cosine


@njit(cache=True)
def _interpolated(x, y, row, at, points):
    low, high = 0, points - 1
    if at >= x[high]:
        return y[row, high]
    while high - low > 1:
        middle = (low + high) // 2
        if x[middle] > at:
            high = middle
        else:
            low = middle
    return y[row, low] + (y[row, high] - y[row, low]) * (at - x[low]) / (x[high] - x[low])


@njit(cache=True)
def deflection(path_g_per_cm2, material, low, part, t, states, i):
    """Return the cosine of the multiple-scattering angle of a step.

    The distribution has the exact first two Legendre moments exp(-s/λ₁), exp(-s/λ₂) (Goudsmit and Saunderson 1940); its form
    is that of two uniform parts (PENELOPE, Salvat 2019, chapter 4).
    """
    rows = t.electron[material]
    first = rows[low, FIRST] + part * (rows[low + 1, FIRST] - rows[low, FIRST])
    second = rows[low, SECOND] + part * (rows[low + 1, SECOND] - rows[low, SECOND])
    one = math.exp(-first * path_g_per_cm2)
    two = math.exp(-second * path_g_per_cm2)
    mean = 0.5 * (1.0 - one)
    square = mean - (1.0 - two) / 6.0
    # nearly isotropic after a long step
    border = (2.0 * mean - 3.0 * square) / (1.0 - 2.0 * mean) if mean < 0.499 else 0.5
    border = min(max(border, 1e-12), 1.0 - 1e-12)
    below = min(max(1.0 - 2.0 * mean + border, 0.0), 1.0)
    if uniform(states, i) < below:
        mu = border * uniform(states, i)
    else:
        mu = border + (1.0 - border) * uniform(states, i)
    return 1.0 - 2.0 * mu


@njit(cache=True)
def moller_transfer(energy, cut, states, i):
    """Return the energy of an electron set free above ``cut`` (at most half of ``energy``): Møller's cross section."""
    tau = energy / ELECTRON_MASS_MEV
    highest = 0.5 * energy
    while True:
        r = uniform(states, i)
        transfer = cut * highest / (highest - r * (highest - cut))
        rest = energy - transfer
        ratio = (
            1.0
            + (transfer / rest) ** 2
            - (2.0 * tau + 1.0) / (tau + 1.0) ** 2 * transfer / rest
            + (transfer / (energy + ELECTRON_MASS_MEV)) ** 2
        )
        if uniform(states, i) * 2.25 < ratio:
            return transfer


@njit(cache=True)
def moller_cosines(energy, transfer):
    """Return the cosines of the two electrons' angles after a collision."""
    rest = energy - transfer
    two_m = 2.0 * ELECTRON_MASS_MEV
    primary = math.sqrt(max(0.0, rest * (energy + two_m) / (energy * (rest + two_m))))
    secondary = math.sqrt(max(0.0, transfer * (energy + two_m) / (energy * (transfer + two_m))))
    return min(primary, 1.0), min(secondary, 1.0)


@njit(cache=True)
def hard_photon(energy, low, cut, t, states, i):
    """Return the energy of a bremsstrahlung photon above ``cut``; ``low`` is the electron's place in the table."""
    x = uniform(states, i) * (QUANTILES - 1)
    j = int(x)
    row = t.hard_photon[low]
    fraction = row[j] + (x - j) * (row[j + 1] - row[j])
    return cut * (energy / cut) ** fraction


@njit(cache=True)
def hard_photon_cosine(energy, states, i):
    """Return the cosine of a bremsstrahlung photon's angle to its electron: the dipole's, thrown forward at the electron's speed."""
    tau = energy / ELECTRON_MASS_MEV
    beta = math.sqrt(tau * (tau + 2.0)) / (tau + 1.0)
    while True:
        cosine = 2.0 * uniform(states, i) - 1.0
        if uniform(states, i) * 2.0 < 1.0 + cosine * cosine:
            break
    return (cosine + beta) / (1.0 + beta * cosine)
