"""CT and SPECT series of a virtual patient, slice by slice.

Quantitative SPECT is written as PET Image Storage in Bq/mL, as cameras do. Every UID and date follows from the patient, so one
seed gives the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from mrtai.units import MILLISECONDS_PER_SECOND, SECONDS_PER_HOUR
from mrtai.values.image import Image
from mrtai.values.virtual import VirtualPatient, VirtualScan

HOUNSFIELD_INTERCEPT = -1024
LARGEST_STORED = 65535
MANUFACTURER = "mrtai virtual scanner"

NUCLIDE_CODES = {
    "Lu-177": Code("447553000", "SCT", "^177^Lutetium"),
    "Y-90": Code("14691008", "SCT", "^90^Yttrium"),
    "I-131": Code("1368003", "SCT", "^131^Iodine"),
}


@dataclass(frozen=True, slots=True)
class _Series:
    """What the slices of one series share; ``uid`` gives the same UID for the same words every time."""

    patient: VirtualPatient
    scan: VirtualScan
    scan_number: int
    series_number: int
    modality: str
    sop_class: str

    def uid(self, *words: object) -> str:
        """Return a UID for the patient, its settings and ``words``."""
        p = self.patient
        settings = (p.seed, p.name, p.scanner, p.kinetics, p.administration, tuple(scan.t_h for scan in p.scans))
        return str(generate_uid(entropy_srcs=[repr(settings), *map(str, words)]))


def write_series(patient: VirtualPatient, scan_number: int, folder: Path) -> None:
    """Write ``CT`` and ``SPECT`` folders of scan ``scan_number`` (from 1), one file a slice from the feet up."""
    scan = patient.scans[scan_number - 1]
    ct = _Series(patient, scan, scan_number, 1, "CT", CTImageStorage)
    spect = _Series(patient, scan, scan_number, 2, "PT", PositronEmissionTomographyImageStorage)
    _write(ct, scan.ct, folder / "CT", _fill_ct)
    _write(spect, scan.spect, folder / "SPECT", _fill_spect)


def _write(series: _Series, image: Image, folder: Path, fill: Callable[[Dataset, _Series, Image, int], None]) -> None:
    folder.mkdir()
    for index in range(image.grid.shape[0]):
        slice_ = _common(series, image, index)
        fill(slice_, series, image, index)
        slice_.file_meta = file_meta(slice_)
        slice_.save_as(folder / f"{index + 1:04d}.dcm", enforce_file_format=True)


def file_meta(slice_: Dataset) -> FileMetaDataset:
    """Return the file meta information of one instance."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = slice_.SOPClassUID
    meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _common(series: _Series, image: Image, index: int) -> Dataset:
    """Return patient, study, series, equipment, frame of reference and image plane of one slice."""
    patient, scan, number = series.patient, series.scan, series.scan_number
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 192"
    d.SOPClassUID = series.sop_class
    d.SOPInstanceUID = series.uid("image", number, series.modality, index)
    d.StudyInstanceUID = series.uid("study", number)
    d.SeriesInstanceUID = series.uid("series", number, series.modality)
    d.FrameOfReferenceUID = series.uid("frame of reference", number)
    d.PositionReferenceIndicator = ""
    d.PatientName, d.PatientID = patient.name, f"VIRTUAL-{patient.seed}"
    d.PatientBirthDate, d.PatientSex = "", ""
    d.StudyID, d.AccessionNumber, d.ReferringPhysicianName = str(number), "", ""
    d.StudyDescription = f"Virtual patient, scan {number}"
    d.SeriesDescription = f"{'CT' if series.modality == 'CT' else 'SPECT'} {patient.scanner}"
    d.SeriesNumber, d.InstanceNumber, d.AcquisitionNumber = series.series_number, index + 1, 1
    d.BodyPartExamined = "CHESTABDPELVIS"
    d.Modality, d.Manufacturer, d.ManufacturerModelName = series.modality, MANUFACTURER, patient.scanner
    set_dates(d, scan.started_at)
    grid = image.grid
    d.ImagePositionPatient = decimals(*(grid.origin_mm + index * grid.spacing_mm[2] * grid.direction[:, 2]))
    d.ImageOrientationPatient = decimals(*grid.direction[:, 0], *grid.direction[:, 1])
    d.PixelSpacing = decimals(grid.spacing_mm[1], grid.spacing_mm[0])
    d.SliceThickness = decimal(grid.spacing_mm[2])
    d.SliceLocation = decimal(d.ImagePositionPatient[2])
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = grid.shape[1], grid.shape[2]
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    return d


def set_dates(d: Dataset, at: datetime) -> None:
    """Set every date and time to the start of the acquisition, in the scanner's wall time with its offset from UTC."""
    d.TimezoneOffsetFromUTC = f"{at:%z}"
    for what in ("Study", "Series", "Acquisition", "Content", "InstanceCreation"):
        setattr(d, f"{what}Date", f"{at:%Y%m%d}")
        setattr(d, f"{what}Time", f"{at:%H%M%S}")


def _fill_ct(d: Dataset, series: _Series, image: Image, index: int) -> None:
    d.ImageType, d.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS"
    d.KVP, d.RescaleType = "120", "HU"
    d.RescaleSlope, d.RescaleIntercept = "1", str(HOUNSFIELD_INTERCEPT)
    d.PixelData = pixel_bytes(image.voxels[index].astype(np.int32) - HOUNSFIELD_INTERCEPT)


def _fill_spect(d: Dataset, series: _Series, image: Image, index: int) -> None:
    concentration = image.voxels[index]
    # the stored numbers are divided by the slope as it stands in the header, rounded to 16 characters
    slope = decimal(float(concentration.max()) / LARGEST_STORED or 1.0, up=True)
    d.ImageType = ["ORIGINAL", "PRIMARY"]
    d.RescaleSlope, d.RescaleIntercept = slope, "0"
    d.PixelData = pixel_bytes(np.rint(concentration.astype(np.float64) / float(slope)).astype(np.int64))
    d.Units, d.CountsSource, d.SeriesType = "BQML", "EMISSION", ["STATIC", "IMAGE"]
    d.CorrectedImage, d.DecayCorrection, d.CollimatorType = ["DECY", "ATTN", "SCAT"], "START", "NONE"
    d.NumberOfSlices, d.ImageIndex = image.grid.shape[0], index + 1
    duration_s, decay_per_s = series.scan.duration_s, series.patient.nuclide.decay_per_s
    decayed = decay_per_s * duration_s
    d.ActualFrameDuration = str(round(duration_s * MILLISECONDS_PER_SECOND))
    d.DecayFactor = decimal(decayed / -np.expm1(-decayed))
    d.FrameReferenceTime = decimal(np.log(decayed / -np.expm1(-decayed)) / decay_per_s * MILLISECONDS_PER_SECOND)
    d.RadiopharmaceuticalInformationSequence = [_radiopharmaceutical(series.patient)]
    d.PatientOrientationCodeSequence = [code_item(Code("102538003", "SCT", "recumbent"))]
    d.PatientGantryRelationshipCodeSequence = [code_item(Code("102540008", "SCT", "headfirst"))]


def _radiopharmaceutical(patient: VirtualPatient) -> Dataset:
    given, item = patient.administration, Dataset()
    item.Radiopharmaceutical = given.agent
    item.RadiopharmaceuticalStartTime = f"{given.at:%H%M%S}"
    item.RadiopharmaceuticalStartDateTime = f"{given.at:%Y%m%d%H%M%S%z}"
    item.RadionuclideTotalDose = decimal(given.administered_bq)
    item.RadionuclideHalfLife = decimal(patient.nuclide.half_life_h * SECONDS_PER_HOUR)
    code = NUCLIDE_CODES.get(given.nuclide)
    item.RadionuclideCodeSequence = [code_item(code)] if code else [code_item(Code(given.nuclide, "99MRTAI", given.nuclide))]
    return item


def code_item(code: Code) -> Dataset:
    """Return a code as an item of a sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def pixel_bytes(stored: NDArray[np.integer]) -> bytes:
    """Return stored values of any shape as 16-bit pixel data."""
    if stored.min() < 0 or stored.max() > LARGEST_STORED:
        raise ValueError(f"DICOM: stored values 0 to {LARGEST_STORED} needed, got {stored.min()} to {stored.max()}")
    return stored.astype("<u2").tobytes()


def decimal(value: float, *, up: bool = False) -> str:
    """Return a decimal string of at most 16 characters; ``up`` never rounds below ``value``."""
    text = str(DSfloat(float(value), auto_format=True))
    if up and float(text) < value:
        text = str(DSfloat(float(value) * (1 + 1e-9), auto_format=True))
    return text


def decimals(*values: float) -> list[str]:
    """Return decimal strings of at most 16 characters."""
    return [decimal(value) for value in values]
