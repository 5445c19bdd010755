"""RT Dose: a map of dose in 32 bit, with the dose–volume histograms of its regions."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTDoseStorage
from pydicom.valuerep import DSfloat

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write.geometry import decimal, decimals, place_plane, upright
from mrtai.io.dicom_write.header import describe, finish
from mrtai.io.dicom_write.references import derive_from, images_of_all_scans, reference_to
from mrtai.io.read_case import Case, Json
from mrtai.values.image import Image, Quantity

SERIES: Final = {"Absorbed dose": 9202, "BED": 9207, "EQD2": 9208}
TINY_GY: Final = float(np.finfo(np.float32).tiny)
LARGEST_STORED: Final = 2**31 - 1
"""Readers that take 32 bit for signed integers read these numbers right too."""


def rtdose(
    case: Case,
    source: Source,
    dose: Image,
    plan: Dataset,
    structures: Dataset,
    *,
    quantity: str = "Absorbed dose",
    regions: Sequence[Json] = (),
) -> Dataset:
    """Return the object of a map of dose [Gy].

    Args:
        case: whose dose it is; ``source`` whose patient, study and space it follows.
        source: headers of the scans.
        dose: physical dose, or a biologically effective one for ``kind`` ``"EFFECTIVE"``.
        plan: the object that the dose refers to.
        structures: the structure set that its histograms refer to.
        quantity: ``Absorbed dose`` (DoseType PHYSICAL), ``BED`` or ``EQD2`` (EFFECTIVE).
        regions: rows of results whose histograms go with the map, in the order of the structure set's ROI numbers.
    """
    image = upright(dose.require(Quantity.ABSORBED_DOSE))
    ds = Dataset()
    describe(ds, source, modality="RTDOSE", number=SERIES[quantity], description=f"{quantity} {case.title}", made_at=case.written_at)
    del ds.ContentDate, ds.ContentTime
    ds.OperatorsName = ""
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = source.home.frame_of_reference, ""
    place_plane(ds, image.grid)
    ds.NumberOfFrames, ds.FrameIncrementPointer = image.grid.shape[0], 0x3004000C
    ds.GridFrameOffsetVector = decimals(*(np.arange(image.grid.shape[0]) * image.grid.spacing_mm[2]))
    scaling = dose_scaling(float(image.voxels.max()))
    ds.DoseUnits, ds.DoseType, ds.DoseSummationType = "GY", "PHYSICAL" if quantity == "Absorbed dose" else "EFFECTIVE", "PLAN"
    ds.DoseGridScaling = scaling
    ds.DoseComment = f"rounded by {float(scaling) / 2:.1e} Gy at most" + ("" if quantity == "Absorbed dose" else "; 0 where α/β is not set")
    ds.TissueHeterogeneityCorrection = "IMAGE"
    ds.ReferencedRTPlanSequence = [reference_to(plan)]
    histograms = [_histogram(row, number) for number, row in enumerate(regions, start=1) if row["absorbed_dose_gy"]["dvh"]["dose_gy"]]
    if histograms:
        ds.ReferencedStructureSetSequence, ds.DVHSequence = [reference_to(structures)], histograms
    derive_from(ds, images_of_all_scans(source), plan, *([structures] if histograms else []))
    _pixels(ds, image, float(scaling))
    return finish(ds, RTDoseStorage)


def dose_scaling(largest_gy: float) -> DSfloat:
    """Return the dose of one stored unit [Gy], as the decimal string of 16 characters that divides: rounded up, never zero."""
    exact = max(largest_gy, TINY_GY) / LARGEST_STORED
    text = DSfloat(exact, auto_format=True)
    return text if float(text) >= exact else DSfloat(exact * (1 + 1e-9), auto_format=True)


def _pixels(ds: Dataset, image: Image, scaling: float) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = ds.BitsStored = 32
    ds.HighBit = 31
    stored = np.empty(image.voxels.shape, "<u4")
    for frame, plane in zip(stored, image.voxels, strict=True):  # a plane at a time: the map may be large
        frame[:] = np.rint(np.maximum(plane, 0).astype(np.float64) / scaling)
    ds.PixelData = stored.tobytes()


def _histogram(row: Json, number: int) -> Dataset:
    """Return a cumulative DVH: pairs of bin width [Gy] and volume [cm³] that receives at least the bin's lower dose."""
    dose: dict[str, Any] = row["absorbed_dose_gy"]
    edges_gy = np.array(dose["dvh"]["dose_gy"])
    volumes_ml = np.array(dose["dvh"]["volume_fraction"]) * row["volume_ml"]
    item, roi = Dataset(), Dataset()
    roi.ReferencedROINumber, roi.DVHROIContributionType = number, "INCLUDED"
    item.DVHReferencedROISequence = [roi]
    item.DVHType, item.DoseUnits, item.DoseType, item.DVHDoseScaling, item.DVHVolumeUnits = (
        "CUMULATIVE",
        "GY",
        "PHYSICAL",
        decimal(1.0),
        "CM3",
    )
    # the first pair may start above zero: its width is then that dose, as in the standard's example
    widths_gy = np.diff(edges_gy, append=edges_gy[-1] + (edges_gy[-1] - edges_gy[-2] if len(edges_gy) > 1 else 1.0))
    item.DVHNumberOfBins = len(edges_gy)
    item.DVHData = decimals(*np.column_stack([widths_gy, volumes_ml]).ravel())
    item.DVHMinimumDose, item.DVHMaximumDose, item.DVHMeanDose = decimals(dose["min"], dose["max"], dose["mean"])
    return item
