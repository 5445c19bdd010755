"""Plots of a report: time–activity curves, dose–volume histograms and mean doses, as PNG."""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrtai.io.figure_maps import colours, plain_name
from mrtai.io.report_tables import significant
from mrtai.units import BQ_PER_MBQ, BQ_S_PER_MBQ_H, LN2
from mrtai.values.curve import LARGE_ERROR, Fit
from mrtai.values.grid import Array
from mrtai.values.report import RegionDose

DOTS_PER_INCH: Final = 170
INK: Final = "#1f2933"
CURVE: Final = "#0072B2"
EXTRAPOLATED: Final = "#E69F00"
PANELS_AT_MOST: Final = 24
LINES_AT_MOST: Final = 12
BARS_AT_MOST: Final = 40


def png(figure: Figure, dots_per_inch: int = DOTS_PER_INCH) -> bytes:
    """Return the figure as PNG; equal figures give equal bytes."""
    stream = BytesIO()
    figure.set_dpi(dots_per_inch)
    layout = figure.get_layout_engine()
    if layout is not None:
        # by itself; left to ``savefig`` it costs a whole drawing more
        layout.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(stream, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return stream.getvalue()


def curves_figure(regions: Sequence[RegionDose]) -> Figure:
    """Return one panel per fitted region: points with their standard uncertainty, the curve, and its unmeasured shares shaded."""
    shown = [region for region in regions if region.fit is not None][:PANELS_AT_MOST]
    columns = min(4, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(2.7 * columns, 2.25 * rows), layout="constrained")
    axes = np.asarray(figure.subplots(rows, columns, squeeze=False), dtype=object).ravel()
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    for position, (axis, region) in enumerate(zip(axes, shown, strict=False)):
        if region.fit is not None:
            _curve_panel(axis, region.name, region.fit)
        axis.set_ylabel("activity [MBq]" if position % columns == 0 else "", fontsize=8)
        axis.set_xlabel("time after administration [h]" if position >= len(shown) - columns else "", fontsize=8)
    return figure


def fit_figure(fit: Fit) -> Figure:
    """Return one region's points and curve, with the model, the interval of its integral and the chance of a large error."""
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axis = figure.subplots()
    _curve_panel(axis, fit.curve.region, fit)
    axis.set_ylabel("activity [MBq]", fontsize=8)
    axis.set_xlabel("time after administration [h]", fontsize=8)
    lines = [fit.model]
    if fit.tia_68_bq_s is not None:
        lines.append(f"68 %: {' to '.join(significant(end / BQ_S_PER_MBQ_H, 4) for end in fit.tia_68_bq_s)} MBq h")
    if fit.probability_off is not None:
        lines.append(f"more than {LARGE_ERROR:.0%} off: {fit.probability_off:.0%}")
    axis.text(0.97, 0.96, "\n".join(lines), transform=axis.transAxes, ha="right", va="top", fontsize=8, color=INK)
    return figure


def curve_bq(fit: Fit, t_h: Array) -> Array:
    """Return the fitted activity [Bq] at ``t_h``: the sum of exponentials, or straight lines and a last half-life for trapezoids.

    NaN before the first point of a trapezoid unless its head rule is ``constant``.
    """
    if fit.terms.size:
        terms = np.asarray(fit.terms).reshape(-1, 2)
        activity: Array = (terms[:, 0] * np.exp(-np.outer(t_h, terms[:, 1]))).sum(axis=1)
        return activity
    measured, last_h = fit.curve, fit.curve.t_h[-1]
    head = measured.activity_bq[0] if fit.head.startswith("constant") else np.nan
    activity = np.interp(t_h, measured.t_h, measured.activity_bq, left=head, right=np.nan)
    if fit.effective_half_life_h:
        tail = measured.activity_bq[-1] * np.exp(-LN2 * (t_h - last_h) / fit.effective_half_life_h)
        activity = np.where(t_h > last_h, tail, activity)
    return activity


def histograms_figure(regions: Sequence[RegionDose]) -> Figure:
    """Return cumulative dose–volume histograms, organs on the left and lesions on the right."""
    organs = [region for region in regions if region.dose and region.kind in ("organ", "other")]
    lesions = [region for region in regions if region.dose and region.kind == "lesion"]
    groups = [(title, group) for title, group in (("organs", organs), ("lesions", lesions)) if group]
    figure = Figure(figsize=(5.2 * max(1, len(groups)), 3.4), layout="constrained")
    axes = np.asarray(figure.subplots(1, max(1, len(groups)), squeeze=False), dtype=object).ravel()
    colour_of = colours([region.name for region in (*organs, *lesions)])
    for axis, (title, group) in zip(axes, groups, strict=False):
        _histogram_panel(axis, title, group, colour_of)
    return figure


def doses_figure(regions: Sequence[RegionDose]) -> Figure:
    """Return mean absorbed doses [Gy] as bars, with the standard uncertainty where one can be stated."""
    shown = [region for region in regions if region.dose and region.kind not in ("body", "remainder")][:BARS_AT_MOST]
    figure = Figure(figsize=(7.6, 0.9 + 0.27 * max(2, len(shown))), layout="constrained")
    axis = figure.subplots()
    colour = {"organ": CURVE, "lesion": "#D55E00", "union": "#8a94a0"}
    for row, region in enumerate(shown):
        if region.dose is None:
            continue
        mean_gy, sd_gy = region.dose.mean_gy, region.dose.mean_sd_gy
        axis.barh(row, mean_gy, height=0.62, color=colour.get(region.kind, "#8a94a0"), xerr=sd_gy, ecolor=INK, capsize=2.5)
        axis.annotate(significant(mean_gy), (mean_gy + (sd_gy or 0), row), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(shown)), [plain_name(region.name) for region in shown], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("mean absorbed dose [Gy]; bar ends ± 1 standard uncertainty", fontsize=8)
    axis.margins(x=0.09)
    axis.set_xlim(left=0)
    _sober(axis)
    axis.grid(axis="y", visible=False)
    return figure


def _curve_panel(axis: Axes, name: str, fit: Fit) -> None:
    measured = fit.curve
    last_h = float(measured.t_h[-1])
    end_h = last_h + max(0.35 * last_h, min(1.5 * (fit.effective_half_life_h or 0.0), last_h))
    t_h = np.unique(np.concatenate([np.linspace(0, end_h, 240), measured.t_h]))
    activity_mbq = curve_bq(fit, t_h) / BQ_PER_MBQ
    unmeasured = (t_h <= measured.t_h[0]) | (t_h >= last_h)
    axis.fill_between(t_h, 0, activity_mbq, where=list(unmeasured), color=EXTRAPOLATED, alpha=0.22, lw=0)
    axis.plot(t_h, activity_mbq, color=CURVE, lw=1.4)
    sd_mbq = np.nan_to_num(measured.activity_sd_bq) / BQ_PER_MBQ
    axis.errorbar(measured.t_h, measured.activity_bq / BQ_PER_MBQ, sd_mbq, fmt="o", ms=3.6, color=INK, capsize=2, lw=1)
    half_life = "–" if fit.effective_half_life_h is None else f"{significant(fit.effective_half_life_h)} h"
    axis.set_title(f"{plain_name(name)}\nT½ eff {half_life} · Ã {significant(fit.tia_bq_s / BQ_S_PER_MBQ_H, 4)} MBq h", fontsize=8)
    axis.set_ylim(bottom=0)
    axis.set_xlim(0, end_h)
    _sober(axis)


def _histogram_panel(axis: Axes, title: str, group: Sequence[RegionDose], colour_of: dict[str, str]) -> None:
    drawn = sorted(group, key=lambda region: -(region.dose.mean_gy if region.dose else 0.0))[:LINES_AT_MOST]
    for region in (region for region in group if region in drawn):
        if region.dose is not None and region.dose.dvh.dose_gy:
            dvh = region.dose.dvh
            dose_gy = (*dvh.dose_gy, dvh.dose_gy[-1])
            percent = np.array([*dvh.volume_fraction, 0.0]) * 100
            axis.plot(dose_gy, percent, color=colour_of[region.name], lw=1.6, label=plain_name(region.name))
    axis.set_title(title if len(drawn) == len(group) else f"{title} ({len(drawn)} of greatest dose of {len(group)})", fontsize=9)
    axis.set_xlabel("absorbed dose [Gy]", fontsize=8)
    axis.set_ylabel("volume receiving at least this dose [%]", fontsize=8)
    axis.set_ylim(0, 102)
    axis.set_xlim(left=0)
    axis.legend(fontsize=7, frameon=False)
    _sober(axis)


def _sober(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7.5)
    axis.grid(alpha=0.25, lw=0.6)
