"""The pictures of a report, drawn once for HTML and PDF."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mrtai.io.figure_budget import budget_figure
from mrtai.io.figure_maps import planes_figure, projections_figure
from mrtai.io.figure_organs import organ_figures
from mrtai.io.figures import BARS_AT_MOST, PANELS_AT_MOST, curves_figure, doses_figure, histograms_figure, png
from mrtai.io.report_tables import plain
from mrtai.io.report_views import Views, focus_in, hottest, views
from mrtai.io.report_words import Note
from mrtai.physics.contour_gates import CODES
from mrtai.values.report import RegionDose, Report

ORGAN_DOTS_PER_INCH: Final = 120


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure: PNG content, its heading and what a reader has to know to read it."""

    name: str
    title: str
    caption: str
    content: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """All figures of a report in reading order, with the maps they were cut from.

    ``organs`` are those of contours that a gate flagged, by the name their region has in the report.
    """

    shown: Views
    figures: tuple[Picture, ...]
    organs: Mapping[str, Picture] = field(default_factory=dict)


def report_figures(report: Report) -> Pictures:
    """Return maps and plots of a report as PNG."""
    shown = views(report)
    maps = [*_planes(report, shown), _projections(report, shown)]
    return Pictures(shown, (*maps, *_plots(report.regions)), organ_pictures(report))


def beside(notes: Iterable[Note], organs: Mapping[str, Picture]) -> list[tuple[Note, tuple[Picture, ...]]]:
    """Return each note with the pictures that belong to it: a gate's first note of a region has the region's picture."""
    left = {plain(name): picture for name, picture in organs.items()}
    told = []
    for note in notes:
        shown = [place for place in note.places if place in left] if note.code in CODES else []
        told.append((note, tuple(left.pop(place) for place in shown)))
    return told


def organ_pictures(report: Report) -> dict[str, Picture]:
    """Return pictures of the contours that a gate flagged, by region; none without a CT on their grid."""
    ct = report.aligned.cycle.time_points[report.aligned.reference].ct
    figures = {} if ct is None else organ_figures(report.contours, ct)
    caption = "Orange: the contour in doubt; blue: other regions. The patient's right is on the left."
    return {
        name: Picture(f"contour_{number}", f"Contour of {plain(name)}", caption, png(figure, ORGAN_DOTS_PER_INCH))
        for number, (name, figure) in enumerate(figures.items(), start=1)
    }


def _planes(report: Report, shown: Views) -> list[Picture]:
    drawn = set(shown.names.values())
    candidates = (hottest(report.regions, drawn, lesion=lesion) for lesion in (True, False))
    names: list[str | None] = [name for name in candidates if name is not None]
    first = report.aligned.cycle.time_points[0]
    anatomy = "CT" if shown.has_ct else "density (there is no CT)"
    pictures: list[Picture] = []
    for name in names or [None]:
        place = "the greatest dose" if name is None else plain(name)
        figure = planes_figure(shown, focus_in(shown, name), scan_label=f"scan {first.index}, {first.t_h:.1f} h")
        caption = f"Grey: {anatomy}. Above: first SPECT. Below: absorbed dose. Lines: contours. The patient's right is on the left."
        pictures.append(Picture(f"planes_{len(pictures) + 1}", f"Three planes through {place}", caption, png(figure)))
    return pictures


def _projections(report: Report, shown: Views) -> Picture:
    figure = projections_figure(shown, [point.t_h for point in report.aligned.cycle.time_points])
    caption = "Coronal maximum-intensity projections of the aligned scans on one grey scale, not corrected for decay between them."
    return Picture("projections", "All scans", caption, png(figure))


def _plots(regions: tuple[RegionDose, ...]) -> list[Picture]:
    pictures = []
    fitted = [region for region in regions if region.fit is not None]
    if fitted:
        cut = f" The first {PANELS_AT_MOST} of {len(fitted)} regions are drawn." if len(fitted) > PANELS_AT_MOST else ""
        caption = f"Points with one standard uncertainty, fitted curve; shaded: extrapolated, not measured.{cut}"
        pictures.append(Picture("curves", "Time–activity curves", caption, png(curves_figure(regions))))
    if any(region.dose for region in regions):
        caption = "Voxels of the SPECT's grid; noise of the image, and what is left of its blur, widen these histograms."
        pictures.append(Picture("histograms", "Dose–volume histograms", caption, png(histograms_figure(regions))))
        pictures.append(
            Picture(
                "doses",
                "Mean absorbed doses",
                f"Organs blue, lesions red, unions grey; {BARS_AT_MOST} regions at most.",
                png(doses_figure(regions)),
            )
        )
    if any(region.budget for region in regions):
        caption = (
            "Contour (volume), recovery or what blur took (partial volume), registration, calibration, kinetics and dose engine; what each "
            "one is: see Uncertainty."
        )
        pictures.append(Picture("budget", "Where the uncertainty comes from", caption, png(budget_figure(regions, BARS_AT_MOST))))
    return pictures
