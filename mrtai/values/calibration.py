"""How a camera's counts become activity."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Calibration:
    """One camera, collimator and nuclide with the dates between which its sensitivity holds.

    Attributes:
        sensitivity_cps_per_mbq: counts per second and MBq **per detector head**.
        sensitivity_sd: its standard uncertainty, in the same unit.
        dead_time_tau_us: paralysable dead time per event, None when not measured.
        recovery: ``beta_ml`` and ``gamma`` of RC = 1/(1 + (beta/v)^gamma), None when not measured.
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
    recovery: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.sensitivity_cps_per_mbq > 0:
            raise ValueError(f"calibration: sensitivity must be positive, got {self.sensitivity_cps_per_mbq} cps/MBq")
        if self.valid_to <= self.valid_from:
            raise ValueError(f"calibration: valid_to {self.valid_to} is not after valid_from {self.valid_from}")
