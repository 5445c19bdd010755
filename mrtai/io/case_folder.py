"""The CASE folder: complete or not there, and never over a signed one."""

import csv
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, Final

from mrtai.io.atomic import whole_folder, write_bytes
from mrtai.io.cumulative import with_earlier
from mrtai.io.manifest import SCHEMA as MANIFEST_SCHEMA
from mrtai.io.manifest import case_manifest
from mrtai.io.nifti import write_image, write_labels
from mrtai.io.report_figures import report_figures
from mrtai.io.report_html import html_report
from mrtai.io.report_pdf import pdf_report
from mrtai.io.results import Json, dumped, read_results, require_valid, results
from mrtai.values.ledger import CLOSED
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import Report

OUR_FOLDERS: Final = frozenset({"images", "figures", "dicom"})
OUR_FILES: Final = frozenset({"results.json", "manifest.json", "regions.csv"})
CSV_COLUMNS: Final = (
    "region",
    "kind",
    "verdict",
    "volume_ml",
    "mass_g",
    "effective_half_life_h",
    "tia_mbq_h",
    "tia_sd_mbq_h",
    "tiac_h",
    "absorbed_dose_gy",
    "absorbed_dose_sd_gy",
    "without_recovery_gy",
    "with_recovery_gy",
    "d98_gy",
    "d90_gy",
    "d50_gy",
    "d2_gy",
    "bed_gy",
    "eqd2_gy",
)


def write_case(report: Report, out: Path, *, manifest: Mapping[str, Any]) -> Path:
    """Write the whole CASE folder of a report and return its path.

    Everything is written into a hidden folder beside ``out`` and moved into place at the end, so a reader sees the old case or
    the new one. ``manifest`` holds what only the caller knows (see ``case_manifest``).

    Raises:
        DosimetryError: ``out`` lies below a file, is not a case of ours, holds foreign files, or is signed or released.
    """
    require_replaceable(out)
    out = out.resolve()
    with whole_folder(out) as partial:
        _write_all(report, partial, manifest)
        require_replaceable(out)  # it may have been signed meanwhile
    return out


def write_state(folder: Path, state: str) -> None:
    """Write a new state into the results of a CASE folder; the ledger says when."""
    document = read_results(folder)
    if document["state"] != str(state):
        write_bytes(folder / "results.json", dumped(require_valid({**document, "state": str(state)})).encode())


def require_replaceable(out: Path) -> None:
    """Raise ``DosimetryError`` unless ``out`` is absent, empty, or a case of ours alone that nobody has signed or released."""
    _require_folder_above(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or _value(out / "manifest.json", "schema") != MANIFEST_SCHEMA:
        raise DosimetryError(
            "the output is no case of ours and is left alone",
            where=out.name,
            found="a folder with other content" if out.is_dir() else "a file",
            remedy="choose a new or empty folder for --out",
            code="OUTPUT_NOT_OURS",
        )
    foreign = sum(not _is_ours(path) for path in out.iterdir())
    if foreign:
        raise DosimetryError(
            "the case holds files that are not ours, which replacing it would delete",
            where=out.name,
            found=f"{foreign} beside {', '.join(sorted(OUR_FILES))}, report.* and {', '.join(sorted(OUR_FOLDERS))}",
            remedy="move them away, or choose another folder for --out",
            code="OUTPUT_NOT_OURS",
        )
    state = _value(out / "results.json", "state")
    if state is None or state in CLOSED:
        raise DosimetryError(
            "the case is kept as it is",
            where=out.name,
            found=f"state {state or 'unreadable'}",
            remedy="choose another folder for --out; a signed case is never replaced",
            code="CASE_SIGNED",
        )


def _require_folder_above(out: Path) -> None:
    above = next(place for place in out.absolute().parents if place.exists())
    if not above.is_dir():
        raise DosimetryError(
            "the output cannot lie below a file",
            where=out.name,
            found="a file where a folder is needed",
            remedy="choose a folder for --out",
            code="BAD_OUTPUT",
        )


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return path.name in OUR_FOLDERS
    return path.name in OUR_FILES or path.name.startswith("report.")


def regions_csv(document: Json) -> str:
    """Return the region table as CSV with the unit in every heading; empty where there is no number."""
    stream = StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for region in document["regions"]:
        dose, lq = region["absorbed_dose_gy"], region["radiobiology"]
        table.writerow(
            [region["name"], region["kind"], region["verdict"], region["volume_ml"], region["mass_g"]]
            + [region["kinetics"]["effective_half_life_h"], region["tia_mbq_h"], region["tia_sd_mbq_h"], region["tiac_h"]]
            + [dose[key] for key in ("mean", "mean_sd", "without_recovery", "with_recovery", "d98", "d90", "d50", "d2")]
            + [lq["bed_gy"], lq["eqd2_gy"]]
        )
    return stream.getvalue()


def _write_all(report: Report, folder: Path, manifest: Mapping[str, Any]) -> None:
    document = require_valid(with_earlier(results(report), report.earlier, report.protocol))
    written_at = datetime.now(UTC).isoformat(timespec="seconds")
    provenance = require_valid(case_manifest(report, {"written_at": written_at, **manifest}), "manifest.schema.json")
    pictures = report_figures(report)
    images = folder / "images"
    images.mkdir(parents=True)
    (folder / "results.json").write_text(dumped(document), "utf-8")
    (folder / "manifest.json").write_text(dumped(provenance), "utf-8")
    (folder / "regions.csv").write_text(regions_csv(document), "utf-8")
    (folder / "report.html").write_text(html_report(report, document, pictures, manifest=provenance), "utf-8")
    (folder / "report.pdf").write_bytes(pdf_report(report, document, pictures, manifest=provenance))
    write_images(report, images)
    figures = folder / "figures"
    figures.mkdir()
    for figure in (*pictures.figures, *pictures.organs.values()):
        (figures / f"{figure.name}.png").write_bytes(figure.content)


def write_images(report: Report, folder: Path) -> None:
    """Write the images of a report into an existing folder."""
    points = report.aligned.cycle.time_points
    ct = points[report.aligned.reference].ct
    if ct is not None:
        write_image(folder / "ct.nii.gz", ct)
    for point, spect in zip(points, report.aligned.spects, strict=True):
        write_image(folder / f"spect_{point.index}.nii.gz", spect)
    write_image(folder / "tia.nii.gz", report.tia)
    if report.tia_sd is not None:
        write_image(folder / "tia.sd.nii.gz", report.tia_sd)
    write_image(folder / "dose.nii.gz", report.dose.total)
    if report.dose.sd is not None:
        write_image(folder / "dose.sd.nii.gz", report.dose.sd)
    for point, rate in zip(points, report.dose_rates, strict=False):
        write_image(folder / f"dose_rate_{point.index}.nii.gz", rate)
    write_labels(folder / "labels.nii.gz", report.labels)
    write_labels(folder / "contours.nii.gz", report.contours)


def _value(path: Path, key: str) -> str | None:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, str) else None
