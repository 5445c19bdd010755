"""DICOM objects of a case, one file an object, and what writes them all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write.header import save
from mrtai.io.dicom_write.parametric_map import parametric_map
from mrtai.io.dicom_write.pdf import encapsulated_pdf
from mrtai.io.dicom_write.registration import registration
from mrtai.io.dicom_write.rtdose import rtdose
from mrtai.io.dicom_write.rtplan import rtplan
from mrtai.io.dicom_write.rtstruct import rtstruct
from mrtai.io.dicom_write.seg import segment_numbers, segmentation
from mrtai.io.dicom_write.sr import structured_report
from mrtai.io.read_case import Case
from mrtai.io.region_names import require_writable_names
from mrtai.physics.radiobiology import biological_maps
from mrtai.physics.resample import resampled
from mrtai.values.image import Image
from mrtai.values.refusal import DosimetryError

LEAST_SLICES: Final = 2


@dataclass(frozen=True, slots=True)
class Choices:
    """How objects are written: the segmentation as a label map instead of binary frames, the absorbed dose on the contours' (CT) grid."""

    labelmap: bool = False
    dose_on_ct: bool = False


def write_objects(
    case: Case, source: Source, folder: Path, choices: Choices, progress: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Write every object of a case into an existing empty folder and return the files; large ones are let go before the next is made."""
    return [_saved(ds, folder, name, progress) for name, ds in objects(case, source, choices)]


def objects(case: Case, source: Source, choices: Choices) -> Iterator[tuple[str, Dataset]]:
    """Yield name and object, each before those that refer to it."""
    _require_volumes(case)
    require_writable_names([row["name"] for row in case.results["regions"]], "regions of the case")
    structures = rtstruct(case, source)
    yield "rtstruct", structures
    plan = rtplan(case, source, _bare(structures))
    yield "rtplan", plan
    segments = segmentation(case, source, labelmap=choices.labelmap)
    yield "seg", segments
    segments = _bare(segments)
    dose = rtdose(case, source, dose_map(case, choices), plan, structures, regions=case.drawn)
    yield "rtdose", dose
    dose = _bare(dose)
    # on the dose's own grid whatever was chosen: interpolation would overshoot at the regions' borders
    for kind, image in biological_maps(dose_above_zero(case), biological_regions(case)).items():
        yield f"rtdose_{kind.lower()}", rtdose(case, source, image, plan, structures, quantity=kind)
    yield "pmap_dose", parametric_map(case, source, case.dose, "Absorbed dose", 9220)
    yield "pmap_tia", parametric_map(case, source, case.tia, "Time-integrated activity", 9221)
    for index, rate in enumerate(case.dose_rates, start=1):
        yield (
            f"pmap_dose_rate_{index}",
            parametric_map(case, source, rate, f"Dose rate at scan {index}", 9221 + index, made_from=images_of_dose_rate(source, index)),
        )
    for position, scan in enumerate(source.scans):
        if position != source.reference and scan.frame_of_reference != source.home.frame_of_reference:
            yield f"reg_{position + 1}", registration(case, source, position)
    yield "sr", structured_report(case, source, segments, segment_numbers(case, labelmap=choices.labelmap), dose)
    yield "pdf", encapsulated_pdf(case, source)


def images_of_dose_rate(source: Source, index: int) -> list[Dataset]:
    """Return the headers a scan's dose rate was made from: the scan (``index`` from 1) and the home scan, in whose space it lies."""
    scan = source.scans[index - 1]
    return [header for one in dict.fromkeys((source.home, scan)) for header in (*one.spect, *one.ct)]


def dose_map(case: Case, choices: Choices) -> Image:
    """Return the absorbed dose as RT Dose holds it: on its own grid, or interpolated onto the contours' grid."""
    dose = dose_above_zero(case)
    return resampled(dose, case.contours.grid) if choices.dose_on_ct else dose


def dose_above_zero(case: Case) -> Image:
    """Return the absorbed dose [Gy] with 0 for less: RT Dose has no sign for the noise of a reconstruction; a parametric map keeps it."""
    return replace(case.dose, voxels=np.maximum(case.dose.voxels, 0)) if case.dose.voxels.min() < 0 else case.dose


def _require_volumes(case: Case) -> None:
    """Refuse a grid of one slice: nothing in its objects would say which way slices are stacked, and readers guess."""
    if min(case.contours.grid.shape[0], case.dose.grid.shape[0]) < LEAST_SLICES:
        remedy = "run the case on whole scans"
        raise DosimetryError("a volume of one slice is not written", where="images", found="one slice", remedy=remedy, code="ONE_SLICE")


def biological_regions(case: Case) -> list[tuple[NDArray[np.bool_], float, float]]:
    """Return mask on the dose grid, Lea–Catcheside factor and α/β [Gy] of every single region that has them."""
    known = [row for row in case.results["regions"] if not row["members"] and row["radiobiology"]["g"] is not None]
    return [(case.labels.mask(row["name"]), row["radiobiology"]["g"], row["radiobiology"]["alpha_beta_gy"]) for row in known]


def _bare(ds: Dataset) -> Dataset:
    """Return an object without its pixels and frames, for those that only refer to it."""
    copy = Dataset()
    copy.update({e.tag: e for e in ds if e.keyword not in ("PixelData", "PerFrameFunctionalGroupsSequence", "ROIContourSequence")})
    return copy


def _saved(ds: Dataset, folder: Path, name: str, progress: Callable[[str], None]) -> Path:
    path = save(ds, folder, name)
    progress(name)
    return path
