"""Dose in a region: mean, spread, percentiles and the cumulative histogram."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.values.report import DoseStatistics, Dvh

PERCENTAGES: Final = (98, 90, 70, 50, 10, 2)
DVH_POINTS: Final = 101


def volume_receiving(dose_gy: NDArray[Any], threshold_gy: float) -> float:
    """Return V_x, the fraction of voxels that receive at least ``threshold_gy``; ``dose_gy`` of any shape."""
    return float(np.mean(dose_gy >= threshold_gy))


def histogram(dose_gy: NDArray[Any]) -> Dvh:
    """Return the cumulative dose–volume histogram at 101 doses from 0 to the maximum; ``dose_gy`` of any shape."""
    ordered = np.sort(dose_gy.astype(np.float64).ravel())
    steps = np.linspace(0.0, float(ordered[-1]), DVH_POINTS)
    fraction = 1.0 - np.searchsorted(ordered, steps, side="left") / ordered.size
    return Dvh(tuple(steps.tolist()), tuple(fraction.tolist()))


def statistics(
    total_gy: NDArray[Any],
    by_radiation_gy: Mapping[str, NDArray[Any]],
    *,
    relative_sd: float | None,
    by_nuclide_gy: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> DoseStatistics:
    """Return the dose statistics of a region's voxels.

    Args:
        total_gy: dose of the region's voxels, shape ``(voxels,)``; all voxels have the same volume.
        by_radiation_gy: the same split by radiation.
        relative_sd: relative standard uncertainty of the mean, None where none can be stated.
        by_nuclide_gy: the same split by nuclide, of a chain.
    """
    dose = total_gy.astype(np.float64)
    mean = float(dose.mean())
    # D_x is the dose at least received by x % of the volume: the (100 - x)th percentile
    percentiles = {f"d{p}": float(np.percentile(dose, 100 - p)) for p in PERCENTAGES}
    return DoseStatistics(
        mean_gy=mean,
        mean_sd_gy=None if relative_sd is None else mean * relative_sd,
        voxel_sd_gy=float(dose.std()),
        min_gy=float(dose.min()),
        max_gy=float(dose.max()),
        percentiles_gy=percentiles,
        by_radiation_gy=_means(by_radiation_gy),
        dvh=histogram(dose),
        by_nuclide_gy=_means(by_nuclide_gy),
    )


def _means(parts_gy: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    return {name: float(part.astype(np.float64).mean()) for name, part in parts_gy.items()}
