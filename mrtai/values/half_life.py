"""What is known about a region's kinetics before its activity is measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from mrtai.units import LN2
from mrtai.values.regions import kinetic_family

STRANGERS_LOG_SD: Final = float(np.log(3.0))
"""Without a population only the patient's own cycles speak: a prior three times wider either way."""

STRANGERS_INTER_CYCLE_LOG_SD: Final = 0.25
"""Of ln k between cycles where no population prior states it: the widest of the shipped ones, a choice."""


@dataclass(frozen=True, slots=True)
class HalfLifePrior:
    """How long a region keeps its activity (log-normal), and in what shape it gives it away.

    The curve is A(t) = a · Σ wᵢ exp(-(λ_phys + rᵢ k) t) with a free amplitude a and ln k normal around ln ``rate_per_h``. With a
    biological k > 0 no effective half-life exceeds the physical one, and the prior of a molecule holds for any nuclide on it.

    Attributes:
        rate_per_h: median of the biological rate k of the slowest phase.
        population_log_sd: standard deviation of ln k between patients.
        median_log_sd: standard uncertainty of the logarithm of that median.
        inter_cycle_log_sd: standard deviation of ln k between the cycles of one patient.
        from_h: earlier scans do not follow the shape and do not count.
        source: where the numbers come from.
        shape: pairs (wᵢ, rᵢ), the slowest first with r = 1; one exponential by default.
        cycles: numbers of the patient's own earlier cycles that went into it, empty for the population alone.
    """

    rate_per_h: float
    population_log_sd: float
    median_log_sd: float
    inter_cycle_log_sd: float
    from_h: float
    source: str
    shape: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    cycles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        spreads = (self.population_log_sd, self.median_log_sd, self.inter_cycle_log_sd)
        if not self.rate_per_h > 0 or min(spreads) < 0 or self.log_sd == 0:
            raise ValueError(f"prior: a positive rate and spreads from 0 needed, got {self}")

    @property
    def log_sd(self) -> float:
        """Standard deviation of ln k for a patient not yet seen: spread of the population and doubt about its median."""
        return float(np.hypot(self.population_log_sd, self.median_log_sd))

    def half_life_h(self, physical_per_h: float) -> float:
        """Return the effective half-life [h] of the slowest phase at the median."""
        return LN2 / (physical_per_h + self.rate_per_h)


@dataclass(frozen=True, slots=True)
class EarlierCycle:
    """What an earlier cycle of the same patient says about one region.

    Attributes:
        cycle: its number or name, for the report.
        rate_per_h: biological rate of the slowest phase; ``log_sd`` the standard uncertainty of its logarithm.
        shape: pairs (weight, rate over the slowest), as in ``HalfLifePrior``.
    """

    cycle: str
    rate_per_h: float
    log_sd: float
    shape: tuple[tuple[float, float], ...]


def after_cycles(prior: HalfLifePrior, cycles: tuple[EarlierCycle, ...]) -> HalfLifePrior:
    """Return the prior of a patient whose earlier cycles are known, in the order in which they were given.

    A patient's own ln k is normal around the population's with its spread, a cycle's is normal around the patient's with the
    inter-cycle spread, and each cycle was measured with its own uncertainty; all of it is linear and normal, so the next
    cycle's ln k follows in closed form. The shape is that of the latest cycle.
    """
    if not cycles:
        return prior
    precision = [1.0 / prior.log_sd**2, *(1.0 / (prior.inter_cycle_log_sd**2 + cycle.log_sd**2) for cycle in cycles)]
    centre = [np.log(prior.rate_per_h), *(np.log(cycle.rate_per_h) for cycle in cycles)]
    return replace(
        prior,
        rate_per_h=float(np.exp(np.dot(precision, centre) / sum(precision))),
        population_log_sd=prior.inter_cycle_log_sd,
        median_log_sd=float(1.0 / np.sqrt(sum(precision))),
        shape=cycles[-1].shape,
        cycles=tuple(cycle.cycle for cycle in cycles),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the measured points.

    Attributes:
        half_life_h: physical half-life.
        priors: population kinetics by family of regions (``values.regions.kinetic_family``).
        earlier: the patient's own earlier cycles by region name, oldest first.
        typical_half_life_h: a protocol's typical effective half-lives by region name or kind (``lesion``, ``organ``); they stand
            before the population's in windows and in the method ``madsen``.
        known_half_life_h: effective half-lives taken as known by region name, ``default`` for all others.
    """

    half_life_h: float
    priors: Mapping[str, HalfLifePrior] = field(default_factory=dict)
    earlier: Mapping[str, tuple[EarlierCycle, ...]] = field(default_factory=dict)
    typical_half_life_h: Mapping[str, float] = field(default_factory=dict)
    known_half_life_h: Mapping[str, float] = field(default_factory=dict)

    @property
    def physical_per_h(self) -> float:
        """λ_phys [1/h]."""
        return LN2 / self.half_life_h

    def prior(self, region: str) -> HalfLifePrior | None:
        """Return what population and earlier cycles say about a region, None where neither does."""
        population, cycles = self.priors.get(kinetic_family(region) or ""), self.earlier.get(region, ())
        if population is None and cycles:
            rate, spread = cycles[-1].rate_per_h, STRANGERS_INTER_CYCLE_LOG_SD
            population = HalfLifePrior(rate, STRANGERS_LOG_SD, 0.0, spread, from_h=0.0, source="the patient's own cycles")
        return None if population is None else after_cycles(population, cycles)

    def typical_h(self, region: str) -> float | None:
        """Return the effective half-life [h] to expect, None where nothing says so."""
        kind = "lesion" if kinetic_family(region) == "lesion" else "organ"
        stated = self.typical_half_life_h.get(region, self.typical_half_life_h.get(kind))
        prior = self.prior(region)
        if prior is not None and (prior.cycles or stated is None):
            return prior.half_life_h(self.physical_per_h)
        return stated

    def fixed_h(self, region: str) -> float | None:
        """Return the effective half-life [h] taken as known, None where none is."""
        return self.known_half_life_h.get(region, self.known_half_life_h.get("default"))
