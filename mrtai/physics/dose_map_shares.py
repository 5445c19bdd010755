"""What contours alone make of a dose difference where both sides have a dose map: each map is averaged in each side's contour."""

from math import log
from typing import Final

import numpy as np

from mrtai.physics.attribution import shapley
from mrtai.physics.resample import largest_share
from mrtai.values.compared_maps import CycleMaps, MapShares
from mrtai.values.image import Image
from mrtai.values.labels import Labels

CONTOUR, REST = "contour", "rest"
SIDES: Final = ("automatic", "manual")


class DoseMapShares:
    """Both sides' contours on both sides' dose grids, for the shares of any region of one cycle."""

    def __init__(self, auto: CycleMaps, manual: CycleMaps) -> None:
        self.maps = dict(zip(SIDES, (auto, manual), strict=True))
        self.drawn: dict[tuple[str, str], Labels] = {}

    def of(self, name: str) -> MapShares | None:
        """Return what contour and all else add to ln(auto/manual) of a region's mean dose, None where a side has none above 0."""
        corners = {(contour, dose): self._mean_gy(name, contour, dose) for contour in SIDES for dose in SIDES}
        if min(corners.values()) <= 0:
            return None

        def value(swapped: frozenset[str]) -> float:
            contour, dose = (SIDES[0] if step in swapped else SIDES[1] for step in (CONTOUR, REST))
            return log(corners[contour, dose])

        gains = shapley((CONTOUR, REST), value)
        return MapShares(gains[CONTOUR], gains[REST])

    def _mean_gy(self, name: str, contour: str, dose: str) -> float:
        image = self.maps[dose].dose
        mask = None if image is None else self.maps[contour].masked(self._labels(contour, dose, image), name)
        return 0.0 if image is None or mask is None else float(image.voxels[mask].mean(dtype=np.float64))

    def _labels(self, contour: str, dose: str, image: Image) -> Labels:
        if (contour, dose) not in self.drawn:
            own = self.maps[contour]
            on_grid = own.labels if own.labels.grid.same_as(image.grid) else largest_share(own.contours, image.grid)
            self.drawn[contour, dose] = on_grid
        return self.drawn[contour, dose]
