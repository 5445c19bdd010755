"""A PET before the therapy: recognised by its header, or named; never taken for a scan of the therapy."""

from datetime import timedelta

import nibabel
import numpy as np
import pytest
from dicom_maker import GIVEN_AT, KEY, PROTOCOL, ct_series, numbers, pt_series, radiopharmaceutical, save, start_of
from pydicom.uid import generate_uid

from mrtai.io.study import named_files, read_study
from mrtai.values.refusal import DosimetryError

BEFORE = GIVEN_AT - timedelta(days=20)


def read(folder, **choice):
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY, **choice)


def pet(start=BEFORE, *, nuclide="^68^Gallium", half_life_s=4062.6, frame="1.2.7", seed=7, **changes):
    given = radiopharmaceutical(start - timedelta(hours=1), 1.5e8, nuclide, "C-131A3", half_life_s)
    given[0].Radiopharmaceutical = "DOTATOC"
    return pt_series(start, numbers(seed), frame=frame, RadiopharmaceuticalInformationSequence=given, **changes)


def therapy(frame="1.2.3.4"):
    return [pt_series(start_of(24), frame=frame), ct_series(start_of(24), frame=frame)]


def codes(cycle):
    return [flag.code for flag in cycle.flags]


def test_a_gallium_pet_before_the_therapy_is_no_scan_of_it_but_shows_where_to_look(tmp_path):
    save(tmp_path, *therapy(), pet(), ct_series(BEFORE, frame="1.2.7"))
    cycle = read(tmp_path)
    assert [point.t_h for point in cycle.time_points] == [24.0]
    prior = cycle.prior_pet
    assert (prior.nuclide, prior.agent, prior.started_at) == ("Ga-68", "DOTATOC", BEFORE)
    assert np.array_equal(prior.pet.voxels, numbers(7) * np.float32(10))
    assert prior.ct is not None
    assert "PRIOR_PET_USED" in codes(cycle)
    assert len(cycle.inputs) == 16


def test_the_header_s_half_life_tells_the_nuclide_where_no_name_does(tmp_path):
    save(tmp_path, *therapy(), pet(nuclide="tracer", half_life_s=6586.2))
    assert read(tmp_path).prior_pet.nuclide == "F-18"


def test_a_lutetium_spect_stored_as_pt_stays_a_scan(tmp_path):
    save(tmp_path, *therapy(), pt_series(start_of(96), frame="1.2.9"))
    cycle = read(tmp_path)
    assert [point.t_h for point in cycle.time_points] == [24.0, 96.0]
    assert cycle.prior_pet is None


def test_of_several_pets_the_latest_before_the_administration_is_taken(tmp_path):
    save(tmp_path, *therapy(), pet(BEFORE - timedelta(days=200), seed=8), pet(seed=7), pet(start_of(200), seed=9))
    cycle = read(tmp_path)
    assert np.array_equal(cycle.prior_pet.pet.voxels, numbers(7) * np.float32(10))
    assert len(cycle.inputs) == 12


@pytest.mark.parametrize(("changes", "why"), [({"start": start_of(200)}, "does not start before"), ({"Units": "GML"}, "not in Bq/mL")])
def test_a_pet_that_is_not_used_is_told(tmp_path, changes, why):
    save(tmp_path, *therapy(), pet(**changes))
    cycle = read(tmp_path)
    assert cycle.prior_pet is None
    assert why in next(flag.text for flag in cycle.flags if flag.code == "PRIOR_PET_NOT_USED")


def test_a_pet_that_cannot_be_read_does_not_refuse_the_study(tmp_path):
    save(tmp_path, *therapy(), pet(RescaleSlope="0"))
    cycle = read(tmp_path)
    assert cycle.prior_pet is None
    assert "PRIOR_PET_NOT_READ" in codes(cycle)


def test_a_study_of_diagnostic_pets_alone_is_refused_as_before(tmp_path):
    save(tmp_path, pet())
    with pytest.raises(DosimetryError) as refused:
        read(tmp_path)
    assert refused.value.code == "NUCLIDE_MISMATCH"


def test_study_toml_names_the_pet_and_its_ct(tmp_path):
    uid = generate_uid()
    chosen, ct = pet(BEFORE - timedelta(days=200), uid=uid, seed=8, frame="1.2.8"), ct_series(BEFORE, frame="1.2.6")
    save(tmp_path, *therapy(), pet(seed=7), chosen, ct)
    (tmp_path / "study.toml").write_text(f'[prior]\npet = "{uid}"\nct = "{ct[0].SeriesInstanceUID}"\n')
    prior = read(tmp_path).prior_pet
    assert np.array_equal(prior.pet.voxels, numbers(8) * np.float32(10))
    assert prior.ct is not None


def test_none_leaves_the_pet_out_without_taking_it_for_a_scan(tmp_path):
    save(tmp_path, *therapy(), pet())
    (tmp_path / "study.toml").write_text('[prior]\npet = "none"\n')
    cycle = read(tmp_path)
    assert cycle.prior_pet is None
    assert len(cycle.time_points) == 1
    assert len(cycle.inputs) == 8 + 1


def nifti(path, values):
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.diag([-4.0, -4.0, 4.0, 1.0])), path)


def test_a_pet_may_be_a_nifti_file_of_the_folder(tmp_path):
    save(tmp_path, *therapy())
    nifti(tmp_path / "pet.nii.gz", np.arange(60.0).reshape(3, 4, 5))
    (tmp_path / "study.toml").write_text('[prior]\npet = "pet.nii.gz"\n')
    cycle = read(tmp_path)
    assert cycle.prior_pet.pet.grid.shape == (5, 4, 3)
    assert [file.name for file in cycle.inputs if file.name.startswith("prior")] == ["prior pet"]
    assert tmp_path / "pet.nii.gz" in named_files(tmp_path)


@pytest.mark.parametrize(
    ("toml", "code"),
    [
        ('[prior]\npet = "1.2.3.4.5"\n', "SCAN_NOT_FOUND"),
        ('[prior]\npet = "../pet.nii.gz"\n', "LINK_OUTSIDE"),
        ('[prior]\npet = "no.nii.gz"\n', "NOT_FOUND"),
        ('[prior]\nct = "1.2"\n', "STUDY_TOML"),
        ('[prior]\npet = "a.nii.gz"\nct = "1.2"\n', "STUDY_TOML"),
        ('[prior]\npet = "1.2"\nmri = "1.2"\n', "STUDY_TOML"),
        ("prior = 1\n", "STUDY_TOML"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(tmp_path, toml, code):
    save(tmp_path, *therapy(), pet())
    (tmp_path / "study.toml").write_text(toml)
    with pytest.raises(DosimetryError) as refused:
        read(tmp_path)
    assert refused.value.code == code
