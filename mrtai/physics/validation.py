"""All that pairs of regions say: statistics of every quantity by class of regions and overall, and the steps that make doses differ."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from mrtai.physics.agreement import SIGNIFICANCE, equivalence, growth_p, limits_of_agreement
from mrtai.physics.attribution import ACTIVITY, CONTOUR, CURVE, DOSE, attribution, group_attributions
from mrtai.physics.concordance import concordance, icc_by_patient
from mrtai.physics.method_regression import deming, passing_bablok
from mrtai.values.compared_maps import MapsCompared, MapShares
from mrtai.values.grid import Array
from mrtai.values.validation import (
    MAPS,
    OVERALL,
    Attribution,
    Compared,
    Comparison,
    Contribution,
    GroupAttribution,
    RegionPair,
)

DIFFERENCE: Final = "difference"
RATIO: Final = "ratio"
NO_MAPS: Final = MapsCompared()
FEW_STEPS: Final = 2
"""Contour and all else: dose maps tell that better than volumes do, since a contour takes in a part of a map, not an average one."""


def compared(pairs: Sequence[RegionPair], margin: float) -> tuple[Comparison, ...]:
    """Return the statistics of every class and quantity that the pairs give, all regions together first.

    Args:
        pairs: in any order.
        margin: the largest mean ratio above 1 that counts as equivalent, less 1.
    """
    groups = {OVERALL: [pair for pair in pairs if pair.stands_alone]}
    for pair in sorted(pairs, key=lambda pair: pair.group):
        groups.setdefault(pair.group, []).append(pair)
    found = (_comparison(group, quantity, members, margin) for group, members in groups.items() for quantity in Compared)
    return tuple(one for one in found if one is not None)


def attributed(
    pairs: Sequence[RegionPair], maps: MapsCompared = NO_MAPS, known: Sequence[Attribution | None] = ()
) -> tuple[tuple[Attribution | None, ...], tuple[GroupAttribution, ...]]:
    """Return each pair's attribution and the mean of each class.

    Args:
        pairs: in any order.
        maps: whose contours count where numbers do not even tell activity from curve.
        known: attributions of the pairs that were computed from images, None where one was not; empty for none.
    """
    shares = {(one.patient, one.cycle, one.region): one.shares for one in maps.regions}
    found = tuple(
        computed or _from_maps_or_numbers(pair, shares.get((pair.patient, pair.cycle, pair.auto.name)))
        for pair, computed in zip(pairs, known or [None] * len(pairs), strict=True)
    )
    return found, group_attributions(pairs, found)


def _from_maps_or_numbers(pair: RegionPair, shares: MapShares | None) -> Attribution | None:
    numbers = attribution(pair)
    if shares is None or numbers is None or len(numbers.contributions) > FEW_STEPS:
        return numbers
    parts = (Contribution((CONTOUR,), shares.contour), Contribution((ACTIVITY, CURVE, DOSE), shares.rest))
    return Attribution(shares.contour + shares.rest, parts, MAPS)


def _comparison(group: str, quantity: Compared, pairs: Sequence[RegionPair], margin: float) -> Comparison | None:
    points = [(pair.patient, auto, manual) for pair in pairs for auto, manual in pair.points(quantity)]
    if not points:
        return None
    patients = tuple(patient for patient, _, _ in points)
    auto, manual = (np.array([point[side] for point in points]) for side in (1, 2))
    growth = growth_p(auto, manual)
    above = (auto > 0) & (manual > 0)
    ln_ratios: Array = np.log(auto[above] / manual[above])
    with_ratio = [patient for patient, is_above in zip(patients, above, strict=True) if is_above]
    ratio = limits_of_agreement(ln_ratios, with_ratio) if with_ratio else None
    of_classes = icc_by_patient(auto, manual, patients) or (None, None)
    return Comparison(
        group=group,
        quantity=quantity,
        auto=auto,
        manual=manual,
        patients=patients,
        growth_p=growth,
        scale=RATIO if growth is not None and growth < SIGNIFICANCE and ratio is not None else DIFFERENCE,
        difference=limits_of_agreement(auto - manual, patients),
        ratio=ratio,
        ratio_points=len(with_ratio),
        concordance=concordance(auto, manual, patients),
        icc_2_1=of_classes[0],
        icc_3_1=of_classes[1],
        deming=deming(auto, manual, patients),
        passing_bablok=passing_bablok(auto, manual, patients),
        equivalence=equivalence(ln_ratios, with_ratio, margin) if with_ratio else None,
    )
