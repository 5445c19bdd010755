"""A virtual patient as a study on disk: DICOM or NIfTI, with the truth beside it; one patient gives the same bytes."""

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrtai.io.atomic import write_bytes
from mrtai.io.nifti import write_image, write_labels
from mrtai.io.simulated_dicom import write_series
from mrtai.io.simulated_seg import write_contours
from mrtai.units import BQ_PER_MBQ, BQ_S_PER_MBQ_H, GRAM_PER_KG
from mrtai.values.refusal import DosimetryError
from mrtai.values.virtual import VirtualPatient

DICOM, NIFTI = "dicom", "nifti"
HEADER = ("region", "volume_ml", "mass_g", "tia_mbq_h", "effective_half_life_h", "absorbed_dose_gy", "absorbed_dose_sd_gy")


def write_study(patient: VirtualPatient, folder: Path, *, as_format: str, contours: bool = False) -> None:
    """Write the study into a new ``folder``, whole or not at all.

    ``dicom`` gives ``scan<i>/CT`` and ``scan<i>/SPECT`` (SPECT as PET Image Storage in Bq/mL), ``nifti`` gives
    ``scan<i>/ct.nii.gz``, ``scan<i>/spect.nii.gz`` and ``study.toml``. Both get ``truth/``. With ``contours`` a DICOM study holds the
    true ones as ``scan1/SEG``.

    Raises:
        DosimetryError: the folder exists and is not empty.
    """
    if as_format not in (DICOM, NIFTI):
        raise ValueError(f"format: {DICOM!r} or {NIFTI!r} needed, got {as_format!r}")
    with new_folder(folder) as study:
        _write_scans(patient, study, as_format)
        if contours and as_format == DICOM:
            write_contours(patient, study / "scan1" / "CT", study / "scan1" / "SEG")
        _write_truth(patient, study / "truth")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a place to write a study that becomes ``folder`` when all went well, and is removed when not.

    Raises:
        DosimetryError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DosimetryError(
            "the study's folder must be new or empty",
            where=folder.name,
            found="something in it" if folder.is_dir() else "a file",
            remedy="give another folder, or move this one away",
            code="OUTPUT_EXISTS",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        study = temporary / "study"
        study.mkdir()
        yield study
        study.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_scans(patient: VirtualPatient, study: Path, as_format: str) -> None:
    for index, scan in enumerate(patient.scans, start=1):
        folder = study / f"scan{index}"
        folder.mkdir(parents=True)
        if as_format == DICOM:
            write_series(patient, index, folder)
        else:
            write_image(folder / "ct.nii.gz", scan.ct)
            write_image(folder / "spect.nii.gz", scan.spect)
    if as_format == NIFTI:
        write_bytes(study / "study.toml", _study_toml(patient).encode())


def _study_toml(patient: VirtualPatient) -> str:
    given = patient.administration
    # JSON strings without control characters are TOML strings too
    lines = [
        f"administered_mbq = {given.administered_bq / BQ_PER_MBQ!r}",
        f'administered_at = "{given.at.isoformat()}"',
        f"nuclide = {json.dumps(given.nuclide)}",
        f"agent = {json.dumps(given.agent)}",
    ]
    for index, scan in enumerate(patient.scans, start=1):
        lines += [
            "",
            "[[scan]]",
            f'spect = "scan{index}/spect.nii.gz"',
            f'ct = "scan{index}/ct.nii.gz"',
            f'started_at = "{scan.started_at.isoformat()}"',
            'decay_referred_to = "scan"',
        ]
    return "\n".join(lines) + "\n"


def _write_truth(patient: VirtualPatient, truth: Path) -> None:
    truth.mkdir(parents=True)
    write_labels(truth / "labels.nii.gz", patient.labels)
    write_labels(truth / "labels_spect.nii.gz", patient.labels_spect)
    write_image(truth / "tia.nii.gz", patient.tia)
    for index, scan in enumerate(patient.scans, start=1):
        write_image(truth / f"spect_{index}_noise_free.nii.gz", scan.noise_free)
    write_bytes(truth / "regions.csv", _regions_csv(patient).encode())
    write_bytes(truth / "kinetics.json", (json.dumps(_kinetics(patient), indent=2) + "\n").encode())


def _regions_csv(patient: VirtualPatient) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for row in patient.regions:
        numbers = (
            row.volume_ml,
            row.mass_kg * GRAM_PER_KG,
            row.tia_bq_s / BQ_S_PER_MBQ_H,
            row.effective_half_life_h,
            row.absorbed_dose_gy,
            row.absorbed_dose_sd_gy,
        )
        table.writerow([row.region, *(f"{number:.8g}" for number in numbers)])
    return text.getvalue()


def _kinetics(patient: VirtualPatient) -> dict[str, object]:
    regions = {
        "liver_without_lesions" if curve.region == "liver" else curve.region: [
            {"amplitude_mbq": amplitude / BQ_PER_MBQ, "rate_per_h": rate} for amplitude, rate in curve.terms
        ]
        for curve in patient.curves
    }
    return {
        "model": patient.kinetics,
        "formula": "activity_mbq(t_h) = sum of amplitude_mbq * exp(-rate_per_h * t_h), decaying",
        "seed": patient.seed,
        "scanner": patient.scanner,
        "nuclide": patient.nuclide.name,
        "half_life_h": patient.nuclide.half_life_h,
        "regions": regions,
    }
