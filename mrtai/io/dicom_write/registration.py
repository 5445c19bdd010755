"""Spatial Registration: how a later scan was brought onto the reference scan."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SpatialRegistrationStorage

from mrtai.io.dicom_source import ScanSource, Source
from mrtai.io.dicom_write import codes
from mrtai.io.dicom_write.geometry import decimals
from mrtai.io.dicom_write.header import describe, finish, reference_to, series_references
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
    here = {header.StudyInstanceUID for header in source.home.spect}
    images = [header for scan in (source.home, moving) for header in (*scan.spect, *scan.ct)]
    ds.ReferencedSeriesSequence = series_references(one for one in images if one.StudyInstanceUID in here)
    others = sorted({one.StudyInstanceUID for one in images} - here)
    if others:
        ds.StudiesContainingOtherReferencedInstancesSequence = [
            _other_study(uid, [one for one in images if one.StudyInstanceUID == uid]) for uid in others
        ]
    return finish(ds, SpatialRegistrationStorage)


def _other_study(uid: str, images: list[Dataset]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.ReferencedSeriesSequence = uid, series_references(images)
    return item


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
