import numpy as np
import pytest

from mrtai.io.tables import nuclide
from mrtai.physics.single_time import (
    HALF_LIFE_WINDOW,
    HANSCHEID_WINDOW,
    OWN_HALF_LIFE_WINDOW,
    integral_per_activity_h,
    tia_half_life_bq_h,
    tia_hanscheid_bq_h,
)
from mrtai.units import JOULES_PER_MEV, LN2


def read_over_truth(x):
    return tia_hanscheid_bq_h(np.exp2(-x), x) * LN2


def test_dose_mapping_reads_the_printed_ratios():
    x = np.linspace(0.01, 8, 100001)
    ratio = read_over_truth(x)
    # R(x) = 2x 2^-x has its maximum 2/(e ln 2) = 1.0615 at x = 1/ln 2
    assert ratio.max() == pytest.approx(1.0615, abs=5e-5)
    assert x[ratio.argmax()] == pytest.approx(1 / LN2, abs=1e-3)
    low, high = HANSCHEID_WINDOW
    assert read_over_truth(np.array([low, 1.0, 2.0, high])) == pytest.approx([0.8919, 1.0, 1.0, 0.8839], abs=5e-5)


def test_the_known_half_life_is_exact_and_its_two_forms_agree():
    a, t, half_life = 3.0e7, 72.0, 50.0
    rate = LN2 / half_life
    assert tia_half_life_bq_h(a, t, half_life) == pytest.approx(a * np.exp(rate * t) / rate, rel=1e-12)
    assert tia_half_life_bq_h(a, t, half_life) == pytest.approx(a * float(integral_per_activity_h(t, half_life)), rel=1e-12)


def test_concentration_to_dose_constant_of_lutetium_in_kidneys():
    # D = 0.125 C(t) 2^(t/T) T, C in MBq/g (Hänscheid 2017), is local deposition of the electrons over ln 2, and a little photon dose
    energy_mev = nuclide("Lu-177").electron_mev_per_decay
    local = energy_mev * JOULES_PER_MEV * 1e6 * 3600.0 / 1e-3 / LN2
    assert local == pytest.approx(0.125, rel=0.03)


@pytest.mark.parametrize(("window", "off", "worst"), [(HALF_LIFE_WINDOW, 1.25, 0.14), (OWN_HALF_LIFE_WINDOW, 1.10, 0.10)])
def test_windows_bound_the_error_of_a_half_life_that_is_off(window, off, worst):
    for x in np.linspace(*window, 40):
        for believed in (1.0 / off, off):
            read = tia_half_life_bq_h(float(np.exp2(-x)), float(x), believed) * LN2
            assert abs(read - 1.0) <= worst
