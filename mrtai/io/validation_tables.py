"""The tables of a comparison's page; every cell is read from the content of ``validation.json``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mrtai.io.report_tables import plain, significant
from mrtai.io.validation_words import QUANTITY_WORDS, group_title, p_words, percent, steps_words
from mrtai.physics.attribution import STEPS

Json = Mapping[str, Any]
DASH: Final = "–"

AGREEMENT_COLUMNS: Final = (
    ("class of regions", ""),
    ("values", ""),
    ("patients", ""),
    ("mean difference", "automatic − manual"),
    ("limits of agreement", ""),
    ("mean ratio", "automatic/manual"),
    ("limits of agreement", "as ratio"),
    ("scale", ""),
    ("equivalent", ""),
)
CONCORDANCE_COLUMNS: Final = (("class of regions", ""), ("Lin's concordance", ""), ("ICC(2,1)", ""), ("ICC(3,1)", ""))
REGRESSION_COLUMNS: Final = (
    ("class of regions", ""),
    ("Deming slope", ""),
    ("Deming intercept", ""),
    ("Passing–Bablok slope", ""),
    ("Passing–Bablok intercept", ""),
)
STEP_COLUMNS: Final = (
    ("class of regions", ""),
    ("regions", ""),
    ("difference", ""),
    *((steps_words([step]), "") for step in STEPS),
    ("not separable", ""),
)
PAIR_COLUMNS: Final = (
    ("patient", ""),
    ("cycle", ""),
    ("region", ""),
    ("dose, automatic", "Gy"),
    ("dose, manual", "Gy"),
    ("difference", ""),
    *((steps_words([step]), "") for step in STEPS),
    ("not separable", ""),
)
SIDE_COLUMNS: Final = (("side", ""), ("patient", ""), ("cycle", ""), ("source", ""), ("version", ""), ("state", ""), ("SHA-256", ""))


def agreement_groups(document: Json) -> list[tuple[str, list[list[str]]]]:
    """Return the rows of bias and limits, a group a quantity."""
    return [(title, [_agreement(row) for row in rows]) for title, rows in _by_quantity(document)]


def concordance_groups(document: Json) -> list[tuple[str, list[list[str]]]]:
    """Return the rows of concordance, a group a quantity."""
    return [(title, [_concordance(row) for row in rows]) for title, rows in _by_quantity(document)]


def regression_groups(document: Json) -> list[tuple[str, list[list[str]]]]:
    """Return the rows of slopes and intercepts, a group a quantity."""
    return [(title, [_regression(row) for row in rows]) for title, rows in _by_quantity(document)]


def step_rows(document: Json) -> list[list[str]]:
    """Return the mean shares of every class."""
    return [[group_title(one["group"]), _counted(one), *_shares(one)] for one in document["attribution"]]


def pair_rows(document: Json) -> list[list[str]]:
    """Return every pair with a dose, largest difference first."""
    told = [pair for pair in document["pairs"] if pair["attribution"]]
    told.sort(key=lambda pair: -abs(pair["attribution"]["total_ln_ratio"]))
    return [
        [
            pair["patient"],
            str(pair["cycle"]),
            plain(pair["region"]),
            significant(pair["automatic"]["absorbed_dose"], 4),
            significant(pair["manual"]["absorbed_dose"], 4),
            *_shares(pair["attribution"]),
        ]
        for pair in told
    ]


def side_rows(document: Json) -> list[list[str]]:
    """Return versions and digests of both sides; rows that differ in patient and cycle alone are joined for a common file."""
    found: dict[tuple[str, ...], list[Json]] = {}
    for side in ("automatic", "manual"):
        for cycle in document[side]:
            key = (side, *(cycle.get(name, DASH) for name in ("source", "version", "state", "sha256")))
            found.setdefault(key, []).append(cycle)
    return [
        [key[0], _joined(sorted({one["patient"] for one in cycles})), _joined(sorted({str(one["cycle"]) for one in cycles})), *key[1:]]
        for key, cycles in found.items()
    ]


def unmatched_rows(document: Json) -> list[tuple[str, str]]:
    """Return what has no partner: what, and in which cycles; cycles that lack the same are joined."""
    by_cycle: dict[tuple[str, int, str], list[str]] = {}
    for one in document["unmatched"]:
        names = by_cycle.setdefault((one["patient"], one["cycle"], one["why"]), [])
        if one["region"]:
            names.append(plain(one["region"]))
    found: dict[tuple[str, str], list[str]] = {}
    for (patient, cycle, why), names in by_cycle.items():
        what = ", ".join(names) if names else "whole cycle"
        found.setdefault((what, why), []).append(f"{patient} cycle {cycle}")
    return [(f"{what[0].upper()}{what[1:]}", f"{why}; {', '.join(places)}") for (what, why), places in found.items()]


def _by_quantity(document: Json) -> list[tuple[str, list[Json]]]:
    found: dict[str, list[Json]] = {}
    for row in document["statistics"]:
        found.setdefault(row["quantity"], []).append(row)
    return [(f"{QUANTITY_WORDS[name]} [{rows[0]['unit']}]", rows) for name, rows in found.items()]


def _agreement(row: Json) -> list[str]:
    difference, ratio, equal = row["difference"], row["ratio"] or {}, row["equivalence"]
    return [
        group_title(row["group"]),
        str(row["points"]),
        str(row["patients"]),
        _with_ends(difference["bias"], difference["bias_95"]),
        _ends((difference["lower"], difference["upper"])),
        _ratio(ratio.get("mean"), ratio.get("mean_95")),
        _ratio_ends((ratio.get("lower"), ratio.get("upper"))),
        row["scale"],
        DASH if equal is None else f"{'yes' if equal['shown'] else 'not shown'} ({p_words(equal['p'])})",
    ]


def _concordance(row: Json) -> list[str]:
    values = [(row[name] or {}) for name in ("concordance", "icc_2_1", "icc_3_1")]
    return [group_title(row["group"]), *(_ratio(one.get("value"), one.get("interval_95")) for one in values)]


def _regression(row: Json) -> list[str]:
    lines = [(row[name] or {}) for name in ("deming", "passing_bablok")]
    ends = (_with_ends(line.get(name), line.get(f"{name}_95")) for line in lines for name in ("slope", "intercept"))
    return [group_title(row["group"]), *ends]


def _shares(one: Json) -> list[str]:
    alone = {part["steps"][0]: percent(part["ln_ratio"]) for part in one["contributions"] if len(part["steps"]) == 1}
    together = [
        f"{percent(part['ln_ratio'])} {steps_words(part['steps']).removesuffix(' (not separable)')}"
        for part in one["contributions"]
        if len(part["steps"]) > 1
    ]
    return [percent(one["total_ln_ratio"]), *(alone.get(step, DASH) for step in STEPS), "; ".join(together) or DASH]


def _counted(one: Json) -> str:
    return str(one["pairs"]) if one["pairs"] == one["of"] else f"{one['pairs']} of {one['of']}"


def _with_ends(value: float | None, ends: Sequence[float | None] | None) -> str:
    shown = significant(value).replace("-", "−")
    return shown if ends is None or value is None else f"{shown} ({_ends(ends)})"


def _ends(ends: Sequence[float | None]) -> str:
    return DASH if None in ends else " to ".join(significant(end).replace("-", "−") for end in ends)


def _ratio(value: float | None, ends: Sequence[float | None] | None) -> str:
    if value is None:
        return DASH
    shown = f"{value:.3f}".replace("-", "−")
    return shown if ends is None else f"{shown} ({_ratio_ends(ends)})"


def _ratio_ends(ends: Sequence[float | None]) -> str:
    return DASH if None in ends else " to ".join(f"{end:.3f}".replace("-", "−") for end in ends)


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names)
