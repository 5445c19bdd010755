"""Headers that hold text, NaN or nonsense where a number belongs are refused by the element's name, never by a crash."""

from datetime import timedelta

import numpy as np
import pytest
from dicom_maker import KEY, LU177_HALF_LIFE_S, PROTOCOL, ct_series, nm_tomogram, numbers, pt_series, radiopharmaceutical, save, start_of

from mrtai.io.study import read_study
from mrtai.values.flag import Severity
from mrtai.values.refusal import DosimetryError, Held

ADMIN_FACTOR = np.exp(np.log(2) / LU177_HALF_LIFE_S * 24 * 3600)


def read(folder, **choice):
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY, **choice)


def given_as(tag, text):
    item = radiopharmaceutical()
    item[0].add_new(tag, "LO", text)
    return pt_series(start_of(24), RadiopharmaceuticalInformationSequence=item)


def spect_with(tag, text):
    files = pt_series(start_of(24))
    files[1].add_new(tag, "LO", text)
    return files


def ct_with(tag, text):
    files = ct_series(start_of(24))
    files[1].add_new(tag, "LO", text)
    return [*files, *pt_series(start_of(24))]


def rotation_with(tag, text):
    tomogram = nm_tomogram(start_of(24))
    tomogram.RotationInformationSequence[0].add_new(tag, "LO", text)
    return tomogram


def detector_nowhere():
    tomogram = nm_tomogram(start_of(24))
    tomogram.DetectorInformationSequence[0].ImagePositionPatient = ["NaN", "0", "0"]
    return tomogram


def many_frames():
    return nm_tomogram(start_of(24), NumberOfFrames="2000000000")


def sizeless():
    files = pt_series(start_of(24))
    for header in files:
        del header.Rows
    return files


CASES = [
    (given_as("RadionuclideTotalDose", "7.4 GBq"), "BAD_HEADER", "RadionuclideTotalDose is not a number; .*; state administered_mbq"),
    (given_as("RadionuclideHalfLife", "6.647d"), "BAD_HEADER", "RadionuclideHalfLife is not a number; .*; correct the header"),
    (spect_with("NumberOfSlices", "four"), "BAD_HEADER", "PT series 7, instance .: NumberOfSlices is not a number"),
    (spect_with("Rows", "five"), "BAD_HEADER", "Rows is not a number"),
    (spect_with("ImagePositionPatient", "NaN\\0\\0"), "BAD_HEADER", "ImagePositionPatient is not a number; found text, NaN or a wrong"),
    (spect_with("ImagePositionPatient", "0\\0"), "BAD_HEADER", "ImagePositionPatient is not a number; found .* wrong count"),
    (spect_with("DecayFactor", "NaN"), "BAD_HEADER", "DecayFactor is not a number"),
    (spect_with("DecayFactor", "1\\1"), "BAD_HEADER", "DecayFactor is not a number"),
    (ct_with("PixelPaddingValue", "none"), "BAD_HEADER", "CT series 7, instance 2: PixelPaddingValue is not a number"),
    (rotation_with("NumberOfFramesInRotation", "sixty"), "BAD_HEADER", "NumberOfFramesInRotation is not a number"),
    (rotation_with("ActualFrameDuration", "20 s"), "BAD_HEADER", "ActualFrameDuration is not a number"),
    (detector_nowhere(), "BAD_HEADER", "NM series 7, instance .: ImagePositionPatient is not a number"),
    (many_frames(), "SIZE_BEYOND_DATA", "found 120000000000 bytes of pixels declared"),
    (sizeless(), "NO_GEOMETRY", "no Rows"),
    (pt_series(start_of(24), TimezoneOffsetFromUTC="+9999"), "BAD_TIME", r"TimezoneOffsetFromUTC \(0008,0201\): a date or time cannot"),
    (pt_series(start_of(24), AcquisitionDate="99991231", AcquisitionTime="240000"), "BAD_TIME", "AcquisitionDate: a date or time cannot"),
    (pt_series(start_of(24), TimezoneOffsetFromUTC="+0175"), "BAD_TIME", r"TimezoneOffsetFromUTC \(0008,0201\): a date or time cannot"),
]


@pytest.mark.parametrize(("files", "code", "message"), CASES, ids=[f"{n}-{case[1]}" for n, case in enumerate(CASES)])
def test_what_is_no_number_is_refused_by_name(tmp_path, files, code, message):
    with pytest.raises(DosimetryError, match=message) as refusal:
        read(save(tmp_path, files))
    assert refusal.value.code == code
    assert "\n" not in str(refusal.value)


def test_study_toml_stands_in_for_an_unreadable_activity(tmp_path):
    save(tmp_path, given_as("RadionuclideTotalDose", "7.4 GBq"))
    (tmp_path / "study.toml").write_text("administered_mbq = 7400.0\n")
    assert read(tmp_path).administration.administered_bq == 7.4e9


@pytest.mark.parametrize(("slice_number", "found"), [(1, "slice 2 of 6"), (4, "slice 5 of 6")])
@pytest.mark.parametrize("make", [pt_series, ct_series])
def test_a_slice_shifted_sideways_is_refused_wherever_it_lies(tmp_path, make, slice_number, found):
    files = make(start_of(24), numbers(2, (6, 5, 6)).astype(np.int16))
    x, y, z = files[slice_number].ImagePositionPatient
    files[slice_number].ImagePositionPatient = [x + 3, y - 4, z]
    save(tmp_path, files, *([pt_series(start_of(24))] if make is ct_series else []))
    with pytest.raises(DosimetryError, match=f"a slice is shifted sideways; found {found}, 5.00 mm off the line") as refusal:
        read(tmp_path)
    assert refusal.value.code == "SLICE_SHIFTED"


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_straight(tmp_path):
    files = pt_series(start_of(24))
    for n, header in enumerate(files):
        x, y, z = header.ImagePositionPatient
        header.ImagePositionPatient = [x + 0.05 * (n % 2), y, z]
    assert read(save(tmp_path, files)).time_points[0].spect.grid.shape == (4, 5, 6)


def test_a_factor_without_a_named_correction_is_held(tmp_path):
    save(tmp_path, pt_series(start_of(24), DecayCorrection="", CorrectedImage=["ATTN"], DecayFactor="1.11"))
    with pytest.raises(Held, match=r"does not say to when; found nothing with decay factor 1\.11; state decay_referred_to") as held:
        read(tmp_path)
    assert held.value.code == "DECAY_REFERENCE_UNKNOWN"


def admin(folder, factors):
    files = pt_series(start_of(24), DecayCorrection="ADMIN")
    for header, factor in zip(files, factors, strict=True):
        header.DecayFactor = factor
    return save(folder, files)


def test_admin_without_a_decay_factor_is_taken_and_flagged(tmp_path):
    point = read(admin(tmp_path, [None] * 4)).time_points[0]
    assert point.decay_referred_to == "administration"
    assert [(flag.code, flag.severity) for flag in point.flags] == [("DECAY_FACTOR_MISSING", Severity.REVIEW)]
    assert point.spect.voxels == pytest.approx(numbers() * 10.0 / ADMIN_FACTOR, rel=1e-6)


def test_the_factors_that_are_there_are_checked_where_some_are_missing(tmp_path):
    proven = f"{ADMIN_FACTOR:.6f}"
    point = read(admin(tmp_path / "right", [proven, None, proven, proven])).time_points[0]
    assert [flag.code for flag in point.flags] == ["DECAY_FACTOR_MISSING"]
    with pytest.raises(Held, match=r"takes a decay factor of 1\.110; found 1;"):
        read(admin(tmp_path / "wrong", [proven, None, "1", proven]))


def test_a_person_who_decides_leaves_no_doubt_about_the_factor(tmp_path):
    admin(tmp_path, [None] * 4)
    (tmp_path / "study.toml").write_text('[[scan]]\nstarted_at = "2026-03-03T09:30:00"\ndecay_referred_to = "administration"\n')
    assert read(tmp_path).time_points[0].flags == ()


def test_two_series_stated_to_start_at_one_time_are_refused(tmp_path):
    first, second = pt_series(start_of(24)), pt_series(start_of(24) + timedelta(hours=3))
    save(tmp_path, first, second)
    scans = [f'[[scan]]\nspect = "{one[0].SeriesInstanceUID}"\nstarted_at = "2026-03-03T09:30:00"\n' for one in (first, second)]
    (tmp_path / "study.toml").write_text("".join(scans))
    with pytest.raises(DosimetryError, match="two scans start at one time; found 2026-03-03T09:30:00 twice; correct started_at") as refusal:
        read(tmp_path)
    assert refusal.value.code == "DUPLICATE_SCAN"
