"""What the uncertainty of every region's dose is made of, as bars."""

from collections.abc import Sequence
from typing import Final

from matplotlib.figure import Figure

from mrtai.io.figure_maps import plain_name
from mrtai.physics.uncertainty import OF_DOSE
from mrtai.values.report import RegionDose

INK: Final = "#1f2933"
COLOURS: Final = dict(
    zip(OF_DOSE, ("#0072B2", "#56B4E9", "#D55E00", "#CC79A7", "#F0E442", "#009E73", "#E69F00", "#8a94a0"), strict=True)  # Okabe and Ito
)


def budget_figure(regions: Sequence[RegionDose], most: int) -> Figure:
    """Return one bar a region, as long as the dose's relative standard uncertainty, cut by the shares of its variance."""
    shown = [region for region in regions if region.budget and region.spread and region.kind not in ("body", "remainder")][:most]
    figure = Figure(figsize=(7.6, 1.3 + 0.27 * max(2, len(shown))), layout="constrained")
    axis = figure.subplots()
    for row, region in enumerate(shown):
        total, left = 100 * (region.spread.relative_sd if region.spread else 0.0), 0.0
        for term in region.budget:
            axis.barh(row, term.share * total, left=left, height=0.62, color=COLOURS[term.term])
            left += term.share * total
        axis.annotate(f"{total:.0f} %", (total, row), (5, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
    axis.set_yticks(range(len(shown)), [plain_name(region.name) for region in shown], fontsize=8)
    axis.invert_yaxis()
    used = [name for name in OF_DOSE if any(part.term == name for region in shown for part in region.budget)]
    for name in used:
        axis.barh(0, 0, color=COLOURS[name], label=name)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    axis.set_xlabel("standard uncertainty of the mean dose [%], cut by the shares of its variance", fontsize=8)
    axis.margins(x=0.09, y=0.02)
    axis.set_xlim(left=0)
    axis.tick_params(labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure
