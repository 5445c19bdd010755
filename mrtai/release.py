"""From a case to the archive: objects are written, proven, put in place, and only then sent."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Final

from mrtai.io.atomic import whole_folder
from mrtai.io.dicom_source import read_source
from mrtai.io.dicom_write import Choices, write_objects
from mrtai.io.hashes import file_sha256
from mrtai.io.pacs import send
from mrtai.io.pacs_journal import SentObject, sole_sender
from mrtai.io.proof import Proof, prove
from mrtai.io.pseudonym import load_key
from mrtai.io.read_case import Case, read_case
from mrtai.io.targets import Target
from mrtai.values.refusal import DosimetryError

PROOF: Final = "proof.json"
JOURNAL: Final = "sent.json"


def export_case(folder: Path, study: Path, choices: Choices, progress: Callable[[str, float], None] = lambda what, done: None) -> Path:
    """Write every DICOM object of a case into ``CASE/dicom``, proven, and return that folder; it is complete or as it was.

    What was sent before stays remembered. The same case gives the same objects with the same UIDs.

    Raises:
        DosimetryError: no case, not the study it was made from, or an object that does not say what the case says.
    """
    folder = folder.resolve()
    case = read_case(folder)
    source = read_source(study, case.results, case.manifest, load_key())
    out = folder / "dicom"
    with ExitStack() as until_in_place, whole_folder(out) as partial:
        files = write_objects(case, source, partial, choices, lambda name: progress(f"wrote {name}", 0.5))
        proven = count(1)
        proof = prove(files, case, source, choices, progress=lambda name: progress(f"proved {name}", 0.5 + 0.5 * next(proven) / len(files)))
        (partial / PROOF).write_text(json.dumps(_record(case, choices, files, proof), indent=1) + "\n", "utf-8")
        if out.exists():
            until_in_place.enter_context(sole_sender(out / JOURNAL))  # none is sending from what is replaced
        if (out / JOURNAL).is_file():
            shutil.copy2(out / JOURNAL, partial / JOURNAL)
    return out


def send_case(folder: Path, target: Target, progress: Callable[[int, int], None] = lambda done, of: None) -> list[SentObject]:
    """Send the proven objects of a signed case to a target and return what became of each; a second call sends the rest.

    Raises:
        DosimetryError: an unsigned case, objects that are missing or not of these results, or an archive that did not take all.
    """
    case = read_case(folder)
    if not case.is_signed:
        raise DosimetryError(
            "an unsigned draft is not sent",
            where=folder.name,
            found=f"state {case.results['state']}",
            remedy="have a qualified person sign it first",
            code="NOT_SIGNED",
        )
    out = folder / "dicom"
    files = sorted(out.glob("*.dcm"))
    _require_proven(files, out / PROOF, case, folder.name)
    return send(files, target, out / JOURNAL, progress=progress)


def _record(case: Case, choices: Choices, files: Sequence[Path], proof: Proof) -> dict[str, Any]:
    """Return what ``proof.json`` says: of which results, in which state, which files with which content, and every comparison."""
    return {
        "schema": "mrtai.proof/2",
        "results_sha256": case.results_sha256,
        "is_signed": case.is_signed,
        "choices": asdict(choices),
        "files": {path.name: file_sha256(path) for path in files},
        "checks": [asdict(check) for check in proof.checks],
    }


def _require_proven(files: Sequence[Path], record: Path, case: Case, where: str) -> None:
    """Refuse any set of files but the one that was proven, byte for byte, of the results as they are."""
    found = _unproven(files, record, case)
    if found:
        remedy = "write them with `mrtai export`"
        raise DosimetryError("the case has no proven objects", where=where, found=found, remedy=remedy, code="NOT_PROVEN")


def _unproven(files: Sequence[Path], record: Path, case: Case) -> str:
    if not files:
        return "no objects"
    try:
        document = json.loads(record.read_text("utf-8"))
        proven, of_results = document["files"], (document["results_sha256"], document["is_signed"])
    except (OSError, ValueError, KeyError, TypeError):
        return "no record of a proof"
    if of_results != (case.results_sha256, case.is_signed):
        return "objects of other results or of an unsigned draft"
    names = {path.name for path in files}
    if len(names - set(proven)) or len(set(proven) - names):
        # a stranger's name may be a patient's: only its number is told
        return f"{len(names - set(proven))} files that were not proven, {len(set(proven) - names)} proven ones missing"
    changed = sorted(path.name for path in files if file_sha256(path) != proven[path.name])
    return f"changed since the proof: {', '.join(changed[:4])}" if changed else ""
