"""A simulated phantom, calibrated by the command, against the camera that was simulated and the closed form of its blur."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from mrtai.cli import main
from mrtai.io.calibrations import read_calibration
from mrtai.io.dicom_spect import concentration, place_spect, scale_of
from mrtai.io.dicom_tree import read_tree
from mrtai.io.iod_check import iod_errors
from mrtai.io.phantom import read_phantom
from mrtai.physics.recovery import coefficient
from mrtai.simulate.phantom import cylinder
from mrtai.simulate.scanner import SPECT_GRID
from tests.physics.blurred_spheres import mean_recovery

EXAMPLE = Path(str(files("mrtai") / "data" / "examples" / "phantom.toml"))
SIGMA_MM, VOXEL_MM, HAZE, HAZE_MM = 11.0 / 2.354820, 4.8, 0.05, 50.0


def call(capsys, *arguments):
    status = main([*map(str, arguments), "--json"])
    told = capsys.readouterr()
    return status, json.loads(told.out or told.err)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "study"
    assert main(["simulate", "--phantom", str(EXAMPLE), "--out", str(folder), "--seed", "3", "--times-h", "2,170"]) == 0
    return folder


def true_recovery(diameter_mm):
    # averaging over the image's voxels and over the shares of a sphere in them are two boxes of one voxel
    sharp = mean_recovery(diameter_mm, np.hypot(SIGMA_MM, VOXEL_MM / np.sqrt(6)))
    return (1 - HAZE) * sharp + HAZE * mean_recovery(diameter_mm, HAZE_MM)


def test_the_cylinder_holds_what_was_filled_in():
    phantom = read_phantom(EXAMPLE)
    filled = cylinder(phantom)
    # shares of the curved surface are counted on ninths of a voxel
    assert filled.concentration.sum(dtype=float) * SPECT_GRID.voxel_ml == pytest.approx(phantom.total_bq, rel=5e-4)
    assert filled.concentration.max() == pytest.approx(1e6, rel=0.02)


def test_calibration_finds_the_simulated_camera(study, tmp_path, capsys):
    status, told = call(capsys, "calibrate", study / "scan1", "--phantom", EXAMPLE, "--out", tmp_path / "c.toml")
    assert status == 0
    # the bounds: 1 % and 0.03
    assert told["sensitivity_cps_per_mbq"] == pytest.approx(9.3, rel=0.01)
    for sphere in told["spheres"]:
        assert sphere["coefficient"] == pytest.approx(true_recovery(sphere["diameter_mm"]), abs=0.03)
    assert told["dead_time"] is None
    assert told["shifts_mm"][0] == pytest.approx([0, 0, 0], abs=0.5)
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_what_was_written_reads_as_what_was_told(study, tmp_path, capsys):
    _, told = call(capsys, "calibrate", study / "scan1", "--phantom", EXAMPLE, "--out", tmp_path / "c.toml", "--valid-days", "30")
    read = read_calibration(tmp_path / "c.toml")
    assert (read.camera_serial, read.nuclide, read.collimator) == ("VIRTUAL-1", "Lu-177", "MELP")
    assert read.sensitivity_cps_per_mbq == pytest.approx(told["sensitivity_cps_per_mbq"], rel=1e-5)
    assert read.sensitivity_sd == pytest.approx(told["sensitivity_sd"], rel=5e-3)
    assert (f"{read.valid_from:%Y-%m-%d}", f"{read.valid_to:%Y-%m-%d}") == ("2026-01-12", "2026-02-11")
    assert (read.recovery.beta_ml, read.recovery.gamma) == pytest.approx((told["recovery"]["beta_ml"], told["recovery"]["gamma"]), rel=1e-5)
    assert np.array(read.recovery.covariance) == pytest.approx(np.array(told["recovery"]["covariance"]), rel=1e-5)
    # spheres lie off the formula by what it is no law of
    assert 0.01 < read.recovery.scatter < 0.04
    # a Gaussian blur and a haze of 5 %, as the virtual camera has them, go closer through them, and count
    assert read.recovery.gaussian.fwhm_mm == pytest.approx(told["recovery"]["gaussian"]["fwhm_mm"], rel=1e-5)
    assert 0.9 < read.recovery.gaussian.plateau < 1.0
    for sphere in told["spheres"]:
        assert coefficient(read.recovery, sphere["volume_ml"]) == pytest.approx(sphere["coefficient"], abs=0.03)
    text = (tmp_path / "c.toml").read_text()
    assert "phantom phantom.toml" in text
    assert str(tmp_path) not in text


def test_a_run_with_the_calibration_finds_the_phantoms_activity(study, tmp_path, capsys):
    call(capsys, "calibrate", study / "scan1", "--phantom", EXAMPLE, "--out", tmp_path / "c.toml")
    series = read_tree(study / "scan1")[0]
    placement = place_spect(series)
    scale = scale_of(
        series,
        voxel_ml=placement.grid.voxel_ml,
        nuclide="Lu-177",
        started_at=read_phantom(EXAMPLE).measured_at,
        calibrations=[read_calibration(tmp_path / "c.toml")],
    )
    image = concentration(series, placement, np.array([scale.concentration_per_value]))
    # 2 h and half of the half hour of the scan
    expected_bq = read_phantom(EXAMPLE).total_bq * 2 ** (-2.25 / 159.5)
    assert image.voxels.sum(dtype=float) * placement.grid.voxel_ml == pytest.approx(expected_bq, rel=1e-3)


def test_several_scans_are_pooled_and_a_camera_without_dead_time_shows_none(study, tmp_path, capsys):
    status, told = call(capsys, "calibrate", study, "--phantom", EXAMPLE, "--out", tmp_path / "c.toml")
    assert status == 0
    assert len(told["shifts_mm"]) == 2
    assert told["dead_time_reason"].startswith("not seen")
    assert "[dead_time]" not in [line.strip() for line in (tmp_path / "c.toml").read_text().splitlines()]
    assert told["sensitivity_cps_per_mbq"] == pytest.approx(9.3, rel=0.01)


def test_a_phantom_that_lies_elsewhere_is_found_and_one_too_far_is_refused(study, tmp_path, capsys):
    text = EXAMPLE.read_text()
    for shift, status in ((6.0, 0), (45.0, 2)):
        moved = tmp_path / "moved.toml"
        lines = []
        for line in text.splitlines():
            if line.startswith("centre_mm"):
                x, y, z = json.loads(line.split("=")[1])
                line = f"centre_mm = [{x + shift}, {y}, {z}]"
            lines.append(line)
        moved.write_text("\n".join(lines))
        out = tmp_path / f"{shift}.toml"
        found, told = call(capsys, "calibrate", study / "scan1", "--phantom", moved, "--out", out)
        assert found == status
        if status:
            assert told["code"] == "SPHERES_NOT_FOUND"
            assert not out.exists()
        else:
            assert told["shifts_mm"][0] == pytest.approx([-shift, 0, 0], abs=0.5)


def test_a_table_says_what_was_measured(study, tmp_path, capsys):
    assert main(["calibrate", str(study / "scan1"), "--phantom", str(EXAMPLE), "--out", str(tmp_path / "c.toml")]) == 0
    told = capsys.readouterr().out
    assert "cps/MBq per head" in told
    assert "no dead time: needs scans" in told
    assert len([line for line in told.splitlines() if "±" in line]) == 8


def test_a_phantom_without_spheres_gives_the_sensitivity_and_says_so(study, tmp_path, capsys):
    phantom = read_phantom(EXAMPLE)
    uniform = EXAMPLE.read_text().split("[[sphere]]")[0].replace("600.0", str(phantom.total_bq / 1e6))
    (tmp_path / "uniform.toml").write_text(uniform)
    command = ["calibrate", str(study / "scan1"), "--phantom", str(tmp_path / "uniform.toml"), "--out", str(tmp_path / "c.toml")]
    assert main(command) == 0
    assert "no recovery curve: the phantom has no spheres" in capsys.readouterr().out
    read = read_calibration(tmp_path / "c.toml")
    assert read.recovery is None
    assert read.sensitivity_cps_per_mbq == pytest.approx(9.3, rel=0.01)
    assert not (tmp_path / "c.png").exists()


def test_one_seed_gives_the_same_bytes(study, tmp_path):
    again = tmp_path / "again"
    assert main(["simulate", "--phantom", str(EXAMPLE), "--out", str(again), "--seed", "3", "--times-h", "2,170"]) == 0
    names = sorted(path.relative_to(study) for path in study.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((study / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_a_simulated_tomogram_obeys_its_definition(study):
    assert iod_errors(study / "scan1" / "SPECT" / "tomogram.dcm") == []


def test_what_a_phantom_does_not_use_is_refused(tmp_path, capsys):
    for option in (["--kinetics", "mono"], ["--format", "nifti"], ["--contours"]):
        status, told = call(capsys, "simulate", "--phantom", EXAMPLE, "--out", tmp_path / "study", *option)
        assert (status, told["code"], told["where"]) == (2, "UNUSED_OPTION", option[0])
        assert not (tmp_path / "study").exists()


def test_a_sphere_outside_the_cylinder_is_refused(tmp_path, capsys):
    outside = tmp_path / "outside.toml"
    outside.write_text(EXAMPLE.read_text().replace("centre_mm = [0.0, 0.0, -50.0]", "centre_mm = [80.0, 0.0, -50.0]"))
    status, told = call(capsys, "simulate", "--phantom", outside, "--out", tmp_path / "study")
    assert (status, told["code"]) == (2, "PHANTOM_FILE")
    assert "60 mm sphere" in told["what"]
