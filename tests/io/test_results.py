import json
import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrtai.io.results import dumped, require_valid, results, verdict
from mrtai.values.flag import Flag, Severity

sample_report = runpy.run_path(str(Path(__file__).with_name("sample_report.py")))["sample_report"]

# every key of the documented example; lists stand for their first element
DOCUMENTED = {
    "": "schema state provisional verdict patient cycle administrations scans regions engines check flags",
    "patient": "pseudonym",
    "administrations": "nuclide agent activity_mbq time",
    "scans": "index time_h series_uid_sha256 duration_s activity_in_view_mbq decay_referred_to calibration dead_time_factor "
    "registration_residual_mm flags",
    "regions": "name kind members tracking_uid code found_in_scans verdict volume_ml mass_g recovery source_name time_activity kinetics "
    "tia_mbq_h tia_sd_mbq_h tiac_h absorbed_dose_gy radiobiology uncertainty_budget flags",
    "regions.time_activity": "time_h activity_mbq activity_sd_mbq",
    "regions.kinetics": "method model parameters covariance weights effective_half_life_h goodness fraction_before_first_scan "
    "fraction_after_last_scan reason",
    "regions.absorbed_dose_gy": "mean mean_sd voxel_sd without_recovery by_radiation by_nuclide d98 d90 d70 d50 d10 d2 min max dvh",
    "regions.absorbed_dose_gy.by_radiation": "electron photon alpha",
    "regions.absorbed_dose_gy.dvh": "dose_gy volume_fraction",
    "regions.radiobiology": "alpha_beta_gy repair_half_life_h g bed_gy eqd2_gy from",
    "regions.flags": "code severity text remedy",
    "engines": "aligner segmenter kinetics dose check",
}


@pytest.fixture(scope="module")
def report():
    return sample_report()


@pytest.fixture(scope="module")
def document(report):
    return results(report)


def named(document, name):
    return next(region for region in document["regions"] if region["name"] == name)


def leaves(value):
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


@pytest.mark.parametrize("place", DOCUMENTED)
def test_every_documented_key_is_present_in_every_region_and_scan(document, place):
    level = [document]
    for step in place.split(".") if place else []:
        level = [item[step] for item in level]
        level = [item for found in level for item in (found if isinstance(found, list) else [found])]
    assert level
    for item in level:
        assert set(DOCUMENTED[place].split()) <= set(item), place


def test_the_document_obeys_the_shipped_schema(document):
    assert require_valid(json.loads(dumped(document))) == document


def test_a_document_without_a_documented_key_is_refused(document):
    broken = {key: value for key, value in document.items() if key != "verdict"}
    with pytest.raises(ValueError, match="verdict"):
        require_valid(broken)


def test_units_are_those_of_the_outside_world(report, document):
    kidney = named(document, "kidney_left")
    fit = next(region.fit for region in report.regions if region.name == "kidney_left")
    assert document["administrations"][0]["activity_mbq"] == 7400.0
    # seven significant digits are kept
    assert kidney["tia_mbq_h"] == pytest.approx(fit.tia_bq_s / 3.6e9, rel=1e-6)
    assert kidney["tiac_h"] == pytest.approx(kidney["tia_mbq_h"] / 7400.0, rel=1e-6)
    assert kidney["mass_g"] == pytest.approx(1.05 * kidney["volume_ml"], rel=1e-6)
    assert kidney["time_activity"]["activity_mbq"][0] == pytest.approx(fit.curve.activity_bq[0] / 1e6, rel=1e-6)


def test_activity_in_view_is_concentration_times_volume_over_the_whole_image(report, document):
    spect = report.aligned.cycle.time_points[0].spect
    expected_mbq = spect.voxels.astype(float).sum() * 9.0**3 / 1000 / 1e6
    assert document["scans"][0]["activity_in_view_mbq"] == pytest.approx(expected_mbq, rel=1e-6)


def test_what_was_withheld_is_null_and_never_zero(document):
    lesion = named(document, "lesion_2")
    assert lesion["verdict"] == "withheld" and lesion["flags"][0]["severity"] == "withheld"
    for part in ("tia_mbq_h", "tia_sd_mbq_h", "tiac_h", "absorbed_dose_gy", "radiobiology", "kinetics", "time_activity"):
        assert set(leaves(lesion[part])) <= {None}, part
    assert lesion["volume_ml"] > 0


def test_a_region_without_radiobiology_has_nulls_and_a_kidney_has_numbers(document):
    assert set(named(document, "liver")["radiobiology"].values()) == {None}
    kidney = named(document, "kidney_left")["radiobiology"]
    assert kidney["eqd2_gy"] == pytest.approx(kidney["bed_gy"] / (1 + 2 / 2.6), rel=1e-6)
    assert kidney["from"] == "mean dose"


def test_the_case_is_as_doubtful_as_its_most_doubtful_part(document):
    assert document["verdict"] == "withheld"
    assert named(document, "kidney_left")["verdict"] == "ok"
    assert named(document, "urinary_bladder")["verdict"] == "review"


@pytest.mark.parametrize(
    ("severities", "expected"), [([], "ok"), (["info"], "ok"), (["review", "info"], "review"), (["withheld"], "withheld")]
)
def test_a_verdict_is_the_weight_of_the_gravest_flag(severities, expected):
    assert verdict(Flag("X", Severity(severity), "", "") for severity in severities) == expected


def test_two_runs_give_the_same_bytes_and_no_instant_of_the_run(document):
    text = dumped(results(sample_report()))
    assert text == dumped(document)
    assert text.count("T09:30:00") == text.count("2026-") == 1  # only the administration has a date
    assert "timing" not in text


def test_rounding_hides_the_last_bits_of_float_arithmetic(report):
    region = report.regions[0]
    nudged = replace(region, volume_ml=region.volume_ml * (1 + 1e-12))
    assert dumped(results(replace(report, regions=(nudged, *report.regions[1:])))) == dumped(results(report))


def test_an_unknown_standard_uncertainty_is_null(report):
    region = report.regions[0]
    unknown = replace(region.fit.curve, activity_sd_bq=np.full(3, math.nan))
    fit = replace(region.fit, curve=unknown, tia_sd_bq_s=None)
    shown = results(replace(report, regions=(replace(region, fit=fit),)))["regions"][0]
    assert shown["time_activity"]["activity_sd_mbq"] == [None, None, None] and shown["tia_sd_mbq_h"] is None
    require_valid(shown and results(replace(report, regions=(replace(region, fit=fit),))))


def test_a_sensitivity_common_to_all_scans_is_in_every_total(report):
    region = report.regions[0]
    liver = results(replace(report, regions=(replace(region, common_relative_sd=0.03),)))["regions"][0]
    # 6 % of each scan's own and 3 % of the sensitivity are independent: √(6² + 3²) %
    relative = liver["time_activity"]["activity_sd_mbq"][0] / liver["time_activity"]["activity_mbq"][0]
    assert relative == pytest.approx(math.hypot(0.06, 0.03), rel=1e-6)
    # the integral's uncertainty comes with it already and is not widened twice
    assert liver["tia_sd_mbq_h"] == pytest.approx(region.fit.tia_sd_bq_s / 3.6e9, rel=1e-6)
