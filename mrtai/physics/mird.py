"""The MIRD schema at organ level: a cross-check of every map."""

from mrtai.units import JOULES_PER_MEV
from mrtai.values.grid import Array
from mrtai.values.nuclide import Nuclide


def absorbed_dose_gy(tia_bq_s: Array, s_gy_per_bq_s: Array) -> Array:
    """Return D(r_T) = Σ_S Ã(r_S) S(r_T ← r_S) [Gy] (MIRD 21, Bolch 2009).

    Args:
        tia_bq_s: shape ``(sources,)``.
        s_gy_per_bq_s: shape ``(targets, sources)``.

    Returns:
        Dose, shape ``(targets,)``.
    """
    dose: Array = s_gy_per_bq_s @ tia_bq_s
    return dose


def charged_self_dose_gy(tia_bq_s: float, mass_kg: float, nuclide: Nuclide) -> float:
    """Return Ã E / m [Gy] with all electron and alpha energy left in the source: an upper limit of their self-dose."""
    return tia_bq_s * (nuclide.electron_mev_per_decay + nuclide.alpha_mev_per_decay) * JOULES_PER_MEV / mass_kg
