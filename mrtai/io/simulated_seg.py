"""The true contours of a virtual patient as a DICOM SEG on the first scan's CT, as a department's contouring would send them."""

from pathlib import Path
from typing import Final

import highdicom
import numpy as np
import pydicom
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom.uid import generate_uid

from mrtai.io.dicom_write.codes import category_and_type
from mrtai.io.region_names import region_kind
from mrtai.values.virtual import VirtualPatient

SERIES_NUMBER: Final = 3
MANUFACTURER: Final = "mrtai virtual contouring"


def write_contours(patient: VirtualPatient, ct_folder: Path, folder: Path) -> None:
    """Write ``contours.dcm`` into a new ``folder``: one segment a region, drawn on the CT slices of ``ct_folder``."""
    folder.mkdir()
    slices = [pydicom.dcmread(path) for path in sorted(ct_folder.glob("*.dcm"))]
    labels, series = patient.labels, str(slices[0].SeriesInstanceUID)
    # planes without any region are left out by the library; one channel a segment would need a byte a voxel and region
    planes = np.zeros(labels.voxels.shape, np.uint8)
    for number, value in enumerate(sorted(labels.names), start=1):
        planes[labels.voxels == value] = number
    made = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=planes,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_described(number, labels.names[value]) for number, value in enumerate(sorted(labels.names), start=1)],
        series_instance_uid=str(generate_uid(entropy_srcs=[series, "contours"])),
        series_number=SERIES_NUMBER,
        sop_instance_uid=str(generate_uid(entropy_srcs=[series, "contours object"])),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions="1",
        device_serial_number="1",
        content_label="CONTOURS",
    )
    made.save_as(folder / "contours.dcm", enforce_file_format=True)


def _described(number: int, name: str) -> SegmentDescription:
    category, kind, side = category_and_type(name, region_kind(name))
    one = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=str(generate_uid(entropy_srcs=["virtual contour", name])),
        tracking_id=name,
    )
    if side is not None:
        one.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return one
