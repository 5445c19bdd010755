"""``manifest.json``: how a case came about, so that it can be repeated or explained."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import mrtai
from mrtai.io.nifti import stem
from mrtai.values.report import Report
from mrtai.values.study import InputFile

SCHEMA: Final = "mrtai.manifest/1"
BLOOD: Final = "blood samples"
PRIOR_PET: Final = "prior pet"
PRIOR_CT: Final = "prior ct"
PRIOR_IMAGE: Final = re.compile(r"prior ([1-9][0-9]*) ([a-z0-9_]+\.(?:nii\.gz|json))")
"""How the images of earlier cycles stand among the inputs: number of the prior, then the file of its CASE."""

LIBRARIES: Final = (
    "numpy",
    "scipy",
    "SimpleITK",
    "pydicom",
    "highdicom",
    "nibabel",
    "icrp107-database",
    "radioactivedecay",
    "torch",
    "onnxruntime",
)


def case_manifest(report: Report, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a report; ``extra`` adds what only the caller knows.

    ``extra`` may hold ``seeds``, ``parameters`` (command-line choices), ``timings_s`` by room, ``models`` (name to SHA-256),
    ``written_at`` and further keys. It cannot replace what is taken from the report.
    """
    cycle = report.aligned.cycle
    return {
        "seeds": {},
        "parameters": {},
        "timings_s": {},
        "models": {},
        **extra,
        "schema": SCHEMA,
        "inputs": [{"name": file.name, "sha256": file.sha256} for file in cycle.inputs],
        "protocol": {"name": report.protocol.name, "sha256": report.protocol.sha256},
        "engines": dict(report.engines),
        "code": {"version": mrtai.__version__, "commit": commit(Path(mrtai.__file__).resolve().parents[1])},
        "libraries": library_versions(),
    }


def input_roles(
    inputs: Sequence[InputFile], *, labels: Path | None, study_toml: Path | None, calibrations: Sequence[Path], priors: Sequence[Path]
) -> dict[str, list[str]]:
    """Return the digests of the inputs that are no scans, by what they were given as, for a replay to find and give them again."""

    def digests(*names: str) -> list[str]:
        return [file.sha256 for file in inputs if file.name in names]

    drawn = "" if labels is None else stem(labels)
    names = {path.name for path in calibrations}
    earlier = {"results.json" if path.is_dir() else path.name for path in priors}
    return {
        "study_toml": digests("study.toml" if study_toml is None else study_toml.name)[:1],
        "calibrations": digests(*names)[: len(calibrations)],
        "blood": digests(BLOOD),
        "labels": [] if labels is None else digests(labels.name)[:1] + digests(f"{drawn}.json", "labels.json")[:1],
        # given last, so they stand last
        "priors": digests(*earlier)[-len(priors) :] if priors else [],
        "prior_pet": digests(PRIOR_PET, PRIOR_CT),
        # by name, since a case may have a CT or none
        **{file.name: [file.sha256] for file in inputs if PRIOR_IMAGE.fullmatch(file.name)},
    }


def library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that numbers depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit(checkout: Path) -> str | None:
    """Return the git commit of a checkout read from its files, without running git; None when there is none."""
    git = checkout / ".git"
    try:
        if git.is_file():  # a work tree names its own folder and shares the references of the main one
            git = (checkout / git.read_text("utf-8").removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref:"):
            return head
        reference = head.removeprefix("ref:").strip()
        shared = git / (git / "commondir").read_text("utf-8").strip() if (git / "commondir").is_file() else git
        loose = shared / reference
        return loose.read_text("utf-8").strip() if loose.is_file() else _packed(shared / "packed-refs", reference)
    except OSError:
        return None


def _packed(packed_refs: Path, reference: str) -> str | None:
    lines = (line.split() for line in packed_refs.read_text("utf-8").splitlines())
    return next((words[0] for words in lines if len(words) == 2 and words[1] == reference), None)
