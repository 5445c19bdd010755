"""Counts become Bq/mL by the camera's own calibration, or not at all."""

import numpy as np
import pytest
from dicom_maker import KEY, LU177_HALF_LIFE_S, PROTOCOL, SPACING, nm_tomogram, numbers, save, start_of

from mrtai.io.study import read_study
from mrtai.values.refusal import DosimetryError

TOML = """camera_serial = "CAM-1"
nuclide = "Lu-177"
collimator = "MEGP"
sensitivity_cps_per_mbq = 9.0
sensitivity_sd = 0.18
valid_from = 2026-01-01
valid_to = 2026-12-31
"""


def read(folder, *tomls):
    paths = []
    for n, toml in enumerate(tomls):
        paths.append(folder.parent / f"calibration{n}.toml")
        paths[-1].write_text(toml)
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY, calibrations=paths)


def test_counts_follow_the_contracts_formula(tmp_path):
    save(tmp_path / "study", nm_tomogram(start_of(24), views=60, seconds=20.0, heads=2))
    point = read(tmp_path / "study", TOML).time_points[0]
    x = np.log(2) / LU177_HALF_LIFE_S * 60 * 20
    decay = (1 - np.exp(-x)) / x
    voxel_ml = np.prod(SPACING) / 1000
    expected = 1e6 * numbers() / (9.0 * 2 * 60 * 20 * voxel_ml * decay)
    assert point.spect.voxels == pytest.approx(expected, rel=1e-6)
    assert point.calibration_sd == pytest.approx(0.02)
    assert len(point.calibration) == 64
    assert point.duration_s == 1200.0


def test_dead_time_is_corrected_from_the_recorded_counts(tmp_path):
    tau_us, true_cps = 5.0, 20000.0
    observed = true_cps * np.exp(-true_cps * tau_us * 1e-6)
    save(tmp_path / "study", nm_tomogram(start_of(24), CountsAccumulated=str(round(observed * 2 * 60 * 20))))
    point = read(tmp_path / "study", TOML + f"[dead_time]\ntau_us = {tau_us}\n").time_points[0]
    # counts are rounded to whole ones: 1e-8 of 43 million
    assert point.dead_time_factor == pytest.approx(true_cps / observed, rel=1e-6)
    assert point.dead_time_tau_relative_sd == 0.0
    known = read(tmp_path / "study", TOML + f"[dead_time]\ntau_us = {tau_us}\ntau_sd_us = 0.2\n").time_points[0]
    assert known.dead_time_tau_relative_sd == pytest.approx(0.04)


def test_unknown_recorded_counts_are_flagged(tmp_path):
    save(tmp_path / "study", nm_tomogram(start_of(24)))
    point = read(tmp_path / "study", TOML + "[dead_time]\ntau_us = 5.0\n").time_points[0]
    assert point.dead_time_factor == 1.0
    assert [flag.code for flag in point.flags] == ["DEAD_TIME_NOT_CORRECTED"]


@pytest.mark.parametrize(
    ("toml", "code", "message"),
    [
        (TOML.replace("CAM-1", "CAM-2"), "CALIBRATION_OTHER_CAMERA", "no calibration of this camera; found calibrated cameras: CAM-2"),
        (
            TOML.replace("Lu-177", "I-131"),
            "CALIBRATION_OTHER_NUCLIDE",
            "the calibration is not for Lu-177; found calibrated nuclides: I-131",
        ),
        (TOML.replace("MEGP", "LEHR"), "CALIBRATION_OTHER_COLLIMATOR", "not for collimator MEGP; found calibrated collimators: LEHR"),
        (TOML.replace("2026-12-31", "2026-02-28"), "CALIBRATION_EXPIRED", "not valid on 2026-03-03; found valid 2026-01-01 to 2026-02-28"),
        (TOML.replace("9.0", "-9.0"), "CALIBRATION_FILE", "impossible values; found sensitivity_cps_per_mbq = -9.0"),
        (TOML.replace("9.0", "inf"), "CALIBRATION_FILE", "not usable as TOML; found a number that is not finite: inf"),
        (TOML + "colimator = 1\n", "CALIBRATION_FILE", "unknown key; found 'colimator'"),
        (TOML.replace('nuclide = "Lu-177"\n', ""), "CALIBRATION_FILE", "keys are missing; found no nuclide"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(tmp_path, toml, code, message):
    save(tmp_path / "study", nm_tomogram(start_of(24)))
    with pytest.raises(DosimetryError, match=message) as refusal:
        read(tmp_path / "study", toml)
    assert refusal.value.code == code


def test_two_fitting_calibrations_are_a_question_not_a_choice(tmp_path):
    save(tmp_path / "study", nm_tomogram(start_of(24)))
    with pytest.raises(DosimetryError, match="several calibrations fit; found 2 of them"):
        read(tmp_path / "study", TOML, TOML)


def test_counts_without_counting_time_are_refused(tmp_path):
    save(tmp_path / "study", nm_tomogram(start_of(24), views=0))
    with pytest.raises(DosimetryError, match=r"counts without counting time; found 2 detectors \(0054,0021\), 0 views"):
        read(tmp_path / "study", TOML)
