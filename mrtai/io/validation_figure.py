"""The pictures of a comparison: agreement of each quantity, and the way from the manual dose to the automatic one."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrtai.io.figures import INK
from mrtai.io.validation_words import QUANTITY_WORDS, STEP_WORDS, group_title, percent
from mrtai.values.grid import Array
from mrtai.values.validation import OVERALL, Compared

Json = Mapping[str, Any]

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
UP: Final = "#D55E00"
DOWN: Final = "#0072B2"
COLUMNS: Final = 3


def agreement_figure(document: Json, quantity: str) -> Figure:
    """Return manual against automatic values with the line of identity, and their Bland–Altman plot on the leading scale."""
    row = next(row for row in document["statistics"] if row["group"] == OVERALL and row["quantity"] == quantity)
    points = _points(document, quantity)
    figure = Figure(figsize=(9.2, 3.7), layout="constrained")
    values, differences = figure.subplots(1, 2)
    for colour, (group, (auto, manual)) in zip(_colours(len(points)), points.items(), strict=True):
        values.scatter(manual, auto, s=16, color=colour, label=group_title(group), alpha=0.8, lw=0)
        differences.scatter((auto + manual) / 2, _difference(auto, manual, row["scale"]), s=16, color=colour, alpha=0.8, lw=0)
    _identity(values, row)
    _limits(differences, row)
    for axis in (values, differences):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7.5)
        axis.grid(alpha=0.25, lw=0.6)
    figure.legend(loc="outside upper left", ncols=9, fontsize=7.5, frameon=False)
    return figure


def waterfall_figure(document: Json) -> Figure | None:
    """Return one panel a class: from the manual dose (0) step by step to the automatic one; None where no dose is on both sides."""
    found = document["attribution"]
    if not found:
        return None
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.5 * rows), layout="constrained")
    axes = np.asarray(figure.subplots(rows, columns, squeeze=False), dtype=object).ravel()
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    for axis, one in zip(axes, found, strict=False):
        _waterfall(axis, one)
    return figure


def quantities(document: Json) -> list[str]:
    """Return the quantities that both sides give over all regions."""
    there = {row["quantity"] for row in document["statistics"] if row["group"] == OVERALL}
    return [quantity.value for quantity in Compared if quantity.value in there]


def _points(document: Json, quantity: str) -> dict[str, tuple[Array, Array]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for pair in document["pairs"]:
        if pair["stands_alone"]:
            found.setdefault(pair["group"], []).extend(_of_pair(pair, quantity))
    return {group: (np.array(both)[:, 0], np.array(both)[:, 1]) for group, both in sorted(found.items()) if both}


def _of_pair(pair: Json, quantity: str) -> list[tuple[float, float]]:
    if quantity == Compared.ACTIVITY.value:
        return [(auto, manual) for _, auto, manual in pair["activities"]]
    auto, manual = pair["automatic"][quantity], pair["manual"][quantity]
    return [] if auto is None or manual is None else [(auto, manual)]


def _colours(count: int) -> list[str]:
    return [COLOURS[n % len(COLOURS)] for n in range(count)]


def _difference(auto: Array, manual: Array, scale: str) -> Array:
    if scale == "difference":
        return auto - manual
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = np.where((auto > 0) & (manual > 0), auto / manual, np.nan)
    return ratio


def _identity(axis: Axes, row: Json) -> None:
    unit, name = row["unit"], QUANTITY_WORDS[row["quantity"]]
    ends = (0.0, max(*axis.get_xlim(), *axis.get_ylim()))
    axis.plot(ends, ends, color=INK, lw=0.8, ls=":", label="identity")
    if row["deming"]:
        line = [row["deming"]["intercept"] + row["deming"]["slope"] * x for x in ends]
        axis.plot(ends, line, color=INK, lw=1, label="Deming")
    axis.set_xlim(*ends)
    axis.set_ylim(*ends)
    axis.set_xlabel(f"manual [{unit}]", fontsize=8)
    axis.set_ylabel(f"automatic [{unit}]", fontsize=8)
    axis.set_title(name, fontsize=9, loc="left")


def _limits(axis: Axes, row: Json) -> None:
    is_ratio = row["scale"] == "ratio"
    found = row["ratio"] if is_ratio else row["difference"]
    middle = found["mean" if is_ratio else "bias"]
    axis.axhline(1.0 if is_ratio else 0.0, color=INK, lw=0.8, ls=":")
    axis.axhline(middle, color=INK, lw=1.2)
    for name in ("lower", "upper"):
        if found[name] is not None:
            axis.axhline(found[name], color=INK, lw=1, ls="--")
            axis.axhspan(*found[f"{name}_95"], color=INK, alpha=0.07, lw=0)
    # a picture of nothing but rounding would look like noise
    low, high = axis.get_ylim()
    if high - low < 1e-9 * max(1.0, abs(middle)):
        axis.set_ylim(middle - 1, middle + 1)
    axis.set_xlabel(f"mean of both [{row['unit']}]", fontsize=8)
    axis.set_ylabel("automatic / manual" if is_ratio else f"automatic − manual [{row['unit']}]", fontsize=8)
    axis.set_title("bias and 95 % limits of agreement", fontsize=9, loc="left")


def _waterfall(axis: Axes, one: Json) -> None:
    parts = one["contributions"]
    names = ["\n+ ".join(STEP_WORDS.get(step, step).replace(" ", "\n") for step in part["steps"]) for part in parts] + ["total"]
    values = [100 * part["ln_ratio"] for part in parts]
    starts = [0.0, *np.cumsum(values)[:-1], 0.0]
    heights = [*values, 100 * one["total_ln_ratio"]]
    colours = [UP if height > 0 else DOWN for height in heights[:-1]] + [INK]
    axis.bar(range(len(heights)), heights, bottom=starts, color=colours, width=0.62)
    for place, (start, height) in enumerate(zip(starts, heights, strict=True)):
        axis.annotate(
            percent(height / 100), (place, max(start, start + height)), (0, 2), textcoords="offset points", ha="center", fontsize=7
        )
    axis.plot([-0.5, len(heights) - 0.5], [0, 0], color=INK, lw=0.8)
    axis.set_xticks(range(len(names)), names, fontsize=7)
    axis.set_title(f"{group_title(one['group'])}, {one['pairs']} of {one['of']} regions", fontsize=8.5, loc="left")
    axis.set_ylim(*_room(starts, heights))
    axis.set_ylabel("100 × ln ratio", fontsize=7.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", labelsize=7)


def _room(starts: Sequence[float], heights: Sequence[float]) -> tuple[float, float]:
    """Return limits that leave room for the numbers above the bars; equal sides show an empty scale of ± 1."""
    ends = [0.0, *starts, *(start + height for start, height in zip(starts, heights, strict=True))]
    spread = max(max(ends) - min(ends), 1.0)
    return min(ends) - 0.12 * spread, max(ends) + 0.2 * spread
