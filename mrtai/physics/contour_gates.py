"""Gates for contours that a model drew: what cannot be, or hardly can, is told with a reason and a remedy; nothing is dropped.

| code | tells |
| --- | --- |
| ``ORGAN_CUT`` | the data end before the organ does; a note for what a CT of the trunk usually shows in part |
| ``ORGAN_MISSING`` | the CT covers an organ's place, and it was not found |
| ``ORGAN_VOLUME`` | a volume beyond adults' |
| ``ORGAN_POSITION`` | a place where the organ hardly can be |
| ``ORGAN_SWAPPED`` | left and right exchanged |
| ``ORGAN_HU`` | a median CT number that no phase of contrast gives |
| ``ORGAN_ASYMMETRY`` | one of a pair much larger than the other |
| ``ORGAN_FRAGMENTS`` | an organ in pieces |
| ``ORGAN_DOUBT`` | repeated drawings that disagree |
| ``CT_UNFAMILIAR`` | a CT unlike those that the model was trained on |
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from scipy import ndimage

from mrtai.physics.ct_envelope import envelope_flags
from mrtai.physics.organ_positions import Told, misplaced, missing, plain, swapped, twin
from mrtai.physics.organ_ranges import expected
from mrtai.physics.organs_in_view import Mask, Organ, data_box, ends_mm, organs_in_view
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.regions import is_lesion

CODES: Final = frozenset(
    f"ORGAN_{what}" for what in ("CUT", "MISSING", "VOLUME", "POSITION", "SWAPPED", "HU", "ASYMMETRY", "FRAGMENTS", "DOUBT")
) | {"CT_UNFAMILIAR"}
"""Every code that a gate here raises."""

PAIRS: Final = ("kidney_left", "lung_left")
MOST_RATIO: Final = 1.5
"""Of a pair's volumes. A healthy kidney may be a fifth smaller than the other, a right lung a quarter larger than the left."""

MOST_APART: Final = 0.10
NOTED_APART: Final = 0.02
"""Of an organ's volume outside its largest piece: looked at by a person, and told."""

CHECK: Final = "Check the contour; a person confirms where the organ is really so."


def contour_flags(labels: Labels, ct: Image, doubt: Mapping[str, float], envelope: Mapping[str, Any]) -> dict[str, tuple[Flag, ...]]:
    """Return flags by region name, under ``""`` those of the whole case; regions without any are left out.

    Args:
        labels: on the grid of ``ct``; ``labels.names`` (also of regions without a voxel) says what the model draws.
        ct: what they were drawn on [HU].
        doubt: 1 - Dice by region between drawings of the same CT; may be empty.
        envelope: statistics of the CTs that the model was trained on, see ``ct_envelope``; may be empty.
    """
    organs = organs_in_view(labels, ct)
    view_mm = ends_mm(ct.grid, data_box(ct))
    told = [
        *(one for organ in organs.values() for one in _alone(organ, labels, ct, doubt.get(organ.name))),
        *swapped({name: organ.centre_mm for name, organ in organs.items()}),
        *misplaced(organs, ct.grid),
        *_unequal(organs),
        *missing(organs, {*labels.names.values(), *doubt}, view_mm),
        *(("", flag) for flag in envelope_flags(ct, envelope)),
    ]
    found: dict[str, tuple[Flag, ...]] = {}
    for name, flag in told:
        found[name] = (*found.get(name, ()), flag)
    return found


def _alone(organ: Organ, labels: Labels, ct: Image, doubt: float | None) -> Iterator[Told]:
    """Yield what is told of one organ without looking at the others."""
    flags = (
        *_cut(organ),
        *_volume(organ),
        *_hounsfield(organ, ct),
        *_fragments(organ, _with_lesions(organ, labels)),
        *_doubtful(organ, doubt),
    )
    yield from ((organ.name, flag) for flag in flags)


def _cut(organ: Organ) -> Iterator[Flag]:
    if not organ.cuts_mm2:
        return
    ends = ", ".join(f"{face} ({area:.0f} mm²)" for face, area in organ.cuts_mm2.items())
    text = (
        f"The {plain(organ.name)} reaches the end of the CT's data, with its cross-section there: {ends}. "
        "Volume, activity and dose are of the part in view."
    )
    severity = Severity.INFO if expected(organ.name).runs_out else Severity.REVIEW
    yield Flag("ORGAN_CUT", severity, text, "Use a scan that shows the whole organ, or mind the missing part.")


def _volume(organ: Organ) -> Iterator[Flag]:
    bounds = expected(organ.name).volume_ml
    if bounds is None:
        return
    low, high = 0.0 if organ.cuts_mm2 else bounds[0], bounds[1]  # a cut organ may be as small as the cut leaves it
    if not low <= organ.volume_ml <= high:
        text = f"The {plain(organ.name)}'s volume of {organ.volume_ml:.0f} mL lies outside {bounds[0]:.0f} to {high:.0f} mL of adults."
        yield Flag("ORGAN_VOLUME", Severity.REVIEW, text, CHECK)


def _hounsfield(organ: Organ, ct: Image) -> Iterator[Flag]:
    bounds = expected(organ.name).median_hu
    if bounds is None:
        return
    median = float(np.median(ct.voxels[organ.box][organ.mask]))
    if not bounds[0] <= median <= bounds[1]:
        text = f"The {plain(organ.name)}'s median CT number of {median:.0f} HU lies outside {bounds[0]:.0f} to {bounds[1]:.0f} HU."
        yield Flag("ORGAN_HU", Severity.REVIEW, text, "Check the contour, the CT's units, and metal or dense contrast nearby.")


def _fragments(organ: Organ, connected: Mask) -> Iterator[Flag]:
    """Yield a flag when much of an organ lies outside its largest piece; ``connected`` is the organ with its lesions, ``(z, y, x)``."""
    if not expected(organ.name).one_piece:
        return
    parts, _ = ndimage.label(connected, np.ones((3, 3, 3)))
    sizes = np.bincount(parts[organ.mask])
    apart = 1.0 - float(sizes.max()) / float(sizes.sum())
    if apart <= NOTED_APART:
        return
    text = f"The {plain(organ.name)} is in {np.count_nonzero(sizes)} pieces; {apart:.0%} of it lies outside the largest one."
    severity = Severity.REVIEW if apart > MOST_APART and not organ.cuts_mm2 else Severity.INFO
    yield Flag("ORGAN_FRAGMENTS", severity, text, CHECK)


def _doubtful(organ: Organ, doubt: float | None) -> Iterator[Flag]:
    most = expected(organ.name).most_doubt
    if doubt is None or doubt <= most:
        return
    text = (
        f"Drawings of the {plain(organ.name)} on the CT and on disturbed copies of it disagree by {doubt:.2f} (1 - Dice), "
        f"more than the {most:.2f} that voxels explain."
    )
    yield Flag("ORGAN_DOUBT", Severity.REVIEW, text, CHECK)


def _unequal(organs: Mapping[str, Organ]) -> Iterator[Told]:
    """Yield a flag for both of a pair when one is much larger; a pair that the view cuts is not compared."""
    for name in PAIRS:
        pair = [organs[one] for one in (name, twin(name) or "") if one in organs]
        if len(pair) < 2 or any(organ.cuts_mm2 for organ in pair):
            continue
        small, large = sorted(pair, key=lambda organ: organ.volume_ml)
        ratio = large.volume_ml / small.volume_ml
        if ratio > MOST_RATIO:
            text = (
                f"The {plain(large.name)} of {large.volume_ml:.0f} mL is {ratio:.1f} times the "
                f"{plain(small.name)} of {small.volume_ml:.0f} mL."
            )
            yield from ((organ.name, Flag("ORGAN_ASYMMETRY", Severity.REVIEW, text, CHECK)) for organ in pair)


def _with_lesions(organ: Organ, labels: Labels) -> Mask:
    """Return the organ and every lesion in its box: a lesion may divide what it lies in, ``(z, y, x)``."""
    lesions = [value for value, name in labels.names.items() if is_lesion(name)]
    if not lesions:
        return organ.mask
    together: Mask = organ.mask | np.isin(labels.voxels[organ.box], lesions)
    return together
