"""How a camera's counts become activity."""

from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Final

FORMULA_SCATTER: Final = 0.02
"""By how much spheres of 10 to 60 mm lie off the best curve where a file does not say: that of a Gaussian blur itself, root mean square."""


PLATEAU: Final = (0.5, 1.1)
"""Of the activity of a large object; what a reconstruction overshoots at edges makes more than 1."""

Covariance = tuple[tuple[float, float], tuple[float, float]]
KNOWN_EXACTLY: Final[Covariance] = ((0.0, 0.0), (0.0, 0.0))


@dataclass(frozen=True, slots=True)
class GaussianRecovery:
    """Recovery coefficient of a compact object: what its sphere keeps under a Gaussian of ``fwhm_mm``, times ``plateau``.

    What a plateau below 1 lacks ends far from the object: scatter and septal penetration that no correction took away.
    ``covariance`` is that of (``fwhm_mm``, ``plateau``); ``scatter`` as of ``Recovery``.
    """

    fwhm_mm: float
    plateau: float
    covariance: Covariance = KNOWN_EXACTLY
    scatter: float = 0.0

    def __post_init__(self) -> None:
        _require_curve({"fwhm_mm": self.fwhm_mm, "plateau": self.plateau}, self.covariance, self.scatter)
        low, high = PLATEAU
        if not low <= self.plateau <= high:
            raise ValueError(f"recovery: a plateau from {low} to {high} is needed, got {self.plateau}")


@dataclass(frozen=True, slots=True)
class Recovery:
    """Recovery coefficient of a compact object of volume v [mL]: RC = 1/(1 + (β/v)^γ), fitted to spheres.

    ``covariance`` is that of (``beta_ml``, ``gamma``), row by row; ``scatter`` by how much spheres lie off the curve, one standard
    deviation of RC. ``gaussian``: the curve that is used instead where it goes closer through the same spheres.
    """

    beta_ml: float
    gamma: float
    covariance: Covariance = KNOWN_EXACTLY
    scatter: float = 0.0
    gaussian: GaussianRecovery | None = None

    def __post_init__(self) -> None:
        _require_curve({"beta_ml": self.beta_ml, "gamma": self.gamma}, self.covariance, self.scatter)


def _require_curve(parameters: dict[str, float], covariance: Covariance, scatter: float) -> None:
    if not (isfinite(scatter) and scatter >= 0):
        raise ValueError(f"recovery: scatter must be zero or positive, got {scatter}")
    if not all(isfinite(value) and value > 0 for value in parameters.values()):
        told = ", ".join(f"{name} = {value}" for name, value in parameters.items())
        raise ValueError(f"recovery: positive parameters are needed, got {told}")
    (a, b), (c, d) = covariance
    if not (all(isfinite(x) for x in (a, b, c, d)) and b == c and a >= 0 and d >= 0 and a * d - b * b >= -1e-9 * a * d):
        raise ValueError(f"recovery: no covariance of two numbers: {covariance}")


@dataclass(frozen=True, slots=True)
class Calibration:
    """One camera, collimator and nuclide with the dates between which its sensitivity holds.

    Attributes:
        sensitivity_cps_per_mbq: counts per second and MBq **per detector head**.
        sensitivity_sd: its standard uncertainty, in the same unit.
        dead_time_tau_us: paralysable dead time per event, None when not measured; ``dead_time_tau_sd_us`` its standard uncertainty.
        recovery: recovery coefficients by volume, None when not measured.
        sha256: digest of the file.
    """

    camera_serial: str
    nuclide: str
    collimator: str
    sensitivity_cps_per_mbq: float
    sensitivity_sd: float
    valid_from: datetime
    valid_to: datetime
    sha256: str
    dead_time_tau_us: float | None = None
    recovery: Recovery | None = None
    dead_time_tau_sd_us: float = 0.0

    def __post_init__(self) -> None:
        if not self.sensitivity_cps_per_mbq > 0:
            raise ValueError(f"calibration: sensitivity must be positive, got {self.sensitivity_cps_per_mbq} cps/MBq")
        if not (isfinite(self.dead_time_tau_sd_us) and self.dead_time_tau_sd_us >= 0):
            raise ValueError(f"calibration: tau_sd_us must be zero or positive, got {self.dead_time_tau_sd_us}")
        if self.valid_to <= self.valid_from:
            raise ValueError(f"calibration: valid_to {self.valid_to} is not after valid_from {self.valid_from}")
