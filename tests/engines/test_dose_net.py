"""The neural dose engine: what holds whatever it learned, and where it does not answer."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from mrtai.engines.dose_net import NeuralDose, window_starts
from mrtai.engines.dose_net_envelope import measured
from mrtai.engines.dose_net_input import DOSE_NET, DOSE_NET_CONTRACT, DOSE_TASK, PATCH, as_scanned, dose_input, same_neighbours
from mrtai.engines.local import Local
from mrtai.io.bundles import load_network, shipped_models, verified_model
from mrtai.io.tables import nuclide
from mrtai.physics.iterative_yang import yang_factor
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from tests.training.spoiled import first, spoiled

GRID = Grid.axial((60, 52, 60), (4.8, 4.8, 4.8))
FWHM_MM = 11.0
SIGMA = FWHM_MM / 2.3548 / 4.8
Z, Y, X = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * 4.8 for n in GRID.shape], indexing="ij", sparse=True)
BODY = (Z / 135) ** 2 + (Y / 110) ** 2 + (X / 135) ** 2 < 1
ORGAN = Z**2 + Y**2 + (X - 50) ** 2 < 45**2
LESION = Z**2 + Y**2 + (X + 60) ** 2 < 15**2
TRUE = np.where(BODY, 1.0, 0.0) + 19.0 * ORGAN + 79.0 * LESION


def patient(*, fwhm_mm=FWHM_MM, noise=0.12, grid=GRID, gram_per_ml=1.03):
    """Return TIA and density of a body with an organ and a lesion."""
    rng = np.random.default_rng(4)
    grains = ndimage.gaussian_filter(rng.standard_normal(GRID.shape), 0.7)
    seen = ndimage.gaussian_filter(TRUE, fwhm_mm / 2.3548 / 4.8) if fwhm_mm else TRUE
    tia = (1e9 * seen * np.exp(noise * grains / grains.std())).astype(np.float32)
    density = np.where(BODY, gram_per_ml * 1e-3, 1.2e-6).astype(np.float32)
    return Image(tia, Quantity.TIME_INTEGRATED_ACTIVITY, grid), Image(density, Quantity.DENSITY, grid)


@pytest.fixture(scope="module")
def engine():
    # any engine may stand where the convolution does; this one costs nothing
    contours = Labels((ORGAN + 2 * LESION).astype(np.uint8), {1: "liver", 2: "lesion_1"}, GRID)
    return NeuralDose(Local(nuclide("Lu-177")), load_network(DOSE_NET, DOSE_TASK), "Lu-177", FWHM_MM, contours)


@pytest.fixture(scope="module")
def dose(engine):
    return engine(*patient())


def plain(tia, density):
    return Local(nuclide("Lu-177"))(tia, density).total.voxels


def test_inside_the_envelope_the_network_answers_with_an_error_map(dose):
    assert dose.flags == ()
    assert dose.deblurred
    assert np.all(dose.sd.voxels[BODY] > 0)
    assert np.all(dose.total.voxels >= 0)


@pytest.fixture(scope="module")
def recovered(engine):
    """Dose of a map that was given back what blur had moved, as the walk would with a perfect recovery curve."""
    tia, density = patient()
    return engine.with_contours(engine.contours, recovered=True)(given_back(tia), density)


def given_back(tia):
    factor = TRUE / np.maximum(ndimage.gaussian_filter(TRUE, SIGMA), 1e-6)
    return replace(tia, voxels=(tia.voxels * np.where(BODY, factor, 1.0)).astype(np.float32))


def test_after_recovery_the_network_corrects_and_takes_no_blur_back_again(recovered):
    assert recovered.flags == ()
    assert recovered.learned
    assert not recovered.deblurred
    assert np.all(recovered.sd.voxels[BODY] > 0)
    tia, density = patient()
    base = plain(given_back(tia), density)
    for region in (ORGAN, LESION):
        assert recovered.total.voxels[region].mean() == pytest.approx(base[region].mean(), rel=0.15)
    # the same map taken for one as scanned would be deblurred once more, or be unfamiliar
    energy = [(voxels * density.voxels).sum(dtype=float) for voxels in (recovered.total.voxels, base)]
    assert energy[0] == pytest.approx(energy[1], rel=1e-5)


def test_a_recovered_map_is_shown_as_blur_would_leave_it():
    tia, density = patient(noise=0.0)
    regions = ORGAN + 2 * LESION
    again = as_scanned(given_back(tia), density, regions, FWHM_MM).voxels
    inside = ndimage.binary_erosion(BODY, iterations=2)
    off = np.abs(again[inside] / tia.voxels[inside] - 1)
    # beside the lesion blur brings more than the factor, which has a bound, can tell
    assert np.quantile(off, 0.97) < 0.03
    shown = dose_input(plain(given_back(tia), density), given_back(tia), density, regions, FWHM_MM, recovered=True)
    seen = dose_input(plain(tia, density), tia, density, regions, FWHM_MM)
    assert np.median(np.abs(shown.channels - seen.channels)[:, inside]) < 0.02
    assert np.array_equal(shown.base_gy, plain(given_back(tia), density))


def test_a_blurred_lesion_gets_back_most_of_its_dose(dose):
    tia, density = patient()
    blurred, true = plain(tia, density)[LESION].mean(), plain(replace(tia, voxels=(1e9 * TRUE).astype(np.float32)), density)[LESION].mean()
    assert blurred < 0.7 * true
    # the bound of an aim for lesions above 10 mL under the walk's recovery correction
    assert dose.total.voxels[LESION].mean() == pytest.approx(true, rel=0.2)


def test_twice_the_activity_is_twice_the_dose_and_its_error(engine, dose):
    tia, density = patient()
    twice = engine(replace(tia, voxels=2 * tia.voxels), density)
    # ONNX Runtime sees the same numbers but for the rounding of a float
    assert twice.total.voxels == pytest.approx(2 * dose.total.voxels, rel=1e-4)
    assert twice.sd.voxels == pytest.approx(2 * dose.sd.voxels, rel=1e-4)


def test_the_energy_in_the_field_is_that_of_the_convolution(dose):
    tia, density = patient()
    assert (dose.total.voxels * density.voxels).sum(dtype=float) == pytest.approx(
        (plain(tia, density) * density.voxels).sum(dtype=float), rel=1e-5
    )


OUTSIDE = {
    "nuclide": lambda engine: (replace(engine, nuclide="Y-90"), *patient()),
    "voxel": lambda engine: (replace(engine, contours=None), *patient(grid=Grid.axial(GRID.shape, (2.4, 2.4, 2.4)))),
    "resolution": lambda engine: (replace(engine, fwhm_mm=20.0), *patient()),
    "density": lambda engine: (engine, *patient(gram_per_ml=0.5)),
    "count level": lambda engine: (engine, *patient(noise=0.8)),
    "blur": lambda engine: (engine, *patient(fwhm_mm=0.0)),
    "no activity": lambda engine: (engine, replace(patient()[0], voxels=np.zeros(GRID.shape, np.float32)), patient()[1]),
    "contours on another grid": lambda engine: (engine, *patient(grid=Grid.axial(GRID.shape, (4.9, 4.9, 4.9)))),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_outside_the_envelope_the_dose_is_the_convolutions_with_a_flag(engine, what):
    changed, tia, density = OUTSIDE[what](engine)
    found = changed(tia, density)
    assert [flag.code for flag in found.flags] == ["NEURAL_OUTSIDE"]
    assert what in found.flags[0].text
    assert found.sd is None
    assert not found.deblurred
    assert np.array_equal(found.total.voxels, plain(tia, density))


def test_a_model_that_gives_no_dose_is_refused(engine):
    with pytest.raises(DosimetryError, match="gives no dose"):
        replace(engine, model=replace(engine.model, task="kinetics"))


def test_a_model_with_another_number_of_answers_is_refused(engine, tmp_path):
    model = verified_model(spoiled(shipped_models() / DOSE_NET, tmp_path, first(1)))
    with pytest.raises(DosimetryError, match="1 planes"):
        replace(engine, model=model)(*patient())


def test_iterative_yang_gives_uniform_regions_their_own_means_back():
    sharp = np.where(BODY, TRUE, 0)
    regions = np.where(BODY, 0 + ORGAN + 2 * LESION, -1).astype(np.int32)
    blurred = ndimage.gaussian_filter(sharp, SIGMA)
    corrected = blurred * yang_factor(blurred, regions, GRID, FWHM_MM)
    for region in (ORGAN, LESION):
        # without noise what is left is the last iteration's change
        assert corrected[region].mean() == pytest.approx(sharp[region].mean(), rel=0.03)


def test_without_contours_the_base_is_the_convolution_and_nothing_tells_of_regions():
    tia, density = patient()
    shown = dose_input(plain(tia, density), tia, density, None, FWHM_MM)
    assert np.array_equal(shown.base_gy, plain(tia, density))
    assert shown.channels.shape == (len(DOSE_NET_CONTRACT.channels), *GRID.shape)
    assert np.isfinite(shown.channels).all()


def test_neighbours_differ_where_regions_meet():
    regions = np.zeros((3, 3, 4), dtype=np.int32)
    regions[:, :, 2:] = 1
    same = same_neighbours(regions)
    assert same[1, 1].tolist() == pytest.approx([1, 5 / 6, 5 / 6, 1])


def test_grain_grows_with_noise_and_edges_with_resolution():
    calm, noisy, sharp = (measured(*patient(**how)) for how in ({}, {"noise": 0.3}, {"fwhm_mm": 6.0}))
    assert noisy["grain"] > 1.5 * calm["grain"]
    assert sharp["edge"] > 1.2 * calm["edge"]


@pytest.mark.parametrize("length", [64, 65, 112, 128, 160])
def test_windows_reach_from_end_to_end_and_overlap(length):
    starts = window_starts(length, PATCH[0])
    assert starts[0] == 0
    assert starts[-1] == length - PATCH[0]
    assert all(b - a <= PATCH[0] - 16 for a, b in pairwise(starts))
