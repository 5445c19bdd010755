"""Pictures of maps: three planes with overlays, and projections of every scan."""

from collections.abc import Sequence
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.ndimage import zoom

from mrtai.io.report_views import Pixels, Plane, Views, anatomy_picture, outlines, picture, size_mm

PALETTE: Final = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#AA4499",
    "#44AA99",
    "#DDCC77",
    "#88CCEE",
    "#999933",
)
"""Okabe and Ito's colours, then Tol's muted ones: told apart by colour-blind readers; repeated beyond twelve."""

FAINTEST_SHOWN: Final = 0.04
"""Overlays vanish below this share of their window, so that the anatomy stays legible."""

LEGEND_ENTRIES: Final = 24


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return one colour per region name, in order."""
    return {name: PALETTE[position % len(PALETTE)] for position, name in enumerate(names)}


def plain_name(name: str) -> str:
    """Return a region's name for a plot: spaces for underscores, no mathematical type setting."""
    return name.replace("_", " ").replace("$", r"\$")


def planes_figure(shown: Views, focus: tuple[int, int, int], *, scan_label: str) -> Figure:
    """Return axial, coronal and sagittal cuts through ``focus`` (z, y, x): above with SPECT, below with dose [Gy]."""
    cuts = {Plane.AXIAL: focus[0], Plane.CORONAL: focus[1], Plane.SAGITTAL: focus[2]}
    widths = [size_mm(shown, plane)[0] for plane in Plane]
    heights = max(size_mm(shown, plane)[1] for plane in Plane)
    width_in = 10.0
    row_in = min(4.4, width_in * 0.9 * heights / sum(widths))
    figure = Figure(figsize=(width_in, 2 * row_in + 1.0), layout="constrained")
    axes = np.asarray(figure.subplots(2, 3, width_ratios=widths), dtype=object)
    rows: tuple[tuple[Pixels, str, str, float], ...] = (
        (shown.spects_mbq_per_ml[0], "afmhot", f"SPECT, {scan_label} [MBq/mL]", _window(shown.spects_mbq_per_ml[0])),
        (shown.dose_gy, "plasma", "absorbed dose [Gy]", _window(shown.dose_gy)),
    )
    seen: dict[str, str] = {}
    for row, (volume, colour_map, label, top) in enumerate(rows):
        for column, plane in enumerate(Plane):
            seen |= _cut(axes[row, column], shown, volume, plane=plane, index=cuts[plane], colour_map=colour_map, top=top)
        scale = ScalarMappable(Normalize(0, top), matplotlib.colormaps[colour_map])
        _bar(figure, scale, list(axes[row]), label)
    handles = [Line2D([], [], color=colour, lw=2, label=plain_name(name)) for name, colour in list(seen.items())[:LEGEND_ENTRIES]]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(7, len(handles)), frameon=False, fontsize=8)
    return figure


def projections_figure(shown: Views, times_h: Sequence[float]) -> Figure:
    """Return coronal maximum-intensity projections of every scan on one grey scale, with their times."""
    width, height = size_mm(shown, Plane.CORONAL)
    columns = min(4, len(times_h))
    rows = -(-len(times_h) // columns)
    panel_in = min(2.6, 9.2 / columns)
    figure = Figure(figsize=(panel_in * columns + 0.9, rows * (panel_in * height / width + 0.35)), layout="constrained")
    axes = np.asarray(figure.subplots(rows, columns, squeeze=False), dtype=object).ravel()
    projections = [volume.max(axis=1)[::-1] for volume in shown.spects_mbq_per_ml]
    top = max(float(np.quantile(projection, 0.998)) for projection in projections) or 1.0
    for axis in axes:
        axis.set_axis_off()
    for number, (axis, projection, t_h) in enumerate(zip(axes, projections, times_h, strict=False), start=1):
        axis.imshow(projection, cmap="gray_r", vmin=0, vmax=top, extent=(0, width, height, 0), interpolation="bilinear")
        axis.set_title(f"scan {number}: {t_h:.1f} h", fontsize=9)
        side_letters(axis, Plane.CORONAL, "black")
    scale = ScalarMappable(Normalize(0, top), matplotlib.colormaps["gray_r"])
    _bar(figure, scale, list(axes), "greatest along front–back [MBq/mL]")
    return figure


def _bar(figure: Figure, scale: ScalarMappable, axes: list[Axes], label: str) -> None:
    bar = figure.colorbar(scale, ax=axes, extend="max", shrink=0.85, pad=0.01)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _window(volume: Pixels) -> float:
    hot = volume[volume > 0]
    return float(np.quantile(hot, 0.998)) if hot.size else 1.0


def _cut(axis: Axes, shown: Views, volume: Pixels, *, plane: Plane, index: int, colour_map: str, top: float) -> dict[str, str]:
    width, height = size_mm(shown, plane)
    extent = (0.0, width, height, 0.0)
    low, high = shown.window
    axis.imshow(anatomy_picture(shown, plane, index), cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
    overlay = zoom(picture(volume, plane, index).astype(np.float64), shown.fine, order=1, mode="nearest", grid_mode=True)
    share = np.clip(overlay / top, 0, 1)
    # faint values let the anatomy through, strong ones cover it
    alpha = np.where(share < FAINTEST_SHOWN, 0.0, np.clip(0.25 + 0.9 * np.sqrt(share), 0, 0.85))
    axis.imshow(overlay, cmap=colour_map, vmin=0, vmax=top, alpha=alpha, extent=extent, interpolation="nearest")
    drawn = _draw_outlines(axis, shown, plane, index)
    side_letters(axis, plane, "white")
    axis.set_title(plane.name.lower(), fontsize=9)
    axis.set_axis_off()
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    return drawn


def _draw_outlines(axis: Axes, shown: Views, plane: Plane, index: int) -> dict[str, str]:
    colour_of = colours(list(shown.names.values()))
    cut = picture(shown.labels, plane, index)
    width, height = size_mm(shown, plane)
    pixel_mm = np.array([width / cut.shape[1], height / cut.shape[0]])
    drawn = {}
    for value, name in shown.names.items():
        for line in outlines(cut == value):
            axis.plot(*(line * pixel_mm).T, color="black", lw=2.4, alpha=0.6)  # keeps the colour legible on any overlay
            axis.plot(*(line * pixel_mm).T, color=colour_of[name], lw=1.2)
            drawn[name] = colour_of[name]
    return drawn


def side_letters(axis: Axes, plane: Plane, colour: str) -> None:
    """Write the directions at the borders of a cut."""
    places = ((0.03, 0.5, "left", "center"), (0.97, 0.5, "right", "center"), (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))
    for letter, (x, y, across, along) in zip(plane.value, places, strict=True):
        style: dict[str, Any] = {"ha": across, "va": along, "color": colour, "fontsize": 9, "fontweight": "bold"}
        axis.text(x, y, letter, transform=axis.transAxes, **style)
