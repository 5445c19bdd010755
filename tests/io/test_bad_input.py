"""Bad input is refused in one line that says what, where, what was found and what to do, and never whose it is."""

import shutil
from datetime import timedelta

import numpy as np
import pytest
from dicom_maker import (
    GIVEN_AT,
    KEY,
    PROTOCOL,
    ct_series,
    nm_tomogram,
    numbers,
    pt_series,
    radiopharmaceutical,
    save,
    seg,
    start_of,
)
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, generate_uid

from mrtai.io.study import read_study
from mrtai.values.refusal import DosimetryError


def missing_slice(folder):
    save(folder, [header for n, header in enumerate(pt_series(start_of(24))) if n != 1])


def missing_last_slice(folder):
    save(folder, pt_series(start_of(24))[:-1])


def missing_ct_slice(folder):
    save(folder, pt_series(start_of(24)), [header for n, header in enumerate(ct_series(start_of(24))) if n != 2])


def duplicated_slice(folder):
    files = pt_series(start_of(24))
    files[2].ImagePositionPatient = files[1].ImagePositionPatient
    save(folder, files)


def copied_file(folder):
    save(folder, pt_series(start_of(24)))
    one = next(folder.rglob("*.dcm"))
    shutil.copy(one, folder / "copy.dcm")


def without(*tags):
    def make(folder):
        given = radiopharmaceutical()
        for tag in tags:
            delattr(given[0], tag)
        save(folder, pt_series(start_of(24), RadiopharmaceuticalInformationSequence=given))

    return make


def scan_too_early(folder):
    save(folder, pt_series(start_of(-2)))


def activity_in_mbq(folder):
    save(folder, pt_series(start_of(24), RadiopharmaceuticalInformationSequence=radiopharmaceutical(bq=7400.0)))


def counts_without_calibration(folder):
    save(folder, nm_tomogram(start_of(24)))


def uptake_units(folder):
    save(folder, pt_series(start_of(24), Units="GML"))


def other_nuclide(folder):
    given = radiopharmaceutical(nuclide="^131^Iodine", code="1368003", half_life_s=8.0207 * 86400)
    save(folder, pt_series(start_of(24), RadiopharmaceuticalInformationSequence=given))


def wrong_half_life(folder):
    save(folder, pt_series(start_of(24), RadiopharmaceuticalInformationSequence=radiopharmaceutical(half_life_s=6586.0)))


def not_a_number(folder):
    save(folder, pt_series(start_of(24), RescaleIntercept="NaN"))


def zero_slope(folder):
    save(folder, pt_series(start_of(24), RescaleSlope="0"))


def zero_ct_slope(folder):
    ct = ct_series(start_of(24))
    ct[0].RescaleSlope = "0"
    save(folder, pt_series(start_of(24)), ct)


def truncated(folder):
    save(folder, pt_series(start_of(24)))
    one = sorted(folder.rglob("*.dcm"))[0]
    one.write_bytes(one.read_bytes()[:-20])


def no_pixels(folder):
    files = pt_series(start_of(24))
    del files[0].PixelData
    save(folder, files)


def beyond_data(folder):
    files = pt_series(start_of(24))
    for header in files:
        header.Rows = header.Columns = 60000
    save(folder, files)


def not_dicom(folder):
    save(folder, pt_series(start_of(24)))
    (folder / "report.dcm").write_text("plain text " * 40)


def only_text(folder):
    (folder / "readme.txt").write_text("no images here")


def empty(folder):
    pass


def link_outside(folder):
    save(folder, pt_series(start_of(24)))
    (folder.parent / "elsewhere").mkdir()
    (folder / "more").symlink_to(folder.parent / "elsewhere")


def tilted_ct(folder):
    ct = ct_series(start_of(24))
    for z, header in enumerate(ct):
        header.ImagePositionPatient = [-5, -6 + 0.5 * z, -7 + 4 * z]
    save(folder, pt_series(start_of(24)), ct)


def tilted_uneven_orientation(folder):
    files = pt_series(start_of(24))
    files[1].ImageOrientationPatient = [0.9998, 0.02, 0, -0.02, 0.9998, 0]
    save(folder, files)


def placeless(folder):
    files = pt_series(start_of(24))
    for header in files:
        del header.ImageOrientationPatient
    save(folder, files)


def timeless(folder):
    files = pt_series(start_of(24))
    for header in files:
        header.AcquisitionTime = header.SeriesTime = ""
    save(folder, files)


def exotic_compression(folder):
    files = pt_series(start_of(24))
    files[0].file_meta.TransferSyntaxUID = MPEG2MPML
    files[0].PixelData = encapsulate([files[0].PixelData])
    files[0]["PixelData"].VR, files[0]["PixelData"].is_undefined_length = "OB", True
    save(folder, files)


def letters_for_numbers(folder):
    files = pt_series(start_of(24))
    save(folder, files)
    path = sorted(folder.rglob("*.dcm"))[0]
    path.write_bytes(path.read_bytes().replace(b"1800000", b"18OOOOO"))


def oversized_seg(folder):
    spect = pt_series(start_of(24))
    segmentation = seg(spect, {"liver": (np.ones((4, 5, 6), bool), None)})
    segmentation.Rows = segmentation.Columns = 60000
    save(folder, spect, segmentation)


def two_reconstructions(folder):
    save(folder, pt_series(start_of(24)), pt_series(start_of(24), numbers(3)))


def nobody(folder):
    save(folder, pt_series(start_of(24), PatientID=""))


def planar_only(folder):
    save(folder, nm_tomogram(start_of(24), ImageType=["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"]))


def repeated_nm_slice(folder):
    save(folder, nm_tomogram(start_of(24), SliceVector=[1, 2, 2, 3]))


def misspelt_key(folder):
    save(folder, pt_series(start_of(24)))
    (folder / "study.toml").write_text("administred_mbq = 7400\n")


def scan_of_nobody(folder):
    save(folder, pt_series(start_of(24)))
    (folder / "study.toml").write_text('[[scan]]\nstarted_at = "2026-03-09T09:30:00"\ndecay_referred_to = "scan"\n')


CASES = [
    (
        missing_slice,
        "MISSING_SLICE",
        "missing slice; found a step of 8.00 mm after -7.00 mm where 4.00 mm is usual; export the whole series",
    ),
    (missing_last_slice, "MISSING_SLICE", "missing slice; found 3 of 4 slices"),
    (missing_ct_slice, "MISSING_SLICE", "CT series 7 .*missing slice; found a step of 8.00 mm"),
    (duplicated_slice, "DUPLICATE_SLICE", "duplicated slice; found 2 slices at -3.00 mm"),
    (copied_file, "DUPLICATE_SLICE", "duplicated slice; found 2 slices"),
    (scan_too_early, "SCAN_BEFORE_ADMINISTRATION", "scan 2026-03-02T07:30:00, administration 2026-03-02T09:30:00; correct the times"),
    (
        without("RadionuclideTotalDose"),
        "ADMINISTERED_ACTIVITY_MISSING",
        r"RadionuclideTotalDose \(0018,1074\) empty; state administered_mbq",
    ),
    (
        without("RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime"),
        "ADMINISTRATION_TIME_MISSING",
        r"RadiopharmaceuticalStartDateTime \(0018,1078\) empty; state administered_at",
    ),
    (activity_in_mbq, "ADMINISTERED_ACTIVITY_UNIT", "found 7400, which looks like MBq"),
    (counts_without_calibration, "NO_UNITS", "counts without units, and no calibration; .* give --calibration"),
    (uptake_units, "NO_UNITS", "neither Bq/mL nor counts; found GML"),
    (other_nuclide, "NUCLIDE_MISMATCH", "the protocol lu177-dotatate is for Lu-177; found I-131; choose the protocol"),
    (wrong_half_life, "HALF_LIFE_CONTRADICTION", "not that of Lu-177; found 6586 s for 5743"),
    (not_a_number, "NOT_FINITE", "voxels must be finite; found 120 NaN or infinite voxels"),
    (zero_slope, "ZERO_RESCALE_SLOPE", r"rescale slope \(0028,1053\) is not positive; found 0"),
    (zero_ct_slope, "ZERO_RESCALE_SLOPE", r"rescale slope \(0028,1053\) is not positive; found 0"),
    (truncated, "TRUNCATED_PIXEL_DATA", "truncated pixel data; found 40 of 60 bytes"),
    (no_pixels, "TRUNCATED_PIXEL_DATA", "truncated pixel data; found no pixel data"),
    (beyond_data, "SIZE_BEYOND_DATA", "found 7200000000 bytes of pixels declared"),
    (not_dicom, "NOT_DICOM", "report.dcm: not DICOM; .* remove or re-export"),
    (only_text, "NOT_DICOM", "not DICOM; found 1 files, none of them DICOM"),
    (empty, "EMPTY_FOLDER", "the folder is empty; found no files; give a folder with DICOM"),
    (link_outside, "LINK_OUTSIDE", "more: a link leads outside the study folder"),
    (tilted_ct, "GANTRY_TILT", "gantry tilt.*found 7.13 degrees"),
    (tilted_uneven_orientation, "NO_GEOMETRY", "slices differ in ImageOrientationPatient"),
    (placeless, "NO_GEOMETRY", r"no usable ImageOrientationPatient \(0020,0037\)"),
    (timeless, "SCAN_TIME_MISSING", r"no start of acquisition \(0008,0022\) and \(0008,0032\)"),
    (exotic_compression, "COMPRESSION_NOT_SUPPORTED", "found MPEG2 Main Profile"),
    (letters_for_numbers, "BAD_HEADER", "ActualFrameDuration is not a number"),
    (oversized_seg, "SIZE_BEYOND_DATA", "found 1800000000 bytes of pixels declared"),
    (two_reconstructions, "AMBIGUOUS_SPECT", "several reconstructions of one acquisition; .* name the one that counts"),
    (nobody, "PATIENT_MISSING", r"no patient ID \(0010,0020\)"),
    (planar_only, "NO_SPECT", "no quantitative SPECT or PET; found NM series"),
    (repeated_nm_slice, "DUPLICATE_SLICE", "4 frames for 3 slices"),
    (misspelt_key, "STUDY_TOML", "unknown key; found 'administred_mbq'; known keys: administered_at"),
    (scan_of_nobody, "SCAN_NOT_FOUND", r"study.toml \[\[scan\]\] 1: no scan of the study fits this entry"),
]


@pytest.mark.parametrize(("make", "code", "message"), CASES, ids=[f"{n}-{case[1]}" for n, case in enumerate(CASES)])
def test_a_bad_study_is_refused_in_one_line(tmp_path, make, code, message):
    folder = tmp_path / "study"
    folder.mkdir()
    make(folder)
    with pytest.raises(DosimetryError, match=message) as refusal:
        read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY)
    text = str(refusal.value)
    assert refusal.value.code == code
    assert "\n" not in text
    assert not any(secret in text for secret in ("SECRET", "Doe", "Jane", "19700101"))


def test_two_patients_in_one_series_are_refused_even_when_one_is_asked_for(tmp_path):
    files = pt_series(start_of(24))
    files[1].PatientID = "OTHER"
    save(tmp_path, files)
    with pytest.raises(DosimetryError, match="one series holds several patients"):
        read_study(tmp_path, protocol=PROTOCOL, pseudonym_key=KEY, patient="OTHER")


def test_non_square_pixels_keep_their_axes(tmp_path):
    stored = np.zeros((4, 5, 6), np.uint16)
    stored[0, 4, 5] = 1
    spect = read_study(save(tmp_path, pt_series(start_of(24), stored)), protocol=PROTOCOL, pseudonym_key=KEY).time_points[0].spect
    assert spect.grid.spacing_mm.tolist() == [2.0, 3.0, 4.0]
    k, j, i = np.argwhere(spect.voxels)[0]
    assert (spect.grid.affine @ (i, j, k, 1))[:3] == pytest.approx([-5 + 5 * 2, -6 + 4 * 3, -7])


def test_the_missing_folder_is_named_as_such(tmp_path):
    with pytest.raises(DosimetryError, match="no such folder"):
        read_study(tmp_path / "nowhere", protocol=PROTOCOL, pseudonym_key=KEY)


def test_an_unknown_cycle_is_refused(tmp_path):
    second = GIVEN_AT + timedelta(days=56)
    later = pt_series(second + timedelta(hours=24), RadiopharmaceuticalInformationSequence=radiopharmaceutical(second), uid=generate_uid())
    save(tmp_path, pt_series(start_of(24)), later)
    with pytest.raises(DosimetryError, match="the cycle asked for is not in the study; found 2 cycles"):
        read_study(tmp_path, protocol=PROTOCOL, pseudonym_key=KEY, cycle="3")
