import itertools
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrtai.io.figure_maps import planes_figure
from mrtai.io.figures import curve_bq
from mrtai.io.report_views import (
    Plane,
    anatomy_picture,
    focus_in,
    hottest,
    in_patient_order,
    outlines,
    patient_spacing_mm,
    picture,
    refined,
    size_mm,
    views,
)
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

sample_report = runpy.run_path(str(Path(__file__).with_name("sample_report.py")))["sample_report"]


@pytest.fixture(scope="module")
def report():
    return sample_report()


@pytest.fixture(scope="module")
def shown(report):
    return views(report)


def centre_of(shown, name, plane, index):
    value = next(v for v, n in shown.names.items() if n == name)
    rows, columns = np.nonzero(picture(shown.labels, plane, index) == value)
    height, width = picture(shown.labels, plane, index).shape
    return rows.mean() / height, columns.mean() / width


def test_the_patients_right_is_on_the_left_of_the_drawn_pixels(shown):
    z, y, _ = focus_in(shown, "kidney_right")
    for plane, index in ((Plane.AXIAL, z), (Plane.CORONAL, y)):
        assert centre_of(shown, "kidney_right", plane, index)[1] < 0.5 < centre_of(shown, "kidney_left", plane, index)[1]


def test_front_and_head_are_up(shown):
    z, _, x = focus_in(shown, "liver")
    assert centre_of(shown, "liver", Plane.AXIAL, z)[0] < 0.5  # the liver lies in front of the middle
    assert centre_of(shown, "liver", Plane.SAGITTAL, x)[0] < 0.5  # and towards the head
    z, _, x = focus_in(shown, "kidney_left")
    assert centre_of(shown, "kidney_left", Plane.AXIAL, z)[0] > 0.5
    assert centre_of(shown, "kidney_left", Plane.SAGITTAL, x)[1] > 0.5  # the back is on the right of a sagittal cut


def test_the_array_that_matplotlib_draws_has_the_hot_lesion_on_the_screens_left(report, shown):
    focus = focus_in(shown, "lesion_1")
    axial_dose = planes_figure(shown, focus, scan_label="").axes[3]
    anatomy, overlay = (np.asarray(image.get_array()) for image in axial_dose.get_images())
    row, column = np.unravel_index(np.argmax(overlay), overlay.shape)
    assert column < overlay.shape[1] / 2 and row < overlay.shape[0] * 0.6
    assert axial_dose.get_images()[1].get_extent() == axial_dose.get_images()[0].get_extent()
    assert axial_dose.get_xlim()[0] < axial_dose.get_xlim()[1] and axial_dose.get_ylim()[0] > axial_dose.get_ylim()[1]
    assert [text.get_text() for text in axial_dose.texts] == ["R", "L", "A", "P"]
    assert anatomy.shape == overlay.shape


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_any_storage_order_of_the_same_patient_gives_the_same_picture(order, signs):
    voxels = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    spacing = np.array([1.0, 2.0, 3.0])
    direction = np.zeros((3, 3))
    for array_axis, patient_axis in enumerate(order):
        direction[patient_axis, array_axis] = signs[array_axis]
    stored = voxels.transpose([2 - order[2 - axis] for axis in range(3)])
    stored = stored[tuple(slice(None, None, signs[2 - axis]) for axis in range(3))]
    grid = Grid(stored.shape, spacing[list(order)], np.zeros(3), direction)
    assert np.array_equal(in_patient_order(stored, grid), voxels)
    assert patient_spacing_mm(grid) == (1.0, 2.0, 3.0)


def test_cuts_of_an_anisotropic_grid_keep_their_true_proportions():
    shown = views(sample_report(shape=(60, 40, 30), spacing_mm=(12.0, 9.0, 6.0)))
    nz, ny, nx = shown.dose_gy.shape
    assert size_mm(shown, Plane.SAGITTAL) == (ny * 9.0, nz * 6.0)
    assert size_mm(shown, Plane.AXIAL) == (nx * 12.0, ny * 9.0)


def test_cutting_voxels_finer_leaves_the_outer_faces_where_they_are():
    grid = Grid.axial((4, 5, 6), (3.0, 4.0, 5.0))
    fine = refined(grid, 3)
    assert np.allclose(fine.corners_mm[0] - fine.spacing_mm / 2, grid.corners_mm[0] - grid.spacing_mm / 2)
    assert np.allclose(fine.corners_mm[-1] + fine.spacing_mm / 2, grid.corners_mm[-1] + grid.spacing_mm / 2)


def test_bone_of_the_ct_is_drawn_where_the_ct_has_it(shown):
    z, _, _ = focus_in(shown, "kidney_left")
    cut = anatomy_picture(shown, Plane.AXIAL, z)
    rows, columns = np.nonzero(cut > 250)
    # the spine is midline and dorsal; half a pixel of the 2 mm picture
    assert columns.mean() / cut.shape[1] == pytest.approx(0.5, abs=0.01)
    assert rows.mean() / cut.shape[0] > 0.7


def test_without_ct_the_density_is_shown():
    shown = views(sample_report(with_ct=False))
    assert not shown.has_ct
    assert shown.anatomy.max() == pytest.approx(1.02, rel=1e-3)  # g/mL


def test_the_outline_of_a_block_is_closed_and_encloses_its_area():
    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:8] = True
    (line,) = outlines(mask)
    assert np.array_equal(line[0], line[-1])
    x, y = line[:-1].T
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    # the half-value line cuts each of the four corners by an eighth of a pixel
    assert area == pytest.approx(3 * 5 - 4 * 0.125)
    assert (x.mean(), y.mean()) == pytest.approx((5.5, 3.5), abs=0.2)


def test_the_focus_is_the_hottest_lesion_and_without_any_region_the_greatest_dose(report, shown):
    names = set(shown.names.values())
    assert hottest(report.regions, names, lesion=True) == "lesion_1"
    assert hottest((), names, lesion=True) is None
    z, y, x = focus_in(shown, None)
    assert shown.dose_gy[z, y, x] == shown.dose_gy.max()


def test_a_fitted_curve_passes_through_its_terms_and_a_trapezoid_through_its_points(report):
    fit = report.regions[0].fit
    assert curve_bq(fit, np.array([0.0]))[0] == pytest.approx(fit.terms[0, 0])
    straight = replace(fit, terms=np.empty((0, 2)), model="trapezoid", head="constant: as first")
    assert np.allclose(curve_bq(straight, fit.curve.t_h), fit.curve.activity_bq)
    assert curve_bq(straight, np.array([1.0]))[0] == fit.curve.activity_bq[0]
    one_half_life_later = np.array([fit.curve.t_h[-1] + fit.effective_half_life_h])
    assert curve_bq(straight, one_half_life_later)[0] == pytest.approx(fit.curve.activity_bq[-1] / 2)


def test_a_lying_patient_stored_feet_first_is_still_drawn_head_up(report):
    # the same maps with both array and z axis reversed describe the same patient
    def reversed_image(image):
        grid = image.grid
        origin = grid.origin_mm + grid.direction[:, 2] * grid.spacing_mm[2] * (grid.shape[0] - 1)
        direction = grid.direction.copy()
        direction[:, 2] *= -1
        return Image(image.voxels[::-1], image.quantity, Grid(grid.shape, grid.spacing_mm, origin, direction))

    dose = Image(report.dose.total.voxels, Quantity.ABSORBED_DOSE, report.dose.grid)
    turned = reversed_image(dose)
    assert np.array_equal(in_patient_order(turned.voxels, turned.grid), in_patient_order(dose.voxels, dose.grid))
