"""Contours and dose maps of a comparison: their part of ``validation.json``, and the tables of the page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, Final

from mrtai.io.report_tables import plain, significant
from mrtai.io.results import Json, rounded
from mrtai.io.validation_words import group_title
from mrtai.values.compared_maps import ContourAgreement, DvhAgreement, GammaPassed, MapsCompared, RegionMaps
from mrtai.values.validation import RegionPair

DASH: Final = "–"

CONTOUR_COLUMNS: Final = (
    ("class of regions", ""),
    ("contours", ""),
    ("Dice", "median (least)"),
    ("surface distance", "mean, mm"),
    ("surface distance", "95 %, mm"),
    ("volume ratio", "automatic/manual"),
)
DVH_COLUMNS: Final = (
    ("class of regions", ""),
    ("regions", ""),
    ("D98", "automatic/manual"),
    ("D50", "automatic/manual"),
    ("D2", "automatic/manual"),
    ("volume with the manual D50", "50 % where equal"),
)
REGION_COLUMNS: Final = (
    ("patient", ""),
    ("cycle", ""),
    ("region", ""),
    ("Dice", ""),
    ("surface, mean", "mm"),
    ("surface, 95 %", "mm"),
    ("volume ratio", ""),
    ("D98", "automatic, manual [Gy]"),
    ("D50", "automatic, manual [Gy]"),
    ("D2", "automatic, manual [Gy]"),
)


def maps_document(found: MapsCompared, pairs: Sequence[RegionPair]) -> Json:
    """Return the part ``maps`` of ``validation.json``: distances in mm, doses in Gy, ratios automatic to manual."""
    groups = {(pair.patient, pair.cycle, pair.auto.name): pair.group for pair in pairs}
    return {
        "regions": [_region(one, groups[(one.patient, one.cycle, one.region)]) for one in found.regions],
        "cycles": [{"patient": one.patient, "cycle": one.cycle, "gamma": _gammas(one.gamma)} for one in found.cycles],
    }


def contour_rows(document: Json) -> list[list[str]]:
    """Return one row a class of regions with contours on both sides: medians over its regions."""
    return [
        [
            group_title(group),
            str(len(found)),
            f"{median(one['dice'] for one in found):.3f} ({min(one['dice'] for one in found):.3f})",
            _median(found, lambda one: one["mean_surface_mm"], 2),
            _median(found, lambda one: one["surface_95_mm"], 2),
            _median(found, lambda one: one["volume_ratio"], 3),
        ]
        for group, found in _by_group(document, "contour").items()
    ]


def dvh_rows(document: Json) -> list[list[str]]:
    """Return one row a class of regions with a dose map on both sides: medians over its regions."""
    return [
        [
            group_title(group),
            str(len(found)),
            *(_median(found, partial(_ratio, key), 3) for key in ("d98", "d50", "d2")),
            f"{100 * median(one['receiving_manual_d50'] for one in found):.1f} %",
        ]
        for group, found in _by_group(document, "dvh").items()
    ]


def gamma_columns(document: Json) -> tuple[tuple[str, str], ...]:
    """Return the heading of the table of passing points."""
    first = document["maps"]["cycles"][0]["gamma"] if document["maps"]["cycles"] else []
    return (("points of", ""), ("maps", ""), ("points", "median"), *((criterion_words(one), "median (least)") for one in first))


def gamma_rows(document: Json) -> list[list[str]]:
    """Return the passing points of the whole maps, and by class of regions: medians over maps and regions."""
    whole = [one["gamma"] for one in document["maps"]["cycles"]]
    rows = [("whole map above the cut-off", whole)] if whole else []
    rows += [(group_title(group), found) for group, found in _by_group(document, "gamma").items()]
    return [[title, str(len(found)), f"{median(one[0]['points'] for one in found):.0f}", *_passing(found)] for title, found in rows]


def region_rows(document: Json) -> list[list[str]]:
    """Return every region with contours or doses on both sides."""
    return [
        [one["patient"], str(one["cycle"]), plain(one["region"]), *_contour_cells(one["contour"]), *_dvh_cells(one["dvh"])]
        for one in document["maps"]["regions"]
        if one["contour"] or one["dvh"]
    ]


def criterion_words(one: Json) -> str:
    """Return ``3 % / 3 mm``, and ``local`` where per cent are of the point's own dose."""
    return f"{one['percent']:g} % / {one['mm']:g} mm{', local' if one['local'] else ''}"


def maps_words(document: Json) -> list[str]:
    """Return one sentence on contours and one on gamma for the summary, as far as there are any."""
    found = []
    contours = [one["contour"] for one in document["maps"]["regions"] if one["contour"]]
    if contours:
        overlaps = [one["dice"] for one in contours]
        distance = _median(contours, lambda one: one["surface_95_mm"], 1)
        words = f"Dice {median(overlaps):.3f} in the median and {min(overlaps):.3f} at least, 95 % surface distance {distance} mm (median)"
        found.append(f"Contours ({len(contours)} regions): {words}.")
    whole = [one["gamma"][0] for one in document["maps"]["cycles"]]
    if whole:
        shares = [100 * one["passed"] / one["points"] for one in whole]
        words = (
            f"{median(shares):.1f} % of the points pass gamma at {criterion_words(whole[0])} in the median, {min(shares):.1f} % at least"
        )
        found.append(f"Dose maps ({len(whole)} cycles): {words}.")
    return found


def _region(one: RegionMaps, group: str) -> Json:
    return {
        "patient": one.patient,
        "cycle": one.cycle,
        "region": one.region,
        "group": group,
        "contour": None if one.contour is None else _contour(one.contour),
        "dvh": None if one.dvh is None else _dvh(one.dvh),
        "gamma": _gammas(one.gamma),
    }


def _contour(one: ContourAgreement) -> Json:
    return {
        "dice": rounded(one.dice),
        "mean_surface_mm": rounded(one.mean_surface_mm),
        "surface_95_mm": rounded(one.surface_95_mm),
        "volume_ratio": rounded(one.volume_ratio),
    }


def _dvh(one: DvhAgreement) -> Json:
    sides = {"automatic": one.auto_gy, "manual": one.manual_gy}
    doses = {side: {key: rounded(value) for key, value in gy.items()} for side, gy in sides.items()}
    return {**doses, "receiving_manual_d50": rounded(one.receiving)}


def _gammas(found: Iterable[GammaPassed]) -> list[Json]:
    return [
        {
            "percent": one.criterion.percent,
            "mm": one.criterion.mm,
            "local": one.criterion.local,
            "points": one.points,
            "passed": one.passed,
        }
        for one in found
    ]


def _by_group(document: Json, part: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in document["maps"]["regions"]:
        if one[part]:
            found.setdefault(one["group"], []).append(one[part])
    return dict(sorted(found.items()))


def _median(found: Iterable[Json], value: Callable[[Json], float | None], decimals: int) -> str:
    known = [number for one in found if (number := value(one)) is not None]
    return f"{median(known):.{decimals}f}" if known else DASH


def _ratio(key: str, dvh: Json) -> float | None:
    auto, manual = dvh["automatic"][key], dvh["manual"][key]
    return auto / manual if manual else None


def _passing(found: Sequence[Sequence[Json]]) -> list[str]:
    return [_shares([one[n] for one in found]) for n in range(len(found[0]))]


def _shares(found: Sequence[Mapping[str, Any]]) -> str:
    shares = [100 * one["passed"] / one["points"] for one in found]
    return f"{median(shares):.1f} % ({min(shares):.1f})"


def _contour_cells(one: Json | None) -> list[str]:
    if one is None:
        return [DASH] * 4
    distances = (one["mean_surface_mm"], one["surface_95_mm"])
    return [f"{one['dice']:.3f}", *(DASH if mm is None else f"{mm:.2f}" for mm in distances), f"{one['volume_ratio']:.3f}"]


def _dvh_cells(one: Json | None) -> list[str]:
    if one is None:
        return [DASH] * 3
    return [f"{significant(one['automatic'][key], 4)}, {significant(one['manual'][key], 4)}" for key in ("d98", "d50", "d2")]
