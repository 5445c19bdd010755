"""The walk on virtual patients whose truth is known."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mrtai.cli import main

# one worker makes the study that all of them share
pytestmark = pytest.mark.xdist_group("cycle")

SOFT_TISSUE = (
    "liver",
    "liver_without_lesions",
    "spleen",
    "kidney_left",
    "kidney_right",
    "kidneys",
    "stomach",
    "urinary_bladder",
    "tumour_total",
)


@pytest.fixture(scope="module", autouse=True)
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(b"k" * 32)
    patch = pytest.MonkeyPatch()
    patch.setenv("MRTAI_KEY_FILE", str(path))
    yield path
    patch.undo()


def simulated(folder: Path, *options: str) -> Path:
    study = folder / "study"
    assert main(["simulate", "--out", str(study), *options]) == 0
    return study


def worked_up(study: Path, out: Path, *options: str, protocol="lu177-dotatate") -> dict:
    labels = study / "truth" / "labels.nii.gz"
    assert main(["run", str(study), "--protocol", protocol, "--labels", str(labels), "--out", str(out), *options]) == 0
    return json.loads((out / "results.json").read_text())


def truth_of(study: Path) -> dict:
    with (study / "truth" / "regions.csv").open() as stream:
        return {row["region"]: {k: float(v) for k, v in row.items() if k != "region"} for row in csv.DictReader(stream)}


def soft(name: str) -> bool:
    return name in SOFT_TISSUE or name.startswith("lesion_")


@pytest.fixture(scope="module")
def ideal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ideal")
    study = simulated(folder, "--scanner", "ideal", "--kinetics", "mono", "--seed", "1")
    return study, folder / "case", worked_up(study, folder / "case")


def test_ideal_scans_give_the_true_integrals_and_doses(ideal):
    study, _, results = ideal
    truth = truth_of(study)
    assert {region["name"] for region in results["regions"]} == set(truth)
    for region in results["regions"]:
        true = truth[region["name"]]
        assert region["tia_mbq_h"] == pytest.approx(true["tia_mbq_h"], rel=0.02), region["name"]
        assert region["kinetics"]["effective_half_life_h"] == pytest.approx(true["effective_half_life_h"], rel=0.02), region["name"]
        if soft(region["name"]):
            assert region["absorbed_dose_gy"]["mean"] == pytest.approx(true["absorbed_dose_gy"], rel=0.03), region["name"]


def test_maps_add_up_to_the_regions(ideal):
    _, case, results = ideal
    tia, labels = (nibabel.load(case / "images" / f"{name}.nii.gz") for name in ("tia", "labels"))
    voxels, regions = np.asarray(tia.dataobj), np.asarray(labels.dataobj)
    voxel_ml = np.prod(tia.header.get_zooms()[:3]) / 1e3
    names = json.loads((case / "images" / "labels.json").read_text())
    by_name = {region["name"]: region for region in results["regions"]}
    for value, name in names.items():
        row = by_name["liver_without_lesions" if name == "liver" else name]
        in_map = voxels[regions == int(value)].sum(dtype=np.float64) * voxel_ml / 1e6 / 3600
        assert in_map == pytest.approx(row["tia_mbq_h"], rel=0.01), name


def test_every_map_lies_on_the_grid_of_the_first_spect(ideal):
    study, case, _ = ideal
    affines = [nibabel.load(case / "images" / f"{name}.nii.gz").affine for name in ("tia", "dose", "labels", "spect_1", "spect_3")]
    assert all(np.allclose(affine, affines[0], atol=1e-3) for affine in affines)
    noise_free = nibabel.load(study / "truth" / "spect_1_noise_free.nii.gz")
    assert np.allclose(affines[0], noise_free.affine, atol=1e-3)
    # DICOM's 16-bit storage rounds each slice to 1/65535 of its maximum
    seen, stored = (np.asarray(image.dataobj) for image in (nibabel.load(case / "images" / "spect_1.nii.gz"), noise_free))
    assert np.abs(seen - stored).max() < 1e-4 * stored.max()


def test_the_same_case_twice_is_bit_identical(ideal, tmp_path):
    study, case, _ = ideal
    worked_up(study, tmp_path / "again")
    assert (tmp_path / "again" / "results.json").read_bytes() == (case / "results.json").read_bytes()


def test_nothing_in_the_case_names_the_patient(ideal):
    _, case, _ = ideal
    for path in sorted(case.rglob("*")):
        assert "Virtual" not in path.name
        if path.suffix in (".json", ".html", ".csv"):
            assert "Virtual^Patient" not in path.read_text(encoding="utf-8"), path.name


def test_an_uptake_phase_costs_less_than_five_percent(tmp_path):
    study = simulated(tmp_path, "--scanner", "ideal", "--kinetics", "population", "--seed", "3", "--format", "nifti")
    results, truth = worked_up(study, tmp_path / "case"), truth_of(study)
    for region in results["regions"]:
        assert region["tia_mbq_h"] == pytest.approx(truth[region["name"]]["tia_mbq_h"], rel=0.05), region["name"]
        assert 0 < region["kinetics"]["fraction_before_first_scan"] < 1


def test_one_scan_gives_a_provisional_draft_that_says_so(tmp_path):
    study = simulated(tmp_path, "--scanner", "ideal", "--times-h", "72", "--seed", "1", "--kinetics", "mono", "--format", "nifti")
    results = worked_up(study, tmp_path / "case")
    assert results["provisional"] is True
    kidney = next(region for region in results["regions"] if region["name"] == "kidney_left")
    assert kidney["kinetics"]["model"] == "population"
    assert kidney["kinetics"]["parameters"]["prior_half_life_h"] == pytest.approx(50.0, rel=1e-3)
    low, high = kidney["kinetics"]["tia_95_mbq_h"]
    assert low < truth_of(study)["kidney_left"]["tia_mbq_h"] < high
    # nothing is known of the stomach's half-life: dose mapping, and no shape for a BED
    stomach = next(region for region in results["regions"] if region["name"] == "stomach")
    assert stomach["kinetics"]["model"] == "hanscheid"
    assert stomach["kinetics"]["effective_half_life_h"] is None
    assert "SINGLE_SCAN_WINDOW_UNKNOWN" in [flag["code"] for flag in stomach["flags"]]


def test_clinical_scans_measure_what_the_camera_shows_without_noise_and_movement(tmp_path):
    study = simulated(tmp_path, "--scanner", "clinical", "--seed", "2")
    results = worked_up(study, tmp_path / "case")
    labels = nibabel.load(study / "truth" / "labels_spect.nii.gz")
    regions, voxel_ml = np.asarray(labels.dataobj), np.prod(labels.header.get_zooms()[:3]) / 1e3
    names = json.loads((study / "truth" / "labels_spect.json").read_text())
    by_name = {region["name"]: region for region in results["regions"]}
    checked = 0
    for value, name in names.items():
        mask = regions == int(value)
        if name not in ("liver", "spleen", "kidney_left", "kidney_right") or mask.sum() * voxel_ml < 100:
            continue
        row = by_name["liver_without_lesions" if name == "liver" else name]
        for scan in (1, 2, 3):
            expected = np.asarray(nibabel.load(study / "truth" / f"spect_{scan}_noise_free.nii.gz").dataobj)[mask].sum() * voxel_ml / 1e6
            assert row["time_activity"]["activity_mbq"][scan - 1] == pytest.approx(expected, rel=0.03), (name, scan)
            checked += 1
    assert checked >= 9
    assert all(scan["registration_residual_mm"] < 1.0 for scan in results["scans"])


def test_labels_on_a_foreign_grid_leave_no_case(ideal, tmp_path, capsys):
    study, _, _ = ideal
    image = nibabel.load(study / "truth" / "labels.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 7.0
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), tmp_path / "labels.nii.gz")
    (tmp_path / "labels.json").write_text((study / "truth" / "labels.json").read_text())
    options = [
        "run",
        str(study),
        "--protocol",
        "lu177-dotatate",
        "--labels",
        str(tmp_path / "labels.nii.gz"),
        "--out",
        str(tmp_path / "case"),
    ]
    assert main(options) == 2
    assert "labels on a foreign grid" in capsys.readouterr().err
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_a_study_without_contours_is_refused(ideal, tmp_path, capsys):
    study, _, _ = ideal
    assert main(["run", str(study), "--protocol", "lu177-dotatate", "--out", str(tmp_path / "case")]) == 2
    assert "no contours" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_exact_scans_of_ten_patients_give_the_true_integrals_within_a_percent(tmp_path, seed):
    study = simulated(tmp_path, "--scanner", "exact", "--kinetics", "mono", "--seed", str(seed), "--format", "nifti")
    results, truth = worked_up(study, tmp_path / "case"), truth_of(study)
    for region in results["regions"]:
        true = truth[region["name"]]
        assert region["tia_mbq_h"] == pytest.approx(true["tia_mbq_h"], rel=0.01), region["name"]
        if soft(region["name"]):
            assert region["absorbed_dose_gy"]["mean"] == pytest.approx(true["absorbed_dose_gy"], rel=0.03), region["name"]
