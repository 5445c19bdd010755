"""A report's tables as text, shared by HTML and PDF; every cell is read from the content of ``results.json``."""

import math
from collections.abc import Mapping
from typing import Any, Final

from mrtai.physics.second_opinion import MOST_DIFFERENCE
from mrtai.units import LN2, SECONDS_PER_MINUTE
from mrtai.values.report import Report

Json = Mapping[str, Any]

_MISSING: Final = "–"
_DIGEST_LENGTH: Final = 64

REGION_COLUMNS: Final = (
    ("region", ""),
    ("volume", "mL"),
    ("mass", "g"),
    ("T½ eff", "h"),
    ("Ã", "MBq h"),
    ("TIAC", "h"),
    ("mean dose", "Gy"),
    ("D98", "Gy"),
    ("D50", "Gy"),
    ("D2", "Gy"),
    ("BED", "Gy"),
    ("EQD2", "Gy"),
    ("verdict", ""),
)


FIT_COLUMNS: Final = (
    ("region", ""),
    ("method → model", ""),
    ("Ã before first scan", "%"),
    ("Ã after last scan", "%"),
    ("Ã, 68 % interval", "MBq h"),
    ("more than 20 % off", "%"),
    ("reason and rules", ""),
)
CHECK_COLUMNS: Final = (
    ("region", ""),
    ("mean dose", "Gy"),
    ("second engine", "Gy"),
    ("difference", "%"),
    ("", ""),
)
CHECK_MARK: Final = "above 5 %"
MARROW_COLUMNS: Final = (
    ("method", ""),
    ("from", ""),
    ("Ã", "MBq h"),
    ("mean dose", "Gy"),
    ("RMBLR", ""),
    ("haematocrit", ""),
)
SCAN_COLUMNS: Final = (
    ("scan", ""),
    ("time", "h"),
    ("duration", "min"),
    ("activity in view", "MBq"),
    ("of administered", "%"),
    ("of administered, decayed", "%"),
    ("calibration", ""),
    ("decay referred to", ""),
    ("dead time factor", ""),
    ("registration residual", "mm"),
)


def significant(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits and no exponent between 0.001 and a million; a dash for None."""
    if value is None:
        return _MISSING
    if value == 0 or not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    decimals = digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def with_sd(value: float | None, sd: float | None) -> str:
    """Return ``4.72 ± 0.61``, both to the decimals of three significant digits of the value."""
    if value is None:
        return _MISSING
    shown = significant(value)
    if sd is None:
        return shown
    decimals = len(shown.partition(".")[2])
    return f"{shown} ± {sd:.{decimals}f}"


def plain(name: str) -> str:
    """Return a region's name with spaces."""
    return name.replace("_", " ")


def region_groups(document: Json) -> list[tuple[str, list[Json]]]:
    """Return the regions as organs, lesions and unions, in this order, without empty groups."""
    kinds = (("Organs", ("organ", "other")), ("Lesions", ("lesion",)), ("Unions and the rest of the body", ("union", "body", "remainder")))
    groups = [(title, [region for region in document["regions"] if region["kind"] in wanted]) for title, wanted in kinds]
    return [(title, regions) for title, regions in groups if regions]


def region_row(region: Json) -> list[str]:
    """Return the cells of one region in the order of ``REGION_COLUMNS``."""
    dose, lq = region["absorbed_dose_gy"], region["radiobiology"]
    return [
        plain(region["name"]),
        significant(region["volume_ml"], 4),
        significant(region["mass_g"], 4),
        significant(region["kinetics"]["effective_half_life_h"]),
        significant(region["tia_mbq_h"], 4),
        significant(region["tiac_h"]),
        with_sd(dose["mean"], dose["mean_sd"]) + _rbe_weighted(dose) + _other_way(dose),
        significant(dose["d98"]),
        significant(dose["d50"]),
        significant(dose["d2"]),
        significant(lq["bed_gy"]),
        significant(lq["eqd2_gy"]),
        region["verdict"],
    ]


def _rbe_weighted(dose: Json) -> str:
    weighted = dose.get("rbe_weighted")
    return "" if weighted is None else f" (RBE-weighted {significant(weighted['mean_gy_rbe'])})"


def _other_way(dose: Json) -> str:
    """Return the mean dose with recovery where the draft's is without, and the other way round; nothing where both are one."""
    without, recovered = dose["without_recovery"], dose["with_recovery"]
    if without is None or without == recovered:
        return ""
    word, other = ("without", without) if dose["mean"] == recovered else ("with", recovered)
    return f" ({word} recovery {significant(other)})"


def fit_rows(document: Json) -> list[list[str]]:
    """Return per fitted region: name, method and model, head and tail share of Ã, its interval, the chance of a large error, and why."""
    rows = []
    for region in document["regions"]:
        kinetics = region["kinetics"]
        if kinetics["model"] is not None:
            head, tail = (_percent(kinetics[key]) for key in ("fraction_before_first_scan", "fraction_after_last_scan"))
            interval = " to ".join(significant(end) for end in kinetics["tia_68_mbq_h"] or ()) or _MISSING
            off = _percent(kinetics["probability_off_20_percent"])
            prior = kinetics["parameters"].get("prior_source")
            rules = [f"head: {kinetics['head']}", f"tail: {kinetics['tail']}", *([f"prior: {prior}"] if prior else [])]
            why = "; ".join([kinetics["reason"] or _MISSING, *rules])
            rows.append([plain(region["name"]), f"{kinetics['method']} → {kinetics['model']}", head, tail, interval, off, why])
    return rows


def check_rows(document: Json) -> list[list[str]]:
    """Return per region the mean dose, the second engine's with its statistics, their difference, and a mark above 5 %."""
    doses = {region["name"]: region["absorbed_dose_gy"]["mean"] for region in document["regions"]}
    rows = []
    for check in document["check"]:
        difference, sd = check["difference"], check["dose_sd_gy"]
        relative = None if sd is None or not check["dose_gy"] else 100 * sd / check["dose_gy"]
        shown = _MISSING if difference is None else f"{100 * difference:+.1f}" + ("" if relative is None else f" ± {relative:.1f}")
        mark = CHECK_MARK if difference is not None and abs(difference) > MOST_DIFFERENCE else ""
        second = significant(check["dose_gy"]) + ("" if sd is None else f" ± {significant(sd, 2)}")
        cells = [plain(check["region"]), significant(doses[check["region"]]), second, shown, mark]
        rows.append(cells)
    return rows


def marrow_rows(document: Json) -> list[list[str]]:
    """Return the cells of every estimate of the red marrow's dose in the order of ``MARROW_COLUMNS``."""
    return [
        [
            f"{marrow['method']}-based",
            plain(marrow["from"]),
            significant(marrow["tia_mbq_h"], 4),
            with_sd(marrow["absorbed_dose_gy"], marrow["absorbed_dose_sd_gy"]),
            significant(marrow["rmblr"]),
            significant(marrow["haematocrit"]),
        ]
        for marrow in document["red_marrow"]
    ]


def header_rows(report: Report, document: Json) -> list[tuple[str, str]]:
    """Return what the top of a report says about patient, administration and protocol, as pairs of heading and text."""
    given = document["administrations"][0]
    scans = "1 scan" if len(document["scans"]) == 1 else f"{len(document['scans'])} scans"
    return [
        ("Patient", document["patient"]["pseudonym"]),
        ("Cycle", f"{document['cycle']}, {scans} of {report.protocol.expected_scans} expected"),
        ("Agent", f"{given['nuclide']} {given['agent']}"),
        ("Administered", f"{given['activity_mbq']:g} MBq"),
        ("At", given["time"].replace("T", " ")),
        ("Protocol", report.protocol.name),
        ("Contours by", report.contours.origin),
        ("Dose engine", _engines(document["engines"])),
        *_rbe_rows(report.protocol.rbe),
    ]


def _engines(engines: Json) -> str:
    return engines["dose"] if engines["check"] == "none" else f"{engines['dose']}, checked by {engines['check']}"


def _rbe_rows(rbe: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return what is said of RBE where the protocol sets it; two rows, since pages show them in pairs."""
    if not rbe:
        return []
    factors = ", ".join(f"{radiation} {factor:g}" for radiation, factor in rbe.items())
    return [
        ("RBE", f"{factors}, set by the protocol"),
        ("RBE-weighted dose", "in brackets beside the physical mean dose; D98, D50, D2, BED, EQD2, maps and limits are physical"),
    ]


def scan_rows(document: Json, half_life_h: float) -> list[list[str]]:
    """Return the cells of every scan in the order of ``SCAN_COLUMNS``; ``half_life_h`` is the nuclide's physical one."""
    given_mbq = document["administrations"][0]["activity_mbq"]
    rows = []
    for scan in document["scans"]:
        share = None if scan["activity_in_view_mbq"] is None else scan["activity_in_view_mbq"] / given_mbq
        undecayed = None if share is None else share * math.exp(LN2 * scan["time_h"] / half_life_h)
        duration_min = None if scan["duration_s"] is None else scan["duration_s"] / SECONDS_PER_MINUTE
        rows.append(
            [
                str(scan["index"]),
                f"{scan['time_h']:.2f}",
                significant(duration_min),
                significant(scan["activity_in_view_mbq"], 4),
                _percent(share),
                _percent(undecayed),
                scan["calibration"] if len(scan["calibration"]) < _DIGEST_LENGTH else f"file {scan['calibration'][:12]}…",
                scan["decay_referred_to"],
                significant(scan["dead_time_factor"], 4),
                significant(scan["registration_residual_mm"], 2),
            ]
        )
    return rows


def _percent(share: float | None) -> str:
    return _MISSING if share is None else f"{100 * share:.0f}"
