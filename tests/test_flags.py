"""Doubtful but usable states: each raises its flag and gives its number, or withholds it with a reason."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mrtai.cycle import dose_cycle
from mrtai.engines import dose_engine, known_beside, tac_model
from mrtai.engines.given_labels import GivenLabels
from mrtai.engines.local import Local
from mrtai.engines_of_run import Engines
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.protocols import load_protocol
from mrtai.io.results import require_valid, results
from mrtai.io.tables import nuclide, point_kernel
from mrtai.physics.align_scans import IDENTITY
from mrtai.physics.chain import chain
from mrtai.physics.second_opinion import compared, disagreement_flags
from mrtai.values.calibration import GaussianRecovery, Recovery
from mrtai.values.flag import Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import Administration, Cycle, TimePoint

GRID = Grid.axial((24, 24, 24), (4.0, 4.0, 4.0))
GIVEN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
TIMES_H = (24.0, 96.0, 168.0)
PROTOCOL = load_protocol("lu177-dotatate")


def box(low, high, grid=GRID):
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


KIDNEY, SPLEEN = box((8, 8, 8), (12, 12, 12)), box((8, 8, 14), (12, 12, 18))
BODY = box((2, 2, 2), (22, 22, 22))


def cycle(kidney_mbq, spleen_mbq=(20.0, 10.0, 5.0), grids=(GRID, GRID, GRID)):
    points = []
    for index, (t_h, kidney, spleen, grid) in enumerate(zip(TIMES_H, kidney_mbq, spleen_mbq, grids, strict=False), start=1):
        voxels = (
            BODY * 10.0 + KIDNEY * (kidney * 1e6 / KIDNEY.sum() / GRID.voxel_ml) + SPLEEN * (spleen * 1e6 / SPLEEN.sum() / GRID.voxel_ml)
        )
        spect = Image(voxels[: grid.shape[0]].astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, grid)
        hu = np.where(BODY, 14.0, -1000.0)[: grid.shape[0]].astype(np.float32)
        at = GIVEN + timedelta(hours=t_h)
        points.append(TimePoint(index, at, t_h, 1800.0, spect, Image(hu, Quantity.HOUNSFIELD, grid), None, "0" * 64, "scan", "header"))
    return Cycle("P-0000", 1, Administration("Lu-177", "DOTATATE", 7.4e9, GIVEN), tuple(points))


def drawn(kidney=KIDNEY, spleen=SPLEEN, grid=GRID):
    return Labels(kidney * 1 + spleen * 2, {1: "kidney_left", 2: "spleen"}, grid)


def draft(of, labels=None, method="auto", dose=None, check=None, protocol=PROTOCOL, aligner=lambda fixed, moving: IDENTITY):
    return drafted_by(GivenLabels(labels or drawn()), of, method, dose, check, protocol, aligner)


def drafted_by(segmenter, of, method="auto", dose=None, check=None, protocol=PROTOCOL, aligner=lambda fixed, moving: IDENTITY):
    decay = nuclide("Lu-177")
    model = tac_model(method, known_beside(decay, PROTOCOL))
    names = {
        "aligner": "none",
        "segmenter": "given-labels",
        "kinetics": method,
        "dose": "local",
        "check": "none" if check is None else "monte-carlo",
    }
    alone = chain("Lu-177", NUCLEAR_DATA)
    engines = Engines(decay, aligner, segmenter, model, dose or Local(decay), check, alone, names)
    report = results(dose_cycle(of, protocol, engines))
    return require_valid(report), {region["name"]: region for region in report["regions"]}


@dataclass
class Told:
    """Local deposition that notes what the walk tells an engine of contours, and says that a network changed its dose."""

    recovered: bool | None = None
    fwhm_mm: float | None = None

    def with_contours(self, contours, *, recovered=False, fwhm_mm=None):
        self.recovered, self.fwhm_mm = recovered, fwhm_mm
        return self

    def __call__(self, tia, density):
        return replace(Local(nuclide("Lu-177"))(tia, density), learned=True)


@pytest.mark.parametrize(("curve", "asked", "told"), [(True, "recovery", True), (True, "off", False), (False, "recovery", False)])
def test_an_engine_is_told_whether_blur_was_given_back_before_it(curve, asked, told):
    engine = Told()
    known = replace(CURVE, gaussian=GaussianRecovery(12.0, 0.95, ((0.09, 0.0), (0.0, 0.0004)), 0.01)) if curve else None
    draft(cycle(FALLING), dose=engine, protocol=replace(PROTOCOL, recovery=known, partial_volume=asked))
    assert engine.recovered is told
    # 12 mm by spheres are 11.4 mm without voxels of 4 mm and the averaging over shares of them
    assert engine.fwhm_mm == (pytest.approx(11.4, abs=0.1) if told else None)


def codes(flags):
    return [flag["code"] for flag in flags]


FALLING = (80.0, 29.5, 10.9)


def test_a_clean_case_has_nothing_to_look_at_but_its_doses():
    report, regions = draft(cycle(FALLING))
    assert codes(report["flags"]) == []
    # 80 MBq at 24 h and a half-life of 50 h in 4.1 mL would be a lesion's dose, not a kidney's; without a curve blur takes half of it
    assert codes(regions["kidney_left"]["flags"]) == ["DOSE_IMPLAUSIBLE", "DOSE_UNCERTAIN"]
    assert regions["kidney_left"]["found_in_scans"] == [1, 2, 3]


def test_more_activity_than_was_given_is_flagged():
    report, _ = draft(cycle((9000.0, 4000.0, 1500.0)))
    assert "ACTIVITY_ABOVE_ADMINISTERED" in codes(report["flags"])
    assert "Scan 1 shows 902" in next(flag["text"] for flag in report["flags"])


def test_more_decays_than_physics_allows_are_flagged():
    physical = [8000.0 * 2 ** (-t / 159.528) for t in TIMES_H]
    report, regions = draft(cycle(physical))
    # Ã/A₀ of 1.08 times the administered activity that never leaves: 249 h above the 230 h of T½/ln 2
    assert "TIA_ABOVE_CEILING" in codes(report["flags"])
    assert {"TIA_ABOVE_CEILING", "HALF_LIFE_AT_BOUND"} <= set(codes(regions["kidney_left"]["flags"]))
    assert regions["kidney_left"]["tia_mbq_h"] > 0


def test_a_protocol_for_another_agent_and_missing_scans_are_flagged():
    of = cycle(FALLING)
    other = replace(of, administration=replace(of.administration, agent="PSMA-617"), time_points=of.time_points[:2])
    report, _ = draft(other)
    assert {"AGENT_DIFFERS", "FEWER_SCANS"} <= set(codes(report["flags"]))
    assert report["provisional"] is True and report["verdict"] == "review"
    spelt = replace(of, administration=replace(of.administration, agent="[177Lu]Lu-DOTA-TATE"))
    assert "AGENT_DIFFERS" not in codes(draft(spelt)[0]["flags"])


def test_a_repeated_scan_does_not_make_the_set_complete():
    of = cycle(FALLING)
    first, second, third = of.time_points
    again = replace(second, t_h=first.t_h + 0.5, started_at=first.started_at + timedelta(minutes=30), spect=first.spect)
    report, _ = draft(replace(of, time_points=(first, again, third)))
    assert {"SCAN_REPEATED", "FEWER_SCANS"} <= set(codes(report["flags"]))
    assert report["provisional"] is True
    assert "SCAN_REPEATED" not in codes(draft(of)[0]["flags"])


def test_a_case_of_which_no_curve_can_be_integrated_is_refused():
    of = cycle(FALLING)
    with pytest.raises(DosimetryError, match="no region's curve could be integrated"):
        draft(replace(of, time_points=of.time_points[:1]), method="mono")


def test_an_organ_at_the_border_of_the_image_is_flagged():
    _, regions = draft(cycle(FALLING), drawn(kidney=box((0, 8, 8), (12, 12, 12))))
    assert "ORGAN_CUT_BY_VIEW" in codes(regions["kidney_left"]["flags"])
    assert "ORGAN_CUT_BY_VIEW" not in codes(regions["spleen"]["flags"])


def test_a_scan_that_sees_half_an_organ_is_left_out_of_its_curve():
    short = Grid((10, 24, 24), GRID.spacing_mm, GRID.origin_mm, GRID.direction)
    _, regions = draft(cycle(FALLING, grids=(GRID, GRID, short)))
    kidney = regions["kidney_left"]
    assert kidney["found_in_scans"] == [1, 2]
    assert "ORGAN_CUT_BY_VIEW" in codes(kidney["flags"])
    assert kidney["kinetics"]["effective_half_life_h"] == pytest.approx(72 / np.log2(80.0 / 29.5), rel=0.01)


def test_a_remainder_seen_in_part_is_left_out_of_its_curve():
    short = Grid((10, 24, 24), GRID.spacing_mm, GRID.origin_mm, GRID.direction)
    _, regions = draft(cycle(FALLING, grids=(GRID, GRID, short)))
    # scan 3 shows 8 of the body's 20 slices: its sum would make the half-life look shorter
    assert regions["remainder"]["found_in_scans"] == [1, 2]
    assert "ORGAN_CUT_BY_VIEW" in codes(regions["remainder"]["flags"])
    of = cycle(FALLING)
    _, two = draft(replace(of, time_points=of.time_points[:2]))
    assert regions["remainder"]["tia_mbq_h"] == pytest.approx(two["remainder"]["tia_mbq_h"], rel=1e-6)


def test_a_late_point_near_zero_does_not_rule_the_fit():
    _, regions = draft(cycle((80.0, 29.5, 0.001)))
    sd_mbq = regions["kidney_left"]["time_activity"]["activity_sd_mbq"]
    # 5 % of the first point; of the last no less than 1 % of the largest
    assert sd_mbq[0] == pytest.approx(4.0, rel=1e-3)
    assert sd_mbq[2] == pytest.approx(0.8, rel=1e-3)


def test_a_contour_where_the_ct_shows_no_body_is_flagged():
    _, regions = draft(cycle(FALLING), drawn(kidney=box((8, 8, 19), (12, 12, 23))))
    # one of its four columns lies beyond the skin
    flag = next(flag for flag in regions["kidney_left"]["flags"] if flag["code"] == "REGION_OUTSIDE_BODY")
    assert flag["text"].startswith("25%")
    assert "REGION_OUTSIDE_BODY" not in codes(regions["spleen"]["flags"])


def test_a_region_smaller_than_a_voxel_is_withheld_and_never_zero():
    fine = Grid.axial((96, 96, 96), (1.0, 1.0, 1.0))
    mask = box((48, 48, 48), (50, 50, 50), fine)
    labels = Labels(mask.astype(np.uint8), {1: "lesion_1"}, fine)
    of = cycle(FALLING)
    first = replace(of.time_points[0], ct=Image(np.full(fine.shape, 14.0, dtype=np.float32), Quantity.HOUNSFIELD, fine))
    report, regions = draft(replace(of, time_points=(first, *of.time_points[1:])), labels)
    lesion = regions["lesion_1"]
    assert lesion["verdict"] == "withheld" and report["verdict"] == "withheld"
    assert lesion["tia_mbq_h"] is None and lesion["absorbed_dose_gy"]["mean"] is None
    assert "REGION_NOT_SEEN" in codes(lesion["flags"])
    assert lesion["volume_ml"] == pytest.approx(0.008)


def test_a_union_is_no_better_than_its_members():
    of = cycle(FALLING)
    one = replace(of, time_points=of.time_points[:1])
    labels = Labels(KIDNEY * 1 + SPLEEN * 2, {1: "kidney_left", 2: "kidney_right"}, GRID)
    _, regions = draft(one, labels)
    assert "SINGLE_SCAN_OUTSIDE_WINDOW" in codes(regions["kidneys"]["flags"])
    assert regions["kidneys"]["tia_mbq_h"] == pytest.approx(regions["kidney_left"]["tia_mbq_h"] + regions["kidney_right"]["tia_mbq_h"])


def test_a_liver_is_reported_with_and_without_its_lesions():
    liver = box((4, 4, 4), (14, 14, 14))
    lesion = box((8, 8, 8), (10, 10, 10))
    labels = Labels(np.where(lesion, 2, liver * 1), {1: "liver", 2: "lesion_1"}, GRID)
    _, regions = draft(cycle(FALLING), labels)
    assert regions["liver"]["kind"] == "union"
    assert regions["liver"]["members"] == ["liver_without_lesions", "lesion_1"]
    total = regions["liver_without_lesions"]["volume_ml"] + regions["lesion_1"]["volume_ml"]
    assert regions["liver"]["volume_ml"] == pytest.approx(total) == pytest.approx(liver.sum() * 0.064)


def test_a_calibrations_uncertainty_is_common_to_all_scans():
    of = cycle(FALLING)
    calibrated = replace(of, time_points=tuple(replace(point, calibration_sd=0.04) for point in of.time_points))
    plain, with_sd = draft(of)[1]["spleen"], draft(calibrated)[1]["spleen"]
    without = plain["tia_sd_mbq_h"] / plain["tia_mbq_h"]
    # added once, after the fit, not once a scan
    # 1 %: a contour this uncertain is drawn, 20 000 times
    assert with_sd["tia_sd_mbq_h"] / with_sd["tia_mbq_h"] == pytest.approx(np.hypot(without, 0.04), rel=0.01)
    assert sum(term["share"] for term in with_sd["uncertainty_budget"]) == pytest.approx(1.0)
    assert with_sd["time_activity"]["activity_sd_mbq"][0] == pytest.approx(20.0 * np.hypot(0.05, 0.04), rel=1e-3)


CURVE = Recovery(4.0, 0.8, ((0.04, 0.0), (0.0, 0.0004)))


def test_recovery_is_given_back_where_the_protocol_says_so_and_shown_where_it_does_not():
    spleen = {}
    for word in ("off", "recovery"):
        report, regions = draft(cycle(FALLING), protocol=replace(PROTOCOL, partial_volume=word, recovery=CURVE))
        spleen[word] = regions["spleen"]
        assert "NO_RECOVERY_CURVE" not in codes(report["flags"])
    dose = {word: row["absorbed_dose_gy"] for word, row in spleen.items()}
    for of in dose.values():
        assert of["without_recovery"] == dose["off"]["mean"]
        assert of["with_recovery"] == dose["recovery"]["mean"]
    # RC of 4.1 mL is 0.505, and the body around holds 10 Bq/mL against megabecquerels
    # a cube of 4.1 mL loses as much as a sphere of 4.07 mL
    assert spleen["off"]["recovery"] == pytest.approx(1 / (1 + (4.0 / 4.096) ** 0.8), rel=2e-3)
    assert dose["recovery"]["mean"] / dose["off"]["mean"] == pytest.approx(1 / spleen["off"]["recovery"], rel=0.01)
    assert "recovery" in {term["term"] for term in spleen["recovery"]["uncertainty_budget"]}
    assert "recovery" not in {term["term"] for term in spleen["off"]["uncertainty_budget"]}
    # what was not given back counts as large as it is; a sixth of what surrounds the spleen is the kidney, four times as hot
    terms = {term["term"]: term["relative_sd"] for term in spleen["off"]["uncertainty_budget"]}
    assert terms["partial volume"] == pytest.approx(0.88 * (1 / spleen["off"]["recovery"] - 1), rel=0.03)
    # of what was given back, a twentieth
    terms = {term["term"]: term["relative_sd"] for term in spleen["recovery"]["uncertainty_budget"]}
    assert terms["partial volume"] == pytest.approx(0.05 * (1 - dose["off"]["mean"] / dose["recovery"]["mean"]), rel=0.1)


def test_the_dose_stated_beside_is_that_of_the_other_setting_also_where_voxels_shapes_count():
    """1e-4: voxels are single floats."""
    convolution = dose_engine("convolution", nuclide("Lu-177"), NUCLEAR_DATA)
    means = {}
    for word in ("off", "recovery"):
        _, regions = draft(cycle(FALLING), protocol=replace(PROTOCOL, partial_volume=word, recovery=CURVE), dose=convolution)
        means[word] = {name: row["absorbed_dose_gy"] for name, row in regions.items()}
    for name, plain in means["off"].items():
        assert plain["with_recovery"] == pytest.approx(means["recovery"][name]["mean"], rel=1e-4), name
        assert means["recovery"][name]["without_recovery"] == pytest.approx(plain["mean"], rel=1e-4), name
    assert abs(means["off"]["spleen"]["mean"] / means["recovery"]["spleen"]["mean"] - 1) > 0.2


def test_a_small_region_without_any_curve_is_not_stated_as_if_blur_took_nothing():
    small = box((8, 8, 14), (10, 10, 16))
    shares = {}
    for name, mask in (("spleen", SPLEEN), ("lesion_1", small)):
        _, regions = draft(cycle(FALLING), Labels(KIDNEY * 1 + mask * 2, {1: "kidney_left", 2: name}, GRID))
        row = regions[name]
        assert row["recovery"] is None
        shares[name] = {term["term"]: term["relative_sd"] for term in row["uncertainty_budget"]}["partial volume"]
        assert "DOSE_UNCERTAIN" in codes(row["flags"])
    # 0.5 mL keep a fifth of their activity under 11 mm, 4.1 mL half of it
    assert 0.5 < shares["spleen"] < 1.3 and shares["lesion_1"] > 1.2


def test_recovery_without_a_curve_is_told_and_a_very_low_one_too():
    report, regions = draft(cycle(FALLING), protocol=replace(PROTOCOL, partial_volume="recovery"))
    assert "NO_RECOVERY_CURVE" in codes(report["flags"]) and regions["spleen"]["absorbed_dose_gy"]["with_recovery"] is None
    _, regions = draft(cycle(FALLING), protocol=replace(PROTOCOL, partial_volume="recovery", recovery=replace(CURVE, beta_ml=40.0)))
    assert "RECOVERY_LOW" in codes(regions["spleen"]["flags"])


def test_a_site_weighs_flags_and_what_it_withholds_has_no_numbers():
    both = drawn()
    both = replace(both, names={1: "kidney_right", 2: "kidney_left"})
    assert draft(cycle(FALLING), both)[1]["kidney_right"]["verdict"] == "review"
    doubts = ["DOSE_IMPLAUSIBLE", "DOSE_UNCERTAIN"]
    _, regions = draft(cycle(FALLING), both, protocol=replace(PROTOCOL, gates=dict.fromkeys(doubts, Severity.INFO)))
    assert regions["kidney_right"]["verdict"] == "ok" and codes(regions["kidney_right"]["flags"]) == doubts
    report, regions = draft(cycle(FALLING), both, protocol=replace(PROTOCOL, gates={"DOSE_IMPLAUSIBLE": Severity.WITHHELD}))
    assert report["verdict"] == regions["kidney_right"]["verdict"] == "withheld"
    for name in ("kidney_right", "kidneys"):
        row = regions[name]
        assert row["absorbed_dose_gy"]["mean"] is row["absorbed_dose_gy"]["mean_sd"] is row["tia_mbq_h"] is row["tia_sd_mbq_h"] is None
        assert row["uncertainty_budget"] == []
    assert regions["remainder"]["absorbed_dose_gy"]["mean"] > 0


def test_a_flag_of_the_case_that_withholds_leaves_no_number():
    lone = cycle(FALLING[:1])
    report, regions = draft(lone)
    assert "FEWER_SCANS" in codes(report["flags"]) and regions["spleen"]["absorbed_dose_gy"]["mean"] > 0
    report, regions = draft(lone, protocol=replace(PROTOCOL, gates={"FEWER_SCANS": Severity.WITHHELD}))
    assert report["verdict"] == "withheld" and report["check"] == []
    for row in regions.values():
        assert row["verdict"] == "withheld" and "CASE_WITHHELD" in codes(row["flags"])
        assert row["absorbed_dose_gy"]["mean"] is row["tia_mbq_h"] is row["radiobiology"]["bed_gy"] is None


def test_a_scan_that_could_not_be_registered_is_not_taken_as_lying_right():
    for residual_mm in (0.0, None):
        lost = lambda fixed, moving, mm=residual_mm: replace(IDENTITY, residual_mm=mm)  # noqa: E731
        _, regions = draft(cycle(FALLING), aligner=lost)
        terms = {term["term"]: term["relative_sd"] for term in regions["spleen"]["uncertainty_budget"]}
        assert (terms.get("registration", 0.0) > 0.1) is (residual_mm is None)


def test_contours_on_the_wrong_side_are_told_whoever_drew_them():
    sides = {1: "kidney_right", 2: "kidney_left"}
    for names, flagged in ((sides, False), ({1: "kidney_left", 2: "kidney_right"}, True)):
        _, regions = draft(cycle(FALLING), replace(drawn(), names=names))
        assert ("ORGAN_SWAPPED" in codes(regions["kidney_left"]["flags"])) is flagged


def test_a_lesion_left_inside_the_liver_is_told_and_a_drawn_one_is_not():
    whole = box((4, 4, 4), (21, 21, 21)) * 1
    one = Labels(whole, {1: "liver"}, GRID)
    two = Labels(np.where(KIDNEY | SPLEEN, 2, whole), {1: "liver", 2: "lesion_1"}, GRID)
    # spots of 4.1 mL at twenty times the 10 Bq/mL around them
    faint = cycle((8e-4, 3e-4, 1e-4), (8e-4, 3e-4, 1e-4))
    for labels, flagged in ((one, True), (two, False)):
        _, regions = draft(faint, labels)
        assert ("HOT_SPOT" in codes(regions["liver_without_lesions"]["flags"])) is flagged


def test_a_dose_known_too_badly_is_flagged_at_the_protocols_threshold():
    _, regions = draft(cycle(FALLING))
    stated = regions["spleen"]["absorbed_dose_gy"]["mean_sd"] / regions["spleen"]["absorbed_dose_gy"]["mean"]
    for least, flagged in ((stated * 0.99, True), (stated * 1.01, False)):
        _, regions = draft(cycle(FALLING), protocol=replace(PROTOCOL, most_dose_relative_sd=least))
        assert ("DOSE_UNCERTAIN" in codes(regions["spleen"]["flags"])) is flagged


def test_an_uncertain_dose_of_no_concern_is_only_told():
    mean_gy = draft(cycle(FALLING))[1]["spleen"]["absorbed_dose_gy"]["mean"]
    limits = {"dose_limits_gy": {"spleen": 1e6}}
    # far above and just below what the 95 % interval reaches, and a region that the protocol sets a limit for
    for times_mean, more, severity in ((100.0, {}, "info"), (1.0, {}, "review"), (100.0, limits, "review")):
        protocol = replace(PROTOCOL, most_dose_relative_sd=0.001, dose_of_concern_gy=times_mean * mean_gy, **more)
        _, regions = draft(cycle(FALLING), protocol=protocol)
        (flag,) = (flag for flag in regions["spleen"]["flags"] if flag["code"] == "DOSE_UNCERTAIN")
        assert flag["severity"] == severity
        assert ("however it errs" in flag["text"]) is (severity == "info")


def test_a_poor_fit_of_a_dose_of_no_concern_is_only_told_and_no_union_repeats_it():
    uneven = cycle(FALLING, (20.0, 4.0, 5.0))
    mean_gy = draft(uneven)[1]["spleen"]["absorbed_dose_gy"]["mean"]
    for times_mean, severity, repeated in ((100.0, "info", False), (1.0, "review", True)):
        _, regions = draft(uneven, protocol=replace(PROTOCOL, dose_of_concern_gy=times_mean * mean_gy))
        (flag,) = (flag for flag in regions["spleen"]["flags"] if flag["code"] == "FIT_POOR")
        assert flag["severity"] == severity
        assert any(flag["text"].startswith("spleen: ") for flag in regions["body"]["flags"]) is repeated


def test_a_union_of_no_concern_repeats_what_is_told_of_a_limited_member_as_it_is():
    protocol = replace(PROTOCOL, dose_of_concern_gy=1e6)
    _, regions = draft(cycle((80.0, 10.0, 10.9)), protocol=protocol)
    for name in ("kidney_left", "body"):
        (flag,) = (flag for flag in regions[name]["flags"] if flag["code"] == "FIT_POOR")
        assert flag["severity"] == "review" and "of no concern" not in flag["text"] and "however it errs" not in flag["text"]


def test_a_flag_that_the_site_weighs_is_weighed_whatever_the_dose():
    as_liver = replace(drawn(), names={1: "kidney_left", 2: "liver"})
    for severity in ("review", "withheld"):
        protocol = replace(PROTOCOL, dose_of_concern_gy=1e6, gates={"FIT_POOR": Severity(severity)})
        _, regions = draft(cycle(FALLING, (20.0, 4.0, 5.0)), as_liver, protocol=protocol)
        assert {name: regions[name]["verdict"] for name in ("liver", "liver_without_lesions", "body")} == {
            "liver": severity,
            "liver_without_lesions": severity,
            "body": severity,
        }


FAR = box((16, 16, 16), (20, 20, 20))
"""Five centimetres from the kidney, across which only photons come."""


def second_opinion(kernel):
    decay = nuclide("Lu-177")
    data = replace(NUCLEAR_DATA, point_kernel=lambda name: kernel)
    convolution = dose_engine("convolution", decay, data, threads=2)
    check = dose_engine("monte-carlo", decay, NUCLEAR_DATA, threads=2, histories=1_000_000)
    points = []
    for point, kidney_mbq in zip(cycle(FALLING).time_points, FALLING, strict=True):
        # next to nothing outside the kidney, so that the far organ has photons only
        voxels = np.where(KIDNEY, kidney_mbq * 1e6 / KIDNEY.sum() / GRID.voxel_ml, kidney_mbq * BODY * 1.0)
        points.append(replace(point, spect=Image(voxels.astype(np.float32), point.spect.quantity, GRID)))
    return draft(replace(cycle(FALLING), time_points=tuple(points)), drawn(spleen=FAR), dose=convolution, check=check)


def test_a_kernel_cropped_to_25_mm_is_caught_by_the_second_opinion():
    whole = point_kernel("Lu-177")
    # as peers crop it: nothing beyond 25 mm, which is nearly all of what one organ gives another
    cropped = replace(whole, photon_mev=np.where(whole.r_edges_mm[1:] > 25.0, 0.0, whole.photon_mev))
    report, regions = second_opinion(cropped)
    rows = {row["region"]: row for row in report["check"]}
    assert rows["spleen"]["difference"] < -0.3
    assert "ENGINES_DISAGREE" in codes(regions["spleen"]["flags"])
    assert regions["spleen"]["verdict"] == "review"
    assert "ENGINES_DISAGREE" not in codes(regions["kidney_left"]["flags"])


@pytest.mark.slow
def test_two_good_engines_agree_and_say_so():
    report, regions = second_opinion(point_kernel("Lu-177"))
    assert {row["region"] for row in report["check"]} == set(regions)
    for row in report["check"]:
        assert row["dose_sd_gy"] > 0
        # the bound of the flag, and twice the check's own statistics
        assert abs(row["difference"]) < 0.05 + 2 * row["dose_sd_gy"] / row["dose_gy"], row
    kidney = next(row for row in report["check"] if row["region"] == "kidney_left")
    dose = regions["kidney_left"]["absorbed_dose_gy"]["mean"]
    assert kidney["difference"] == pytest.approx(dose / kidney["dose_gy"] - 1, abs=1e-5)


def test_a_difference_that_statistics_may_explain_is_for_information():
    cases = ((1.10, 1.0, 0.02), (1.10, 1.0, 0.08), (1.04, 1.0, 0.001), (1.06, 1.0, None), (1.0, 0.0, 0.0))
    found = [[flag.code for flag in disagreement_flags(compared("x", *case), ("convolution", "monte-carlo"))] for case in cases]
    assert found == [["ENGINES_DISAGREE"], ["CHECK_TOO_UNCERTAIN"], [], ["ENGINES_DISAGREE"], []]


def test_dead_time_is_as_uncertain_as_its_calibration_says():
    of = cycle(FALLING)
    points = tuple(replace(point, dead_time_factor=1.3, dead_time_tau_relative_sd=0.05) for point in of.time_points)
    _, regions = draft(replace(of, time_points=points))
    terms = {term["term"]: term["relative_sd"] for term in regions["body"]["uncertainty_budget"]}
    # d ln f / d ln τ = ln f / (1 - ln f); drawn, the terms' products are spread over them in proportion
    assert terms["dead time"] == pytest.approx(0.05 * np.log(1.3) / (1 - np.log(1.3)), rel=0.15)
