"""``PHANTOM.toml`` and the scans of a phantom: what is read, and what is refused by name."""

from importlib.resources import files

import numpy as np
import pytest
from dicom_maker import LU177_HALF_LIFE_S, nm_tomogram, numbers, pt_series, radiopharmaceutical, save, start_of

from mrtai.io.phantom import read_phantom
from mrtai.io.phantom_scan import read_phantom_scans
from mrtai.io.tables import nuclide
from mrtai.values.refusal import DosimetryError

EXAMPLE = files("mrtai") / "data" / "examples" / "phantom.toml"
TOML = """nuclide = "177Lu"
activity_mbq = 500.0
measured_at = "2026-03-02T09:30:00"
volume_ml = 5000.0

[[sphere]]
diameter_mm = 20.0
centre_mm = [1, -2.5, 3.0]
concentration_bq_per_ml = 1e6
"""


def phantom(folder, toml=TOML):
    (folder / "phantom.toml").write_text(toml)
    return read_phantom(folder / "phantom.toml")


def scans(folder, *headers):
    study = save(folder / "study", *headers)
    return read_phantom_scans([study], phantom(folder), nuclide("Lu-177"))


def test_the_example_reads_as_it_is_explained():
    example = read_phantom(EXAMPLE)
    assert (example.nuclide, example.activity_bq, example.volume_ml) == ("Lu-177", 6e8, 6000.0)
    assert [sphere.diameter_mm for sphere in example.spheres] == [10.0, 13.0, 17.0, 22.0, 28.0, 37.0, 60.0]
    assert example.around_bq_per_ml == pytest.approx(1e5)


def test_what_was_filled_is_background_and_spheres(tmp_path):
    filled = phantom(tmp_path)
    assert filled.nuclide == "Lu-177"
    assert filled.spheres[0].centre_mm == (1.0, -2.5, 3.0)
    assert filled.total_bq == pytest.approx(500e6 + 1e6 * 4 / 3 * np.pi)
    assert filled.around_bq_per_ml == pytest.approx(1e5)
    assert filled.activity_sd == 0.02
    uneven = phantom(tmp_path, "background_bq_per_ml = 3e4\nactivity_sd = 0.01\n" + TOML)
    assert (uneven.around_bq_per_ml, uneven.activity_sd) == (3e4, 0.01)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("activity_mbq = 500.0\n", "", "keys are missing; found no activity_mbq"),
        ("volume_ml", "volume", "unknown key; found 'volume'"),
        ("5000.0", "-5.0", "impossible values; found phantom: impossible activity 500000000.0 Bq or volume -5.0 mL"),
        ("500.0", '"500"', "'activity_mbq' must be a number"),
        ("500.0", "nan", "not usable as TOML; found a number that is not finite: nan"),
        ("1e6", "inf", "not usable as TOML; found a number that is not finite: inf"),
        ("1e6", "-1e6", "impossible values; found sphere: the concentration must not be negative"),
        ("20.0", "0", "impossible values; found sphere: the diameter must be positive"),
        ("[1, -2.5, 3.0]", "[1, -2.5]", "'centre_mm' must be three numbers x, y, z"),
        ("[1, -2.5, 3.0]", "[1, -2.5, true]", "'centre_mm' must be three numbers x, y, z"),
        ("T09:30:00", "", "'measured_at' must be a date with time of day"),
        ("[[sphere]]", "[sphere]", "spheres are written as"),
    ],
)
def test_a_phantom_file_that_cannot_be_is_refused(tmp_path, old, new, message):
    with pytest.raises(DosimetryError, match=message) as refusal:
        phantom(tmp_path, TOML.replace(old, new))
    assert refusal.value.code == "PHANTOM_FILE"


def test_a_tomogram_is_read_as_it_was_counted(tmp_path):
    (scan,), (t_h,) = scans(tmp_path, nm_tomogram(start_of(24), views=60, seconds=20.0, CountsAccumulated="123456"))
    assert np.array_equal(scan.counts, numbers())
    assert (scan.heads, scan.views_per_head, scan.seconds_per_view) == (2, 60, 20.0)
    assert (scan.recorded_counts, scan.camera_serial, scan.collimator) == (123456.0, "CAM-1", "MEGP")
    assert (scan.duration_s, scan.head_seconds, t_h) == (1200.0, 2400.0, 24.0)


def test_a_decay_correction_to_the_start_is_taken_back(tmp_path):
    (scan,), _ = scans(tmp_path, nm_tomogram(start_of(24), DecayCorrection="START", CorrectedImage=["DECY"]))
    x = np.log(2) * 1200 / LU177_HALF_LIFE_S
    assert scan.counts == pytest.approx(numbers() * (1 - np.exp(-x)) / x, rel=1e-6)


def test_scans_come_in_order_of_time_and_a_file_alone_is_read(tmp_path):
    found, after = scans(tmp_path, nm_tomogram(start_of(96)), nm_tomogram(start_of(24)))
    assert after == (24.0, 96.0)
    one = next(path for path in sorted((tmp_path / "study").rglob("*.dcm")))
    (alone,), _ = read_phantom_scans([one], phantom(tmp_path), nuclide("Lu-177"))
    assert alone.started_at in [scan.started_at for scan in found]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([nm_tomogram(start_of(24), RadiopharmaceuticalInformationSequence=radiopharmaceutical(nuclide="^131^Iodine"))], "OTHER_NUCLIDE"),
        ([pt_series(start_of(24))], "NOT_IN_COUNTS"),
        ([nm_tomogram(start_of(24), Units="BQML")], "NOT_IN_COUNTS"),
        ([nm_tomogram(start_of(24), AcquisitionDate="", SeriesDate="")], "SCAN_TIME_MISSING"),
        ([nm_tomogram(start_of(-1))], "BAD_TIME"),
        ([nm_tomogram(start_of(24)), nm_tomogram(start_of(24))], "AMBIGUOUS_SPECT"),
        ([nm_tomogram(start_of(24)), nm_tomogram(start_of(96), DeviceSerialNumber="CAM-2")], "SEVERAL_CAMERAS"),
        ([nm_tomogram(start_of(24), DeviceSerialNumber="")], "NO_CAMERA"),
        ([nm_tomogram(start_of(24), views=0)], "COUNTING_TIME_MISSING"),
        ([nm_tomogram(start_of(24), DecayCorrection="ADMIN")], "DECAY_REFERENCE_UNKNOWN"),
        ([nm_tomogram(start_of(24), ImageType=["ORIGINAL", "PRIMARY", "TOMO"])], "NO_SPECT"),
    ],
)
def test_a_scan_that_cannot_calibrate_is_refused(tmp_path, headers, code):
    with pytest.raises(DosimetryError) as refusal:
        scans(tmp_path, *headers)
    assert refusal.value.code == code
    assert "SECRET" not in str(refusal.value)
    assert "Doe" not in str(refusal.value)
