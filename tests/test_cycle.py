"""The walk on virtual patients whose truth is known."""

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path

import nibabel
import numpy as np
import pytest

import mrtai as mrtai_package
from mrtai.agreement import exchange_of
from mrtai.cli import main
from mrtai.io.compared_cases import read_cases
from mrtai.io.validation_pairs import paired
from mrtai.units import LN2

# one worker makes the study that all of them share

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


FAST = ("--engine", "local", "--check-engine", "none")
"""Where a test asks for no dose."""

UNCHECKED = FAST[2:]
"""Where it asks for no second opinion."""

pytestmark = pytest.mark.usefixtures("key")


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
    return study, folder / "case", worked_up(study, folder / "case", *UNCHECKED)


def test_what_a_case_keeps_gives_its_integrals_again(ideal):
    # contours, scans and choices as `mrtai validate --recompute` reads them back
    (cycle,) = read_cases(ideal[1], "automatic")
    images = cycle.images(())
    scale = exchange_of(images, images, paired((cycle,), (cycle,)).pairs).scale["automatic"]
    assert {"liver", "kidney_left", "spleen", "remainder"} <= set(scale)
    assert all(value == pytest.approx(1.0, abs=1e-6) for value in scale.values()), scale


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


@pytest.mark.slow
def test_the_same_case_twice_is_bit_identical(ideal, tmp_path):
    study, case, _ = ideal
    worked_up(study, tmp_path / "again", *UNCHECKED)
    assert (tmp_path / "again" / "results.json").read_bytes() == (case / "results.json").read_bytes()


def test_nothing_in_the_case_names_the_patient(ideal):
    _, case, _ = ideal
    for path in sorted(case.rglob("*")):
        assert "Virtual" not in path.name
        if path.suffix in (".json", ".html", ".csv"):
            assert "Virtual^Patient" not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.slow
def test_an_uptake_phase_costs_less_than_five_percent(tmp_path):
    study = simulated(tmp_path, "--scanner", "ideal", "--kinetics", "population", "--seed", "3", "--format", "nifti")
    results, truth = worked_up(study, tmp_path / "case"), truth_of(study)
    for region in results["regions"]:
        assert region["tia_mbq_h"] == pytest.approx(truth[region["name"]]["tia_mbq_h"], rel=0.05), region["name"]
        assert 0 < region["kinetics"]["fraction_before_first_scan"] < 1


@pytest.mark.slow
def test_one_scan_gives_a_provisional_draft_that_says_so(tmp_path):
    study = simulated(tmp_path, "--scanner", "ideal", "--times-h", "72", "--seed", "1", "--kinetics", "mono", "--format", "nifti")
    results = worked_up(study, tmp_path / "case", *FAST)
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


@pytest.mark.slow
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


def test_a_study_without_contours_is_refused_where_no_model_draws(ideal, tmp_path, capsys):
    study, _, _ = ideal
    words = ["run", str(study), "--protocol", "lu177-dotatate", "--segmenter", "none", "--out", str(tmp_path / "case")]
    assert main(words) == 2
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


def protocol_with(folder, **entries):
    """Return the path of the shipped protocol with top-level entries replaced or added."""
    text = (Path(mrtai_package.__file__).parent / "data" / "protocols" / "lu177-dotatate.toml").read_text()
    head, *tables = text.split("\n[", 1)
    lines = [line for line in head.splitlines() if line.split(" = ")[0] not in entries]
    lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    path = folder / "site.toml"
    path.write_text("\n".join(lines) + "\n\n[" + tables[0])
    return str(path)


@pytest.mark.slow
def test_voxels_may_have_curves_of_their_own(ideal, tmp_path):
    study, _, by_shares = ideal
    protocol = protocol_with(tmp_path, tia_map="voxel-fit", check_engine="none")
    results = worked_up(study, tmp_path / "case", protocol=protocol)
    tia, sd = (nibabel.load(tmp_path / "case" / "images" / name) for name in ("tia.nii.gz", "tia.sd.nii.gz"))
    assert tia.shape == sd.shape and np.all(np.asarray(sd.dataobj) >= 0)
    for region, other in zip(results["regions"], by_shares["regions"], strict=True):
        assert region["tia_mbq_h"] == other["tia_mbq_h"]
        # truth here has one half-life a region, so the voxels' curves change the dose of no region by more than interpolation at borders
        assert region["absorbed_dose_gy"]["mean"] == pytest.approx(other["absorbed_dose_gy"]["mean"], rel=0.02), region["name"]
        assert "VOXELS_SCALED" not in [flag["code"] for flag in region["flags"]], region["name"]
    assert not (ideal[1] / "images" / "tia.sd.nii.gz").exists()


@pytest.mark.slow
def test_a_later_cycle_leans_on_the_first_and_proposes_the_next_scan(ideal, tmp_path):
    # the same patient: seed 1, given eight weeks later in the dates of the study, one scan at 24 h
    _, first, _ = ideal
    study = simulated(tmp_path, "--scanner", "ideal", "--kinetics", "mono", "--seed", "1", "--times-h", "24")
    moved = json.loads((first / "results.json").read_text())
    earlier = tmp_path / "cycle1"
    earlier.mkdir()
    given = datetime.fromisoformat(moved["administrations"][0]["time"]) - timedelta(days=56)
    moved["administrations"][0]["time"] = given.isoformat()
    (earlier / "results.json").write_text(json.dumps(moved))
    alone = worked_up(study, tmp_path / "alone", *FAST)
    leaning = worked_up(study, tmp_path / "leaning", *FAST, "--prior", str(earlier))
    truth = truth_of(study)
    kidneys = [{r["name"]: r for r in results["regions"]}["kidney_left"] for results in (alone, leaning)]
    errors = [abs(region["tia_mbq_h"] / truth["kidney_left"]["tia_mbq_h"] - 1) for region in kidneys]
    # the half-life is that of cycle 1 to the prior's shrinkage of a few per cent, at a time that passes two thirds of it on
    assert errors[1] < 0.03
    of_kinetics = [next(row["relative_sd"] for row in region["uncertainty_budget"] if row["term"] == "kinetics") for region in kidneys]
    assert of_kinetics[1] < 0.6 * of_kinetics[0]
    assert kidneys[1]["tia_sd_mbq_h"] < kidneys[0]["tia_sd_mbq_h"]
    assert "own kinetics of cycle 1" in kidneys[1]["kinetics"]["reason"]
    assert "LARGE_ERROR_LIKELY" in [flag["code"] for flag in kidneys[0]["flags"]]
    proposal = alone["next_scan"]
    assert proposal["time_h"] > 24
    assert {row["name"] for row in proposal["regions"]} >= {"kidney_left", "kidney_right"}
    assert "Next scan:" in (tmp_path / "alone" / "report.html").read_text(encoding="utf-8")
    manifest = json.loads((tmp_path / "leaning" / "manifest.json").read_text())
    assert "results.json" in [entry["name"] for entry in manifest["inputs"]]


def test_another_patients_cycle_is_refused_as_prior(ideal, tmp_path, capsys):
    study, first, _ = ideal
    other = json.loads((first / "results.json").read_text())
    other["patient"]["pseudonym"] = "P-somebody"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "results.json").write_text(json.dumps(other))
    labels = study / "truth" / "labels.nii.gz"
    arguments = ["run", str(study), "--protocol", "lu177-dotatate", "--labels", str(labels), "--out", str(tmp_path / "case")]
    assert main([*arguments, "--prior", str(foreign)]) == 2
    error = capsys.readouterr().err
    assert "the earlier cycle is another patient's" in error and "P-somebody" not in error
    assert not (tmp_path / "case").exists()


@pytest.mark.slow
def test_blood_samples_give_the_red_marrow_a_second_dose(tmp_path):
    study = simulated(tmp_path, "--scanner", "ideal", "--kinetics", "mono", "--seed", "1", "--format", "nifti")
    t_h = np.array([0.5, 1, 2, 6, 24, 48, 72])
    blood = 2 ** (-t_h / 159.5) * (250 * 2 ** (-t_h / 1.5) + 30 * 2 ** (-t_h / 30))
    rows = "".join(f"{t},{a:.6f},{0.03 * a:.6f}\n" for t, a in zip(t_h, blood, strict=True))
    (study / "blood.csv").write_text("time_h,activity_kbq_per_ml,activity_sd_kbq_per_ml\n" + rows)
    settings = (study / "study.toml").read_text()
    (study / "study.toml").write_text(settings + '\n[blood]\nsamples = "blood.csv"\nhaematocrit = 0.4\n')
    results = worked_up(study, tmp_path / "case", "--check-engine", "none")
    by_method = {row["method"]: row for row in results["red_marrow"]}
    assert set(by_method) == {"blood", "image"}
    terms = [(250, LN2 / 1.5 + LN2 / 159.5), (30, LN2 / 30 + LN2 / 159.5)]
    per_ml_mbq_h = sum(a / rate for a, rate in terms) * 1e-3
    # 1170 mL of marrow with blood's own concentration (177Lu-DOTATATE); the physical half-life is 159.53 h
    assert by_method["blood"]["tia_mbq_h"] == pytest.approx(per_ml_mbq_h * 1170, rel=0.01)
    image = next(region for region in results["regions"] if region["name"] == by_method["image"]["region"])
    assert by_method["image"]["absorbed_dose_gy"] == pytest.approx(image["absorbed_dose_gy"]["mean"], rel=1e-5)
    assert "Red marrow" in (tmp_path / "case" / "report.html").read_text(encoding="utf-8")
