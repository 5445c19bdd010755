"""From a case to the archive: objects are written, proven, put in place, and only then sent."""

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Final

from mrtai.io.case_folder import put_in_place
from mrtai.io.dicom_source import read_source
from mrtai.io.dicom_write import Choices, write_objects
from mrtai.io.pacs import SentObject, send
from mrtai.io.proof import prove
from mrtai.io.pseudonym import load_key
from mrtai.io.read_case import read_case
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
    token = secrets.token_hex(4)
    partial = folder / f".dicom.partial-{token}"
    try:
        partial.mkdir()
        files = write_objects(case, source, partial, choices, lambda name: progress(f"wrote {name}", 0.5))
        proven = count(1)
        proof = prove(files, case, source, choices, progress=lambda name: progress(f"proved {name}", 0.5 + 0.5 * next(proven) / len(files)))
        checks = [asdict(check) for check in proof.checks]
        record = {"schema": "mrtai.proof/1", "results_sha256": case.results_sha256, "choices": asdict(choices), "checks": checks}
        (partial / PROOF).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        if (out / JOURNAL).is_file():
            shutil.copy2(out / JOURNAL, partial / JOURNAL)
        put_in_place(partial, out, folder / f".dicom.old-{token}")
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
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
    proven = _proven(out / PROOF)
    if not files or proven != case.results_sha256:
        raise DosimetryError(
            "the case has no proven objects",
            where=folder.name,
            found="objects of other results" if files else "no objects",
            remedy="write them with `mrtai export`",
            code="NOT_PROVEN",
        )
    return send(files, target, out / JOURNAL, progress=progress)


def _proven(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text("utf-8"))["results_sha256"])
    except (OSError, ValueError, KeyError):
        return None
