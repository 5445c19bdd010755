"""What a cycle comes to: one ``RegionDose`` a region, and the report around them.

A value that could not be computed is ``None`` and a flag says why; it is never 0 and never left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mrtai.values.cumulative import CountedCycle
from mrtai.values.curve import Curve, Fit
from mrtai.values.dose import Dose
from mrtai.values.flag import Flag
from mrtai.values.grid import Array
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.marrow import MarrowDose
from mrtai.values.next_scan import NextScan
from mrtai.values.protocol import Protocol, Radiobiology
from mrtai.values.study import Cycle
from mrtai.values.uncertainty import BudgetTerm, Spread, Uncertainty


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """How one scan was brought onto the first.

    Attributes:
        transform: rigid ``(4, 4)`` matrix from this scan's LPS millimetres to the first scan's; identity when nothing moved.
        moved: False when the identity was kept.
        residual_mm: estimated residual misalignment, None where it was not estimated.
        similarity_before, similarity_after: mutual information [nat] of the images that were registered.
        overlap_before, overlap_after: Dice of the body outlines.
        flags: why the result is doubtful, if it is.
    """

    transform: Array
    moved: bool
    residual_mm: float | None
    similarity_before: float
    similarity_after: float
    overlap_before: float
    overlap_after: float
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """The cycle on one grid: that of the first complete scan's SPECT.

    Attributes:
        cycle: the cycle as it came in.
        spects: one activity map per scan on the common grid [Bq/mL at the start of that scan].
        alignments: one per scan, in the same order.
        reference: position in ``cycle.time_points`` of the scan whose grid is the common one.
        density: mass density on the common grid [kg/mL].
        body: body outline on the common grid, shape ``(z, y, x)``.
        in_view: per scan, where its field of view reaches, shape ``(z, y, x)``; empty when every scan sees the whole grid.
        flags: flags of the whole cycle found here.
    """

    cycle: Cycle
    spects: tuple[Image, ...]
    alignments: tuple[Alignment, ...]
    reference: int
    density: Image
    body: NDArray[np.bool_]
    flags: tuple[Flag, ...] = ()
    in_view: tuple[NDArray[np.bool_], ...] = ()


@dataclass(frozen=True, slots=True)
class Dvh:
    """Cumulative dose–volume histogram: fraction of the volume that receives at least ``dose_gy``."""

    dose_gy: tuple[float, ...]
    volume_fraction: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DoseStatistics:
    """Absorbed dose of one region, mean over its voxels, with spread and histogram; all doses in Gy.

    ``percentiles_gy`` has ``d98``, ``d90``, ``d70``, ``d50``, ``d10``, ``d2``: the dose at least received by that percentage of the
    volume. ``voxel_sd_gy`` is the spread over voxels, ``mean_sd_gy`` the standard uncertainty of the mean. ``by_nuclide_gy`` is empty
    where only one nuclide decays.
    """

    mean_gy: float
    mean_sd_gy: float | None
    voxel_sd_gy: float
    min_gy: float
    max_gy: float
    percentiles_gy: Mapping[str, float]
    by_radiation_gy: Mapping[str, float]
    dvh: Dvh
    by_nuclide_gy: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BiologicalDose:
    """BED and EQD2 of a region's mean dose with its own kinetics; ``g`` is the Lea–Catcheside factor."""

    parameters: Radiobiology
    g: float
    bed_gy: float
    eqd2_gy: float


@dataclass(frozen=True, slots=True, eq=False)
class RegionDose:
    """Everything known of one region.

    Attributes:
        kind: organ, lesion, union, body, remainder or other.
        members: names of the regions a union is made of.
        code: SNOMED code as ``SCT:…`` where there is one.
        found_in_scans: indices of the scans that see the region.
        volume_ml, mass_kg: from the contour on its own grid; None when empty.
        fit: curve and time-integrated activity; None when withheld.
        dose: statistics of the dose map in the region; None when withheld.
        common_relative_sd: relative uncertainty common to all scans (calibration); it is in ``fit.tia_sd_bq_s`` but not in
            ``fit.curve.activity_sd_bq``.
        curve: the measured points, also where no curve could be fitted.
        tracking_uid: what identifies a lesion over scans and cycles.
        recovery: recovery coefficient of its volume, the least of the scans; None where no curve is known or it is not compact.
        uncertainty: of everything stated of a region drawn on its own; ``spread`` that of the dose, of unions too; None where unknown.
        tia_relative_sd: of the integral with all that enters its activity; ``fit.tia_sd_bq_s`` holds the curve and the calibration.
        without_recovery_gy, with_recovery_gy: mean dose both ways; the protocol says which of them is ``dose``.
    """

    name: str
    kind: str
    members: tuple[str, ...]
    code: str | None
    source_name: str | None
    found_in_scans: tuple[int, ...]
    volume_ml: float | None
    mass_kg: float | None
    fit: Fit | None
    dose: DoseStatistics | None
    biological: BiologicalDose | None
    budget: tuple[BudgetTerm, ...] = ()
    flags: tuple[Flag, ...] = ()
    common_relative_sd: float = 0.0
    curve: Curve | None = None
    tracking_uid: str | None = None
    recovery: float | None = None
    without_recovery_gy: float | None = None
    with_recovery_gy: float | None = None
    uncertainty: Uncertainty | None = None
    spread: Spread | None = None
    tia_relative_sd: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A second engine's opinion of one region.

    Attributes:
        dose_gy: its mean dose; ``dose_sd_gy`` the statistical standard deviation, None for an engine without.
        difference: of the draft's mean dose, relative to it; None where it is zero.
    """

    region: str
    dose_gy: float
    dose_sd_gy: float | None
    difference: float | None

    @property
    def relative_sd(self) -> float:
        """Statistical standard deviation relative to the dose; 0 where the engine states none."""
        return (self.dose_sd_gy or 0.0) / self.dose_gy if self.dose_gy > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """A draft: numbers, maps and how they came about.

    Attributes:
        aligned: the cycle on one grid; ``labels`` the exclusive regions on that grid.
        contours: the regions on the grid they were drawn on.
        tia: time-integrated activity map; ``dose`` the dose maps.
        provisional: True while scans of the protocol's set are missing.
        engines: name of the engine that filled each room: aligner, segmenter, kinetics, dose, check.
        check: the second engine's opinion by region; empty where none was asked.
        marrow: dose of the red marrow by each method that can be had.
        tia_sd: standard uncertainty of the TIA map, where voxels have curves of their own.
        dose_rates: absorbed dose rate at the start of each scan [Gy/s], daughters in equilibrium; empty where not computed.
        next_scan: the time of one more scan that would tell most, while scans are missing.
        earlier: the patient's earlier cycles, for the sums over all of them; those nobody signed do not count.
    """

    protocol: Protocol
    aligned: Aligned
    contours: Labels
    labels: Labels
    regions: tuple[RegionDose, ...]
    tia: Image
    dose: Dose
    provisional: bool
    engines: Mapping[str, str]
    flags: tuple[Flag, ...] = field(default_factory=tuple)
    check: tuple[Check, ...] = ()
    marrow: tuple[MarrowDose, ...] = ()
    tia_sd: Image | None = None
    dose_rates: tuple[Image, ...] = ()
    next_scan: NextScan | None = None
    earlier: tuple[CountedCycle, ...] = ()
