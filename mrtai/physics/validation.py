"""All that pairs of regions say: statistics of every quantity by class of regions and overall, and the steps that make doses differ."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from mrtai.physics.agreement import SIGNIFICANCE, equivalence, growth_p, limits_of_agreement
from mrtai.physics.attribution import attribution, group_attributions
from mrtai.physics.concordance import concordance, icc_by_patient
from mrtai.physics.method_regression import deming, passing_bablok
from mrtai.values.grid import Array
from mrtai.values.validation import (
    OVERALL,
    Attribution,
    Compared,
    Comparison,
    GroupAttribution,
    RegionPair,
)

DIFFERENCE: Final = "difference"
RATIO: Final = "ratio"


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


def attributed(pairs: Sequence[RegionPair]) -> tuple[tuple[Attribution | None, ...], tuple[GroupAttribution, ...]]:
    """Return each pair's attribution and the mean of each class."""
    found = tuple(attribution(pair) for pair in pairs)
    return found, group_attributions(pairs, found)


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
