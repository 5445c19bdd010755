"""What a region's uncertainty rests on."""

from types import SimpleNamespace

import numpy as np

from mrtai.physics.partial_volume import PartialVolume
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
