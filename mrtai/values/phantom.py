"""A phantom whose activity is known, and a tomogram in counts."""

from dataclasses import dataclass
from datetime import datetime
from math import isfinite, pi

from mrtai.units import ML_PER_MM3
from mrtai.values.grid import Array, Grid

STATED_SD = 0.02
"""Of a stated activity, relative, where nothing better is known: traceable dose calibrators reach 1.6 % to 2 % for 177Lu."""


@dataclass(frozen=True, slots=True)
class Sphere:
    """A filled sphere at ``centre_mm`` (x, y, z) LPS; its concentration is that at the phantom's ``measured_at``."""

    diameter_mm: float
    centre_mm: tuple[float, float, float]
    concentration_bq_per_ml: float

    def __post_init__(self) -> None:
        if not 0 < self.diameter_mm < float("inf"):
            raise ValueError(f"sphere: the diameter must be positive, got {self.diameter_mm} mm")
        if len(self.centre_mm) != 3 or not all(isfinite(x) for x in self.centre_mm):
            raise ValueError(f"sphere: a centre has three numbers, got {self.centre_mm}")
        if not 0 <= self.concentration_bq_per_ml < float("inf"):
            raise ValueError(f"sphere: the concentration must not be negative, got {self.concentration_bq_per_ml} Bq/mL")

    @property
    def volume_ml(self) -> float:
        """Volume within the sphere's inner wall [mL]."""
        return pi / 6 * self.diameter_mm**3 * ML_PER_MM3


@dataclass(frozen=True, slots=True)
class Phantom:
    """What was filled into a phantom, all at one instant.

    Attributes:
        nuclide: as in ICRP 107.
        activity_bq: all that is not in the spheres.
        measured_at: the instant that activity and concentrations hold for.
        volume_ml: what ``activity_bq`` is in.
        spheres: possibly none (a uniform phantom).
        background_bq_per_ml: around the spheres; None where ``activity_bq`` fills ``volume_ml`` evenly.
        activity_sd: relative standard uncertainty of the dose calibrator that all activities were measured with.
    """

    nuclide: str
    activity_bq: float
    measured_at: datetime
    volume_ml: float
    spheres: tuple[Sphere, ...] = ()
    background_bq_per_ml: float | None = None
    activity_sd: float = STATED_SD

    def __post_init__(self) -> None:
        if not (0 <= self.activity_bq < float("inf") and 0 < self.volume_ml < float("inf")):
            raise ValueError(f"phantom: impossible activity {self.activity_bq} Bq or volume {self.volume_ml} mL")
        if not self.total_bq > 0:
            raise ValueError("phantom: no activity in it")
        if not 0 <= self.activity_sd < 1:
            raise ValueError(f"phantom: activity_sd is a share between 0 and 1, got {self.activity_sd}")
        if self.background_bq_per_ml is not None and not 0 <= self.background_bq_per_ml < float("inf"):
            raise ValueError(f"phantom: impossible background {self.background_bq_per_ml} Bq/mL")

    @property
    def around_bq_per_ml(self) -> float:
        """Concentration around the spheres [Bq/mL]."""
        return self.activity_bq / self.volume_ml if self.background_bq_per_ml is None else self.background_bq_per_ml

    @property
    def total_bq(self) -> float:
        """Activity of everything [Bq]."""
        return self.activity_bq + sum(sphere.concentration_bq_per_ml * sphere.volume_ml for sphere in self.spheres)


@dataclass(frozen=True, slots=True, eq=False)
class Tomogram:
    """A reconstructed tomogram in counts.

    Attributes:
        counts: per voxel, ``(z, y, x)``, summed over heads and views, not corrected for decay during the acquisition.
        grid: where the voxels lie.
        started_at: start of the acquisition.
        nuclide: as the header names it, None where it is silent.
        heads, views_per_head, seconds_per_view: what the counts were collected by.
        recorded_counts: of all views, before any correction; None where not stated.
        camera_serial, collimator: as the header names them, possibly empty.
    """

    counts: Array
    grid: Grid
    started_at: datetime
    nuclide: str | None
    heads: int
    views_per_head: int
    seconds_per_view: float
    recorded_counts: float | None
    camera_serial: str
    collimator: str

    def __post_init__(self) -> None:
        if self.counts.shape != self.grid.shape:
            raise ValueError(f"tomogram: counts {self.counts.shape} do not fill the grid {self.grid.shape}")
        if self.heads < 1 or self.views_per_head < 1 or not self.seconds_per_view > 0:
            raise ValueError(f"tomogram: {self.heads} heads, {self.views_per_head} views of {self.seconds_per_view} s")
        view = self.counts.view()
        view.setflags(write=False)
        object.__setattr__(self, "counts", view)

    @property
    def duration_s(self) -> float:
        """Time of the acquisition [s]."""
        return self.views_per_head * self.seconds_per_view

    @property
    def head_seconds(self) -> float:
        """Seconds that heads looked, all heads added [s]."""
        return self.heads * self.duration_s


@dataclass(frozen=True, slots=True)
class SphereRecovery:
    """How much of a sphere's contrast to its surroundings was found within it; ``noise_sd`` is that of counting alone."""

    diameter_mm: float
    volume_ml: float
    coefficient: float
    noise_sd: float
