"""A comparison in words: what a physicist may paste into a commissioning document."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from mrtai.io.report_tables import plain, significant
from mrtai.values.validation import OVERALL, Compared

Json = Mapping[str, Any]

QUANTITY_WORDS: Final = {
    Compared.DOSE.value: "absorbed dose",
    Compared.TIA.value: "time-integrated activity",
    Compared.HALF_LIFE.value: "effective half-life",
    Compared.VOLUME.value: "volume",
    Compared.ACTIVITY.value: "activity",
}
STEP_WORDS: Final = {"dose": "dose calculation"}
LIMIT_VARIANCE: Final = 3.0
"""Variance of a limit of agreement in units of that of the differences over the number of patients (Bland & Altman 1986)."""
WANTED_HALF_WIDTH_SD: Final = 0.5

METHOD_WORDS: Final = (
    "Differences and ratios are automatic to manual. Limits of agreement hold 95 % of single differences; where a patient has several "
    "regions, cycles or scans, every patient counts once in the bias and the variance is the sum of that between patients and that within "
    "one (Bland & Altman 2007; intervals of Zou 2013, without repeats of Bland & Altman 1999). The ratio scale leads where the spread of "
    "the differences grows with the mean: the slope of |difference − mean difference| over the mean of both is above 0 with a one-sided p "
    "below 0.05 (Bland & Altman 1999). Lin's concordance (1989), ICC(2,1) and ICC(3,1) (Shrout & Fleiss 1979), Deming regression with "
    "equal error variances (intervals by leaving out one patient, Linnet 1990) and Passing–Bablok regression (1983; no interval where "
    "patients repeat). With repeats the intervals of concordance and ICC leave out one patient at a time. Equivalence: two one-sided t "
    "tests of the mean ln ratio, one value a patient (Schuirmann 1987). A dash stands where too few patients or points tell."
)
SHARES_WORDS: Final = (
    "Shares are 100 × ln(automatic/manual), which add up; near 0 they are per cent. Each step's share is its mean gain over all orders of "
    "exchange (Shapley)."
)
BY_WORDS: Final = {
    "images": (
        "From images: contours, activity images, curves (times, choice of scans, method) and the dose calculation (engine, density) were "
        "taken from either side and the dose computed again. What a side's integrals or doses differ by from what this version computes "
        "from its own images stands under curve or dose calculation."
    ),
    "maps": "From dose maps: each side's map is averaged in each side's contour; what is not contour cannot be told apart.",
    "numbers": (
        "From numbers alone: the dose is activity × curve (time-integrated activity over activity) × dose calculation (dose × volume over "
        "time-integrated activity) ÷ volume of the contour. The counts that a contour takes in or leaves out stand under activity: a "
        "larger contour with its larger activity shows as two shares that partly cancel. Steps that the numbers of one side do not "
        "separate stay together."
    ),
}
MAPS_WORDS: Final = (
    "Classes show medians over regions. Dice is the shared part of two contours. Surface distances go from voxels of one surface to the "
    "nearest of the other, both ways; 95 % is the larger of both ways' 95th percentiles. Contours on different grids are compared on the "
    "finer one. D98, D50 and D2 are received by at least 98, 50 and 2 % of the volume. Gamma (Low et al. 1998) asks at every point of the "
    "manual map above 10 % of its maximum whether the automatic map has a like dose nearby: per cent are of the manual maximum, local ones "
    "of the point's own manual dose; between voxels the dose is continued linearly."
)


def group_words(one: Json) -> str:
    """Return ``liver: the dose differs by +15.0 % (shares add up to +14.0 %): +11.0 % contour, …``, largest share first."""
    parts = sorted(one["contributions"], key=lambda part: -abs(part["ln_ratio"]))
    shares = ", ".join(f"{percent(part['ln_ratio'])} {steps_words(part['steps'])}" for part in parts)
    from_what = {"images": ", computed again from images", "maps": ", from dose maps"}.get(one["by"], "")
    apart = "" if one["pairs"] == one["of"] else f" ({one['pairs']} of {one['of']} regions tell these steps)"
    differs, summed = percent(np.expm1(one["total_ln_ratio"])), percent(one["total_ln_ratio"])
    total = differs if differs == summed else f"{differs} (shares add up to {summed})"
    return f"{group_title(one['group'])}: the dose differs by {total}: {shares}{from_what}{apart}"


def attribution_words(document: Json) -> str:
    """Return how the shares were computed, of the ways that occur."""
    ways = {pair["attribution"]["by"] for pair in document["pairs"] if pair["attribution"]}
    return " ".join([SHARES_WORDS, *(words for way, words in BY_WORDS.items() if way in ways)])


def steps_words(steps: Sequence[str]) -> str:
    """Return the name of a step, or of several that cannot be told apart."""
    names = [STEP_WORDS.get(step, step) for step in steps]
    return names[0] if len(names) == 1 else f"{' + '.join(names)} (not separable)"


def percent(share: float) -> str:
    """Return a share, or a ratio's logarithm, as ``+1.2 %``; what rounds to nothing has no sign."""
    shown = f"{100 * share:+.1f} %"
    return "0.0 %" if shown in ("+0.0 %", "-0.0 %") else shown.replace("-", "−")


def p_words(p: float) -> str:
    """Return a chance as ``p = 0.012`` or ``p < 0.001``."""
    return "p < 0.001" if p < 1e-3 else f"p = {p:.2g}"


def group_title(group: str) -> str:
    """Return a class in words; sums of regions say so."""
    if group == OVERALL:
        return "all regions"
    return f"{plain(group.removeprefix('union_'))} (sum)" if group.startswith("union_") else plain(group)


def sample_size_words(patients: int) -> str:
    """Return how well so many patients determine limits of agreement."""
    needed = int(np.ceil(LIMIT_VARIANCE * (1.96 / WANTED_HALF_WIDTH_SD) ** 2))
    counted = f"{patients} {'patient' if patients == 1 else 'patients'}"
    if patients < 2:
        return f"{counted}: no limits of agreement can be given; ± {WANTED_HALF_WIDTH_SD} standard deviations need about {needed} patients."
    half = 1.96 * np.sqrt(LIMIT_VARIANCE / patients)
    return (
        f"{counted}: a limit of agreement is known to about ± {half:.1f} standard deviations of the differences (95 %); "
        f"± {WANTED_HALF_WIDTH_SD} need about {needed} patients. Regions and cycles of one patient do not count as patients."
    )


def margin_words(margin: float, source: str) -> str:
    """Return what counts as equivalent and why."""
    return f"Margin of equivalence: mean ratio between 1/{1 + margin:g} and {1 + margin:g} ({source or 'no source stated'})."


def summary_words(statistics: Iterable[Json], cycles: int) -> list[str]:
    """Return one sentence a quantity over all regions."""
    rows = [row for row in statistics if row["group"] == OVERALL]
    return [_sentence(row, cycles) for row in rows]


def _sentence(row: Json, cycles: int) -> str:
    name = QUANTITY_WORDS[row["quantity"]]
    points = f"{row['points']} values, {row['patients']} {'patient' if row['patients'] == 1 else 'patients'}, {cycles} cycles compared"
    what = f"{name[0].upper()}{name[1:]} ({points})"
    if row["difference"]["bias"] == 0.0 and row["difference"]["lower"] == row["difference"]["upper"] == 0.0:
        return f"{what}: the same on both sides."
    return f"{what}: {_bias(row)}{_agreement(row)}{_equivalent(row)}."


def _bias(row: Json) -> str:
    ratio = row["ratio"]
    if ratio is None:
        return f"mean difference {_signed(row['difference']['bias'])} {row['unit']}"
    found = f"mean ratio automatic/manual {ratio['mean']:.3f}"
    if ratio["mean_95"]:
        found += f" (95 % interval {ratio['mean_95'][0]:.3f} to {ratio['mean_95'][1]:.3f})"
    return found


def _agreement(row: Json) -> str:
    ratio, difference = row["ratio"], row["difference"]
    if difference["lower"] is None:
        return ""
    if row["scale"] == "ratio" and ratio is not None:
        return f", 95 % limits of agreement {ratio['lower']:.3f} to {ratio['upper']:.3f}"
    return f", 95 % limits of agreement {_signed(difference['lower'])} to {_signed(difference['upper'])} {row['unit']}"


def _signed(value: float) -> str:
    return significant(value).replace("-", "−")


def _equivalent(row: Json) -> str:
    found = row["equivalence"]
    if found is None:
        return ""
    words = "equivalence" if found["shown"] else "equivalence was not shown"
    return f"; {words} within {100 * found['margin']:g} % ({p_words(found['p'])})"
