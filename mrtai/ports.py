"""What engines promise: sockets of one method each.

An engine is a frozen dataclass whose fields are its settings, device and weights. Every engine of a socket passes the same
contract tests (``tests/engines``).
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mrtai.values.curve import Curve, Fit
from mrtai.values.dose import Dose
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.report import Aligned, Alignment


class Aligner(Protocol):
    """Finds how a later scan must be moved to lie on the first one."""

    def __call__(self, fixed: Image, moving: Image) -> Alignment:
        """Return the rigid transform from ``moving`` to ``fixed`` space with a measure of trust; images share one quantity."""
        ...


class Segmenter(Protocol):
    """Draws regions."""

    def __call__(self, aligned: Aligned) -> Labels:
        """Return exclusive regions on any grid of the reference scan's space."""
        ...


class TacModel(Protocol):
    """Continues a measured curve over all times."""

    def __call__(self, curve: Curve) -> Fit:
        """Return the fitted curve with its time-integrated activity; refuses what it cannot integrate."""
        ...


@runtime_checkable
class RegionDoseEngine(Protocol):
    """A dose engine that knows the statistical uncertainty of regions' means, which no map of voxels can tell."""

    def region_means(self, tia: Image, density: Image, masks: Mapping[str, NDArray[np.bool_]]) -> Mapping[str, tuple[float, float | None]]:
        """Return mean dose [Gy] and its statistical standard deviation over each mask, shape ``(z, y, x)``."""
        ...


@runtime_checkable
class ContourDoseEngine(Protocol):
    """A dose engine that does better where it knows the patient's regions."""

    def with_contours(self, contours: Labels, *, recovered: bool = False, fwhm_mm: float | None = None) -> "DoseEngine":
        """Return the engine for a patient with these regions, on the TIA map's grid.

        ``recovered``: what blur moved is given back already in the TIA map that the engine will see. ``fwhm_mm``: measured resolution of
        the scans, where it is known.
        """
        ...


class DoseEngine(Protocol):
    """Turns decays into absorbed dose."""

    def __call__(self, tia: Image, density: Image) -> Dose:
        """Return the dose maps [Gy] of a TIA map [Bq s/mL] in matter of ``density`` [kg/mL], all on one grid."""
        ...
