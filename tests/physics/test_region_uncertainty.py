"""What a region's uncertainty rests on."""

from types import SimpleNamespace

import numpy as np
import pytest

from mrtai.physics.kinetics import _moved_otherwise
from mrtai.physics.partial_volume import UNEVEN, PartialVolume
from mrtai.physics.region_uncertainty import _blurred
from mrtai.values.uncertainty import Inputs


def test_a_region_colder_than_its_surroundings_in_every_scan_is_no_crash_of_rounding():
    rng = np.random.default_rng(0)
    drawn = rng.random((500, 3))
    weights = drawn / drawn.sum(axis=1, keepdims=True)
    assert (weights.sum(axis=1) > 1).any()  # as floats add up
    fits = SimpleNamespace(blur=PartialVolume(sphere_ml={"spine": 300.0}, contrast={"spine": np.full(3, -1.0)}), recovery={})
    for shares in weights:
        contrast, left_off = _blurred("spine", shares, fits, corrected=False, fwhm_mm=11.0)
        assert (
            Inputs(volume_ml=300.0, volume_relative_sd=0.05, fwhm_mm=11.0, contrast=contrast, partial_volume_relative_sd=left_off).contrast
            >= -1.0
        )


def blur_of(contrast, excess) -> SimpleNamespace:
    of = {name: np.array([value]) for name, value in (("spine", contrast), ("kidney_left", contrast))}
    known = {name: np.array([excess]) for name in of}
    return SimpleNamespace(blur=PartialVolume(sphere_ml={"spine": 300.0, "kidney_left": 150.0}, contrast=of, excess=known), recovery={})


def test_what_blur_moved_and_was_not_taken_back_is_an_uncertainty_of_its_size():
    # a kidney that shows 0.8 of what it holds is 0.25 of that off; one that shows twice as much, half
    for excess, off in ((-0.2, 0.25), (1.0, 0.5)):
        _, left_off = _blurred("kidney_left", np.ones(1), blur_of(0.7, excess), corrected=False, fwhm_mm=11.0)
        assert left_off == pytest.approx(off)


def test_of_what_was_taken_back_a_share_stays_uncertain_and_the_contrast_is_the_truths():
    # it shows 80 of 100 above 24 around it: κ = 0.7, and 0.76 of the truth
    contrast, left_off = _blurred("kidney_left", np.ones(1), blur_of(0.7, -0.2), corrected=True, fwhm_mm=11.0)
    assert contrast == pytest.approx(0.76) and left_off == pytest.approx(UNEVEN[True] * 0.2)
    _, left_off = _blurred("spine", np.ones(1), blur_of(-0.5, 1.0), corrected=True, fwhm_mm=11.0)
    assert left_off == pytest.approx(UNEVEN[False])


def test_what_is_known_badly_alike_in_all_scans_bends_no_curve():
    excess = {"spine": np.array([1.0, 2.0, 6.0]), "kidney_left": np.array([-0.2, -0.2, -0.2]), "lesion_1": np.array([-0.3, 0.1, 0.1])}
    blur = PartialVolume(excess=excess)
    np.testing.assert_allclose(_moved_otherwise("spine", blur), UNEVEN[False] * np.array([2.0, 1.0, 3.0]))
    np.testing.assert_allclose(_moved_otherwise("kidney_left", blur), 0.0, atol=1e-15)
    # what it lost and what it was given are known unlike
    off = np.array([-UNEVEN[True] * 0.3, UNEVEN[False] * 0.1, UNEVEN[False] * 0.1])
    np.testing.assert_allclose(_moved_otherwise("lesion_1", blur), np.abs(off - off.mean()))
    assert _moved_otherwise("liver", blur) == 0.0
