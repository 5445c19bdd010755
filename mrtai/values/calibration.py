"""How a camera's counts become activity."""

from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Final

FORMULA_SCATTER: Final = 0.02
"""By how much spheres of 10 to 60 mm lie off the best curve where a file does not say: that of a Gaussian blur itself, root mean square."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Recovery coefficient of a compact object of volume v [mL]: RC = 1/(1 + (β/v)^γ), fitted to spheres.

    ``covariance`` is that of (``beta_ml``, ``gamma``), row by row; ``scatter`` by how much spheres lie off the curve, one standard
    deviation of RC.
    """

    beta_ml: float
    gamma: float
    covariance: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    scatter: float = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.scatter) and self.scatter >= 0):
            raise ValueError(f"recovery: scatter must be zero or positive, got {self.scatter}")
        if not (self.beta_ml > 0 and self.gamma > 0):
            raise ValueError(f"recovery: beta_ml and gamma must be positive, got {self.beta_ml} mL and {self.gamma}")
        (a, b), (c, d) = self.covariance
        if not (all(isfinite(x) for x in (a, b, c, d)) and b == c and a >= 0 and d >= 0 and a * d - b * b >= -1e-9 * a * d):
            raise ValueError(f"recovery: no covariance of two numbers: {self.covariance}")


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
