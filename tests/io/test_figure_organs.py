"""A flagged contour is shown where it is doubtful, beside the words that say so."""

import re
import runpy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader

from mrtai.io.figure_organs import FLAGGED, MARGIN_MM, ORGANS_AT_MOST, doubtful, focus, organ_figure, organ_figures
from mrtai.io.manifest import case_manifest
from mrtai.io.report_figures import Pictures, organ_pictures
from mrtai.io.report_html import html_report
from mrtai.io.report_pdf import pdf_report
from mrtai.io.report_views import views
from mrtai.io.results import results
from mrtai.physics.organs_in_view import organs_in_view
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image

sample = runpy.run_path(str(Path(__file__).with_name("sample_report.py")))
GRID = Grid.axial((60, 60, 64), (6.0, 6.0, 6.0))
LARGEST_BYTES = 300_000


def flag(what, severity=Severity.REVIEW):
    return Flag(f"ORGAN_{what}", severity, f"Something is strange about its {what}.", "Look at it.")


@pytest.fixture(scope="module")
def drawn():
    """Labels and CT on one grid."""
    return sample["labels_on"](GRID), sample["ct_on"](GRID)


def report_with(flags):
    """The sample report with contours on its CT and flags as the walk gives them to regions."""
    report = sample["sample_report"](shape=(30, 30, 30), spacing_mm=(12.0, 12.0, 12.0))
    ct = report.aligned.cycle.time_points[0].ct
    contours = replace(sample["labels_on"](ct.grid), flags=flags)
    regions = tuple(replace(row, flags=(*row.flags, *flags.get(row.name, ()))) for row in report.regions)
    return replace(report, contours=contours, regions=regions)


def bold_lines(axis):
    return np.concatenate([line.get_xydata() for line in axis.lines if line.get_color() == FLAGGED])


def test_planes_go_through_the_middle_of_an_organ_and_its_outline_lies_where_it_does(drawn):
    labels, ct = drawn
    organ = organs_in_view(labels, ct)["kidney_left"]
    z, y, x = focus(organ, ct)
    assert np.abs(GRID.origin_mm + np.array([x, y, z]) * 6.0 - organ.centre_mm).max() < 6.0
    axial, coronal, _ = organ_figure(organ, labels, ct).axes
    line = bold_lines(axial)
    width_mm = (np.argwhere(labels.voxels[z] == 3)[:, 1].max() - np.argwhere(labels.voxels[z] == 3)[:, 1].min() + 1) * 6.0
    # outlines run half-way between voxel centres
    assert np.ptp(line[:, 0]) == pytest.approx(width_mm, abs=0.1)
    margin_mm = np.ceil(MARGIN_MM / 6.0) * 6.0 + (organ.box[2].start - np.argwhere(labels.voxels[z] == 3)[:, 1].min()) * -6.0
    assert line[:, 0].min() == pytest.approx(margin_mm, abs=0.1)
    assert np.ptp(bold_lines(coronal)[:, 1]) == pytest.approx(np.ptp(np.argwhere(labels.voxels[:, y] == 3)[:, 0]) * 6.0 + 6.0, abs=0.1)


def test_planes_of_a_cut_organ_meet_in_the_face_that_cuts_it(drawn):
    labels, ct = drawn
    middle = int(np.argwhere(labels.mask("liver"))[:, 0].mean())
    grid = Grid((middle + 1, *GRID.shape[1:]), GRID.spacing_mm, GRID.origin_mm, GRID.direction)
    cut = replace(labels, voxels=labels.voxels[: middle + 1], grid=grid)
    organ = organs_in_view(cut, Image(ct.voxels[: middle + 1], ct.quantity, grid))["liver"]
    assert set(organ.cuts_mm2) == {"head"}
    z, y, x = focus(organ, Image(ct.voxels[: middle + 1], ct.quantity, grid))
    assert z == middle and cut.voxels[z, y, x] == 1


def test_a_picture_is_the_same_however_the_array_lies(drawn):
    labels, ct = drawn
    flipped = Grid(GRID.shape, GRID.spacing_mm, GRID.corners_mm[-1], -np.eye(3))
    other = replace(labels, voxels=labels.voxels[::-1, ::-1, ::-1], grid=flipped), Image(ct.voxels[::-1, ::-1, ::-1], ct.quantity, flipped)
    for own, turned in zip(figure_of(labels, ct).axes, figure_of(*other).axes, strict=True):
        assert np.array_equal(own.images[0].get_array(), turned.images[0].get_array())


def figure_of(labels, ct):
    return organ_figure(organs_in_view(labels, ct)["spleen"], labels, ct)


def test_only_what_a_person_must_look_at_is_pictured(drawn):
    labels, _ = drawn
    flags = {"liver": (flag("CUT", Severity.INFO),), "spleen": (flag("HU"),), "kidney_left": (replace(flag("X"), code="DOSE_IMPLAUSIBLE"),)}
    assert doubtful(replace(labels, flags=flags)) == ("spleen",)


def test_the_page_and_the_paper_have_the_picture_beside_the_flag():
    report = report_with({"spleen": (flag("HU"), flag("DOUBT")), "liver": (flag("CUT", Severity.INFO),)})
    document, manifest, pictures = results(report), case_manifest(report, {}), Pictures(views(report), (), organ_pictures(report))
    page = html_report(report, document, pictures, manifest=manifest)
    notes = re.findall(r'<li class="pictured">.*?</li>', page, re.S)
    # once, at the first flag of the organ
    assert len(notes) == 1 and "ORGAN_HU" in notes[0] and notes[0].count("data:image/png") == 1
    assert list(pictures.organs) == ["spleen"] and len(pictures.organs["spleen"].content) < LARGEST_BYTES
    without = replace(pictures, organs={})
    plain, shown = (PdfReader(BytesIO(pdf_report(report, document, own, manifest=manifest))).pages[0] for own in (without, pictures))
    assert len(shown.images) == len(plain.images) + 1
    assert "Contour of spleen" in shown.extract_text()


def test_pictures_are_bounded_in_number_and_need_a_ct_on_the_contours_grid(drawn):
    labels, ct = drawn
    names = [*labels.names.values(), *(f"lesion_{n}" for n in range(3, 9))]
    k = np.arange(GRID.shape[0])[:, None, None]
    voxels = labels.voxels + 0
    for value in range(len(labels.names) + 1, len(names) + 1):
        voxels = np.where((voxels == 0) & (k == 4 * value), value, voxels)
    flagged = replace(labels, voxels=voxels, names=dict(enumerate(names, start=1)), flags={name: (flag("HU"),) for name in names})
    assert len(names) > ORGANS_AT_MOST == len(organ_figures(flagged, ct))
    moved = replace(GRID, origin_mm=GRID.origin_mm + 1.0)
    assert organ_figures(flagged, replace(ct, grid=moved)) == {}
