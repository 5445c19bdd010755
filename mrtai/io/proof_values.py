"""What a proof consists of: comparisons with tolerances, faults that are no numbers, and the places in the patient that are compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import Choices
from mrtai.io.read_case import Case, Json
from mrtai.values.grid import Array, Grid

CENTROID_VOXELS: Final = 0.5
SEG_VOLUME: Final = 0.005
RTSTRUCT_VOLUME: Final = 0.03
INTEGRAL_DOSE: Final = 0.001
VOXEL_VALUE: Final = 1e-6
"""Largest difference of a voxel relative to the map's largest: 32 bit integers and floats stay far below."""

WRITTEN_NUMBER: Final = 1e-5
"""Numbers of the report have six significant digits; decimal strings have more."""

PLANE_MM: Final = 0.01
TRIALS: Final = 200_000
PLACES: Final = 4000
"""Places at which voxels of a map, or of a region, are compared, at most."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One comparison: what was read back against what was meant, in ``unit``; ``agrees`` within the tolerance of its kind."""

    file: str
    what: str
    found: float
    meant: float
    unit: str
    agrees: bool


@dataclass(slots=True)
class Proof:
    """The comparisons of all objects, and the faults that are no numbers."""

    checks: list[Checked] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def near(self, file: str, what: str, found: float, meant: float, unit: str, tolerance: float) -> None:
        """Record a comparison that must agree within ``tolerance`` of ``unit``."""
        self.checks.append(Checked(file, what, float(found), float(meant), unit, bool(abs(found - meant) <= tolerance)))

    def same(self, file: str, what: str, found: object, meant: object) -> None:
        """Record a fault where two words differ; it is named by ``what``, never by the words, which may be the patient's."""
        if found != meant:
            self.faults.append(f"{file}: {what} is not what was meant")

    @property
    def disagreements(self) -> list[str]:
        """What differed, in words without identity."""
        numbers = [f"{c.file}: {c.what} {c.found:.6g} {c.unit} for {c.meant:.6g}" for c in self.checks if not c.agrees]
        return numbers + self.faults


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One written object and what it is compared with: its name and file, the headers of all objects by name, case and source.

    ``ds`` is the object with its pixels left on disk.
    """

    name: str
    path: Path
    headers: Mapping[str, Dataset]
    case: Case
    source: Source
    choices: Choices

    @property
    def ds(self) -> Dataset:
        """The object itself."""
        return self.headers[self.name]

    @property
    def drawn_on(self) -> tuple[Dataset, ...]:
        """Headers of the images the regions lie on."""
        return self.source.home.ct or self.source.home.spect

    @property
    def segment_rows(self) -> list[Json]:
        """Rows of the results that have a segment, in the order of their numbers; a label map holds no sums."""
        return [row for row in self.case.drawn if not (self.choices.labelmap and row["members"])]


def words(value: object) -> str:
    """Return an element's value as text without padding; empty where there is none."""
    return "" if value is None else str(value).strip()


def code(sequence: Any) -> str:
    """Return the first code of a code sequence as ``scheme:value``; empty where there is none."""
    return f"{sequence[0].CodingSchemeDesignator}:{sequence[0].CodeValue}" if sequence else ""


def world(grid: Grid, index: np.ndarray) -> Array:
    """Return the places [LPS mm] of voxel indices (x, y, z), both of shape ``(n, 3)``."""
    places: Array = index @ grid.affine[:3, :3].T + grid.origin_mm
    return places


def places_in(mask: NDArray[np.bool_], count: int = PLACES) -> NDArray[np.int64]:
    """Return at most ``count`` voxel indices (x, y, z) of a mask ``(z, y, x)``, the same every time; of a large mask without listing it."""
    random = np.random.default_rng(7)
    flat = mask.reshape(-1)
    tried = random.integers(0, flat.size, TRIALS) if flat.size > 10 * TRIALS else np.zeros(0, np.int64)
    chosen = np.unique(tried[flat[tried]])
    if len(chosen) < count:
        chosen = np.flatnonzero(flat)
    if len(chosen) > count:
        chosen = random.choice(chosen, count, replace=False)
    return np.column_stack(np.unravel_index(chosen, mask.shape))[:, ::-1].astype(np.int64)


def centre_of(voxels: np.ndarray, affine: Array) -> Array:
    """Return the centre of mass of voxels ``(z, y, x)`` in LPS millimetres."""
    sums = [voxels.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.float64) for axis in (2, 1, 0)]
    index = np.array([float(np.arange(len(one)) @ one) / float(one.sum()) for one in sums])
    centre: Array = affine[:3, :3] @ index + affine[:3, 3]
    return centre


def require_centroid(proof: Proof, file: str, row: Json, found_mm: Array, meant_mm: Array, grid: Grid) -> None:
    """Compare the centroid of a region."""
    apart = float(np.linalg.norm(found_mm - meant_mm))
    proof.near(file, f"distance of the centroids of {row['name']}", apart, 0.0, "mm", CENTROID_VOXELS * float(grid.spacing_mm.min()))
