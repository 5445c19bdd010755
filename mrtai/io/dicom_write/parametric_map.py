"""Parametric Map: dose, dose rate or time-integrated activity as floating point, for viewers that do not read RT Dose."""

from collections.abc import Sequence
from typing import Final

import highdicom
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import codes
from mrtai.io.dicom_write.geometry import decimals, frame_positions, upright
from mrtai.io.dicom_write.header import describe, finish
from mrtai.io.dicom_write.references import DERIVED, derivation, derive_from, images_of_all_scans, reference_to
from mrtai.io.dicom_write.source_frames import stand_in
from mrtai.io.read_case import Case
from mrtai.units import SECONDS_PER_HOUR
from mrtai.values.image import Image, Quantity

TINY: Final = float(np.finfo(np.float32).tiny)
UNIT: Final = {
    Quantity.ABSORBED_DOSE: (codes.GRAY, codes.ABSORBED_DOSE, 1.0),
    Quantity.DOSE_RATE: (codes.GRAY_PER_HOUR, codes.DOSE_RATE, SECONDS_PER_HOUR),
    Quantity.TIME_INTEGRATED_ACTIVITY: (codes.BECQUEREL_SECOND_PER_ML, codes.TIA, 1.0),
}
"""Unit and meaning of the stored numbers, and what one of ours is in that unit."""


def parametric_map(
    case: Case, source: Source, image: Image, description: str, number: int, *, made_from: Sequence[Dataset] | None = None
) -> Dataset:
    """Return the object of a map: 32 bit floats that are the real-world values, in coded units (Gy, Gy/h or Bq s/mL).

    Args:
        case: whose map it is.
        source: headers of the scans.
        image: the map.
        description: what the object is called.
        number: series number.
        made_from: headers of the images it derives from; those of all scans where none are named.
    """
    unit, quantity, factor = UNIT[image.quantity]
    upright_image = upright(image)
    grid = upright_image.grid
    values = (upright_image.voxels * factor).astype(np.float32)
    largest = float(values.max())
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label=unit.value[:16],
        lut_explanation=description[:64],
        unit=unit,
        value_range=(float(values.min()), largest),
        slope=1.0,
        intercept=0.0,
        quantity_definition=quantity,
    )
    ds = highdicom.pm.ParametricMap(
        source_images=[stand_in(source, grid)],
        pixel_array=values,
        series_instance_uid="0",
        series_number=number,
        sop_instance_uid="0",
        instance_number=1,
        manufacturer="mrtai",
        manufacturer_model_name="mrtai",
        software_versions="0",
        device_serial_number="0",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            highdicom.VOILUTTransformation(window_center=largest / 2, window_width=max(largest, TINY), voi_lut_function="LINEAR_EXACT")
        ],
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing=decimals(grid.spacing_mm[1], grid.spacing_mm[0]),
            slice_thickness=decimals(grid.spacing_mm[2])[0],
            spacing_between_slices=decimals(grid.spacing_mm[2])[0],
        ),
        plane_orientation=highdicom.PlaneOrientationSequence(
            highdicom.CoordinateSystemNames.PATIENT, decimals(*grid.direction[:, 0], *grid.direction[:, 1])
        ),
        plane_positions=[
            highdicom.PlanePositionSequence(highdicom.CoordinateSystemNames.PATIENT, decimals(*position))
            for position in frame_positions(grid)
        ],
        content_label="DOSIMETRY",
        content_description=description[:64],
    )
    describe(ds, source, modality="OT", number=number, description=f"{description} {case.title}", made_at=case.written_at)
    ds.CodingSchemeIdentificationSequence = [codes.coding_scheme()]
    _derive(ds, made_from or images_of_all_scans(source))
    return finish(ds, ParametricMapStorage)


def _derive(ds: Dataset, images: Sequence[Dataset]) -> None:
    """Write from which images all frames derive; the library's own words are of the stand-in that it was given."""
    for item in ds.PerFrameFunctionalGroupsSequence:
        if "DerivationImageSequence" in item:
            del item.DerivationImageSequence
    made = derivation([reference_to(header) for header in images], DERIVED, in_place=False)
    ds.SharedFunctionalGroupsSequence[0].DerivationImageSequence = [made]
    derive_from(ds, images)
