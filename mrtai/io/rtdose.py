"""RT Dose of any program as a dose map."""

from typing import Final

import numpy as np

from mrtai.io.dicom_pixels import stored_values
from mrtai.io.dicom_tree import Instance
from mrtai.io.dicom_volume import no_geometry, orientation, pixel_spacing
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

UNEVEN_MM: Final = 0.01
"""Planes further off their common step than this are no regular volume."""


def is_physical(instance: Instance) -> bool:
    """Return True for a physical dose; BED and other effective doses are something else."""
    return str(instance.header.get("DoseType", "")) in ("PHYSICAL", "")


def read_rtdose(instance: Instance) -> Image:
    """Return the dose [Gy] of an RT Dose object.

    Raises:
        DosimetryError: relative dose, no scaling, planes that do not lie evenly, or pixel data that cannot be read.
    """
    header = instance.header
    if str(header.get("DoseUnits", "")) != "GY":
        raise _refused(instance, "the dose is relative", f"units '{header.get('DoseUnits', '')}'", "export it in Gy")
    scaling = float(header.get("DoseGridScaling", 0) or 0)
    if not scaling > 0:
        raise _refused(instance, "no dose grid scaling (3004,000E)", f"{scaling:g}", "export it again")
    stored = stored_values(instance)
    grid, reverse = _placed(instance, stored.shape)
    voxels = (stored[::-1] if reverse else stored) * np.float64(scaling)
    return Image(voxels.astype(np.float32), Quantity.ABSORBED_DOSE, grid)


def _placed(instance: Instance, shape: tuple[int, ...]) -> tuple[Grid, bool]:
    """Return the grid in which planes ascend along row × column, and whether they have to be reversed for that."""
    header = instance.header
    across = orientation(header, instance.name)
    row_mm, column_mm = pixel_spacing(header, instance.name)
    position = header.get("ImagePositionPatient")
    if position is None or len(position) != 3:
        raise no_geometry("no ImagePositionPatient (0020,0032)", instance.name)
    normal = np.cross(across[0], across[1])
    along = _offsets_mm(instance, shape[0], normal)
    reverse = along.size > 1 and along[1] < along[0]
    heights = along[::-1] if reverse else along
    origin = np.array([float(x) for x in position]) + normal * heights[0]
    step = float(heights[1] - heights[0]) if heights.size > 1 else float(header.get("SliceThickness", 0) or 0) or row_mm
    spacing = np.array([column_mm, row_mm, step])
    return Grid((shape[0], shape[1], shape[2]), spacing, origin, np.column_stack([across[0], across[1], normal])), reverse


def _offsets_mm(instance: Instance, planes: int, normal: Array) -> Array:
    """Return the distance of every plane from the first one's position, along row × column."""
    vector = instance.header.get("GridFrameOffsetVector")
    if planes == 1:
        return np.zeros(1)
    if vector is None or len(vector) != planes:
        raise no_geometry("no usable GridFrameOffsetVector (3004,000C)", instance.name)
    found = np.array([float(x) for x in vector])
    if found[0] != 0:
        # the other form of PS3.3 C.8.8.3.2 states patient coordinates of axial planes
        found = (found - found[0]) * np.sign(normal[2] or 1.0)
    steps = np.diff(found)
    if np.any(steps == 0) or np.ptp(steps) > UNEVEN_MM:
        raise _refused(
            instance,
            "the planes of the dose do not lie evenly",
            f"steps {steps.min():g} to {steps.max():g} mm",
            "export it on an even grid",
        )
    return found


def _refused(instance: Instance, what: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where=instance.name, found=found, remedy=remedy, code="RTDOSE_UNREADABLE")
