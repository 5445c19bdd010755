"""A dosimetry protocol: what is expected of a cycle and how it is worked up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mrtai.values.calibration import Recovery
from mrtai.values.chain import Progeny
from mrtai.values.flag import Severity

TIA_MAPS: Final = ("shares", "voxel-fit")
PARTIAL_VOLUME: Final = ("off", "recovery")

SPECT_FWHM_MM: Final = 11.0
"""Of a reconstructed tomogram, unless a protocol says otherwise."""

NO_SEGMENTER: Final = "none"
TOTAL_SEGMENTATOR: Final = "total-segmentator"
"""Draws organs with that library, where it and its weights are present; no bundle."""

CHECK_HISTORIES: Final = 1_000_000
"""Enough for 1 to 2 % in every organ of a 177Lu patient, in two or three seconds."""


@dataclass(frozen=True, slots=True)
class EquivalenceMargin:
    """The largest mean ratio of two methods' values above 1, less 1, that still counts as equivalent, and where that comes from."""

    margin: float = 0.05
    source: str = "ICRU Report 24 (1976): an absorbed dose is to be delivered within 5 %; of external beams, taken over"


@dataclass(frozen=True, slots=True)
class Radiobiology:
    """Linear–quadratic parameters of one region: α/β [Gy] and repair half-life [h], with their source."""

    alpha_beta_gy: float
    repair_half_life_h: float
    source: str


@dataclass(frozen=True, slots=True)
class CumulativeLimit:
    """What one region may get over all cycles together [Gy], as absorbed dose, as BED or both: a flag, not a decision."""

    dose_gy: float | None
    bed_gy: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """A validated protocol file.

    Attributes:
        name: protocol name; ``sha256`` the digest of its file.
        nuclide, agent: what this protocol is for.
        expected_scans: scans of a complete cycle; fewer make the draft provisional.
        kinetics: method of the time–activity fits; ``dose_engine``: name of the dose engine.
        activity_sd_relative: relative standard uncertainty of one region's activity that is independent between scans; weights the fits.
        radiobiology: by region name or union.
        dose_limits_gy: absorbed dose per cycle above which a region is flagged.
        cumulative_limits: over all cycles of a patient, by region name or union.
        segmenter: the model that draws organs where nobody drew them, ``none`` for none.
        lesion_segmenter: what draws lesions beside them, ``none`` for none.
        plausible_gy_per_gbq: plausible dose per administered activity by region, as ``(low, high)``.
        population_half_life_h: typical effective half-life by region kind or name.
        typical_administered_bq: what virtual patients are given.
        known_half_life_h: effective half-lives taken as known by region name, ``default`` for all others.
        check_engine: a second dose engine whose region means are compared, ``none`` for none.
        check_histories: of that engine, where it is Monte Carlo.
        progeny: where the nuclide's progeny decay.
        tia_map: how a region's integral is shared by its voxels: ``shares``, by mean activity, or ``voxel-fit``, each by its own curve.
        partial_volume: ``recovery`` moves back what blur moved, between regions and within them; ``off`` only shows what that would be.
        recovery: the recovery curve of scans that come without a calibration's, None where there is none.
        spect_fwhm_mm: resolution of the reconstructed activity images, for what blur and outlines do to uncertainties, and to what
            falls on neighbours where a recovery curve does not say it.
        most_dose_relative_sd: relative standard uncertainty of a region's dose above which a person must see it.
        dose_of_concern_gy: where an organ without a limit stays below it however it errs, times the largest ``rbe``, a dose or fit known
            badly is only told; half of the lowest limit in use, 2 Gy to the red marrow.
        gates: severity by code of flags that the site weighs in its own way.
        equivalence: margin that a comparison with other results is tested against.
        rbe: relative biological effectiveness by radiation, where the site has set one; shown beside the physical dose, never in it.
    """

    name: str
    sha256: str
    nuclide: str
    agent: str
    expected_scans: int
    kinetics: str
    dose_engine: str
    activity_sd_relative: float
    radiobiology: Mapping[str, Radiobiology] = field(default_factory=dict)
    dose_limits_gy: Mapping[str, float] = field(default_factory=dict)
    plausible_gy_per_gbq: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    population_half_life_h: Mapping[str, float] = field(default_factory=dict)
    typical_administered_bq: float = 7.4e9
    known_half_life_h: Mapping[str, float] = field(default_factory=dict)
    check_engine: str = "none"
    check_histories: int = CHECK_HISTORIES
    progeny: Progeny = field(default_factory=Progeny)
    rbe: Mapping[str, float] = field(default_factory=dict)
    tia_map: str = "shares"
    cumulative_limits: Mapping[str, CumulativeLimit] = field(default_factory=dict)
    segmenter: str = NO_SEGMENTER
    lesion_segmenter: str = NO_SEGMENTER
    partial_volume: str = "off"
    spect_fwhm_mm: float = SPECT_FWHM_MM
    most_dose_relative_sd: float = 0.3
    dose_of_concern_gy: float = 1.0
    gates: Mapping[str, Severity] = field(default_factory=dict)
    recovery: Recovery | None = None
    equivalence: EquivalenceMargin = field(default_factory=EquivalenceMargin)
