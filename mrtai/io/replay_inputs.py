"""The inputs of a case found again by their digests, and laid out as the run had them."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mrtai.io.dicom_patient import identity_of
from mrtai.io.dicom_tree import PREAMBLE_BYTES, Series, read_tree
from mrtai.io.hashes import file_sha256
from mrtai.io.manifest import BLOOD, PRIOR_IMAGE
from mrtai.io.protocols import load_protocol, shipped_protocols
from mrtai.io.study_files import inside
from mrtai.io.study_toml import read_study_toml
from mrtai.values.refusal import DosimetryError

Json = Mapping[str, Any]

SCANS: Final = ("NM", "PT")
STATES: Final = ("draft", "signed", "rejected", "released", "failed", "held")
_NIFTI: Final = re.compile(r"scan [1-9][0-9]* (spect|ct)")
_STATE: Final = re.compile(rb'("state":\s*")[a-z]+(")')


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a run as files; ``whole_study`` where ``study`` is the folder given, else a copy of the case's part of it."""

    study: Path
    whole_study: bool
    protocol: str
    labels: Path | None
    study_toml: Path | None
    calibrations: tuple[Path, ...]
    priors: tuple[Path, ...]


def find_inputs(manifest: Json, study: Path, places: Sequence[Path], scratch: Path) -> Inputs:
    """Return the inputs of a manifest, found in ``study`` and, those that are no scans, also in ``places``.

    What cannot be used where it lies is copied to ``scratch``, an empty folder of ours.

    Raises:
        DosimetryError: the manifest is older than replays, or an input is missing or changed; names it as the manifest does.
    """
    roles = manifest["parameters"].get("inputs")
    if roles is None:
        raise DosimetryError(
            "the case is too old for a replay",
            where="manifest.json",
            found="no digests of its inputs by role",
            remedy="work the cycle up again with this version",
            code="OLD_MANIFEST",
        )
    if not study.is_dir():
        raise DosimetryError("no such folder", where="--study", found="nothing there", remedy="check the path", code="NOT_FOUND")
    lying = _Lying(manifest, [study, *places], scratch)
    toml = lying.with_blood(roles["study_toml"], roles["blood"])
    of_roles = {digest for digests in roles.values() for digest in digests}
    scans = [entry for entry in manifest["inputs"] if entry["sha256"] not in of_roles]
    folder = _nifti(scans, study, toml) if scans and _NIFTI.fullmatch(scans[0]["name"]) else _dicom(scans, study, toml, scratch)
    _bring_prior_pet(roles.get("prior_pet", []), study, toml, folder)
    return Inputs(
        study=folder,
        whole_study=folder == study,
        protocol=lying.protocol(),
        labels=lying.together("labels", roles["labels"]),
        study_toml=toml,
        calibrations=tuple(lying.one(digest, f"calibration_{n}") for n, digest in enumerate(roles["calibrations"], start=1)),
        priors=tuple(lying.with_images(roles, digest, n) for n, digest in enumerate(roles["priors"], start=1)),
    )


class _Lying:
    """Files that lie in some folders, by digest, copied under the names that the manifest gives them."""

    def __init__(self, manifest: Json, places: Sequence[Path], scratch: Path) -> None:
        self.manifest, self.scratch = manifest, scratch
        self.names = {entry["sha256"]: entry["name"] for entry in manifest["inputs"]}
        self.rest = iter(places)
        self.known: dict[str, tuple[Path, str | None]] = {}

    def one(self, digest: str, folder: str, name: str | None = None) -> Path:
        """Return a copy of the file with this digest in a folder of ``scratch``; refuses what lies nowhere."""
        name = name or self.names[digest]
        source, state = self._place(digest, self.names.get(digest, name))
        target = self.scratch / folder / name
        if not target.resolve().is_relative_to(self.scratch.resolve()):
            raise _missing(name, "a path that leads outside", "do not trust this case")
        target.parent.mkdir(parents=True, exist_ok=True)
        if state is None:
            shutil.copyfile(source, target)
        else:
            target.write_bytes(_in_state(source.read_bytes(), state))
        return target

    def together(self, folder: str, digests: Sequence[str]) -> Path | None:
        """Return the first of files that belong into one folder, None where there are none."""
        return next(iter([self.one(digest, folder) for digest in digests]), None)

    def with_blood(self, toml: Sequence[str], blood: Sequence[str]) -> Path | None:
        """Return ``study.toml`` with the table of blood samples where it says that table lies."""
        path = self.together("stated", toml)
        if path is not None and blood:
            stated = read_study_toml(path).blood
            self.one(blood[0], "stated", BLOOD if stated is None else stated.samples)
        return path

    def with_images(self, roles: Mapping[str, Sequence[str]], results: str, number: int) -> Path:
        """Return the results of an earlier cycle, with the images of its CASE that the run read beside them."""
        for name, (digest, *_) in ((name, digests) for name, digests in roles.items() if PRIOR_IMAGE.fullmatch(name)):
            prior, file = name.removeprefix("prior ").split(" ", 1)
            if int(prior) == number:
                self.one(digest, f"prior_{number}/images", file)
        return self.one(results, f"prior_{number}")

    def protocol(self) -> str:
        """Return the shipped protocol's name where it is still the same, else the path of a copy of its file."""
        name, digest = self.manifest["parameters"]["protocol"], self.manifest["protocol"]["sha256"]
        if name in shipped_protocols():
            if load_protocol(name).sha256 == digest:
                return str(name)
            name = f"{name}.toml"
        return str(self.one(digest, "protocol", name))

    def _place(self, digest: str, name: str) -> tuple[Path, str | None]:
        while digest not in self.known:
            place = next(self.rest, None)
            if place is None:
                raise _missing(name, "no file with its content", "add the folder that holds it with --with")
            for found, path, state in _digests(place):
                self.known.setdefault(found, (path, state))
        return self.known[digest]


def _digests(place: Path) -> Iterator[tuple[str, Path, str | None]]:
    """Yield the digests of a file or of the files below a folder, objects of DICOM left out.

    Results are also recognised by what they were in another state: signing an earlier cycle changes nothing of its numbers.
    """
    for path in _files(place):
        with path.open("rb") as stream:
            if stream.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == b"DICM":
                continue
        yield file_sha256(path), path, None
        content = path.read_bytes() if path.suffix == ".json" else b""
        if b"mrtai.results/1" in content:
            yield from ((hashlib.sha256(_in_state(content, state)).hexdigest(), path, state) for state in STATES)


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    for folder, folders, names in os.walk(place):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(folder) / name).is_file())


def _in_state(content: bytes, state: str) -> bytes:
    return _STATE.sub(rb"\g<1>" + state.encode() + rb"\g<2>", content, count=1)


def _nifti(scans: Sequence[Json], study: Path, toml: Path | None) -> Path:
    """Return the study's folder when the images that ``study.toml`` names are those of the case."""
    stated = () if toml is None else read_study_toml(toml).scans
    paths = [study / name for scan in stated for name in (scan.spect, scan.ct) if name]
    digests = {file_sha256(path) for path in paths if path.is_file()}
    for entry in scans:
        if entry["sha256"] not in digests:
            raise _changed(entry["name"]) if all(path.is_file() for path in paths) else _missing(entry["name"], "no such file")
    return study


def _dicom(scans: Sequence[Json], study: Path, toml: Path | None, scratch: Path) -> Path:
    """Return the study's folder when it holds the case's scans and nothing that came later, else a copy without that.

    Other CTs and contours stay: the run saw and flagged them. Later scans, slices and other patients would change the results.
    """
    series = read_tree(study)
    _require_present(scans, series)
    wanted = {entry["sha256"] for entry in scans}
    patient = next(identity_of([one]) for one in series if any(instance.sha256 in wanted for instance in one.instances))
    kept = [instance.path for one in series for instance in one.instances if instance.sha256 in wanted or _was_there(one, wanted, patient)]
    if len(kept) == sum(len(one.instances) for one in series) and (toml is not None or not (study / "study.toml").is_file()):
        return study
    folder = scratch / "study"
    folder.mkdir()
    for number, path in enumerate(kept):
        _linked(path, folder / f"{number:06d}.dcm")
    return folder


def _bring_prior_pet(digests: Sequence[str], study: Path, toml: Path | None, folder: Path) -> None:
    """Copy the files of a PET that ``study.toml`` names to a copy of the study; refuses one that is missing or changed."""
    stated = read_study_toml(toml).prior if digests and toml is not None else None
    for name in (stated.pet, stated.ct) if stated is not None else ():
        if name is None:
            continue
        source = inside(study, name)
        if file_sha256(source) not in digests:
            raise _changed("prior pet")
        if folder != study:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _linked(source, folder / name)


def _was_there(series: Series, wanted: Iterable[str], patient: tuple[str, str]) -> bool:
    of_the_case = any(instance.sha256 in wanted for instance in series.instances)
    return not of_the_case and series.modality not in SCANS and identity_of([series]) == patient


def _require_present(scans: Sequence[Json], series: Sequence[Series]) -> None:
    names: dict[str, set[str]] = {}
    for instance in (instance for one in series for instance in one.instances):
        names.setdefault(instance.uid or instance.name, set()).add(instance.sha256)
    for entry in scans:
        if entry["name"] not in names:
            raise _missing(entry["name"], "no object of this UID in the study", "give the study the case was made from")
        if entry["sha256"] not in names[entry["name"]]:
            raise _changed(entry["name"])


def _linked(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _missing(name: str, found: str, remedy: str = "give the study the case was made from") -> DosimetryError:
    return DosimetryError("an input of the case is missing", where=name, found=found, remedy=remedy, code="INPUT_MISSING")


def _changed(name: str) -> DosimetryError:
    remedy = "give the study as it was, or run the case again"
    return DosimetryError(
        "an input changed since the case was made", where=name, found="another SHA-256", remedy=remedy, code="INPUT_CHANGED"
    )
