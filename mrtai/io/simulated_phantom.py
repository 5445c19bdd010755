"""A simulated phantom on disk: NM tomograms in counts, with the truth beside them; one phantom and seed give the same bytes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import NuclearMedicineImageStorage, generate_uid

from mrtai.io.atomic import write_bytes
from mrtai.io.simulated_dicom import (
    LARGEST_STORED,
    MANUFACTURER,
    NUCLIDE_CODES,
    code_item,
    decimal,
    decimals,
    file_meta,
    pixel_bytes,
    set_dates,
)
from mrtai.io.simulated_study import new_folder
from mrtai.units import MILLISECONDS_PER_SECOND
from mrtai.values.phantom import Tomogram

PATIENT_ID: Final = "VIRTUAL-PHANTOM"


def write_phantom_study(scans: Sequence[Tomogram], folder: Path, *, phantom_toml: bytes, camera: dict[str, float], seed: int) -> None:
    """Write ``scan<i>/SPECT/tomogram.dcm`` and ``truth/`` into a new ``folder``, whole or not at all.

    Args:
        scans: in order of time.
        folder: to write.
        phantom_toml: the file the phantom was read from, kept as ``truth/phantom.toml``.
        camera: what a calibration should find, kept as ``truth/camera.json``.
        seed: tells the UIDs of two simulations of one phantom apart.
    """
    words = [phantom_toml.decode(), str(seed)]
    with new_folder(folder) as study:
        for number, scan in enumerate(scans, start=1):
            place = study / f"scan{number}" / "SPECT"
            place.mkdir(parents=True)
            tomogram = _header(scan, number, words)
            tomogram.save_as(place / "tomogram.dcm", enforce_file_format=True)
        write_bytes(study / "truth" / "phantom.toml", phantom_toml)
        write_bytes(study / "truth" / "camera.json", (json.dumps(camera, indent=2) + "\n").encode())


def _header(scan: Tomogram, number: int, words: Sequence[str]) -> Dataset:
    """Return one reconstructed tomogram (PS3.3 A.5)."""

    def uid(*more: object) -> str:
        return str(generate_uid(entropy_srcs=[*words, *map(str, more)]))

    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 192"
    d.SOPClassUID, d.SOPInstanceUID = NuclearMedicineImageStorage, uid("image", number)
    d.StudyInstanceUID, d.SeriesInstanceUID = uid("study", number), uid("series", number)
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = uid("frame of reference", number), ""
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = "Virtual^Phantom", PATIENT_ID, "", ""
    d.StudyID, d.AccessionNumber, d.ReferringPhysicianName = str(number), "", ""
    d.StudyDescription, d.SeriesDescription = f"Virtual phantom, scan {number}", "SPECT clinical, counts"
    d.SeriesNumber, d.InstanceNumber, d.Modality, d.Laterality = 2, 1, "NM", ""
    d.Manufacturer, d.ManufacturerModelName, d.DeviceSerialNumber = MANUFACTURER, "clinical", scan.camera_serial
    d.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    d.CorrectedImage, d.CollimatorGridName, d.Units = ["ATTN", "SCAT"], scan.collimator, "CNTS"
    set_dates(d, scan.started_at)
    _fill_geometry(d, scan)
    _fill_counting(d, scan)
    _fill_pixels(d, scan)
    d.file_meta = file_meta(d)
    return d


def _fill_geometry(d: Dataset, scan: Tomogram) -> None:
    grid = scan.grid
    slices = grid.shape[0]
    d.PatientOrientationCodeSequence = [code_item(Code("102538003", "SCT", "recumbent"))]
    d.PatientGantryRelationshipCodeSequence = [code_item(Code("102540008", "SCT", "headfirst"))]
    d.PixelSpacing = decimals(grid.spacing_mm[1], grid.spacing_mm[0])
    d.SpacingBetweenSlices = d.SliceThickness = decimal(grid.spacing_mm[2])
    d.NumberOfFrames = d.NumberOfSlices = slices
    d.SliceVector = list(range(1, slices + 1))
    # PS3.3 C.8.4.8: frames of a reconstructed tomogram are counted by slice
    d.FrameIncrementPointer = 0x00540080
    detector = Dataset()
    detector.CollimatorGridName, detector.CollimatorType = scan.collimator, "PARA"
    detector.ImagePositionPatient = decimals(*grid.origin_mm)
    detector.ImageOrientationPatient = decimals(*grid.direction[:, 0], *grid.direction[:, 1])
    d.DetectorInformationSequence, d.NumberOfDetectors = [detector], scan.heads


def _fill_counting(d: Dataset, scan: Tomogram) -> None:
    d.NumberOfEnergyWindows, d.EnergyWindowInformationSequence = 1, []
    rotation = Dataset()
    rotation.RotationDirection, rotation.StartAngle, rotation.ScanArc = "CW", "0", "180"
    rotation.AngularStep = decimal(180 / scan.views_per_head)
    rotation.NumberOfFramesInRotation = scan.views_per_head
    rotation.ActualFrameDuration = str(round(scan.seconds_per_view * MILLISECONDS_PER_SECOND))
    d.RotationInformationSequence, d.NumberOfRotations = [rotation], 1
    if scan.recorded_counts is not None:
        d.CountsAccumulated = str(round(scan.recorded_counts))
    item, name = Dataset(), scan.nuclide or ""
    item.Radiopharmaceutical = name
    item.RadionuclideCodeSequence = [code_item(NUCLIDE_CODES.get(name) or Code(name, "99MRTAI", name))]
    d.RadiopharmaceuticalInformationSequence = [item]


def _fill_pixels(d: Dataset, scan: Tomogram) -> None:
    # the stored numbers are divided by the slope as it stands in the header, rounded to 16 characters
    slope = decimal(float(scan.counts.max()) / LARGEST_STORED or 1.0, up=True)
    d.RescaleSlope, d.RescaleIntercept = slope, "0"
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = scan.grid.shape[1], scan.grid.shape[2]
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.PixelData = pixel_bytes(np.rint(scan.counts / float(slope)).astype(np.int64))
