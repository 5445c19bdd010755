"""A researcher's study: NIfTI images and one study.toml."""

import numpy as np
import pytest
from dicom_maker import KEY, PROTOCOL

from mrtai.io.nifti import write_image
from mrtai.io.study import read_study
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

HEAD = 'administered_mbq = 7400.0\nadministered_at = "2026-03-02T09:30:00+01:00"\nnuclide = "Lu-177"\nagent = "DOTATATE"\n'
SCAN = '[[scan]]\nspect = "scan{n}/spect.nii.gz"\nct = "scan{n}/ct.nii.gz"\nstarted_at = "{at}"\n'
FIRST = SCAN.format(n=1, at="2026-03-03T09:30:00+01:00")
SECOND = SCAN.format(n=2, at="2026-03-30T09:30:00+02:00")


def write(folder, text):
    grid = Grid.axial((3, 4, 5), [2.0, 2.0, 3.0])
    for n in (1, 2):
        write_image(
            folder / f"scan{n}" / "spect.nii.gz", Image(np.full(grid.shape, 100.0 * n, np.float32), Quantity.ACTIVITY_CONCENTRATION, grid)
        )
        write_image(folder / f"scan{n}" / "ct.nii.gz", Image(np.full(grid.shape, 40, np.int16), Quantity.HOUNSFIELD, grid))
    (folder / "study.toml").write_text(text)
    return folder


def read(folder, **choice):
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY, **choice)


def test_scans_come_in_order_of_time_with_summer_time_counted(tmp_path):
    cycle = read(write(tmp_path, HEAD + SECOND + FIRST))
    # 28 days of wall time less the hour that summer time took
    assert [point.t_h for point in cycle.time_points] == [24.0, 28 * 24 - 1.0]
    assert cycle.time_points[0].spect.voxels.max() == 100.0
    assert cycle.time_points[0].calibration == "study.toml"
    assert [flag.code for flag in cycle.time_points[0].flags] == ["DURATION_UNKNOWN"]
    assert [file.name for file in cycle.inputs] == ["scan 1 spect", "scan 1 ct", "scan 2 spect", "scan 2 ct", "study.toml"]
    assert cycle.pseudonym == read(tmp_path).pseudonym


def test_values_referred_to_the_administration_decay_to_the_scan(tmp_path):
    cycle = read(write(tmp_path, HEAD + FIRST + 'decay_referred_to = "administration"\n'))
    # 177Lu, 6.647 d: one day leaves 90.1 %
    assert cycle.time_points[0].spect.voxels.max() == pytest.approx(100 * 2 ** (-1 / 6.647), rel=1e-4)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (FIRST + HEAD.replace("administered_mbq = 7400.0\n", ""), "STUDY_TOML", "unknown key"),
        (HEAD.replace("administered_mbq = 7400.0\n", "") + FIRST, "ADMINISTERED_ACTIVITY_MISSING", "no 'administered_mbq'; state it"),
        (
            HEAD.replace('administered_at = "2026-03-02T09:30:00+01:00"\n', "") + FIRST,
            "ADMINISTRATION_TIME_MISSING",
            "no 'administered_at'",
        ),
        (HEAD.replace("Lu-177", "I-131") + FIRST, "NUCLIDE_MISMATCH", "is for Lu-177; found I-131"),
        (HEAD + FIRST.replace("2026-03-03", "2026-03-01"), "SCAN_BEFORE_ADMINISTRATION", "starts before the administration"),
        (HEAD + FIRST.replace("scan1/ct", "../ct"), "LINK_OUTSIDE", "a path leads outside the study folder"),
        (HEAD + FIRST.replace("scan1/ct", "scan1/cct"), "NOT_FOUND", "no 'scan1/cct.nii.gz'"),
        (HEAD + FIRST.replace('started_at = "2026-03-03T09:30:00+01:00"\n', ""), "SCAN_TIME_MISSING", "lacks 'spect' or 'started_at'"),
        (HEAD + FIRST.replace("2026-03-03T09:30:00+01:00", "3 March"), "STUDY_TOML", "must be a date with time of day"),
        (HEAD + FIRST + 'decay_referred_to = "start"\n', "STUDY_TOML", "neither 'scan' nor 'administration'"),
        (HEAD.replace("7400.0", '"7400"') + FIRST, "STUDY_TOML", "'administered_mbq' must be a number"),
        (HEAD.replace("7400.0", "0") + FIRST, "STUDY_TOML", "must be positive"),
        ("administered_mbq = \n", "STUDY_TOML", "study.toml: not usable as TOML"),
        (HEAD + FIRST + FIRST, "DUPLICATE_SCAN", r"two scans start at one time; found 2026-03-03T09:30:00\+01:00 twice"),
        (
            HEAD + FIRST + SECOND.replace("2026-03-30T09:30:00+02:00", "2026-03-03T10:30:00+02:00"),
            "DUPLICATE_SCAN",
            "two scans start at one time",
        ),
    ],
)
def test_a_study_that_does_not_say_enough_is_refused(tmp_path, text, code, message):
    with pytest.raises(DosimetryError, match=message) as refusal:
        read(write(tmp_path, text))
    assert refusal.value.code == code


CALIBRATION = """camera_serial = "CAM-1"
nuclide = "Lu-177"
collimator = "MEGP"
sensitivity_cps_per_mbq = 9.0
sensitivity_sd = 0.1
valid_from = "2026-01-01"
valid_to = "2027-01-01"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "camera.toml: file not found; found nothing there; check the path"),
        ("camera = 1\n", "camera.toml: unknown key; found 'camera'"),
        (CALIBRATION.replace("9.0", "-9.0"), "camera.toml: impossible values"),
        (CALIBRATION.replace("9.0", "1" + "0" * 400), "camera.toml: impossible values"),
    ],
)
def test_a_calibration_is_read_even_where_no_scan_needs_it(tmp_path, text, message):
    write(tmp_path, HEAD + FIRST)
    if text is not None:
        (tmp_path / "camera.toml").write_text(text)
    with pytest.raises(DosimetryError, match=message) as refusal:
        read(tmp_path, calibrations=[tmp_path / "camera.toml"])
    assert refusal.value.code == "CALIBRATION_FILE"


def test_a_good_calibration_is_an_input_of_the_case(tmp_path):
    write(tmp_path, HEAD + FIRST)
    (tmp_path / "camera.toml").write_text(CALIBRATION)
    assert [file.name for file in read(tmp_path, calibrations=[tmp_path / "camera.toml"]).inputs][-2:] == ["study.toml", "camera.toml"]


@pytest.mark.parametrize(
    ("name", "message"), [("scan1", "scan1: the file cannot be read; found a folder"), ("no.toml", "no.toml: file not found")]
)
def test_a_statement_that_is_no_file_is_refused(tmp_path, name, message):
    with pytest.raises(DosimetryError, match=message) as refusal:
        read(write(tmp_path, HEAD + FIRST), study_toml=tmp_path / name)
    assert refusal.value.code == "STUDY_TOML"
