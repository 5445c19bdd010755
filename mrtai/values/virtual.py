"""A virtual patient: scans as a camera would give them and the truth behind them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

import numpy as np

from mrtai.values.grid import Array
from mrtai.values.half_life import HalfLifePrior
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.nuclide import Nuclide
from mrtai.values.study import Administration


@dataclass(frozen=True, slots=True)
class RegionPrior:
    """How much of an agent a region takes up and how long it keeps it, over the population (log-normal).

    Attributes:
        share_at_24h: median share of the administered activity 24 h after it, decay-corrected.
        share_gsd: geometric standard deviation of that share.
        biological_half_life_h: median biological half-life; infinite where nothing leaves.
        half_life_gsd: geometric standard deviation of it.
        source: where the numbers come from.
    """

    share_at_24h: float
    share_gsd: float
    biological_half_life_h: float
    half_life_gsd: float
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.share_at_24h < 1 or min(self.share_gsd, self.half_life_gsd) < 1 or not self.biological_half_life_h > 0:
            raise ValueError(f"prior: a share below 1, spreads from 1 and a positive half-life needed, got {self}")


@dataclass(frozen=True, slots=True)
class LesionPrior:
    """Lesions, by concentration relative to healthy liver 24 h after administration.

    Attributes:
        liver_ratio: median of the concentration ratio, spread by ``liver_ratio_gsd`` and clipped to ``liver_ratio_bounds``.
        only_in_liver: True for agents given into the liver's artery.
        biological_half_life_h, half_life_gsd, source: as in ``RegionPrior``.
    """

    liver_ratio: float
    liver_ratio_gsd: float
    liver_ratio_bounds: tuple[float, float]
    only_in_liver: bool
    biological_half_life_h: float
    half_life_gsd: float
    source: str


@dataclass(frozen=True, slots=True)
class AgentPriors:
    """Population kinetics of one agent.

    Attributes:
        regions: by name of an exclusive region; ``liver`` is parenchyma without lesions, ``remainder`` the body in no region.
        uptake: False where the agent stays where it was put from the first moment on (microspheres): there is no uptake phase.
        kinetics: what few-scan fits know beforehand, by family of regions (``values.regions.kinetic_family``).
    """

    agent: str
    regions: Mapping[str, RegionPrior]
    lesions: LesionPrior
    uptake: bool = True
    kinetics: Mapping[str, HalfLifePrior] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", MappingProxyType(dict(self.regions)))
        object.__setattr__(self, "kinetics", MappingProxyType(dict(self.kinetics)))


@dataclass(frozen=True, slots=True)
class TrueCurve:
    """Activity of one exclusive region over time: A(t) = Σ amplitude · exp(-rate · t), t in h after administration.

    ``terms`` are pairs of amplitude [Bq] and effective rate [1/h], the slowest first; rates are never below physical decay.
    """

    region: str
    terms: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class VirtualScan:
    """One SPECT/CT: ``ct`` in HU, ``spect`` and its ``noise_free``, unshifted counterpart in Bq/mL at ``started_at``.

    ``shift`` is how the patient lies in it: a rigid matrix ``(4, 4)`` on LPS millimetres from the first scan to this one.
    """

    started_at: datetime
    t_h: float
    duration_s: float
    ct: Image
    spect: Image
    noise_free: Image
    shift: Array = field(default_factory=lambda: np.eye(4))


@dataclass(frozen=True, slots=True)
class TrueRegion:
    """Truth of one region or union, by a route that shares no code with the dose engines.

    ``liver`` is the union of parenchyma and the lesions in it. ``absorbed_dose_gy`` is the mean over the volume,
    ``absorbed_dose_sd_gy`` its standard error. ``effective_half_life_h`` is the terminal one; for unions it is fitted to the
    summed curve between 24 h and 168 h.
    """

    region: str
    volume_ml: float
    mass_kg: float
    tia_bq_s: float
    effective_half_life_h: float
    absorbed_dose_gy: float
    absorbed_dose_sd_gy: float


@dataclass(frozen=True, slots=True, eq=False)
class VirtualPatient:
    """Scans of one administration with their truth.

    Attributes:
        labels: true regions on the first scan's CT grid; ``labels_spect`` the same by largest share on its SPECT grid.
        tia: true time-integrated activity on the first scan's CT grid [Bq s/mL].
        curves: true time–activity curves of the exclusive regions and the remainder; ``liver`` is parenchyma here.
    """

    name: str
    seed: int
    scanner: str
    kinetics: str
    nuclide: Nuclide
    administration: Administration
    scans: tuple[VirtualScan, ...]
    labels: Labels
    labels_spect: Labels
    tia: Image
    regions: tuple[TrueRegion, ...]
    curves: tuple[TrueCurve, ...]
