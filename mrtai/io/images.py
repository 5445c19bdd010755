"""An image by its path: a NIfTI file, or a folder that holds one DICOM series of it."""

from pathlib import Path
from typing import Final

import numpy as np

from mrtai.io.dicom_spect import concentration, is_in_bq_per_ml, place_spect
from mrtai.io.dicom_tree import Series, read_tree
from mrtai.io.dicom_volume import read_ct
from mrtai.io.nifti import read_image
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

MODALITIES: Final = {Quantity.HOUNSFIELD: ("CT",), Quantity.ACTIVITY_CONCENTRATION: ("NM", "PT")}


def read_image_or_series(path: Path, quantity: Quantity) -> Image:
    """Return a CT [HU], or a SPECT or PET [Bq/mL] as stored, from a NIfTI file or a folder with one DICOM series of it.

    Raises:
        DosimetryError: no readable image, no series or several, or a series in counts, which needs a calibration.
    """
    if not path.is_dir():
        return read_image(path, quantity)
    series = _only_series(path, MODALITIES[quantity])
    if quantity is Quantity.HOUNSFIELD:
        return read_ct(series)
    if not is_in_bq_per_ml(series):
        raise DosimetryError(
            "the series is not in Bq/mL",
            where=series.where,
            found="counts, or no units",
            remedy="export it in Bq/mL; mrtai run takes counts with --calibration",
            code="NO_UNITS",
        )
    return concentration(series, place_spect(series), np.ones(len(series.instances)))


def _only_series(folder: Path, modalities: tuple[str, ...]) -> Series:
    found = [series for series in read_tree(folder) if series.modality in modalities]
    if len(found) == 1:
        return found[0]
    raise DosimetryError(
        f"not one series of {' or '.join(modalities)}",
        where=folder.name,
        found=f"{len(found)} of them",
        remedy="give a folder with the one series that is meant, or a NIfTI file",
        code="NOT_ONE_SERIES",
    )
