"""Numbers of doubtful states: what is withheld stays withheld, what is empty does not stop a case, what is uncertain says so."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mrtai.engines import dose_engine
from mrtai.engines.given_labels import GivenLabels
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.tables import nuclide
from mrtai.values.flag import Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from tests.test_flags import BODY, CURVE, FALLING, GRID, PROTOCOL, SPLEEN, TIMES_H, box, codes, cycle, draft, drafted_by, drawn


def test_both_kidneys_together_have_an_uncertain_bed():
    _, regions = draft(cycle(FALLING), replace(drawn(), names={1: "kidney_right", 2: "kidney_left"}))
    row = regions["kidneys"]
    dose, lq = row["absorbed_dose_gy"], row["radiobiology"]
    # BED = D + G D²/(α/β), so dBED/dD = 1 + 2 G D/(α/β)
    slope = 1 + 2 * lq["g"] * dose["mean"] / lq["alpha_beta_gy"]
    assert lq["bed_sd_gy"] == pytest.approx(slope * dose["mean_sd"], rel=1e-6)


def test_a_withheld_regions_dose_is_not_told_by_the_second_opinion():
    check = dose_engine("monte-carlo", nuclide("Lu-177"), NUCLEAR_DATA, threads=1, histories=2_000)
    report, regions = draft(cycle(FALLING), check=check, protocol=replace(PROTOCOL, gates={"DOSE_IMPLAUSIBLE": Severity.WITHHELD}))
    assert regions["kidney_left"]["verdict"] == regions["body"]["verdict"] == "withheld"
    assert {row["region"] for row in report["check"]} == {"remainder"}


def test_no_gate_gives_back_what_has_no_number():
    fine = Grid.axial((96, 96, 96), (1.0, 1.0, 1.0))
    labels = Labels(box((48, 48, 48), (50, 50, 50), fine).astype(np.uint8), {1: "lesion_1"}, fine)
    of = cycle(FALLING)
    first = replace(of.time_points[0], ct=Image(np.full(fine.shape, 14.0, dtype=np.float32), Quantity.HOUNSFIELD, fine))
    gates = dict.fromkeys(("REGION_NOT_SEEN", "MEMBER_WITHHELD"), Severity.INFO)
    _, regions = draft(replace(of, time_points=(first, *of.time_points[1:])), labels, protocol=replace(PROTOCOL, gates=gates))
    for name in ("lesion_1", "body"):
        assert regions[name]["absorbed_dose_gy"]["mean"] is None and regions[name]["verdict"] == "withheld"


def test_a_vertebra_that_a_site_withholds_gives_no_marrow_dose():
    labels = replace(drawn(), names={1: "vertebrae_L3", 2: "spleen"})
    for severity, known in ((Severity.REVIEW, True), (Severity.WITHHELD, False)):
        report, _ = draft(
            cycle(FALLING), labels, protocol=replace(PROTOCOL, most_dose_relative_sd=0.01, gates={"DOSE_UNCERTAIN": severity})
        )
        (marrow,) = report["red_marrow"]
        assert (marrow["absorbed_dose_gy"] is not None) is (marrow["tia_mbq_h"] is not None) is known


def scans_with(value, where=SPLEEN):
    of = cycle(FALLING)
    scans = [np.where(where, np.float32(value), point.spect.voxels) for point in of.time_points]
    points = [replace(point, spect=replace(point.spect, voxels=v)) for point, v in zip(of.time_points, scans, strict=True)]
    return replace(of, time_points=tuple(points))


@pytest.mark.parametrize("value", [0.0, -5.0])
def test_the_last_region_may_be_without_activity(value):
    for word in ("off", "recovery"):
        _, regions = draft(scans_with(value), protocol=replace(PROTOCOL, partial_volume=word, recovery=CURVE))
        assert "NO_ACTIVITY" in codes(regions["spleen"]["flags"])
        dose = regions["spleen"]["absorbed_dose_gy"]
        assert dose["mean"] == dose["with_recovery"] == dose["without_recovery"] == 0.0 and dose["mean_sd"] is None
        assert regions["kidney_left"]["absorbed_dose_gy"]["mean"] > 0


def test_voxels_that_are_scaled_by_recovery_alone_have_one_curve():
    for word in ("off", "recovery"):
        protocol = replace(PROTOCOL, tia_map="voxel-fit", partial_volume=word, recovery=CURVE)
        _, regions = draft(cycle(FALLING), protocol=protocol)
        assert "VOXELS_SCALED" not in codes(regions["spleen"]["flags"])


def test_a_union_tells_that_its_members_have_little_recovery():
    liver, lesion = box((4, 4, 4), (14, 14, 14)), box((8, 8, 8), (10, 10, 10))
    labels = Labels(np.where(lesion, 2, liver * 1), {1: "liver", 2: "lesion_1"}, GRID)
    # 0.5 mL have an RC of 0.16: without recovery the dose is six times too low, far outside its interval
    for word, code in (("off", "RECOVERY_MISSING"), ("recovery", "RECOVERY_LOW")):
        _, regions = draft(cycle(FALLING), labels, protocol=replace(PROTOCOL, partial_volume=word, recovery=CURVE))
        for name in ("lesion_1", "tumour_total", "liver"):
            assert code in codes(regions[name]["flags"])
        assert code not in codes(regions["liver_without_lesions"]["flags"])
    # a cube with a hole has more surface than the sphere of its 63.488 mL
    assert 0.97 < regions["liver_without_lesions"]["recovery"] * (1 + (4.0 / 63.488) ** 0.8) < 0.98


def test_a_contour_on_a_spect_is_as_doubtful_when_it_comes_cropped():
    whole = drawn()
    cropped = Grid((20, 24, 24), GRID.spacing_mm, GRID.origin_mm, GRID.direction)
    fine = Grid.axial((24, 24, 24), (4.0, 4.0, 3.0))
    cases = [(GRID, whole.voxels), (cropped, whole.voxels[:20]), (fine, whole.voxels)]
    sd = []
    for grid, voxels in cases:
        of = cycle(FALLING)
        ct = Image(np.full(grid.shape, 14.0, dtype=np.float32), Quantity.HOUNSFIELD, grid)
        point = replace(of.time_points[0], ct=ct, contours=Labels(voxels, whole.names, grid))
        _, regions = drafted_by(GivenLabels(), replace(of, time_points=(point, *of.time_points[1:])))
        terms = {term["term"]: term["relative_sd"] for term in regions["spleen"]["uncertainty_budget"]}
        sd.append(terms["volume"])
    assert sd[1] == pytest.approx(sd[0], rel=0.01) and sd[2] < sd[0] / 2


def test_a_hot_gallbladder_beside_the_liver_is_no_lesion_in_it():
    liver, gallbladder = box((4, 4, 4), (21, 21, 14)), box((10, 10, 14), (15, 15, 18))
    labels = Labels(np.where(gallbladder, 2, liver * 1), {1: "liver", 2: "gallbladder"}, GRID)
    blurred = [ndimage.gaussian_filter(10.0 * BODY + 140.0 * gallbladder, 1.7).astype(np.float32) for _ in TIMES_H]
    of = cycle(FALLING)
    points = [replace(p, spect=replace(p.spect, voxels=v)) for p, v in zip(of.time_points, blurred, strict=True)]
    one = Labels(np.where(gallbladder, 0, liver * 1), {1: "liver"}, GRID)
    for contours, flagged in ((labels, False), (one, True)):
        _, regions = draft(replace(of, time_points=tuple(points)), contours)
        assert ("HOT_SPOT" in codes(regions["liver_without_lesions"]["flags"])) is flagged


def test_outlines_inside_the_body_do_not_make_the_bodys_dose_uncertain():
    _, regions = draft(cycle(FALLING))
    terms = {name: {term["term"] for term in row["uncertainty_budget"]} for name, row in regions.items()}
    assert "volume" in terms["kidney_left"] and "volume" not in terms["body"] and "kinetics" in terms["body"]
    _, moved = draft(cycle(FALLING), drawn(spleen=box((8, 8, 13), (13, 13, 19))))
    body = [row["body"]["absorbed_dose_gy"] for row in (regions, moved)]
    assert abs(body[1]["mean"] - body[0]["mean"]) < body[0]["mean_sd"]


@pytest.mark.parametrize("order", [(0, 1, 1), (1, 0, 0)])
def test_of_two_cameras_the_worse_recovery_is_told_and_counts(order):
    curves = CURVE, replace(CURVE, beta_ml=40.0, covariance=((16.0, 0.0), (0.0, 0.01)))
    of = cycle(FALLING)
    points = tuple(replace(point, recovery=curves[which]) for point, which in zip(of.time_points, order, strict=True))
    _, regions = draft(replace(of, time_points=points), protocol=replace(PROTOCOL, partial_volume="recovery"))
    spleen = regions["spleen"]
    # a cube of 4.096 mL loses as much as a sphere of 4.09 mL
    assert spleen["recovery"] == pytest.approx(1 / (1 + (40.0 / 4.096) ** 0.8), rel=2e-3)
    assert "RECOVERY_LOW" in codes(spleen["flags"])
    # (1 - RC) of γ ± 0.1 times ln(β/v), and of β ± 10 % times γ
    expected = (1 - spleen["recovery"]) * np.hypot(0.1 * np.log(40.0 / 4.096), 0.1 * 0.8)
    terms = {term["term"]: term["relative_sd"] for term in spleen["uncertainty_budget"]}
    # drawn, with a volume that is known to a factor of two, it is more; the better curve alone gives 0.02
    assert expected < terms["recovery"] < 2 * expected
