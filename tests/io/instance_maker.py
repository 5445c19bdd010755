"""Small CT-like objects with an identity to look for, as bytes of DICOM files."""

import copy
from io import BytesIO

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

NAME, PATIENT, BORN = "Prefect^Fordinand", "BETELGEUSE-7", "19520311"
ROOT = "1.2.826.0.1.3680043.8.498.77"


def ct(study=1, series=1, instance=1, size=16, seed=None):
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, PATIENT, BORN
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    dataset.StudyInstanceUID = f"{ROOT}.{study}"
    dataset.SeriesInstanceUID = f"{ROOT}.{study}.{series}"
    dataset.SOPInstanceUID = f"{ROOT}.{study}.{series}.{instance}"
    dataset.StudyDate, dataset.StudyTime = "20260302", "093000"
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "P5-08000", "SRT", "Computed tomography"
    dataset.ProcedureCodeSequence = [item]
    dataset.Rows = dataset.Columns = size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    pixels = np.random.default_rng(instance if seed is None else seed).integers(-1000, 1000, (size, size), dtype=np.int16)
    dataset.PixelData = pixels.tobytes()
    return dataset


def encoded(dataset, syntax=ExplicitVRLittleEndian):
    dataset = copy.deepcopy(dataset)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return stream.getvalue()
