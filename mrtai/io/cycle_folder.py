"""One cycle's folder at a site: what its draft is computed from, frozen under the digest of it all, and the case beside it.

``inputs-<digest>`` is a snapshot made of links: studies as received, what a person attached, calibrations, protocol. A run reads its
snapshot only, so nothing that arrives meanwhile changes what it works on.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mrtai.io.atomic import write_bytes
from mrtai.io.hashes import file_sha256
from mrtai.io.nifti import names_beside, read_labels
from mrtai.io.protocols import load_protocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Rule

DIGITS: Final = 16
LABELS: Final = "labels.nii.gz"
STUDY_TOML: Final = "study.toml"


@dataclass(frozen=True, slots=True)
class Prior:
    """An earlier signed cycle of the same patient: its CASE folder and the digest of its results."""

    case: Path
    results_sha256: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Frozen inputs of one draft: paths for the walk; None or empty where there is nothing of the kind."""

    sha256: str
    study: Path
    protocol: str
    cycle: str
    study_toml: Path | None
    labels: Path | None
    calibrations: tuple[Path, ...]
    priors: tuple[Prior, ...]


@dataclass(frozen=True, slots=True)
class CycleFolder:
    """The folder of one cycle; its name is the case's."""

    root: Path

    @property
    def case(self) -> Path:
        """The CASE folder."""
        return self.root / "case"

    @property
    def kept(self) -> Path:
        """Results of rooms, for the next draft."""
        return self.root / "kept"

    @property
    def attached(self) -> Path:
        """What a person added: ``study.toml``, ``labels.nii.gz`` and its names."""
        return self.root / "attached"

    def attach(self, *, study_toml: Path | None = None, labels: Path | None = None) -> None:
        """Take a person's files, whole, in place of earlier ones; names of labels come along."""
        if study_toml is not None:
            write_bytes(self.attached / STUDY_TOML, study_toml.read_bytes())
        if labels is None:
            return
        beside = [names_beside(labels), labels.with_name("labels.json")]
        names = next((path for path in beside if path.is_file()), None)
        if names is None:
            raise DosimetryError(
                "a label map without names",
                where=labels.name,
                found="no JSON beside it",
                remedy="add labels.json",
                code="LABELS_WITHOUT_NAMES",
            )
        read_labels(labels)
        write_bytes(self.attached / "labels.json", names.read_bytes())
        write_bytes(self.attached / LABELS, labels.read_bytes())

    def freeze(self, studies: Mapping[str, Sequence[Path]], rule: Rule, *, number: int, priors: Sequence[Prior], code: str) -> str:
        """Make the snapshot of all inputs, unless it is there, and return their digest."""
        protocol = load_protocol(rule.protocol)
        sources = {f"study/{key}/{file.name}": file for key, files in studies.items() for file in files}
        sources |= {f"attached/{file.name}": file for file in _visible(self.attached.glob("*"))}
        if rule.calibrations is not None:
            sources |= {f"calibrations/{file.name}": file for file in _visible(rule.calibrations.glob("*.toml"))}
        shipped = not rule.protocol.endswith(".toml")
        if not shipped:
            sources |= {f"protocol/{Path(rule.protocol).name}": Path(rule.protocol)}
        told = {
            "protocol": rule.protocol if shipped else Path(rule.protocol).name,
            "protocol_sha256": protocol.sha256,
            "cycle": str(number),
            "priors": sorted(prior.results_sha256 for prior in priors),
            "code": code,
            "files": {name: file_sha256(file) for name, file in sorted(sources.items())},
        }
        sha256 = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        self._write(sha256, sources, {**told, "prior_cases": [[str(prior.case), prior.results_sha256] for prior in priors]})
        return sha256

    def snapshot(self, sha256: str) -> Snapshot:
        """Return the frozen inputs of a digest.

        Raises:
            DosimetryError: they are gone, or not what was frozen.
        """
        folder = self._place(sha256)
        try:
            told = json.loads((folder / "inputs.json").read_text("utf-8"))
        except (OSError, ValueError) as fault:
            raise self._gone("no snapshot") from fault
        damaged = sum(not _holds(folder / name, digest) for name, digest in told["files"].items())
        if damaged:
            raise self._gone(f"{damaged} files missing or with other content")
        attached = {path.name: path for path in _visible((folder / "attached").glob("*"))}
        named = str(told["protocol"])
        return Snapshot(
            sha256=sha256,
            study=folder / "study",
            protocol=str(folder / "protocol" / named) if named.endswith(".toml") else named,
            cycle=str(told["cycle"]),
            study_toml=attached.get(STUDY_TOML),
            labels=attached.get(LABELS),
            calibrations=tuple(sorted((folder / "calibrations").glob("*.toml"))),
            priors=tuple(Prior(Path(case), digest) for case, digest in told["prior_cases"]),
        )

    def froze(self, sha256: str, key: str, files: Sequence[Path]) -> bool:
        """Say whether a snapshot holds just these files of a study."""
        try:
            told = json.loads((self._place(sha256) / "inputs.json").read_text("utf-8"))["files"]
        except (OSError, ValueError, KeyError):
            return False
        frozen = {name: digest for name, digest in told.items() if name.startswith(f"study/{key}/")}
        return frozen == {f"study/{key}/{file.name}": file_sha256(file) for file in files}

    def sweep(self) -> None:
        """Remove what processes that died while they wrote the CASE folder, or DICOM objects into it, left half-written."""
        for left in [*self.root.glob(f".{self.case.name}.*"), *self.case.glob(".*")]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def discard_others(self, *sha256: str) -> None:
        """Remove the snapshots of other inputs than these, and what an interrupted process left."""
        wanted = {self._place(one) for one in sha256}
        for folder in [*self.root.glob("inputs-*"), *self.root.glob(".inputs-*")]:
            if folder not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def _gone(self, found: str) -> DosimetryError:
        return DosimetryError(
            "the inputs of this draft are not there as they were frozen",
            where=self.root.name,
            found=found,
            remedy="submit the case again",
            code="INPUTS_GONE",
        )

    def _is_whole(self, sha256: str) -> bool:
        try:
            return self.snapshot(sha256).sha256 == sha256
        except DosimetryError:
            return False

    def _place(self, sha256: str) -> Path:
        return self.root / f"inputs-{sha256[:DIGITS]}"

    def _write(self, sha256: str, sources: Mapping[str, Path], told: Mapping[str, Any]) -> None:
        place = self._place(sha256)
        if self._is_whole(sha256):
            return
        if place.exists():  # damaged: out of the way of the one that is made anew
            place.rename(place.with_name(f".{place.name}-{secrets.token_hex(4)}"))
        partial = place.with_name(f".{place.name}-{secrets.token_hex(4)}")
        try:
            (partial / "study").mkdir(parents=True)
            for name, source in sources.items():
                target = partial / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(source, target)
            write_bytes(partial / "inputs.json", json.dumps(told, indent=1).encode())
            partial.rename(place)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            if not place.exists():  # another process was first, which is as good
                raise


def _holds(path: Path, sha256: str) -> bool:
    try:
        return file_sha256(path) == sha256
    except OSError:
        return False


def _visible(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it: what can be edited in place (not a received instance) must not change under the snapshot."""
    if target.suffix == ".dcm":
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system
    shutil.copyfile(source, target)
