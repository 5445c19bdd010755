"""A virtual patient: scans as a camera would give them and the truth behind them."""

from dataclasses import dataclass
from datetime import datetime

from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.study import Administration


@dataclass(frozen=True, slots=True, eq=False)
class VirtualScan:
    """One SPECT/CT: ``ct`` in HU, ``spect`` and its ``noise_free``, unshifted counterpart in Bq/mL at ``started_at``."""

    started_at: datetime
    t_h: float
    duration_s: float
    ct: Image
    spect: Image
    noise_free: Image


@dataclass(frozen=True, slots=True)
class TrueRegion:
    """Truth of one region or union, by a route that shares no code with the dose engines."""

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
    """

    name: str
    seed: int
    scanner: str
    kinetics: str
    administration: Administration
    scans: tuple[VirtualScan, ...]
    labels: Labels
    labels_spect: Labels
    tia: Image
    regions: tuple[TrueRegion, ...]
