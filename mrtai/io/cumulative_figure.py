"""The picture of sums over cycles: one stacked bar a region, a part a cycle, against its limit."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrtai.io.figures import INK
from mrtai.io.report_tables import Json, plain, significant
from mrtai.values.regions import kinetic_family

SHADES: Final = ("#9ecae1", "#0072B2")
"""Colours of the first and the last cycle; those between are mixed."""

LIMIT: Final = "#D55E00"
ROWS_AT_MOST: Final = 30
# quantity, title, and whether lesions belong to it, whose doses dwarf those of organs
PANELS: Final[tuple[tuple[str, str, tuple[bool, ...]], ...]] = (
    ("absorbed_dose", "absorbed dose [Gy], organs", (False,)),
    ("absorbed_dose", "absorbed dose [Gy], lesions", (True,)),
    ("bed", "BED [Gy]", (False, True)),
)


def cumulative_figure(document: Json) -> Figure:
    """Return stacked bars of dose and BED by cycle, with ± one standard uncertainty of the sum and the limits as vertical marks.

    Regions without a sum are left out.
    """
    panels = [(quantity, title, rows) for quantity, title, lesions in PANELS if (rows := _shown(document, quantity, lesions))]
    heights = [len(rows) + 2 for _, _, rows in panels] or [2]
    figure = Figure(figsize=(8.2, 0.9 + 0.3 * sum(heights)), layout="constrained")
    axes = np.asarray(figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights}), dtype=object).ravel()
    shades = _shades(len(document["cycles"]))
    for axis, (quantity, title, rows) in zip(axes, panels, strict=False):
        _panel(axis, quantity, title, rows, shades)
    if panels:
        _legend(figure, axes[0], document["cycles"], shades, any(row["limits"] for *_, rows in panels for row in rows))
    else:
        axes[0].set_axis_off()
    return figure


def _shown(document: Json, quantity: str, lesions: Sequence[bool]) -> list[Json]:
    rows = [row for row in document["regions"] if (kinetic_family(row["name"]) == "lesion") in lesions]
    return [row for row in rows if row[f"{quantity}_gy"] is not None][:ROWS_AT_MOST]


def _shades(count: int) -> list[Any]:
    first, last = (np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for colour in SHADES)
    return [tuple(first + (last - first) * share) for share in np.linspace(0, 1, max(count, 2))][-count:]


def _panel(axis: Axes, quantity: str, title: str, rows: Sequence[Json], shades: Sequence[Any]) -> None:
    for place, row in enumerate(rows):
        start = 0.0
        for part in row["cycles"]:
            value = part[f"{quantity}_gy"]
            axis.barh(place, value, left=start, height=0.62, color=shades[part["position"] - 1], edgecolor="white", lw=0.8)
            start += value
        sd = row[f"{quantity}_sd_gy"]
        axis.errorbar(start, place, xerr=sd, color=INK, capsize=2.5, lw=1)
        axis.annotate(significant(start), (start + (sd or 0.0), place), (6, 0), textcoords="offset points", va="center", fontsize=8)
        for limit in row["limits"]:
            if limit["quantity"] == quantity:
                axis.plot([limit["limit_gy"]] * 2, [place - 0.42, place + 0.42], color=LIMIT, lw=2.4, solid_capstyle="butt")
    axis.set_yticks(range(len(rows)), [plain(row["name"]) for row in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_title(title, fontsize=9, loc="left")
    axis.margins(x=0.09)
    axis.set_xlim(left=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7.5)
    axis.grid(axis="x", alpha=0.25, lw=0.6)


def _legend(figure: Figure, axis: Axes, cycles: Sequence[Json], shades: Sequence[Any], limits: bool) -> None:
    handles: list[Any] = [axis.barh(0, 0, color=shade, label=cycle["label"]) for cycle, shade in zip(cycles, shades, strict=True)]
    if limits:
        handles += axis.plot([], [], color=LIMIT, lw=2.4, label="limit over all cycles")
    figure.legend(handles=handles, loc="outside upper left", ncols=4, fontsize=7.5, frameon=False)
