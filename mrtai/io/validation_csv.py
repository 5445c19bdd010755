"""``validation.csv``: every pair of regions on one line, for a spreadsheet."""

import csv
from io import StringIO
from typing import Any, Final

from mrtai.io.results import Json
from mrtai.io.validation_maps import criterion_words
from mrtai.physics.attribution import STEPS

SIDES: Final = ("automatic", "manual")
NUMBERS: Final = (("absorbed_dose", "gy"), ("tia", "mbq_h"), ("effective_half_life", "h"), ("volume", "ml"))
CONTOUR: Final = ("dice", "mean_surface_mm", "surface_95_mm", "volume_ratio")
DVH: Final = ("d98", "d50", "d2")


def validation_csv(document: Json) -> str:
    """Return the pairs with their numbers, shares, contours, volumes' doses and gamma; empty where there is no number."""
    maps = {(one["patient"], one["cycle"], one["region"]): one for one in document["maps"]["regions"]}
    criteria: list[Json] = next((one["gamma"] for one in document["maps"]["regions"] if one["gamma"]), [])
    stream = StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(
        ["patient", "cycle", "region", "group"]
        + [f"{name}_{side}_{unit}" for name, unit in NUMBERS for side in SIDES]
        + ["ln_dose_ratio", *(f"ln_share_{step}" for step in STEPS), "ln_share_not_separable"]
        + list(CONTOUR)
        + [f"{key}_{side}_gy" for key in DVH for side in SIDES]
        + ["receiving_manual_d50"]
        + [f"gamma passed, {criterion_words(one)}" for one in criteria]
    )
    for pair in document["pairs"]:
        found = maps.get((pair["patient"], pair["cycle"], pair["region"]), {"contour": None, "dvh": None, "gamma": []})
        table.writerow(
            [pair["patient"], pair["cycle"], pair["region"], pair["group"]]
            + [pair[side][name] for name, _ in NUMBERS for side in SIDES]
            + _shares(pair["attribution"])
            + [(found["contour"] or {}).get(name) for name in CONTOUR]
            + _dvh(found["dvh"])
            + ([one["passed"] / one["points"] for one in found["gamma"]] or [None] * len(criteria))
        )
    return stream.getvalue()


def _shares(one: Json | None) -> list[Any]:
    if one is None:
        return [None] * (len(STEPS) + 2)
    alone = {part["steps"][0]: part["ln_ratio"] for part in one["contributions"] if len(part["steps"]) == 1}
    together = [part["ln_ratio"] for part in one["contributions"] if len(part["steps"]) > 1]
    return [one["total_ln_ratio"], *(alone.get(step) for step in STEPS), sum(together) if together else None]


def _dvh(one: Json | None) -> list[Any]:
    if one is None:
        return [None] * (len(DVH) * len(SIDES) + 1)
    return [*(one[side][key] for key in DVH for side in SIDES), one["receiving_manual_d50"]]
