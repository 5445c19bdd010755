"""Which step of the way from image to dose makes two doses differ: Shapley values of the steps on ln(auto/manual).

From numbers, a mean dose is A · (Ã/A) · (D·V/Ã) / V: activity, curve, dose per time-integrated activity and mass, and the contour's volume.
Exchanging one factor at a time and averaging over the orders of exchange gives contributions that add up to the whole.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from math import factorial, log
from typing import Final, TypeVar

import numpy as np

from mrtai.physics.by_patient import patient_means
from mrtai.values.validation import Attribution, Contribution, GroupAttribution, RegionNumbers, RegionPair

CONTOUR, ACTIVITY, CURVE, DOSE = "contour", "activity", "curve", "dose"
STEPS: Final = (CONTOUR, ACTIVITY, CURVE, DOSE)

Step = TypeVar("Step")


def shapley(steps: Sequence[Step], value: Callable[[frozenset[Step]], float]) -> dict[Step, float]:
    """Return each step's mean contribution over all orders of exchange (Shapley 1953); they add up to ``value(all) − value(none)``.

    Args:
        steps: what can be exchanged.
        value: of the steps that have been exchanged; it is asked once for every subset.
    """
    count = len(steps)
    known = {chosen: value(chosen) for size in range(count + 1) for chosen in map(frozenset, combinations(steps, size))}

    def mean_gain(step: Step) -> float:
        without = (chosen for chosen in known if step not in chosen)
        return sum(
            factorial(len(chosen)) * factorial(count - len(chosen) - 1) / factorial(count) * (known[chosen | {step}] - known[chosen])
            for chosen in without
        )

    return {step: mean_gain(step) for step in steps}


def attribution(pair: RegionPair) -> Attribution | None:
    """Return what each step adds to ln(auto/manual) of a region's dose, None where a side has no dose above 0.

    Steps that the numbers of one side do not separate stay together in one contribution.
    """
    sides = _factors(pair)
    if sides is None:
        return None
    auto, manual = sides
    found = shapley(tuple(auto), lambda swapped: sum(log((auto if steps in swapped else manual)[steps]) for steps in auto))
    total = log(_dose(pair.auto) / _dose(pair.manual))
    return Attribution(total, tuple(Contribution(steps, gain) for steps, gain in sorted(found.items(), key=_place)))


def group_attributions(pairs: Sequence[RegionPair], found: Sequence[Attribution | None]) -> tuple[GroupAttribution, ...]:
    """Return the mean attribution of each class of regions, over the pairs that tell the steps as most of the class do."""
    groups: dict[str, list[tuple[str, Attribution]]] = {}
    for pair, one in zip(pairs, found, strict=True):
        if one is not None:
            groups.setdefault(pair.group, []).append((pair.patient, one))
    return tuple(_mean(group, members) for group, members in sorted(groups.items()))


def _mean(group: str, members: Sequence[tuple[str, Attribution]]) -> GroupAttribution:
    ways = [_way(one) for _, one in members]
    # of equally frequent ways the one with the most steps apart
    way = max(set(ways), key=lambda one: (ways.count(one), len(one[1]), one))
    used = [member for member, own in zip(members, ways, strict=True) if own == way]
    patients = [patient for patient, _ in used]

    def mean(values: Iterable[float]) -> float:
        return float(patient_means(np.fromiter(values, float), patients).mean())

    parts = tuple(Contribution(steps, mean(one.contributions[n].ln_ratio for _, one in used)) for n, steps in enumerate(way[1]))
    return GroupAttribution(group, len(used), len(members), Attribution(mean(one.total_ln_ratio for _, one in used), parts, way[0]))


def _way(one: Attribution) -> tuple[str, tuple[tuple[str, ...], ...]]:
    return one.by, tuple(part.steps for part in one.contributions)


def _place(item: tuple[tuple[str, ...], float]) -> int:
    return STEPS.index(item[0][0])


def _dose(numbers: RegionNumbers) -> float:
    return numbers.absorbed_dose_gy or 0.0


def _factors(pair: RegionPair) -> tuple[Mapping[tuple[str, ...], float], Mapping[tuple[str, ...], float]] | None:
    """Return both sides' factors of the dose by the steps they stand for, as far as both sides give them."""
    if _dose(pair.auto) <= 0 or _dose(pair.manual) <= 0:
        return None
    sides = (pair.auto, pair.manual)
    volumes = [side.volume_ml or 0.0 for side in sides]
    integrals = [side.tia_bq_s or 0.0 for side in sides]
    activities = _activities(pair)
    has = min(volumes) > 0, min(activities) > 0, min(integrals) > 0
    auto, manual = (
        _chain(dose, volume, activity, integral, has)
        for dose, volume, activity, integral in zip(map(_dose, sides), volumes, activities, integrals, strict=True)
    )
    return auto, manual


def _activities(pair: RegionPair) -> tuple[float, float]:
    """Return both sides' geometric mean activity over the scans that both have, 0 where there is none."""
    points = np.array([(auto, manual) for _, auto, manual in pair.activities_bq if min(auto, manual) > 0])
    if not points.size:
        return 0.0, 0.0
    auto, manual = np.exp(np.log(points).mean(axis=0))
    return float(auto), float(manual)


def _chain(dose: float, volume: float, activity: float, integral: float, has: tuple[bool, bool, bool]) -> dict[tuple[str, ...], float]:
    """Return the factors of one dose; a link that is not known joins its two neighbours."""
    has_volume, has_activity, has_integral = has
    found: dict[tuple[str, ...], float] = {}
    if has_volume:
        found[(CONTOUR,)] = 1 / volume
    # from here on the dose times volume, where that is known: energy, as far as numbers tell
    energy, last = (dose * volume, (DOSE,)) if has_volume else (dose, (CONTOUR, DOSE))
    known = activity if has_activity else 1.0
    if has_activity:
        found[(ACTIVITY,)] = activity
    if has_integral:
        found[(CURVE,) if has_activity else (ACTIVITY, CURVE)] = integral / known
        found[last] = energy / integral
    else:
        joined = {CURVE, *last} | (set() if has_activity else {ACTIVITY})
        found[tuple(step for step in STEPS if step in joined)] = energy / known
    return found
