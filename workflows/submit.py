"""``python -m workflows submit``: a study, or a person's mending of a case, without waiting for a scanner."""

from pathlib import Path

from mrtai.io.assignment import IDENTITY_CHECKED, Assigner
from mrtai.io.atomic import write_bytes
from mrtai.io.cycle_folder import STUDY_TOML, CycleFolder
from mrtai.io.dicom_tree import files_below
from mrtai.io.ledger import Ledger
from mrtai.io.received import Received, Taken
from mrtai.io.study_toml import read_study_toml
from mrtai.values.ledger import CaseRecord, StudyRecord, StudyState
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site


def submit_study(
    site: Site, assigner: Assigner, folder: Path, *, study_toml: Path | None, replace: bool, identity_checked: bool
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
        if identity_checked:
            (site.received / key / IDENTITY_CHECKED).touch()
        if replace:
            store.accept_newer(key)
    return [_assigned(site, assigner, key, stated) for key in keys]


def _assigned(site: Site, assigner: Assigner, key: str, stated: Path | None) -> StudyRecord:
    """Assign a study, and attach what a person states now to its case: what they stated earlier does not come back by itself."""
    record = assigner.assign(key)
    if stated is not None and record.case_id is not None and record.state is StudyState.ASSIGNED:
        CycleFolder(site.cycles / record.case_id).attach(study_toml=stated)
        assigner.refresh(record.case_id)
    return record


def submit_case(
    site: Site, ledger: Ledger, assigner: Assigner, case_id: str, *, study_toml: Path | None, labels: Path | None, replace: bool
) -> CaseRecord:
    """Have a case computed again, with a person's ``study.toml`` or contours if given; ``replace`` takes instances that came again."""
    assigner.require_open(case_id)
    if study_toml is not None:
        read_study_toml(study_toml)
    for study in (one for one in ledger.studies() if one.case_id == case_id):
        if replace:
            Received(site.root).accept_newer(study.key)
        assigner.assign(study.key)
    doubt = assigner.doubt(case_id)
    if doubt is not None:
        raise DosimetryError("a study of the case is held", where=case_id, found=doubt, remedy="settle that first", code="STUDY_HELD")
    CycleFolder(site.cycles / case_id).attach(study_toml=study_toml, labels=labels)
    assigner.refresh(case_id)
    return ledger.again(case_id)


def _taken(store: Received, path: Path) -> Taken | None:
    try:
        return store.take_file(path)
    except DosimetryError:
        return None  # not DICOM: reports and pictures lie beside exported scans
