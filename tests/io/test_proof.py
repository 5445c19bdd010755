"""The proof finds what was planted, by name, and finds nothing in what was not spoiled."""

import shutil

import pydicom
import pytest

from mrtai.io.dicom_write import Choices, write_objects
from mrtai.io.dicom_write.header import finish
from mrtai.io.iod_check import iod_errors
from mrtai.io.proof import Proof, Subject, check_object, prove
from mrtai.values.refusal import DosimetryError
from tests.io import faults_of_numbers, faults_of_places
from tests.io.case_maker import DIRECTIONS, grid_of, made_case, made_nm_source, made_source, standard_labels
from tests.io.proof_faults import FAULTS

PLANTED_BY = (faults_of_numbers, faults_of_places)
"""Each puts its own into the list when it is imported."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A case, its source and its unspoiled objects."""
    case, source, folder = made_case(standard_labels(grid_of())), made_source(on=grid_of()), tmp_path_factory.mktemp("sound")
    return case, source, write_objects(case, source, folder, Choices())


def said_of(path, case, source, headers, choices=None):
    proof = Proof()
    check_object(proof, Subject(path.stem, path, headers, case, source, choices or Choices()))
    return proof.disagreements


def headers_of(files):
    return {path.stem: pydicom.dcmread(path, defer_size=2**16) for path in files}


@pytest.mark.parametrize(("name", "change", "says"), FAULTS, ids=[f"{name}-{change.__name__}" for name, change, _ in FAULTS])
def test_a_planted_fault_is_caught_by_its_name(name, change, says, sound, tmp_path):
    case, source, files = sound
    headers = headers_of(files)
    path = tmp_path / f"{name}.dcm"
    ds = pydicom.dcmread(files[0].with_name(path.name))
    change(ds)
    finish(ds, ds.SOPClassUID)  # as if the writer had meant it
    ds.save_as(path, enforce_file_format=True)
    headers[name] = pydicom.dcmread(path, defer_size=2**16)
    assert any(says in line for line in said_of(path, case, source, headers))


@pytest.mark.parametrize(
    "direction", [name if name in ("axial", "oblique by 17 degrees") else pytest.param(name, marks=pytest.mark.slow) for name in DIRECTIONS]
)
@pytest.mark.parametrize("choices", [Choices(), pytest.param(Choices(labelmap=True), marks=pytest.mark.slow)])
def test_nothing_is_found_in_what_is_sound(direction, choices, tmp_path):
    _sound(direction, choices, (made_source(on=grid_of(direction)), made_nm_source()), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_nothing_is_found_with_scans_elsewhere_or_without_ct(direction, tmp_path):
    _sound(direction, Choices(), (made_source(), made_nm_source(ct=False)), tmp_path)


def _sound(direction, choices, sources, tmp_path):
    grid = grid_of(direction)
    for n, source in enumerate(sources):
        case, folder = made_case(standard_labels(grid)), tmp_path / str(n)
        folder.mkdir()
        files = write_objects(case, source, folder, choices)
        headers = headers_of(files)
        assert [line for path in files for line in said_of(path, case, source, headers, choices)] == []


@pytest.mark.parametrize("missing", ["reg_2", "rtdose_bed", "rtdose_eqd2", "pmap_dose_rate_2"])
def test_a_missing_object_is_named(missing, sound):
    case, source, files = sound
    with pytest.raises(DosimetryError, match=f"{missing}: missing"):
        prove([path for path in files if path.stem != missing], case, source, Choices())


def test_an_object_that_is_none_of_the_cases_is_refused_without_its_name(sound, tmp_path):
    case, source, files = sound
    strange = tmp_path / "Strange^Name.dcm"
    shutil.copy(files[0], strange)
    with pytest.raises(DosimetryError, match="none of the case's") as refused:
        prove([*files, strange], case, source, Choices())
    assert "Strange" not in str(refused.value)


def test_the_validators_words_are_repeated_without_the_values(sound, tmp_path):
    path = tmp_path / "pdf.dcm"
    ds = pydicom.dcmread(next(one for one in sound[2] if one.stem == "pdf"))
    for name, value in (
        ("PatientSex", "Secretname^Jane"),
        ("PatientBirthDate", "1970SECRET"),
        ("ConversionType", "S>ECRET < attribute <Secret"),
    ):
        ds[name]._value = value
    ds.save_as(path, enforce_file_format=True)
    errors = iod_errors(path)
    assert "Error - Unrecognized enumerated value <…> attribute <Patient's Sex>" in [one.replace("  ", " ") for one in errors]
    assert not any(word in error.upper() for error in errors for word in ("SECRET", "JANE", "1970"))


def test_the_validators_count_of_bytes_is_no_fault(tmp_path):
    # 24 characters of 3 bytes each in a group: PS3.5 allows 64 characters
    source = made_source(PatientName="Yamada^Tarou=" + "山" * 12 + "^" + "郎" * 12, SpecificCharacterSet="ISO_IR 192", PatientID="あ" * 30)
    case = made_case(standard_labels(grid_of()))
    prove(write_objects(case, source, tmp_path, Choices()), case, source, Choices())
