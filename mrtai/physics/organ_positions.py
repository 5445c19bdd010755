"""Where organs lie to each other: sides that are swapped, places that are strange, and organs that are missing from the view.

Distances are between centres of mass in the patient's own axes (x to the left, y to the back, z to the head). The bounds are wide: they
hold organs cut by the view, pushed by a large liver or spleen, and low kidneys; a kidney in the pelvis, a graft and a mirrored
situs are told, as they should be.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from mrtai.physics.organs_in_view import Organ
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array, Grid

Told = tuple[str, Flag]
"""A region's name and its flag; "" for the whole case."""

SPINE: Final = "spine"
SPINE_PARTS: Final = ("spine", "red_marrow", "vertebrae_")
SPINE_REACH_MM: Final = 40.0
"""The spine bends: organs are compared with its part at their own height."""

POINTS: Final = 20_000
INF: Final = float("inf")

X, Y, Z = 0, 1, 2
AWAY: Final = {
    (X, -1): "to the right of",
    (X, 1): "to the left of",
    (Y, -1): "in front of",
    (Y, 1): "behind",
    (Z, -1): "below",
    (Z, 1): "above",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Along one patient axis ``organ`` lies between ``low_mm`` and ``high_mm`` from ``reference``."""

    organ: str
    reference: str
    axis: int
    low_mm: float
    high_mm: float


PLACES: Final = (
    Place("kidney_left", SPINE, X, 10.0, 140.0),
    Place("kidney_right", SPINE, X, -140.0, -10.0),
    *(Place(kidney, SPINE, Y, -110.0, 40.0) for kidney in ("kidney_left", "kidney_right")),
    *(Place(kidney, "liver", Z, -190.0, 50.0) for kidney in ("kidney_left", "kidney_right")),
    Place("kidney_right", "kidney_left", Z, -100.0, 80.0),
    Place("kidney_left", "spleen", Z, -200.0, 30.0),
    Place("liver", SPINE, X, -160.0, 20.0),
    Place("spleen", SPINE, X, 20.0, 180.0),
    Place("spleen", "liver", Z, -90.0, 130.0),
    Place("stomach", "liver", Z, -150.0, 120.0),
    Place("stomach", SPINE, Y, -INF, 0.0),
    Place("lung_left", SPINE, X, 10.0, INF),
    Place("lung_right", SPINE, X, -INF, -10.0),
    *(Place(lung, "liver", Z, 10.0, INF) for lung in ("lung_left", "lung_right")),
    *(Place(lung, "spleen", Z, 0.0, INF) for lung in ("lung_left", "lung_right")),
    Place("urinary_bladder", SPINE, X, -70.0, 70.0),
    *(Place("urinary_bladder", organ, Z, -INF, -60.0) for organ in ("kidney_left", "kidney_right", "liver", "spleen")),
    Place("aorta", SPINE, X, -50.0, 60.0),
    Place("aorta", SPINE, Y, -INF, 10.0),
)


@dataclass(frozen=True, slots=True)
class Beside:
    """``organ`` is in view where the CT reaches from ``below_mm`` under ``reference`` to ``above_mm`` over it."""

    organ: str
    reference: str
    below_mm: float
    above_mm: float


BESIDE: Final = (
    Beside("kidney_left", "kidney_right", 30.0, 30.0),
    Beside("kidney_right", "kidney_left", 30.0, 30.0),
    *(Beside(kidney, "liver", 30.0, -60.0) for kidney in ("kidney_left", "kidney_right")),
    Beside("kidney_left", "spleen", 80.0, 0.0),
    Beside("spleen", "liver", -40.0, 10.0),
    Beside("spleen", "kidney_left", 0.0, 90.0),
    Beside("liver", "spleen", 20.0, 20.0),
    Beside("liver", "kidney_right", 0.0, 90.0),
    Beside("lung_left", "lung_right", 0.0, -30.0),
    Beside("lung_right", "lung_left", 0.0, -30.0),
    Beside("urinary_bladder", "kidney_left", 230.0, 0.0),
    Beside("urinary_bladder", "kidney_right", 230.0, 0.0),
)
MAY_BE_EMPTY: Final = ("urinary_bladder",)


def plain(name: str) -> str:
    """Return a region's name in words: ``left kidney``."""
    organ, _, side = name.rpartition("_")
    return f"{side} {plain(organ)}" if side in ("left", "right") else name.replace("_", " ")


def twin(name: str) -> str | None:
    """Return the name of the same organ on the other side; None for what has no side."""
    organ, _, side = name.rpartition("_")
    return f"{organ}_{'right' if side == 'left' else 'left'}" if side in ("left", "right") else None


def swapped(centres_mm: Mapping[str, Array]) -> Iterator[Told]:
    """Yield flags of pairs that lie on each other's sides, and of a liver left of the spleen; centres by name, shape ``(3,)``, LPS."""
    for name, centre in centres_mm.items():
        other = (twin(name) or "") if name.endswith("_left") else ""
        if other in centres_mm and centre[X] < centres_mm[other][X]:
            text = (
                f"The {plain(name)} lies {centres_mm[other][X] - centre[X]:.0f} mm to the right of the {plain(other)}: "
                "left and right are swapped."
            )
            flag = Flag("ORGAN_SWAPPED", Severity.REVIEW, text, "Check the orientation of the CT and exchange the two contours.")
            yield from ((one, flag) for one in (name, other))
    liver, spleen = centres_mm.get("liver"), centres_mm.get("spleen")
    if liver is not None and spleen is not None and liver[X] > spleen[X]:
        text = "The liver lies to the left of the spleen: the CT or the contours are mirrored, or the patient has a mirrored situs."
        flag = Flag("ORGAN_SWAPPED", Severity.REVIEW, text, "Check the orientation of the CT; left and right organs may be exchanged.")
        yield from ((one, flag) for one in ("liver", "spleen"))


def misplaced(organs: Mapping[str, Organ], grid: Grid) -> Iterator[Told]:
    """Yield a flag for every organ that lies where it hardly can, one an organ; pairs that are swapped are told as such alone."""
    exchanged = {name for name, _ in swapped({name: organ.centre_mm for name, organ in organs.items()})}
    spine = _spine_points_mm(organs, grid)
    told: dict[str, list[str]] = {}
    for place in PLACES:
        organ = organs.get(place.organ)
        centre = None if organ is None else _reference_mm(place.reference, organs, spine, organ)
        if organ is None or centre is None or (place.axis == X and place.organ in exchanged):
            continue
        away_mm = float(organ.centre_mm[place.axis] - centre[place.axis])
        if not place.low_mm <= away_mm <= place.high_mm:
            told.setdefault(place.organ, []).append(_away(place, away_mm))
    for name, words in told.items():
        text = f"The {plain(name)}'s centre lies {'; '.join(words)}."
        yield name, Flag("ORGAN_POSITION", Severity.REVIEW, text, "Check that the contour shows this organ, and no other one.")


def missing(organs: Mapping[str, Organ], drawn: Collection[str], view_mm: tuple[float, float]) -> Iterator[Told]:
    """Yield flags of the case for organs that were not found although the CT covers where they lie.

    Args:
        organs: what was found.
        drawn: names that the model draws; the other one of a pair that was found counts too.
        view_mm: ends of the data along z, feet and head.
    """
    found_by: dict[str, str] = {}
    for beside in BESIDE:
        reference = organs.get(beside.reference)
        wanted = beside.organ in drawn or twin(beside.organ) in organs
        if reference is None or beside.organ in organs or not wanted:
            continue
        if view_mm[0] <= reference.low_mm - beside.below_mm and view_mm[1] >= reference.high_mm + beside.above_mm:
            found_by.setdefault(beside.organ, beside.reference)
    for name, reference_name in found_by.items():
        text = (
            f"No {plain(name)} was found, although the CT covers its place beside the {plain(reference_name)}: "
            "was it removed, or was it missed?"
        )
        severity = Severity.INFO if name in MAY_BE_EMPTY else Severity.REVIEW
        yield "", Flag("ORGAN_MISSING", severity, text, "Check the history; where the organ is there, give its contour with --labels.")


def _away(place: Place, away_mm: float) -> str:
    bound = place.low_mm if away_mm < place.low_mm else place.high_mm
    where = AWAY[place.axis, 1 if away_mm >= 0 else -1]
    limit = f"{abs(bound):.0f} mm {AWAY[place.axis, 1 if bound >= 0 else -1]} it"
    return f"{abs(away_mm):.0f} mm {where} the {plain(place.reference)}, {'not at least' if _inner(place, away_mm) else 'at most'} {limit}"


def _inner(place: Place, away_mm: float) -> bool:
    """Return True when an organ lies nearer than it should, or on the other side."""
    bound = place.low_mm if away_mm < place.low_mm else place.high_mm
    return (away_mm - bound) * (bound or away_mm) < 0


def _reference_mm(name: str, organs: Mapping[str, Organ], spine: Array, organ: Organ) -> Array | None:
    if name != SPINE:
        return organs[name].centre_mm if name in organs else None
    if not len(spine):
        return None
    away_mm = np.abs(spine[:, Z] - organ.centre_mm[Z])
    near: Array = spine[away_mm <= away_mm.min() + SPINE_REACH_MM].mean(axis=0)
    return near


def _spine_points_mm(organs: Mapping[str, Organ], grid: Grid) -> Array:
    """Return voxels of the spine, shape ``(points, 3)`` LPS, every n-th where there are many."""
    clouds = [np.empty((0, 3))]
    for name, organ in organs.items():
        if name.startswith(SPINE_PARTS):
            index = np.argwhere(organ.mask)
            index = index[:: max(1, len(index) // POINTS)] + [part.start for part in organ.box]
            clouds.append(index[:, ::-1] @ grid.affine[:3, :3].T + grid.origin_mm)
    points: Array = np.concatenate(clouds)
    return points
