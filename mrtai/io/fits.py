"""The tables of the single commands: curves in, fits and dose statistics out."""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from mrtai.io.atomic import write_bytes
from mrtai.io.results import absorbed_dose, dumped, flag_list, kinetics, proposal, require_valid, rounded, scaled, time_activity
from mrtai.physics.dvh import statistics
from mrtai.physics.plausibility import ceiling_flags, tiac_h
from mrtai.physics.resample import largest_share
from mrtai.units import BQ_PER_MBQ, BQ_S_PER_MBQ_H
from mrtai.values.curve import Curve, Fit
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.next_scan import NextScan
from mrtai.values.nuclide import Nuclide
from mrtai.values.refusal import DosimetryError

COLUMNS: Final = ("region", "time_h", "activity_mbq", "activity_sd_mbq")


def read_curves(path: Path) -> list[Curve]:
    """Return the curves of a table ``region,time_h,activity_mbq,activity_sd_mbq``, in order of first appearance.

    Raises:
        DosimetryError: missing columns, something that is no number, or times that do not increase.
    """
    if not path.is_file():
        raise _bad(path, "the table is missing", "no file", "give a CSV file")
    rows: dict[str, list[tuple[float, float, float]]] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin UTF-8 with a mark
    except UnicodeDecodeError as error:
        raise _bad(path, "the table is not UTF-8 text", str(error.reason), "save it as CSV in UTF-8") from error
    table = csv.DictReader(StringIO(text, newline=""))
    missing = set(COLUMNS) - {"activity_sd_mbq"} - set(table.fieldnames or ())
    if missing:
        raise _bad(path, f"columns {', '.join(sorted(missing))} are missing", str(table.fieldnames), f"use {','.join(COLUMNS)}")
    _require_plain_headings(path, table.fieldnames or ())
    for number, row in enumerate(table, start=2):
        beyond = [*(row.get(None) or ()), *(value or "" for name, value in row.items() if name is not None and not name.strip())]
        if any(value.strip() for value in beyond):
            found = f"{sum(value.strip() != '' for value in beyond)} beyond the named columns"
            raise _bad(path, f"line {number} has too many fields", found, "write numbers with a decimal point, and one field a column")
        if not (row["region"] or "").strip():
            raise _bad(path, f"line {number} has no region", repr(row["region"]), "name the region")
        rows.setdefault(row["region"].strip(), []).append(_numbers(path, number, row))
    if not rows:
        raise _bad(path, "the table is empty", "no row", f"use {','.join(COLUMNS)}")
    return [_curve(path, region, points) for region, points in rows.items()]


def _require_plain_headings(path: Path, headings: Sequence[str]) -> None:
    named = [name for name in headings if name.strip()]  # spreadsheets end lines with empty columns
    unknown = sorted({repr(name) for name in named if name not in COLUMNS})
    twice = sorted({name for name in named if named.count(name) > 1})
    if unknown or twice:
        found = f"unknown: {', '.join(unknown)}" if unknown else f"twice: {', '.join(twice)}"
        raise _bad(path, "columns that cannot be read", found, f"use {','.join(COLUMNS)}, each once")


def write_fits(
    fits: Iterable[Fit], path: Path, *, nuclide: Nuclide, administered_mbq: float | None, next_scan: NextScan | None = None
) -> None:
    """Write ``mrtai.fits/1``; ``tiac_h`` is null where the administered activity is not given.

    Raises:
        DosimetryError: ``path`` cannot be a file.
    """
    if path.is_dir():
        raise _bad(path, "the output is a folder", "a folder", "give the name of a file")
    administered_bq = None if administered_mbq is None else administered_mbq * BQ_PER_MBQ
    regions = [
        {
            "name": fit.curve.region,
            "time_activity": time_activity(fit.curve),
            "kinetics": kinetics(fit),
            "tia_mbq_h": scaled(fit.tia_bq_s, BQ_S_PER_MBQ_H),
            "tia_sd_mbq_h": scaled(fit.tia_sd_bq_s, BQ_S_PER_MBQ_H),
            "tiac_h": None if administered_bq is None else rounded(tiac_h(fit.tia_bq_s, administered_bq)),
            "flags": flag_list((*fit.flags, *ceiling_flags(fit.tia_bq_s, administered_bq, nuclide))),
        }
        for fit in fits
    ]
    document = {"schema": "mrtai.fits/1", "nuclide": nuclide.name, "regions": regions, "next_scan": proposal(next_scan)}
    write_bytes(path, dumped(require_valid(document, "fits.schema.json")).encode())


def write_pictures(fits: Sequence[Fit], folder: Path, progress: Callable[[str, float], None]) -> None:
    """Write one PNG a region: its points, its curve, and what of the integral was not measured."""
    from mrtai.io.figures import fit_figure, png  # matplotlib, which fitting does not need

    for number, fit in enumerate(fits, start=1):
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", fit.curve.region)
        write_bytes(folder / f"{name}.png", png(fit_figure(fit)))
        progress(fit.curve.region, number / len(fits))


def write_stats(dose: Image, labels: Labels, path: Path) -> int:
    """Write ``mrtai.stats/1`` and return the number of regions; mass is null, since a dose map does not know it.

    Raises:
        DosimetryError: no region has a voxel on the dose map.
    """
    on_dose = largest_share(labels, dose.grid)
    if not on_dose.voxels.any():
        raise DosimetryError(
            "no region lies on the dose map",
            where="--labels",
            found=f"{len(labels.names)} regions, none with a voxel of the map",
            remedy="check that labels and dose are of one patient and one space",
            code="FOREIGN_GRID",
        )
    regions = [_stats(dose, labels, on_dose, name) for name in labels.names.values()]
    document = require_valid({"schema": "mrtai.stats/1", "regions": regions}, "stats.schema.json")
    write_bytes(path, dumped(document).encode())
    return len(regions)


def _stats(dose: Image, labels: Labels, on_dose: Labels, name: str) -> dict[str, Any]:
    mask = on_dose.mask(name)
    measured = statistics(dose.voxels[mask], {}, relative_sd=None) if mask.any() else None
    volume_ml = int(labels.mask(name).sum()) * labels.grid.voxel_ml
    return {"name": name, "volume_ml": rounded(volume_ml or None), "mass_g": None, "absorbed_dose_gy": absorbed_dose(measured)}


def _numbers(path: Path, line: int, row: dict[str, str | None]) -> tuple[float, float, float]:
    values = []
    for column in COLUMNS[1:]:
        text = (row.get(column) or "").strip()
        if not text and column == "activity_sd_mbq":
            values.append(np.nan)
            continue
        try:
            values.append(float(text))
        except ValueError as error:
            raise _bad(path, f"line {line}, {column} is no number", repr(text), "write numbers with a decimal point") from error
        if not np.isfinite(values[-1]):
            raise _bad(path, f"line {line}, {column} is not finite", repr(text), "leave an unknown uncertainty empty")
    return values[0], values[1], values[2]


def _curve(path: Path, region: str, points: Sequence[tuple[float, float, float]]) -> Curve:
    t_h, activity_mbq, sd_mbq = np.array(points).T
    if np.any(sd_mbq <= 0):
        raise _bad(
            path, f"{region}: an uncertainty is not positive", f"{sd_mbq.tolist()} MBq", "leave the field empty where it is not known"
        )
    try:
        return Curve(region, t_h, activity_mbq * BQ_PER_MBQ, sd_mbq * BQ_PER_MBQ)
    except ValueError as error:
        raise _bad(path, "the times cannot be used", str(error), "one row a scan, hours after administration, increasing") from error


def _bad(path: Path, what: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where=path.name, found=found, remedy=remedy, code="BAD_TABLE")
