"""Solids with a smooth random surface, given by a formula."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrtai.values.grid import Array

Reals = NDArray[np.floating]
"""Coordinates in single or double precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Waves:
    """A smooth displacement of a surface: Σ amplitude · sin(vector · u + phase) in a solid's own coordinates u.

    Shapes: ``amplitude`` and ``phase`` ``(waves,)``, ``vector`` ``(waves, 3)``; amplitudes are relative to the half-axes.
    """

    amplitude: Array
    vector: Array
    phase: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator, roughness: float, count: int = 4) -> "Waves":
        """Return ``count`` random waves whose amplitudes are ``roughness`` at most, about one to two bumps across the solid."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        vectors = directions * rng.uniform(1.5, 3.2, (count, 1))
        return cls(rng.uniform(0.3, 1.0, count) * roughness, vectors, rng.uniform(0, 2 * np.pi, count))


SMOOTH = Waves(np.zeros(0), np.zeros((0, 3)), np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """A superellipsoid of one tissue: ((|u|ⁿ + |v|ⁿ)^(m/n) + |w|ᵐ)^(1/m) < 1 + waves.

    Attributes:
        tissue: index of its tissue in the anatomy.
        centre_mm, half_mm: centre and half-axes ``(x, y, z)`` LPS.
        axes: columns are the directions of the half-axes, shape ``(3, 3)``.
        roundness: exponents ``(n, m)``; 2 is an ellipsoid, larger is boxier.
    """

    tissue: int
    centre_mm: Array
    half_mm: Array
    axes: Array
    roundness: tuple[float, float] = (2.0, 2.0)
    waves: Waves = SMOOTH

    @property
    def reach_mm(self) -> Array:
        """Half-lengths ``(x, y, z)`` of a box along the patient axes that holds the solid."""
        half = self.half_mm * (1.0 + np.abs(self.waves.amplitude).sum())
        reach: Array = np.abs(self.axes) @ half
        return reach

    def local(self, points_mm: Reals) -> Reals:
        """Return positions, shape ``(points, 3)`` LPS, in the solid's own coordinates u, v, w."""
        u: Reals = ((points_mm - self.centre_mm) @ self.axes) / self.half_mm
        return u

    def excess(self, u: Reals, v: Reals, w: Reals) -> Reals:
        """Return how far points in own coordinates (arrays that broadcast) lie outside: negative inside, 0 on the surface."""
        n, m = self.roundness
        disc = _power(u, n) + _power(v, n)
        sum_of_powers = (disc if m == n else disc ** (m / n)) + _power(w, m)
        distance = np.sqrt(sum_of_powers) if m == 2 else sum_of_powers ** (1 / m)
        # plain numbers keep single precision single
        rows = np.column_stack([self.waves.amplitude, self.waves.vector, self.waves.phase]).tolist()
        for amplitude, a, b, c, phase in rows:
            distance -= amplitude * np.sin((a * u + (b * v + phase)) + c * w)
        excess: Reals = distance - 1
        return excess

    def steepest_per_mm(self) -> float:
        """Return a bound on how fast ``excess`` changes with distance [1/mm]."""
        # a p-norm's gradient is at most √2 long for the mixed exponents, a wave's is amplitude times wave number
        waves = float((np.abs(self.waves.amplitude) * np.linalg.norm(self.waves.vector, axis=1)).sum())
        return (float(np.sqrt(2.0)) + waves) / float(self.half_mm.min())

    def holds(self, u: Reals, v: Reals, w: Reals) -> NDArray[np.bool_]:
        """Return True where points in own coordinates (arrays that broadcast) lie inside."""
        inside: NDArray[np.bool_] = self.excess(u, v, w) < 0
        return inside

    def grown(self, by_mm: float) -> "Solid":
        """Return the solid with its half-axes longer by ``by_mm`` (shorter where negative)."""
        return Solid(self.tissue, self.centre_mm, self.half_mm + by_mm, self.axes, self.roundness, self.waves)


def turned(rng: np.random.Generator, largest_deg: float) -> Array:
    """Return a random rotation matrix of at most ``largest_deg`` about each patient axis."""
    return rotation(np.deg2rad(rng.uniform(-largest_deg, largest_deg, 3)))


def rotation(angles_rad: Array) -> Array:
    """Return the matrix of rotations about x, then y, then z by ``angles_rad`` ``(3,)``."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles_rad), np.cos(angles_rad)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    matrix: Array = about_z @ about_y @ about_x
    return matrix


def _power(values: Reals, exponent: float) -> Reals:
    # squares are ten times cheaper than general powers, and most solids are ellipsoids
    if exponent == 2.0:
        return values * values
    if exponent == 4.0:
        return (values * values) ** 2
    power: Reals = np.abs(values) ** exponent
    return power
