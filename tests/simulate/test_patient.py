import numpy as np
import pytest

from mrtai.io.tables import nuclide
from mrtai.simulate.kinetics import activity_bq, tia_bq_s
from mrtai.simulate.patient import Settings, virtual_patient


def totals_bq(labels, image):
    """Return each region's sum, and that of the voxels in no region."""
    sums = np.bincount(labels.voxels.ravel(), weights=image.voxels.ravel()) * image.grid.voxel_ml
    return {labels.names.get(value, "remainder"): total for value, total in enumerate(sums)}


@pytest.mark.parametrize("scanner", [pytest.param("exact", marks=pytest.mark.slow), "ideal"])
def test_every_region_holds_its_true_activity(scanner, request):
    patient = request.getfixturevalue(scanner)
    for scan in patient.scans:
        found = totals_bq(patient.labels_spect, scan.spect)
        for curve in patient.curves:
            # stored in single precision
            assert found[curve.region] == pytest.approx(float(activity_bq(curve, scan.t_h)), rel=1e-5)


def test_the_tia_map_sums_to_the_true_integrals(ideal):
    found = totals_bq(ideal.labels, ideal.tia)
    for curve in ideal.curves:
        assert found[curve.region] == pytest.approx(tia_bq_s(curve), rel=1e-5)


def test_scans_start_when_they_were_asked_to(ideal):
    assert [scan.t_h for scan in ideal.scans] == pytest.approx([24.1, 96.0], abs=0.5 / 3600)
    for scan in ideal.scans:
        assert (scan.started_at - ideal.administration.at).total_seconds() == pytest.approx(scan.t_h * 3600)


def test_the_table_of_truth_adds_up(ideal):
    row = {r.region: r for r in ideal.regions}
    exclusive = [c.region if c.region != "liver" else "liver_without_lesions" for c in ideal.curves]
    assert row["body"].tia_bq_s == pytest.approx(sum(row[name].tia_bq_s for name in exclusive))
    assert row["body"].volume_ml == pytest.approx(sum(row[name].volume_ml for name in exclusive))
    assert row["kidneys"].mass_kg == pytest.approx(row["kidney_left"].mass_kg + row["kidney_right"].mass_kg)
    assert row["liver"].volume_ml > row["liver_without_lesions"].volume_ml
    low, high = sorted((row["kidney_left"].absorbed_dose_gy, row["kidney_right"].absorbed_dose_gy))
    assert low <= row["kidneys"].absorbed_dose_gy <= high
    assert all(r.absorbed_dose_sd_gy <= 0.005 * r.absorbed_dose_gy for r in ideal.regions)


def test_kidney_dose_is_local_energy_over_mass(ideal):
    row = {r.region: r for r in ideal.regions}["kidney_left"]
    local_gy = row.tia_bq_s * 0.148 * 1.602176634e-13 / row.mass_kg
    # electrons of 0.3 mm mean range leave through the surface: 3/4 · 0.3 mm / 33 mm ≈ 0.7 %, more for an ellipsoid
    assert 0.975 < row.absorbed_dose_gy / local_gy < 1.0


@pytest.mark.slow
def test_one_seed_is_one_anatomy_for_every_scanner(ideal, clinical):
    assert np.array_equal(ideal.labels.voxels, clinical.labels.voxels)
    assert [c.terms for c in ideal.curves] == [c.terms for c in clinical.curves]


@pytest.mark.slow
def test_one_seed_gives_one_patient(patient_of, clinical):
    told = []
    # one scan fewer changes nothing before it
    again = patient_of(scanner="clinical", times_h=(24.1,), progress=lambda what, done: told.append(done))
    assert np.array_equal(clinical.scans[0].spect.voxels, again.scans[0].spect.voxels)
    assert np.array_equal(clinical.scans[0].ct.voxels, again.scans[0].ct.voxels)
    assert clinical.regions == again.regions
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.slow
def test_another_seed_gives_another_patient(clinical, exact):
    assert not np.array_equal(exact.labels.voxels, clinical.labels.voxels)


@pytest.mark.slow
def test_the_clinical_patient_moves_between_scans_and_the_noise_is_fair(clinical):
    first, second = clinical.scans
    assert np.mean(np.abs(first.ct.voxels.astype(float) - second.ct.voxels) > 200) > 0.005
    for scan in clinical.scans:
        assert scan.spect.voxels.min() >= 0
        # log-normal noise of mean 1 in 2e5 voxels of the body
        assert scan.spect.voxels.sum() == pytest.approx(scan.noise_free.voxels.sum(), rel=0.01)
    # the first scan is not moved, so organs hold what the noise-free image holds but for noise
    for name in ("liver", "spleen", "kidney_left", "kidney_right"):
        inside = clinical.labels_spect.mask(name)
        assert first.spect.voxels[inside].sum() == pytest.approx(first.noise_free.voxels[inside].sum(), rel=0.03)


def test_settings_and_kernels_that_do_not_fit_are_refused(dotatate, kernel_of):
    with pytest.raises(ValueError, match="exact, ideal or clinical"):
        Settings(dotatate, 7.4e9, (24.0,), 1, scanner="perfect")
    with pytest.raises(ValueError, match="positive and increasing"):
        Settings(dotatate, 7.4e9, (96.0, 24.0), 1)
    with pytest.raises(ValueError, match="kernel of Lu-177 for nuclide Y-90"):
        virtual_patient(nuclide=nuclide("Y-90"), kernel=kernel_of(), settings=Settings(dotatate, 7.4e9, (24.0,), 1))
