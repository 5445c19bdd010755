"""Sums over cycles as tables and words, shared by their own page and the reports of a cycle; read from ``mrtai.cumulative/1``."""

import csv
from io import StringIO
from typing import Final

from mrtai.io.report_tables import Json, plain, significant, with_sd

KINDS: Final = (
    ("Organs", ("organ", "other")),
    ("Red marrow", ("marrow",)),
    ("Lesions", ("lesion",)),
    ("Unions", ("union",)),
)
SUM_COLUMNS: Final = (
    ("region", ""),
    ("dose by cycle", "Gy"),
    ("dose, all cycles", "Gy"),
    ("remaining", "Gy"),
    ("BED, all cycles", "Gy"),
    ("remaining", "Gy"),
    ("EQD2, all cycles", "Gy"),
    ("verdict", ""),
)
CYCLE_COLUMNS: Final = (("cycle", ""), ("nuclide", ""), ("agent", ""), ("administered", "MBq"), ("at", ""), ("state", ""))
CSV_COLUMNS: Final = (
    *("region", "kind", "tracking_uid", "cycle", "nuclide"),
    *("absorbed_dose_gy", "absorbed_dose_sd_gy", "bed_gy", "bed_sd_gy", "eqd2_gy", "eqd2_sd_gy"),
    *("dose_limit_gy", "dose_remaining_gy", "bed_limit_gy", "bed_remaining_gy", "flags"),
)
WORDS: Final = (
    "BED and EQD2 are summed cycle by cycle; they are not those of the summed dose. ± is one standard uncertainty (k = 1): the camera's "
    "sensitivity, where its calibration file states one, is common to all cycles and adds up, all else counts as independent between "
    "cycles, and α/β and kinetics as exact. What remains is the protocol's limit less the sum, negative once the limit is exceeded. "
    "Limits are flags, not decisions. A dash: not computed, a flag says why."
)


def sum_groups(document: Json) -> list[tuple[str, list[list[str]]]]:
    """Return the rows of ``SUM_COLUMNS`` as organs, marrow, lesions and unions, without empty groups."""
    several = len({cycle["nuclide"] for cycle in document["cycles"]}) > 1
    groups = []
    for title, kinds in KINDS:
        rows = [cells for row in document["regions"] if row["kind"] in kinds for cells in _rows(row, document["cycles"], several)]
        groups.append((title, rows))
    return [(title, rows) for title, rows in groups if rows]


def cumulative_words(document: Json) -> str:
    """Return what the sums in a cycle's results hold, for its report; empty where there are none."""
    found = document["cumulative"]
    if found is None:
        return ""
    labels = [f"{position}: {cycle['label']}, {cycle['state']}" for position, cycle in enumerate(found["cycles"], start=1)]
    return f"{'; '.join(labels)}. Limits of the protocol {found['protocol']}. {WORDS}"


def cycle_rows(document: Json) -> list[list[str]]:
    """Return the cells of every cycle in the order of ``CYCLE_COLUMNS``."""
    return [
        [
            f"{position}: {cycle['label']}",
            cycle["nuclide"],
            cycle["agent"],
            significant(cycle["activity_mbq"], 4),
            cycle["time"].replace("T", " "),
            cycle["state"] + (", scans missing" if cycle["provisional"] else ""),
        ]
        for position, cycle in enumerate(document["cycles"], start=1)
    ]


def cumulative_csv(document: Json) -> str:
    """Return one row a region and cycle, then one for the sum (and for each nuclide, where there are several)."""
    stream = StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    nuclides = [cycle["nuclide"] for cycle in document["cycles"]]
    for row in document["regions"]:
        start = [row["name"], row["kind"], row["tracking_uid"]]
        for part in row["cycles"]:
            table.writerow([*start, part["position"], nuclides[part["position"] - 1], *_numbers(part), *[None] * 5])
        if len(set(nuclides)) > 1:
            table.writerows([*start, "sum", nuclide, *_numbers(sums), *[None] * 5] for nuclide, sums in row["by_nuclide"].items())
        codes = " ".join(flag["code"] for flag in row["flags"])
        table.writerow([*start, "sum", "+".join(dict.fromkeys(nuclides)), *_numbers(row), *_limits(row), codes])
    return stream.getvalue()


def _numbers(values: Json) -> list[float | None]:
    return [values[f"{quantity}_{kind}gy"] for quantity in ("absorbed_dose", "bed", "eqd2") for kind in ("", "sd_")]


def _limits(row: Json) -> list[float | None]:
    by_quantity = {limit["quantity"]: limit for limit in row["limits"]}
    found = [by_quantity.get(quantity, {}) for quantity in ("absorbed_dose", "bed")]
    return [limit.get(key) for limit in found for key in ("limit_gy", "remaining_gy")]


def _rows(row: Json, cycles: list[Json], several: bool) -> list[list[str]]:
    left = {limit["quantity"]: _remaining(limit) for limit in row["limits"]}
    rows = [_cells(plain(row["name"]), row["cycles"], row, left, row["verdict"])]
    for nuclide, sums in row["by_nuclide"].items() if several else ():
        parts = [part for part in row["cycles"] if cycles[part["position"] - 1]["nuclide"] == nuclide]
        rows.append(_cells(f"{plain(row['name'])}, {nuclide} alone", parts, sums, {}, ""))
    return rows


def _cells(name: str, parts: list[Json], sums: Json, left: dict[str, str], verdict: str) -> list[str]:
    by_cycle = ", ".join(f"{part['position']}: {significant(part['absorbed_dose_gy'])}" for part in parts)
    dose, bed, eqd2 = (with_sd(sums[f"{key}_gy"], sums[f"{key}_sd_gy"]) for key in ("absorbed_dose", "bed", "eqd2"))
    return [name, by_cycle, dose, left.get("absorbed_dose", ""), bed, left.get("bed", ""), eqd2, verdict]


def _remaining(limit: Json) -> str:
    return f"{with_sd(limit['remaining_gy'], limit['remaining_sd_gy'])} of {limit['limit_gy']:g}"
