import csv

import numpy as np
import pytest

from mrtai.io.tables import nuclide
from mrtai.physics.dvh import histogram, statistics, volume_receiving
from mrtai.physics.measure import activities_bq, lies_in, touches_border
from mrtai.physics.mird import charged_self_dose_gy
from mrtai.physics.similarity import dice, mutual_information
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

GRID = Grid.axial((10, 12, 14), (4.0, 4.0, 5.0))


def test_charged_energy_bounds_the_self_dose_of_reference_spheres(reference):
    with (reference / "spheres" / "sphere_S_177Lu_water.csv").open() as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    volume = next(key for key in rows[0] if "mL" in key)
    electron = next(key for key in rows[0] if "electron" in key.lower())
    for row in rows:
        # mGy/(MBq s) = 1e-9 Gy/(Bq s); water of 1 g/mL
        share = float(row[electron]) * 1e-9 / charged_self_dose_gy(1.0, float(row[volume]) * 1e-3, nuclide("Lu-177"))
        # the smaller the sphere the more electrons leave it; the largest keep all but the bremsstrahlung
        assert 0.95 < share < 1.0


def test_a_known_distribution_has_known_percentiles():
    dose = np.linspace(0.0, 10.0, 100_001)
    found = statistics(dose, {"electron": dose}, relative_sd=0.1)
    assert found.mean_gy == pytest.approx(5.0)
    assert found.mean_sd_gy == pytest.approx(0.5)
    # at least 98 % of the volume receives D98
    assert found.percentiles_gy == pytest.approx({"d98": 0.2, "d90": 1.0, "d70": 3.0, "d50": 5.0, "d10": 9.0, "d2": 9.8})
    assert volume_receiving(dose, 3.0) == pytest.approx(0.7, abs=1e-4)


def test_means_by_radiation_and_by_nuclide_split_the_mean_of_the_same_voxels():
    alpha, electron = np.linspace(0.0, 4.0, 50), np.linspace(0.0, 1.0, 50)
    found = statistics(
        alpha + electron,
        {"alpha": alpha, "electron": electron},
        relative_sd=None,
        by_nuclide_gy={"Bi-212": 0.25 * alpha + electron, "Po-212": 0.75 * alpha},
    )
    assert found.by_radiation_gy == pytest.approx({"alpha": 2.0, "electron": 0.5})
    assert found.by_nuclide_gy == pytest.approx({"Bi-212": 1.0, "Po-212": 1.5})


def test_a_histogram_falls_from_all_to_some():
    dvh = histogram(np.random.default_rng(0).random(1000))
    assert dvh.volume_fraction[0] == 1.0
    assert np.all(np.diff(dvh.volume_fraction) <= 0)
    assert dvh.volume_fraction[-1] == pytest.approx(1e-3)


def test_regions_and_remainder_share_out_all_activity():
    voxels = np.zeros(GRID.shape, dtype=np.uint8)
    voxels[2:4, 2:4, 2:4], voxels[6:8, 6:8, 6:8] = 1, 5
    labels = Labels(voxels, {1: "liver", 5: "spleen"}, GRID)
    spect = Image(np.random.default_rng(1).random(GRID.shape).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID)
    found = activities_bq(spect, labels)
    assert sum(found.values()) == pytest.approx(float(spect.voxels.sum(dtype=np.float64)) * 0.08, rel=1e-6)
    assert found["spleen"] == pytest.approx(float(spect.voxels[voxels == 5].sum(dtype=np.float64)) * 0.08, rel=1e-6)


def test_a_lesion_lies_in_the_organ_around_it():
    voxels = np.zeros(GRID.shape, dtype=np.uint8)
    voxels[1:9, 1:9, 1:9] = 1
    voxels[3:5, 3:5, 3:5], voxels[3:5, 3:5, 11:13] = 2, 3
    labels = Labels(voxels, {1: "liver", 2: "lesion_1", 3: "lesion_2"}, GRID)
    assert lies_in(labels, "lesion_1", "liver")
    assert not lies_in(labels, "lesion_2", "liver")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [0, -1])
def test_a_region_at_any_face_touches_the_border(axis, end):
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[5, 5, 5] = True
    assert not touches_border(mask)
    np.moveaxis(mask, axis, 0)[end, 5, 5] = True
    assert touches_border(mask)


def test_mutual_information_is_entropy_for_equal_and_nothing_for_independent_images():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 48, 200_000).astype(float), rng.integers(0, 48, 200_000).astype(float)
    assert mutual_information(a, a) == pytest.approx(np.log(48), abs=1e-3)
    # 47² / 2n of bias remains
    assert mutual_information(a, b) == pytest.approx(47**2 / 400_000, abs=1e-3)
    assert dice(a > 20, a > 20) == 1.0
