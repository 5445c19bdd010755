"""A folder of DICOM becomes a cycle: right place, right unit, right instant."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from dicom_maker import (
    GIVEN_AT,
    KEY,
    LU177_HALF_LIFE_S,
    PATIENT_ID,
    PROTOCOL,
    SPACING,
    ct_series,
    nm_tomogram,
    numbers,
    pt_series,
    radiopharmaceutical,
    save,
    start_of,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mrtai.io.study import read_study
from mrtai.values.flag import Severity
from mrtai.values.refusal import DosimetryError, Held

LAMBDA = np.log(2) / LU177_HALF_LIFE_S


def read(folder, **choice):
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY, **choice)


def first_spect(folder, **choice):
    return read(folder, **choice).time_points[0].spect


def test_two_spect_ct_visits_become_one_cycle_in_order_of_time(tmp_path):
    later = pt_series(start_of(96), frame="1.2.9")
    save(tmp_path, later, pt_series(start_of(24)), ct_series(start_of(24)), ct_series(start_of(96), frame="1.2.9"))
    cycle = read(tmp_path)
    assert [point.t_h for point in cycle.time_points] == [24.0, 96.0]
    assert [point.index for point in cycle.time_points] == [1, 2]
    assert all(point.ct is not None for point in cycle.time_points)
    assert cycle.administration.administered_bq == 7.4e9
    assert cycle.administration.at == GIVEN_AT
    assert cycle.time_points[0].duration_s == 1800.0
    assert len(cycle.inputs) == 16


def test_slices_are_placed_by_their_headers_and_scaled(tmp_path):
    stored = numbers()
    spect = first_spect(save(tmp_path, pt_series(start_of(24), stored)))
    assert np.array_equal(spect.voxels, stored * np.float32(10))
    assert spect.grid.spacing_mm == pytest.approx(SPACING)
    assert spect.grid.origin_mm == pytest.approx([-5, -6, -7])
    assert np.linalg.det(spect.grid.direction) == pytest.approx(1.0)


def test_ct_numbers_are_hounsfield_units_and_padding_is_air(tmp_path):
    stored = numbers(2).astype(np.int16)
    stored[0, 0, 0] = -2000
    ct = ct_series(start_of(24), stored)
    for header in ct:
        header.PixelPaddingValue = -2000
    point = read(save(tmp_path, pt_series(start_of(24)), ct)).time_points[0]
    assert point.ct.voxels.dtype == np.int16
    assert point.ct.voxels[1, 2, 3] == stored[1, 2, 3] - 1024
    assert point.ct.voxels[0, 0, 0] == -1024


def test_localisers_and_cts_of_another_frame_are_left_out(tmp_path):
    scout = ct_series(start_of(24), image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    save(tmp_path, pt_series(start_of(24)), scout, ct_series(start_of(24), frame="9.9"))
    assert read(tmp_path).time_points[0].ct is None


def test_the_pseudonym_depends_on_the_key_and_hides_the_patient(tmp_path):
    save(tmp_path, pt_series(start_of(24)))
    cycle = read(tmp_path)
    other = read_study(tmp_path, protocol=PROTOCOL, pseudonym_key=b"another key of at least 16 bytes")
    assert cycle.pseudonym.startswith("P-")
    assert other.pseudonym != cycle.pseudonym
    assert "SECRET" not in repr(cycle)


def test_average_values_are_referred_to_the_start_of_the_scan(tmp_path):
    stored = numbers()
    save(tmp_path, pt_series(start_of(24), stored, DecayCorrection="NONE", CorrectedImage=["ATTN"]))
    x = LAMBDA * 1800
    # at the start the activity is above its mean over the scan by λT/(1 - exp(-λT))
    assert first_spect(tmp_path).voxels == pytest.approx(stored * 10.0 * x / (1 - np.exp(-x)), rel=1e-6)


def test_beds_averaged_one_after_the_other_are_referred_to_the_first_start(tmp_path):
    stored = numbers()
    files = pt_series(start_of(24), stored, DecayCorrection="NONE", CorrectedImage=["ATTN"])
    for header in files[2:]:
        header.AcquisitionTime = "100000"
    save(tmp_path, files)
    point = read(tmp_path).time_points[0]
    ratio = point.spect.voxels[2:] / np.maximum(stored[2:] * 10.0, 1)
    x = LAMBDA * 1800
    assert ratio[stored[2:] > 0] == pytest.approx(np.exp(LAMBDA * 1800) * x / (1 - np.exp(-x)), rel=1e-6)
    assert point.duration_s == 3600.0


def test_values_referred_to_the_administration_decay_to_the_scan(tmp_path):
    stored = numbers()
    factor = np.exp(LAMBDA * 24 * 3600)
    save(tmp_path, pt_series(start_of(24), stored, DecayCorrection="ADMIN", DecayFactor=f"{factor:.6f}"))
    cycle = read(tmp_path)
    assert cycle.time_points[0].spect.voxels == pytest.approx(stored * 10.0 / factor, rel=1e-6)
    assert cycle.time_points[0].decay_referred_to == "administration"


def admin_with_factor_one(folder):
    return save(folder, pt_series(start_of(24), DecayCorrection="ADMIN"))


def test_admin_with_decay_factor_one_is_held(tmp_path):
    with pytest.raises(Held, match=r"takes a decay factor of 1\.110; found 1; state decay_referred_to") as held:
        read(admin_with_factor_one(tmp_path))
    assert held.value.code == "DECAY_REFERENCE_CONFLICT"


@pytest.mark.parametrize(("word", "factor"), [("scan", 1.0), ("administration", np.exp(-LAMBDA * 24 * 3600))])
def test_study_toml_decides_the_decay_reference(tmp_path, word, factor):
    admin_with_factor_one(tmp_path)
    (tmp_path / "study.toml").write_text(f'[[scan]]\nstarted_at = "2026-03-03T09:30:20+01:00"\ndecay_referred_to = "{word}"\n')
    cycle = read(tmp_path)
    assert cycle.time_points[0].spect.voxels == pytest.approx(numbers() * 10.0 * factor, rel=1e-6)
    assert cycle.overrides[0].header == "ADMIN with decay factor 1"
    assert cycle.overrides[0].used == word


def test_a_correction_to_nowhere_is_held(tmp_path):
    save(tmp_path, pt_series(start_of(24), DecayCorrection="NONE"))
    with pytest.raises(Held, match="is NONE, yet a correction is stated"):
        read(tmp_path)


def test_study_toml_overrules_the_header_and_says_so(tmp_path):
    save(tmp_path, pt_series(start_of(24)))
    (tmp_path / "study.toml").write_text('administered_mbq = 7000.0\nadministered_at = "2026-03-02T09:00:00"\nagent = "DOTATOC"\n')
    cycle = read(tmp_path)
    assert cycle.administration.administered_bq == 7.0e9
    assert cycle.time_points[0].t_h == 24.5
    assert cycle.administration.agent == "DOTATOC"
    assert {(o.field, o.header, o.used) for o in cycle.overrides} >= {
        ("administered_mbq", "7400.0", "7000.0"),
        ("agent", "DOTATATE", "DOTATOC"),
    }
    assert [(flag.code, flag.severity) for flag in cycle.flags] == [("ADMINISTRATION_OVERRIDDEN", Severity.REVIEW)]


def test_a_small_correction_raises_no_flag(tmp_path):
    save(tmp_path, pt_series(start_of(24)))
    (tmp_path / "study.toml").write_text('administered_mbq = 7410.0\nadministered_at = "2026-03-02T09:34:00"\n')
    cycle = read(tmp_path)
    assert len(cycle.overrides) == 2
    assert cycle.flags == ()


@pytest.mark.parametrize(
    ("second", "found"),
    [
        (radiopharmaceutical(bq=7.0e9), "7000.0 to 7400.0 MBq; state administered_mbq"),
        (radiopharmaceutical(GIVEN_AT + timedelta(minutes=6)), "09:30:00 to 2026-03-02T09:36:00; state administered_at"),
    ],
)
def test_headers_that_disagree_are_held_until_study_toml_decides(tmp_path, second, found):
    save(tmp_path, pt_series(start_of(24)), pt_series(start_of(96), RadiopharmaceuticalInformationSequence=second))
    with pytest.raises(Held, match=found) as held:
        read(tmp_path)
    assert held.value.code == "ADMINISTRATION_CONFLICT"
    (tmp_path / "study.toml").write_text('administered_mbq = 7400.0\nadministered_at = "2026-03-02T09:30:00"\n')
    assert len(read(tmp_path).time_points) == 2


def test_time_of_day_alone_is_the_day_before_where_the_scan_is_earlier(tmp_path):
    given = radiopharmaceutical()
    del given[0].RadiopharmaceuticalStartDateTime
    given[0].RadiopharmaceuticalStartTime = "233000"
    save(tmp_path, pt_series(datetime(2026, 3, 3, 1, 0), RadiopharmaceuticalInformationSequence=given))
    cycle = read(tmp_path)
    assert cycle.time_points[0].t_h == 1.5
    assert [flag.code for flag in cycle.flags] == ["ADMINISTRATION_DATE_ASSUMED"]


def test_summer_time_between_injection_and_scan_takes_an_hour(tmp_path):
    given = radiopharmaceutical()
    given[0].RadiopharmaceuticalStartDateTime = "20260328093000+0100"
    start = datetime(2026, 3, 29, 9, 30)
    save(tmp_path, pt_series(start, RadiopharmaceuticalInformationSequence=given, TimezoneOffsetFromUTC="+0200"))
    assert read(tmp_path).time_points[0].t_h == 23.0


def test_a_scan_whose_length_nobody_states_says_so(tmp_path):
    series = pt_series(start_of(24))
    for header in series:
        del header.ActualFrameDuration
    save(tmp_path, series)
    point = read(tmp_path).time_points[0]
    assert point.duration_s is None
    assert [(flag.code, flag.severity.value) for flag in point.flags] == [("DURATION_UNKNOWN", "info")]


def test_a_zone_on_one_side_only_reads_both_as_wall_time(tmp_path):
    save(tmp_path, pt_series(start_of(24)))
    (tmp_path / "study.toml").write_text('administered_at = "2026-03-02T09:30:00+01:00"\n')
    point = read(tmp_path).time_points[0]
    assert point.t_h == 24.0
    assert [flag.code for flag in point.flags] == ["TIME_ZONE_ASSUMED"]


def test_an_uncorrected_twin_gives_way_to_the_corrected_series(tmp_path):
    plain = pt_series(start_of(24), numbers(5), CorrectedImage=["DECY"])
    save(tmp_path, plain, pt_series(start_of(24)))
    assert np.array_equal(first_spect(tmp_path).voxels, numbers() * np.float32(10))


def test_each_cycle_keeps_its_own_scans(tmp_path):
    second = GIVEN_AT + timedelta(days=56)
    given = radiopharmaceutical(second)
    save(tmp_path, pt_series(start_of(24)), pt_series(second + timedelta(hours=48), RadiopharmaceuticalInformationSequence=given))
    assert read(tmp_path, cycle="2").time_points[0].t_h == 48.0
    assert read(tmp_path, cycle="2026-03-02").time_points[0].t_h == 24.0
    assert read(tmp_path, cycle="2").number == 2
    with pytest.raises(DosimetryError, match="several cycles; found administrations of 2026-03-02, 2026-04-27; choose one with --cycle"):
        read(tmp_path)


def test_one_of_two_patients_is_chosen_by_id_and_never_named(tmp_path):
    save(tmp_path, pt_series(start_of(24)), pt_series(start_of(48), PatientID="OTHER-1"))
    assert read(tmp_path, patient=PATIENT_ID).time_points[0].t_h == 24.0
    with pytest.raises(DosimetryError, match="mixed patients; found 2 patient IDs; choose one with --patient") as refusal:
        read(tmp_path)
    assert "SECRET" not in str(refusal.value)
    assert "OTHER" not in str(refusal.value)


@pytest.mark.parametrize("step_mm", [SPACING[2], -SPACING[2]])
def test_the_sign_of_the_spacing_tells_which_way_nm_slices_stack(tmp_path, step_mm):
    stored = np.zeros((4, 5, 6), np.uint16)
    stored[3, 2, 1] = 7
    mapping, unit = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "Bq/ml", "UCUM", "Bq/ml"
    mapping.MeasurementUnitsCodeSequence = Sequence([unit])
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 2.5, 0.0
    tomogram = nm_tomogram(start_of(24), stored, step_mm=step_mm, RealWorldValueMappingSequence=Sequence([mapping]))
    spect = first_spect(save(tmp_path, tomogram))
    (k, j, i), *_ = np.argwhere(spect.voxels)
    place = spect.grid.affine @ (i, j, k, 1)
    assert place[:3] == pytest.approx([-5 + 1 * 2, -6 + 2 * 3, -7 + 3 * step_mm])
    x = LAMBDA * 60 * 20
    assert spect.voxels.max() == pytest.approx(7 * 2.5 * x / (1 - np.exp(-x)), rel=1e-6)


def test_negative_voxels_are_kept_and_flagged(tmp_path):
    stored = numbers().astype(np.int16)
    stored[0, 0, 0] = -500
    point = read(save(tmp_path, pt_series(start_of(24), stored))).time_points[0]
    assert point.spect.voxels.min() == -5000.0
    assert [flag.code for flag in point.flags] == ["NEGATIVE_VOXELS"]


def test_truth_sidecars_and_dicomdir_are_ignored(tmp_path):
    save(tmp_path, pt_series(start_of(24)))
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "bad.dcm").write_text("not DICOM")
    (tmp_path / "DICOMDIR").write_text("index")
    (tmp_path / "notes.txt").write_text("side-car")
    assert len(read(tmp_path).time_points) == 1


def test_a_person_names_series_and_start_by_uid(tmp_path):
    first, second = pt_series(start_of(24)), pt_series(start_of(24), numbers(3))
    ct = ct_series(start_of(24), frame="9.9")
    save(tmp_path, first, second, ct, ct_series(start_of(24)))
    scan = f'spect = "{second[0].SeriesInstanceUID}"\nct = "{ct[0].SeriesInstanceUID}"\nstarted_at = "2026-03-03T10:30:00"\n'
    (tmp_path / "study.toml").write_text(f"[[scan]]\n{scan}")
    cycle = read(tmp_path)
    point = cycle.time_points[0]
    assert np.array_equal(point.spect.voxels, numbers(3) * np.float32(10))
    assert point.t_h == 25.0
    assert point.ct is not None
    assert [(o.field, o.header, o.used) for o in cycle.overrides] == [
        ("scan 1 started_at", "2026-03-03T09:30:00", "2026-03-03T10:30:00"),
    ]


def test_a_secondary_ct_is_not_used_and_said_so(tmp_path):
    save(tmp_path, pt_series(start_of(24)), ct_series(start_of(24), image_type=("DERIVED", "SECONDARY", "AXIAL")))
    point = read(tmp_path).time_points[0]
    assert point.ct is None
    assert [flag.code for flag in point.flags] == ["CT_NOT_PRIMARY"]


@pytest.mark.parametrize(
    "directions",
    [[1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1], [-1, 0, 0, 0, -1, 0], [0.8, 0.6, 0, -0.6, 0.8, 0]],
    ids=["coronal", "sagittal", "from the head", "oblique"],
)
def test_a_voxel_keeps_its_place_in_any_orientation(tmp_path, directions):
    stored = np.zeros((4, 5, 6), np.uint16)
    stored[1, 3, 4] = 9
    across, down = np.array(directions[:3], float), np.array(directions[3:], float)
    normal = np.cross(across, down)
    files = pt_series(start_of(24), stored)
    for z, header in enumerate(files):
        header.ImageOrientationPatient = directions
        header.ImagePositionPatient = [f"{x:.6f}" for x in (10, 20, 30) - 4.0 * z * normal]
    spect = first_spect(save(tmp_path, files))
    (k, j, i), *_ = np.argwhere(spect.voxels)
    place = (10, 20, 30) + 4 * SPACING[0] * across + 3 * SPACING[1] * down - 4.0 * normal
    assert (spect.grid.affine @ (i, j, k, 1))[:3] == pytest.approx(place, abs=1e-5)
    assert np.linalg.det(spect.grid.direction) == pytest.approx(1.0)
