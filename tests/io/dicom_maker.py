"""Tiny DICOM series for tests: PT, CT, NM, RTSTRUCT and SEG of a few voxels, correct unless a test spoils them."""

from datetime import datetime, timedelta

import highdicom
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from mrtai.values.protocol import Protocol

PT_CLASS, CT_CLASS, NM_CLASS = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.20"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
KEY = b"a key of thirty-two bytes, fixed"
LU177_HALF_LIFE_S = 574300.0
GIVEN_AT = datetime(2026, 3, 2, 9, 30)
PATIENT_ID = "SECRET-4711"
PROTOCOL = Protocol("lu177-dotatate", "0" * 64, "Lu-177", "DOTATATE", 3, "auto", "convolution", 0.05)
SHAPE = (4, 5, 6)
SPACING = (2.0, 3.0, 4.0)  # x, y, z


def numbers(seed=1, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.uint16)


def start_of(hours):
    return GIVEN_AT + timedelta(hours=hours)


def radiopharmaceutical(given_at=GIVEN_AT, bq=7.4e9, nuclide="^177^Lutetium", code="447553000", half_life_s=LU177_HALF_LIFE_S):
    item, name = Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = code, "SCT", nuclide
    item.RadionuclideCodeSequence = Sequence([name])
    item.Radiopharmaceutical = "DOTATATE"
    item.RadionuclideHalfLife = str(half_life_s)
    item.RadionuclideTotalDose = str(bq)
    item.RadiopharmaceuticalStartDateTime = given_at.strftime("%Y%m%d%H%M%S")
    item.RadiopharmaceuticalStartTime = given_at.strftime("%H%M%S")
    return Sequence([item])


def blank(sop_class, modality, start, *, series_uid=None, frame="1.2.3.4", patient=PATIENT_ID):
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = sop_class
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.PatientID, header.PatientName, header.PatientBirthDate = patient, "Doe^Jane", "19700101"
    header.PatientSex, header.StudyID, header.AccessionNumber, header.ReferringPhysicianName = "F", "", "", ""
    header.Modality, header.SeriesInstanceUID, header.SeriesNumber = modality, series_uid or generate_uid(), "7"
    header.StudyInstanceUID, header.FrameOfReferenceUID = "1.2.3", frame
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = start.strftime("%Y%m%d")
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = start.strftime("%H%M%S")
    header.Manufacturer, header.PositionReferenceIndicator = "Test", ""
    return header


def pixels(header, stored):
    header.Rows, header.Columns = stored.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = 1 if stored.dtype.kind == "i" else 0
    header.PixelData = stored.tobytes()


def place(header, z, origin=(-5.0, -6.0, -7.0), spacing=SPACING):
    header.PixelSpacing = [str(spacing[1]), str(spacing[0])]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = [origin[0], origin[1], origin[2] + z * spacing[2]]
    header.SliceThickness = str(spacing[2])


def pt_series(start, stored=None, **changes):
    """Return the files of a PT series in Bq/mL with slope 10; ``changes`` set header elements on every file."""
    stored = numbers() if stored is None else stored
    uid, frame = changes.pop("uid", generate_uid()), changes.pop("frame", "1.2.3.4")
    files = []
    for z in range(stored.shape[0]):
        header = blank(PT_CLASS, "PT", start, series_uid=uid, frame=frame, patient=changes.get("PatientID", PATIENT_ID))
        pixels(header, stored[z])
        place(header, z)
        header.ImageType, header.NumberOfSlices, header.Units = ["ORIGINAL", "PRIMARY"], stored.shape[0], "BQML"
        header.RescaleSlope, header.RescaleIntercept = "10", "0"
        header.DecayCorrection, header.CorrectedImage, header.DecayFactor = "START", ["ATTN", "SCAT", "DECY"], "1"
        header.ActualFrameDuration = "1800000"
        header.RadiopharmaceuticalInformationSequence = radiopharmaceutical()
        for name, value in changes.items():
            setattr(header, name, value)
        files.append(header)
    return files


def ct_series(start, stored=None, frame="1.2.3.4", image_type=("ORIGINAL", "PRIMARY", "AXIAL"), spacing=SPACING):
    stored = numbers(2).astype(np.int16) if stored is None else stored
    uid, files = generate_uid(), []
    for z in range(stored.shape[0]):
        header = blank(CT_CLASS, "CT", start, series_uid=uid, frame=frame)
        pixels(header, stored[z])
        place(header, z, spacing=spacing)
        header.ImageType, header.RescaleSlope, header.RescaleIntercept = list(image_type), "1", "-1024"
        header.InstanceNumber = str(z + 1)
        files.append(header)
    return files


def nm_tomogram(start, stored=None, *, step_mm=SPACING[2], views=60, seconds=20.0, heads=2, **changes):
    """Return one reconstructed tomogram in counts; frame 1 lies at z = -7 mm."""
    stored = numbers() if stored is None else stored
    header = blank(NM_CLASS, "NM", start)
    pixels(header, stored)
    header.NumberOfFrames, header.ImageType = stored.shape[0], ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    header.PixelSpacing, header.SpacingBetweenSlices = [str(SPACING[1]), str(SPACING[0])], str(step_mm)
    header.SliceVector, header.NumberOfSlices = list(range(1, stored.shape[0] + 1)), stored.shape[0]
    detector = Dataset()
    detector.ImageOrientationPatient, detector.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-5.0, -6.0, -7.0]
    header.DetectorInformationSequence, header.NumberOfDetectors = Sequence([detector]), heads
    rotation = Dataset()
    rotation.NumberOfFramesInRotation, rotation.ActualFrameDuration = views, str(int(seconds * 1000))
    header.RotationInformationSequence, header.NumberOfRotations = Sequence([rotation]), 1
    header.RadiopharmaceuticalInformationSequence = radiopharmaceutical(bq=7400.0)
    header.DeviceSerialNumber, header.CollimatorGridName, header.CorrectedImage = "CAM-1", "MEGP", ["ATTN", "SCAT"]
    for name, value in changes.items():
        setattr(header, name, value)
    return header


def rtstruct(drawn_on, rois):
    """Return a structure set; ``rois`` maps names to lists of corner arrays ``(points, 3)`` in LPS millimetres."""
    header = blank(RTSTRUCT_CLASS, "RTSTRUCT", GIVEN_AT, frame=drawn_on[0].FrameOfReferenceUID)
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = drawn_on[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = Sequence([series])
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = drawn_on[0].FrameOfReferenceUID, Sequence([study])
    header.ReferencedFrameOfReferenceSequence = Sequence([frame])
    header.StructureSetROISequence, header.ROIContourSequence = Sequence(), Sequence()
    for number, (name, polygons) in enumerate(rois.items(), start=1):
        roi, contours = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, drawn_on[0].FrameOfReferenceUID
        contours.ReferencedROINumber, contours.ContourSequence = number, Sequence()
        for corners in polygons:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(corners)
            contour.ContourData = [f"{x:.4f}" for x in np.asarray(corners).ravel()]
            contours.ContourSequence.append(contour)
        header.StructureSetROISequence.append(roi)
        header.ROIContourSequence.append(contours)
    return header


def seg(drawn_on, masks, *, fractional=False):
    """Return a DICOM SEG by highdicom; ``masks`` maps labels to (z, y, x) arrays and optional codes."""
    described = [
        highdicom.seg.SegmentDescription(
            number, label, codes.SCT.Organ, code or codes.SCT.Organ, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, (label, (_, code)) in enumerate(masks.items(), start=1)
    ]
    array = np.stack([mask for mask, _ in masks.values()], axis=-1)
    kind = highdicom.seg.SegmentationTypeValues.FRACTIONAL if fractional else highdicom.seg.SegmentationTypeValues.BINARY
    return highdicom.seg.Segmentation(drawn_on, array, kind, described, generate_uid(), 9, generate_uid(), 1, "Test", "Test", "1", "1")


def save(folder, *groups):
    """Write files into nested folders without telling names, in an order that is not that of the slices."""
    for n, group in enumerate(groups):
        files = group if isinstance(group, list) else [group]
        for m, header in enumerate(files):
            path = folder / f"visit{n}" / f"part{m % 2}" / f"{(m * 7) % len(files):03d}_{m}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            header.save_as(path, enforce_file_format=True)
    return folder
