"""``python -m workflows submit``: a study, or a person's mending of a case, without waiting for a scanner."""

from pathlib import Path

from mrtai.io.assignment import OTHER_PERSON, Assigner
from mrtai.io.atomic import write_bytes
from mrtai.io.cycle_folder import STUDY_TOML, CycleFolder
from mrtai.io.dicom_tree import files_below
from mrtai.io.ledger import Ledger
from mrtai.io.received import Received, Taken
from mrtai.io.study_toml import read_study_toml
from mrtai.values.ledger import CaseRecord, StudyRecord
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site


def submit_study(
    site: Site, assigner: Assigner, folder: Path, *, study_toml: Path | None, replace: bool, other_person: bool
) -> list[StudyRecord]:
    """Take a folder of DICOM files in and assign its studies at once; ``replace`` lets its instances replace others of the same UID.

    Raises:
        DosimetryError: no DICOM in it, or a ``study.toml`` that cannot be.
    """
    store = Received(site.root)
    stated = study_toml or next((path for path in [folder / STUDY_TOML] if path.is_file()), None)
    if stated is not None:
        read_study_toml(stated)
    keys: dict[str, None] = {}
    for path in files_below(folder):
        taken = _taken(store, path)
        if taken is not None:
            keys[taken.study] = None
    if not keys:
        raise DosimetryError(
            "nothing to take in", where=folder.name, found="no DICOM file", remedy="give a folder of DICOM files", code="NOT_DICOM"
        )
    for key in keys:
        if stated is not None:
            write_bytes(site.received / key / STUDY_TOML, stated.read_bytes())
        if other_person:
            (site.received / key / OTHER_PERSON).touch()
        if replace:
            store.accept_newer(key)
    return [assigner.assign(key) for key in keys]


def submit_case(
    site: Site, ledger: Ledger, assigner: Assigner, case_id: str, *, study_toml: Path | None, labels: Path | None, replace: bool
) -> CaseRecord:
    """Have a case computed again, with a person's ``study.toml`` or contours if given; ``replace`` takes instances that came again."""
    assigner.case(case_id)
    if study_toml is not None:
        read_study_toml(study_toml)
    CycleFolder(site.cycles / case_id).attach(study_toml=study_toml, labels=labels)
    if replace:
        for study in (one for one in ledger.studies() if one.case_id == case_id):
            Received(site.root).accept_newer(study.key)
            assigner.assign(study.key)
    assigner.refresh(case_id)
    return ledger.again(case_id)


def _taken(store: Received, path: Path) -> Taken | None:
    try:
        return store.take_file(path)
    except DosimetryError:
        return None  # not DICOM: reports and pictures lie beside exported scans
