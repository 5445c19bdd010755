"""An image by its path: a NIfTI file, or a folder that holds one DICOM series of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrtai.io.dicom_spect import concentration, is_in_bq_per_ml, is_spect, place_spect
from mrtai.io.dicom_tree import Series, read_tree
from mrtai.io.dicom_volume import is_volume, read_ct
from mrtai.io.nifti import read_image
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError


def read_image_or_series(path: Path, quantity: Quantity) -> Image:
    """Return a CT [HU], or a SPECT or PET [Bq/mL] as stored, from a NIfTI file or a folder with one DICOM series of it.

    Raises:
        DosimetryError: no readable image, no series or several, or a series in counts, which needs a calibration.
    """
    if not path.is_dir():
        return read_image(path, quantity)
    if quantity is Quantity.HOUNSFIELD:
        return read_ct(_only_series(path, "CT", lambda series: series.modality == "CT" and is_volume(series)))
    series = _only_series(path, "SPECT or PET", is_spect)
    if not is_in_bq_per_ml(series):
        raise DosimetryError(
            "the series is not in Bq/mL",
            where=series.where,
            found="counts, or no units",
            remedy="export it in Bq/mL; mrtai run takes counts with --calibration",
            code="NO_UNITS",
        )
    return concentration(series, place_spect(series), np.ones(len(series.instances)))


def _only_series(folder: Path, kind: str, is_one: Callable[[Series], bool]) -> Series:
    found = [series for series in read_tree(folder) if is_one(series)]
    if len(found) == 1:
        return found[0]
    raise DosimetryError(
        f"not one series of {kind}",
        where=folder.name,
        found=f"{len(found)} of them",
        remedy="give a folder with the one series that is meant, or a NIfTI file",
        code="NOT_ONE_SERIES",
    )
