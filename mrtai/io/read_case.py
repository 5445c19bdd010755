"""A CASE folder read back: the values that its DICOM objects must say again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.io.nifti import read_image, read_labels
from mrtai.io.results import results_sha256
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.ledger import CLOSED
from mrtai.values.refusal import DosimetryError

Json = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Case:
    """One case as it lies on disk.

    Attributes:
        results, manifest: the two documents.
        results_sha256: digest of ``results.json`` without its state.
        contours: regions on the grid they were drawn on; ``labels`` the same on the common grid.
        dose, tia: absorbed dose [Gy] and time-integrated activity [Bq s/mL] on the common grid.
        dose_rates: absorbed dose rate at the start of each scan [Gy/s], one per scan.
        pdf: the report for the record.
    """

    results: Json
    manifest: Json
    results_sha256: str
    contours: Labels
    labels: Labels
    dose: Image
    tia: Image
    dose_rates: tuple[Image, ...]
    pdf: bytes

    @property
    def is_signed(self) -> bool:
        """True once a person has signed the draft."""
        return self.results["state"] in CLOSED

    @property
    def written_at(self) -> datetime:
        """When the case was written."""
        return datetime.fromisoformat(self.manifest["written_at"])

    @property
    def title(self) -> str:
        """What the objects say they are of: ``177Lu``-like names are left to codes; ``Lu-177 DOTATATE, cycle 1``."""
        given = self.results["administrations"][0]
        return f"{given['nuclide']} {given['agent']}, cycle {self.results['cycle']}"

    @cached_property
    def drawn(self) -> tuple[Json, ...]:
        """The rows of regions that a contour stands for: single regions, and the liver with its lesions.

        Body, remainder and the other unions are sums of these and are reported without a contour of their own.
        """
        names = set(self.contours.names.values())
        return tuple(row for row in self.results["regions"] if self._members(row, names))

    def mask(self, row: Json) -> NDArray[np.bool_]:
        """Return the voxels of a drawn region on the contours' grid, shape ``(z, y, x)``."""
        values = {name: value for value, name in self.contours.names.items()}
        members = self._members(row, set(values))
        wanted = np.zeros(max(values.values()) + 1, dtype=np.bool_)
        wanted[[values[name] for name in members]] = True
        inside: NDArray[np.bool_] = wanted[self.contours.voxels]
        return inside

    def drawn_by(self, row: Json) -> str:
        """Return what drew a region: ``given-labels``, or a model or rule, as ``organs-ct@1.0.0``; lesions may have one of their own."""
        engines = self.results["engines"]
        own = engines.get("lesion_segmenter", "none") if row["kind"] == "lesion" else "none"
        return str(engines["segmenter"] if own == "none" else own)

    @staticmethod
    def _members(row: Json, names: set[str]) -> tuple[str, ...]:
        """Return the contours that make up a row; none for body, remainder, and unions of what is drawn one by one."""
        if row["kind"] in ("body", "remainder") or row["volume_ml"] is None:
            return ()
        contour = {"liver_without_lesions": "liver"}
        if not row["members"]:
            name = contour.get(row["name"], row["name"])
            return (name,) if name in names else ()
        if row["name"] != "liver" or len(row["members"]) < 2:
            return ()
        return tuple(contour.get(name, name) for name in row["members"])


def read_case(folder: Path) -> Case:
    """Return the case of a CASE folder.

    Raises:
        DosimetryError: not a case of ours, or a file of it is missing or unreadable.
    """
    results, manifest = (_document(folder / name) for name in ("results.json", "manifest.json"))
    if results.get("schema") != "mrtai.results/1" or manifest.get("schema") != "mrtai.manifest/1":
        raise _not_a_case(folder, "another schema")
    images = folder / "images"
    scans = [scan["index"] for scan in results["scans"]]
    if "written_at" not in manifest or not (images / "contours.nii.gz").is_file():
        raise _not_a_case(folder, "a case written before objects were exported")
    try:
        pdf = (folder / "report.pdf").read_bytes()
    except OSError as fault:
        raise _not_a_case(folder, "no report.pdf") from fault
    return Case(
        results=results,
        manifest=manifest,
        results_sha256=results_sha256(results),
        contours=read_labels(images / "contours.nii.gz"),
        labels=read_labels(images / "labels.nii.gz"),
        dose=read_image(images / "dose.nii.gz", Quantity.ABSORBED_DOSE),
        tia=read_image(images / "tia.nii.gz", Quantity.TIME_INTEGRATED_ACTIVITY),
        dose_rates=tuple(read_image(images / f"dose_rate_{index}.nii.gz", Quantity.DOSE_RATE) for index in scans),
        pdf=pdf,
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise _not_a_case(path.parent, f"no readable {path.name}") from fault
    if not isinstance(document, dict):
        raise _not_a_case(path.parent, f"{path.name} is no object")
    return document


def _not_a_case(folder: Path, found: str) -> DosimetryError:
    return DosimetryError("no complete case", where=folder.name, found=found, remedy="make it with `mrtai run`", code="NOT_A_CASE")
