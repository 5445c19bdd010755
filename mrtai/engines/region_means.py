"""Mean doses of regions, with their statistical uncertainty where an engine has one."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mrtai.ports import DoseEngine, RegionDoseEngine
from mrtai.values.image import Image


def region_means(
    engine: DoseEngine, tia: Image, density: Image, masks: Mapping[str, NDArray[np.bool_]]
) -> Mapping[str, tuple[float, float | None]]:
    """Return mean dose [Gy] over each mask, shape ``(z, y, x)``, and its standard deviation; None where the engine has none."""
    if isinstance(engine, RegionDoseEngine):
        return engine.region_means(tia, density, masks)
    total = engine(tia, density).total.voxels
    return {name: (float(total[mask].mean(dtype=np.float64)), None) for name, mask in masks.items()}
