"""What a region's uncertainty rests on."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import lognorm, norm

from mrtai.engines.curve_fit import CurveFit
from mrtai.engines.population_fit import population
from mrtai.io.priors import agent_priors
from mrtai.io.protocols import load_protocol
from mrtai.physics import interval_shape
from mrtai.physics.interval_shape import ENDS_Z
from mrtai.physics.kinetics import with_common
from mrtai.physics.partial_volume import PartialVolume
from mrtai.physics.region_uncertainty import (
    NEURAL_RELATIVE_SD,
    SMALL_ML,
    UNEVEN,
    _blurred,
    _lopsided_ends,
    after_network,
    known_badly,
    may_concern,
    only_told,
    probability_off,
    uncertainty_flags,
)
from mrtai.values.curve import Curve
from mrtai.values.dose import Dose
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.half_life import Known
from mrtai.values.image import Image, Quantity
from mrtai.values.protocol import CumulativeLimit
from mrtai.values.uncertainty import Inputs, Spread


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


def blur_of(contrast, excess, moved=None, counted=1.0) -> SimpleNamespace:
    names = ("spine", "kidney_left")
    of, known, taken = ({name: np.array([value]) for name in names} for value in (contrast, excess, excess if moved is None else moved))
    spheres_ml, shares = {"spine": 300.0, "kidney_left": 150.0}, dict.fromkeys(names, counted)
    blur = PartialVolume(sphere_ml=spheres_ml, contrast=of, excess=known, moved=taken, counted=shares)
    return SimpleNamespace(blur=blur, recovery={})


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


def test_of_a_region_of_which_half_counts_the_other_half_is_a_guess():
    # what counts was shown 0.3 of its own beside 9 in the mean; parts of a region differ by 24 %
    _, left_off = _blurred("spine", np.ones(1), blur_of(-1.0, 9.0, 0.3, 0.5), corrected=True, fwhm_mm=11.0)
    assert left_off == pytest.approx(np.hypot(0.12 * 0.3, 0.24 * 0.5))
    # uncorrected, the mean is what is stated
    _, left_off = _blurred("spine", np.ones(1), blur_of(-1.0, 9.0, 0.3, 0.5), corrected=False, fwhm_mm=11.0)
    assert left_off == pytest.approx(0.9)


def spread_of(ends, relative_sd) -> Spread:
    lowest, low, high, highest = ends
    return Spread(relative_sd, (), (low, high), (lowest, highest))


@pytest.mark.parametrize("relative_sd", [0.02, 0.1, 0.19, 0.5])
def test_the_chance_of_a_large_error_is_a_normal_ones_where_the_error_is_normal(relative_sd):
    ends = np.maximum(1.0 + relative_sd * ENDS_Z, 0.0)
    assert probability_off(spread_of(ends, relative_sd)) == pytest.approx(2 * norm.sf(0.2 / relative_sd), rel=1e-6, abs=1e-12)
    assert probability_off(spread_of(np.ones(4), 0.0)) == 0.0


@pytest.mark.parametrize("log_sd", [0.12, 0.19, 0.3])
def test_the_chance_of_a_large_error_follows_a_lopsided_interval(log_sd):
    """Against the log-normal itself; 0.01: between its ends and its median the shape is interpolated."""
    ends, sd = np.exp(log_sd * ENDS_Z), lognorm(log_sd).std()
    true = lognorm(log_sd).cdf(0.8) + lognorm(log_sd).sf(1.2)
    assert probability_off(spread_of(ends, sd)) == pytest.approx(true, abs=0.01)
    assert 2 * norm.sf(0.2 / sd) > true + 0.002


@pytest.mark.parametrize("t_h", [(24.0, 96.0, 168.0), (72.0,)])
def test_what_is_common_to_all_scans_makes_a_large_error_likelier(t_h):
    """A posterior that never is 20 % off, under a calibration that is 20 % uncertain: a third of such doses are (normal error)."""
    known = Known(159.528, priors=agent_priors("DOTATATE").kinetics)
    t = np.array(t_h)
    fit = population(Curve("spleen", t, 1e8 * np.exp(-t / 80), 1e6 * np.exp(-t / 80)), known)
    widened = with_common(fit, 0.2)
    sd = widened.tia_sd_bq_s / widened.tia_bq_s
    assert fit.probability_off < 0.06
    assert widened.probability_off == pytest.approx(2 * norm.sf(0.2 / sd), abs=0.03)
    assert "LARGE_ERROR_LIKELY" in {flag.code for flag in widened.flags}


@pytest.mark.parametrize("method", ["population", "hanscheid", "ratio", "mono"])
def test_next_to_no_further_uncertainty_changes_next_to_nothing(method):
    known = Known(159.528, priors=agent_priors("DOTATATE").kinetics)
    t = np.array([24.0, 96.0, 168.0]) if method == "mono" else np.array([72.0])
    fit = CurveFit(method, known)(Curve("kidney_left", t, 1e8 * np.exp(-t / 70), 5e6 * np.exp(-t / 70)))
    again = with_common(fit, 1e-6)
    assert again.probability_off == pytest.approx(fit.probability_off, abs=1e-4)
    assert again.tia_95_bq_s == pytest.approx(fit.tia_95_bq_s, rel=1e-4)


def test_a_value_outside_of_its_own_interval_is_likely_off():
    """As dose mapping of an early scan states it: 84 % of the truth lie above 1.18 of what it says."""
    assert interval_shape.probability_off((1.18, 1.78), (0.9, 2.2)) == pytest.approx(0.82, abs=0.02)
    # wholly beside: nearly certain, on either side
    assert interval_shape.probability_off((1.3, 1.5), (1.25, 1.6)) > 0.99
    assert interval_shape.probability_off((0.6, 0.7), (0.5, 0.75)) > 0.99


LIMITS = {"dose_limits_gy": {"kidneys": 23.0, "red_marrow": 2.0}, "cumulative_limits": {"liver": CumulativeLimit(30.0, None, "a test")}}


def test_a_lone_late_scan_hands_the_long_tail_of_its_posterior_to_the_dose():
    known = Known(159.528, priors=agent_priors("DOTATATE").kinetics)
    late = Curve("spleen", np.array([168.0]), np.array([2e7]), np.array([1e6]))
    alone = population(late, known)
    low, high = (end / alone.tia_bq_s for end in alone.tia_95_bq_s)
    for common in (0.0, 0.03):
        fit = with_common(alone, common)
        own = np.sqrt((fit.tia_sd_bq_s / fit.tia_bq_s) ** 2 - common**2)
        ends = _lopsided_ends(fit, own)
        # calibration widened them, and is a term of its own
        assert (ends[0], ends[3]) == pytest.approx((low, high), rel=1e-6)
        assert ends[3] - 1 > 1.5 * (1 - ends[0])
    steady = CurveFit("mono", known)(Curve("spleen", np.array([24.0, 96, 168]), np.array([8e7, 3e7, 1e7]), np.array([4e6, 1.5e6, 5e5])))
    assert _lopsided_ends(steady, steady.tia_sd_bq_s / steady.tia_bq_s) is None


@pytest.mark.parametrize(
    ("name", "drawn", "more", "severity"),
    [
        ("lung_left", (), {}, Severity.INFO),
        ("spine", ("red_marrow",), {}, Severity.INFO),
        ("spine", (), {}, Severity.REVIEW),
        ("vertebrae_L3", (), {}, Severity.REVIEW),
        *((name, ("red_marrow",), {}, Severity.REVIEW) for name in ("red_marrow", "kidney_left", "kidneys", "liver_without_lesions")),
        *((name, (), {}, Severity.REVIEW) for name in ("lesion_2", "tumour_total")),
        ("lung_left", (), {"rbe": {"alpha": 5.0}}, Severity.REVIEW),
        ("lung_left", (), {"dose_of_concern_gy": 0.2}, Severity.REVIEW),
    ],
)
def test_an_uncertain_dose_asks_for_a_look_where_it_may_matter(name, drawn, more, severity):
    protocol = replace(load_protocol("lu177-dotatate"), **(LIMITS | more))
    spread = Spread(0.45, (), (0.6, 1.4), (0.3, 1.96))
    assert may_concern((name,), 0.15, spread, protocol, drawn) is (severity is Severity.REVIEW)


def test_a_limit_of_a_union_and_a_long_tail_make_a_dose_of_concern():
    protocol, spread = replace(load_protocol("lu177-dotatate"), **LIMITS), Spread(0.45, (), (0.6, 1.4), (0.3, 1.96))
    assert not may_concern(("lung_left", "body"), 0.15, spread, protocol, ())
    assert may_concern(("lung_left", "body"), 0.15, spread, replace(protocol, dose_limits_gy={"body": 3.0}), ())
    assert may_concern(("lung_left", "body"), 0.15, replace(spread, interval_95=(0.3, 10.0)), protocol, ())


def test_a_dose_is_uncertain_above_the_protocols_threshold():
    protocol, spread = load_protocol("lu177-dotatate"), Spread(0.31, (), (0.6, 1.4), (0.3, 1.96))
    (flag,) = uncertainty_flags(spread, protocol)
    assert (flag.code, flag.severity) == ("DOSE_UNCERTAIN", Severity.REVIEW)
    assert uncertainty_flags(replace(spread, relative_sd=0.29), protocol) == ()


def test_of_a_dose_of_no_concern_only_what_says_that_it_is_known_badly_is_told():
    protocol = load_protocol("lu177-dotatate")
    codes = ("DOSE_UNCERTAIN", "FIT_POOR", "LARGE_ERROR_LIKELY", "HOT_SPOT")
    flags = only_told([Flag(code, Severity.REVIEW, "So it is.", "Look.") for code in codes], known_badly(protocol), protocol)
    assert [flag.severity for flag in flags] == [Severity.INFO] * 3 + [Severity.REVIEW]
    assert "below the protocol's 1 Gy" in flags[0].text and flags[3].text == "So it is."
    (withheld,) = only_told([Flag("FIT_POOR", Severity.WITHHELD, "So it is.", "Look.")], known_badly(protocol), protocol)
    assert withheld.severity is Severity.WITHHELD
    weighed = replace(protocol, gates={"FIT_POOR": Severity.REVIEW})
    assert known_badly(weighed) == {"DOSE_UNCERTAIN", "LARGE_ERROR_LIKELY"}


def dose(*, learned, deblurred):
    grid = Grid.axial((2, 2, 2), (4.8, 4.8, 4.8))
    return Dose({"electron": Image(np.ones(grid.shape, np.float32), Quantity.ABSORBED_DOSE, grid)}, learned=learned, deblurred=deblurred)


@pytest.mark.parametrize("volume_ml", [5.0, 150.0])
def test_a_networks_error_stands_for_blur_and_after_recovery_for_no_less_than_recoverys(volume_ml):
    sds = {"volume_relative_sd": 0.05, "partial_volume_relative_sd": 0.2, "engine_relative_sd": 0.01}
    inputs = Inputs(volume_ml=volume_ml, fwhm_mm=11.0, **sds)
    tissue, lung = (volume_ml, volume_ml * 1.05e-3), (volume_ml, volume_ml * 0.3e-3)
    assert after_network(inputs, "lung_left", lung, dose(learned=False, deblurred=False)) == inputs
    small, large, marrow, elsewhere = NEURAL_RELATIVE_SD["as scanned"]
    scanned = after_network(inputs, "kidney_left", tissue, dose(learned=True, deblurred=True))
    assert scanned == replace(inputs, partial_volume_relative_sd=small if volume_ml < SMALL_ML else large)
    assert after_network(inputs, "lung_left", lung, dose(learned=True, deblurred=True)).engine_relative_sd == elsewhere
    assert after_network(inputs, "kidney_left", tissue, dose(learned=True, deblurred=False)) == inputs
    for name, told in (("red_marrow", marrow), ("spine", elsewhere)):
        assert after_network(inputs, name, tissue, dose(learned=True, deblurred=True)).engine_relative_sd == told
    certain = after_network(replace(inputs, partial_volume_relative_sd=0.0), "kidney_left", tissue, dose(learned=True, deblurred=False))
    assert certain.partial_volume_relative_sd == NEURAL_RELATIVE_SD["recovered"][volume_ml >= SMALL_ML]
