"""Spatial Registration: how a later scan was brought onto the reference scan."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SpatialRegistrationStorage

from mrtai.io.dicom_source import ScanSource, Source
from mrtai.io.dicom_write import codes
from mrtai.io.dicom_write.geometry import decimals
from mrtai.io.dicom_write.header import describe, finish
from mrtai.io.dicom_write.references import refer_to, reference_to
from mrtai.io.read_case import Case
from mrtai.values.grid import Array


def registration(case: Case, source: Source, position: int) -> Dataset:
    """Return the object that carries scan ``position`` (from 0) onto the reference scan: a rigid matrix in LPS millimetres."""
    moving = source.scans[position]
    ds = Dataset()
    words = f"Registration scan {position + 1} to {source.reference + 1} {case.title}"
    describe(ds, source, modality="REG", number=9210 + position, description=words, made_at=case.written_at)
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = "REGISTRATION", words[:64], ""
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = source.home.frame_of_reference, ""
    matrix = np.array(case.results["scans"][position]["registration"]["matrix"])
    ds.RegistrationSequence = [_item(source.home, np.eye(4)), _item(moving, matrix)]
    refer_to(ds, [header for scan in (source.home, moving) for header in (*scan.spect, *scan.ct)])
    return finish(ds, SpatialRegistrationStorage)


def _item(scan: ScanSource, matrix: Array) -> Dataset:
    item, registered, transform = Dataset(), Dataset(), Dataset()
    item.FrameOfReferenceUID = scan.frame_of_reference
    item.ReferencedImageSequence = [reference_to(header) for header in (*scan.spect, *scan.ct)]
    transform.FrameOfReferenceTransformationMatrixType = "RIGID"
    transform.FrameOfReferenceTransformationMatrix = decimals(*matrix.ravel())
    registered.MatrixSequence = [transform]
    registered.RegistrationTypeCodeSequence = [codes.dcm("125024", "Image Content-based Alignment")]
    item.MatrixRegistrationSequence = [registered]
    return item
