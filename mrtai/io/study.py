"""The door in: a folder becomes a cycle, or one line says why not."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mrtai.io.asked_cycle import require_cycle
from mrtai.io.blood import read_blood
from mrtai.io.calibrations import read_calibration
from mrtai.io.dicom_study import Choice, read_dicom_study
from mrtai.io.dicom_tree import files_below, read_tree
from mrtai.io.hashes import input_file
from mrtai.io.manifest import BLOOD
from mrtai.io.nifti_study import is_nifti_study, read_nifti_study
from mrtai.io.prior_pet import with_prior_files
from mrtai.io.study_toml import StatedBlood, StatedStudy, read_study_toml
from mrtai.physics.marrow import rmblr
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import Cycle, InputFile


def read_study(
    folder: Path,
    *,
    protocol: Protocol,
    patient: str | None = None,
    cycle: str | None = None,
    study_toml: Path | None = None,
    calibrations: Sequence[Path] = (),
    whole: bool = False,
    pseudonym_key: bytes,
) -> Cycle:
    """Return one patient's cycle: activity concentrations [Bq/mL] at the start of each scan, CTs, contours, and the administration.

    Args:
        folder: a tree of DICOM in any nesting, or a NIfTI study with ``study.toml`` at its root; a folder ``truth`` is ignored.
        protocol: says which nuclide is expected.
        patient: patient ID, needed where the folder holds several.
        cycle: number from 1 or date of administration (YYYY-MM-DD), needed where the folder holds several; where it holds one, the
            number is taken as that cycle's.
        study_toml: what a person states, instead of ``study.toml`` at the root.
        calibrations: camera calibration files for scans in counts; each must be a valid one even where no scan needs it.
        whole: the folder holds one cycle and ``cycle`` is its number: scans of another administration are refused, never left out.
        pseudonym_key: the secret the pseudonym is derived with.

    Raises:
        Held: the headers contradict themselves and a person must decide in ``study.toml``.
        DosimetryError: the study cannot be read as it stands; the message never carries an identity.
    """
    if not folder.is_dir():
        raise DosimetryError("no such folder", where="study", found="nothing there", remedy="check the path", code="NOT_FOUND")
    if cycle is not None:
        require_cycle(cycle)
    tables = tuple(read_calibration(path) for path in calibrations)
    toml = study_toml or next((path for path in [folder / "study.toml"] if path.is_file()), None)
    stated = read_study_toml(toml) if toml else StatedStudy()
    if is_nifti_study(stated):
        list(files_below(folder))  # walks the folder once to refuse links that lead outside
        found = read_nifti_study(folder, stated, protocol=protocol, patient=patient, cycle=cycle, pseudonym_key=pseudonym_key)
    else:
        series = read_tree(folder)
        if not series:
            raise _nothing(folder)
        found = read_dicom_study(series, Choice(protocol, patient, cycle, stated, tables, pseudonym_key, whole))
    found = with_prior_files(found, folder, stated.prior)
    extra = [InputFile(toml.name, stated.sha256)] if toml else []
    extra += [InputFile(path.name, table.sha256) for path, table in zip(calibrations, tables, strict=True)]
    found = replace(found, inputs=(*found.inputs, *extra))
    return found if toml is None or stated.blood is None else _with_blood(found, stated.blood, toml.parent)


def named_files(folder: Path, study_toml: Path | None = None) -> tuple[Path, ...]:
    """Return ``study.toml`` and the files it names, which ``read_study`` opens beside what lies openly in the folder.

    Empty where there is none, or one that ``read_study`` will refuse.
    """
    toml = study_toml or folder / "study.toml"
    try:
        stated = read_study_toml(toml)
    except DosimetryError:
        return ()
    images = [folder / name for scan in stated.scans for name in (scan.spect, scan.ct) if name is not None]
    if stated.prior is not None:
        images += [folder / name for name in (stated.prior.pet, stated.prior.ct) if name is not None]
    samples = [] if stated.blood is None else [toml.parent / stated.blood.samples]
    return (toml, *(path for path in (*images, *samples) if path.is_file()))


def _with_blood(cycle: Cycle, stated: StatedBlood, folder: Path) -> Cycle:
    """Return the cycle with its blood samples; refuses an agent that needs a haematocrit here, before any work is done."""
    path = (folder / stated.samples).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DosimetryError(
            "a path leads outside the study folder",
            where="study.toml [blood]",
            found=f"'{path.name}'",
            remedy="copy the file into the folder",
            code="LINK_OUTSIDE",
        )
    blood = read_blood(path, haematocrit=stated.haematocrit, marrow_mass_kg=stated.marrow_mass_kg)
    rmblr(cycle.administration.agent, blood.haematocrit)
    # a file's own name may be a patient's
    return replace(cycle, blood=blood, inputs=(*cycle.inputs, InputFile(BLOOD, input_file(path).sha256)))


def _nothing(folder: Path) -> DosimetryError:
    count = sum(1 for path in files_below(folder) if path.name != "study.toml")
    remedy = "give a folder with DICOM files, or NIfTI files named in a study.toml"
    if count == 0:
        return DosimetryError("the folder is empty", where="study", found="no files", remedy=remedy, code="EMPTY_FOLDER")
    return DosimetryError("not DICOM", where="study", found=f"{count} files, none of them DICOM", remedy=remedy, code="NOT_DICOM")
