"""``--cycle`` means one thing for DICOM and NIfTI: a number from 1 or the date of the administration."""

import pytest
from dicom_maker import KEY, PROTOCOL, pt_series, radiopharmaceutical, save, start_of
from test_nifti_study import FIRST, HEAD, write

from mrtai.io.study import read_study
from mrtai.values.refusal import DosimetryError


def dicom(folder):
    return save(folder, pt_series(start_of(24)))


def nifti(folder):
    return write(folder, HEAD + FIRST)


def read(folder, cycle):
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY, cycle=cycle)


@pytest.mark.parametrize("make", [dicom, nifti])
@pytest.mark.parametrize(("cycle", "number"), [(None, 1), ("1", 1), ("3", 3), ("12", 12), ("2026-03-02", 1)])
def test_a_single_cycle_takes_the_number_or_answers_to_its_date(tmp_path, make, cycle, number):
    assert read(make(tmp_path), cycle).number == number


@pytest.mark.parametrize("make", [dicom, nifti])
@pytest.mark.parametrize("cycle", ["0", "-1", "01", "²", "foo", "", "1.0", " 2", "2026-02-30", "20260302", "9" * 5000])
def test_anything_else_is_no_cycle(tmp_path, make, cycle):
    with pytest.raises(
        DosimetryError, match=r"^--cycle: the cycle asked for is neither a number from 1 nor a date; .* give --cycle 2"
    ) as no:
        read(make(tmp_path), cycle)
    assert no.value.code == "BAD_CYCLE"


@pytest.mark.parametrize("make", [dicom, nifti])
def test_a_date_without_administration_is_not_found(tmp_path, make):
    with pytest.raises(DosimetryError, match="the cycle asked for is not in the study; found one cycle of another date") as refusal:
        read(make(tmp_path), "2026-03-03")
    assert refusal.value.code == "CYCLE_NOT_FOUND"


def test_the_date_a_person_states_names_the_cycle_too(tmp_path):
    given = radiopharmaceutical()
    del given[0].RadiopharmaceuticalStartDateTime, given[0].RadiopharmaceuticalStartTime
    save(tmp_path, pt_series(start_of(24), RadiopharmaceuticalInformationSequence=given))
    (tmp_path / "study.toml").write_text('administered_at = "2026-03-02T09:30:00"\n')
    assert read(tmp_path, "2026-03-02").number == 1
