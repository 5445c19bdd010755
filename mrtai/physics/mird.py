"""The MIRD schema at organ level: what a map's dose cannot exceed."""

from mrtai.units import JOULES_PER_MEV
from mrtai.values.nuclide import Nuclide


def charged_self_dose_gy(tia_bq_s: float, mass_kg: float, nuclide: Nuclide) -> float:
    """Return Ã E / m [Gy] with all electron and alpha energy left in the source: an upper limit of their self-dose."""
    return tia_bq_s * (nuclide.electron_mev_per_decay + nuclide.alpha_mev_per_decay) * JOULES_PER_MEV / mass_kg
