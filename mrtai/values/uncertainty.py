"""How well one region is known: what its numbers rest on, and what their uncertainties come to.

Everything is relative, without unit, unless a name ends in one; a standard uncertainty has coverage k = 1.
"""

from dataclasses import dataclass, fields
from math import e, isfinite
from typing import Final, Literal

from mrtai.values.calibration import Recovery

LU177_MASS_EXPONENT: Final = -0.985
"""d ln S / d ln v of 177Lu, for where no kernel is known: its electrons stay in the region, so that S falls almost as 1/mass."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What BED is made of: mean dose D [Gy], Lea–Catcheside factor G and α/β [Gy]; BED = D + G D²/(α/β)."""

    dose_gy: float
    g: float
    alpha_beta_gy: float

    def __post_init__(self) -> None:
        if not (0 < self.dose_gy < float("inf") and 0 <= self.g <= 1 and self.alpha_beta_gy > 0):
            raise ValueError(f"BED of {self.dose_gy} Gy with G = {self.g} and α/β = {self.alpha_beta_gy} Gy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the numbers of one region rest on. Every ``…_relative_sd`` is a relative standard uncertainty; 0 is perfect knowledge.

    Attributes:
        volume_ml: of the sphere that keeps as much of its activity under blur as the region's own shape.
        volume_relative_sd: of the contour as the true outline; it acts through counts, recovery and mass at once.
        fwhm_mm: resolution of the activity images.
        mass_exponent: d ln S / d ln v, by which a wrong mass changes the dose.
        recovery: the curve by which activities were divided, None where they were not.
        contrast: share of the stated concentration that stands above the surroundings, which alone blur, outline and a displaced scan
            change; negative where it lies below them.
        partial_volume_relative_sd: of the activity, for what blur moved and nothing gave back.
        registration_relative_sd: of the integral, from scans that do not lie on the contour; not to be in ``kinetics`` as well.
        dead_time_factor: true over observed count rate, of the scan that weighs most.
        dead_time_tau_relative_sd: of the dead time per event.
        calibration_relative_sd: of the sensitivity.
        kinetics_relative_sd: of the integral from the scans' independent errors, the choice of model and population priors, by the fit.
        kinetics_ends: true over stated integral by kinetics alone, 2.5, 16, 84 and 97.5 % points; None where its error is normal. They
            shape intervals, not standard uncertainties.
        engine_relative_sd: of the dose, from Monte Carlo statistics or an engine's measured error.
        effect: what BED is made of, None where there is no BED.
    """

    volume_ml: float
    volume_relative_sd: float
    fwhm_mm: float
    mass_exponent: float = LU177_MASS_EXPONENT
    recovery: Recovery | None = None
    contrast: float = 1.0
    partial_volume_relative_sd: float = 0.0
    registration_relative_sd: float = 0.0
    dead_time_factor: float = 1.0
    dead_time_tau_relative_sd: float = 0.0
    calibration_relative_sd: float = 0.0
    kinetics_relative_sd: float = 0.0
    kinetics_ends: tuple[float, float, float, float] | None = None
    engine_relative_sd: float = 0.0
    effect: Effect | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_relative_sd") and not (isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must be zero or positive, got {value}")
        if not (0 < self.volume_ml < float("inf") and 0 < self.fwhm_mm < float("inf") and isfinite(self.mass_exponent)):
            raise ValueError(f"uncertainty of {self.volume_ml} mL seen with {self.fwhm_mm} mm, mass exponent {self.mass_exponent}")
        if self.kinetics_ends is not None and not 0.0 <= min(self.kinetics_ends) <= max(self.kinetics_ends) < float("inf"):
            raise ValueError(f"kinetics_ends must be finite and not negative, got {self.kinetics_ends}")
        if not -1.0 <= self.contrast <= 1.0:
            raise ValueError(f"contrast must lie between -1 and 1, got {self.contrast}")
        if not 1.0 <= self.dead_time_factor < e:
            raise ValueError(f"a paralysable detector's dead time factor lies between 1 and e, got {self.dead_time_factor}")


@dataclass(frozen=True, slots=True)
class BudgetTerm:
    """One term of an uncertainty budget: relative standard uncertainty and share of the variance (shares sum to 1)."""

    term: str
    relative_sd: float
    share: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Uncertainty of one number, relative to that number.

    Attributes:
        relative_sd: standard uncertainty over the stated value.
        budget: terms that are not zero, whose squares add up to that of ``relative_sd``; empty where nothing is uncertain.
        interval_68, interval_95: true over stated value, lower and upper end, with equal tails.
    """

    relative_sd: float
    budget: tuple[BudgetTerm, ...]
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Uncertainty of one region's numbers.

    Attributes:
        bed: None where there is no BED.
        common_relative_sd: part of each but BED that all scans and cycles of a camera share: calibration, recovery curve, what blur took
            and nothing gave back, dead time.
        method: ``first order`` or ``drawn``.
    """

    activity: Spread
    tia: Spread
    dose: Spread
    bed: Spread | None
    common_relative_sd: float
    method: Literal["first order", "drawn"]

    @property
    def budget(self) -> tuple[BudgetTerm, ...]:
        """Terms of the dose's uncertainty, with shares of its variance that sum to 1."""
        return self.dose.budget
