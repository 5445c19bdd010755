import numpy as np
import pytest

from mrtai.engines.curve_fit import CurveFit
from mrtai.physics.curves import activity_bq, aicc, integral_bq_h
from mrtai.physics.radiobiology import bed_gy, eqd2_gy, lea_catcheside
from mrtai.values.curve import Curve
from mrtai.values.half_life import Known
from mrtai.values.refusal import DosimetryError

LU177_HALF_LIFE_H = 159.528
LN2 = np.log(2.0)


def curve(t_h, activity_bq, relative_sd=0.05, region="kidney_left"):
    a = np.asarray(activity_bq, dtype=float)
    return Curve(region, np.asarray(t_h, dtype=float), a, relative_sd * a)


def falling(half_life_h, t_h):
    return curve(t_h, 1e8 * 2.0 ** (-np.asarray(t_h) / half_life_h))


def fit(method, c, **known):
    return CurveFit(method, Known(LU177_HALF_LIFE_H, **known))(c)


@pytest.mark.parametrize("half_life_h", [10.0, 50.0, 120.0])
@pytest.mark.parametrize("t_h", [(24, 96), (24, 96, 168), (4, 24, 72, 168)])
def test_noise_free_mono_refits_exactly(half_life_h, t_h):
    result = fit("mono", falling(half_life_h, t_h))
    # a noise-free curve leaves only the optimiser's tolerance
    assert result.tia_bq_s == pytest.approx(1e8 * half_life_h * 3600 / LN2, rel=1e-6)
    assert result.effective_half_life_h == pytest.approx(half_life_h, rel=1e-6)


def test_noise_free_bi_and_uptake_refit_exactly():
    t = np.array([1, 4, 24, 48, 96, 120, 168, 200.0])
    two = curve(t, 1e8 * 2 ** (-t / 50) + 3e8 * 2 ** (-t / 5))
    assert fit("auto", two).model == "bi"
    assert fit("auto", two).tia_bq_s / 3600 == pytest.approx((1e8 * 50 + 3e8 * 5) / LN2, rel=1e-6)
    rise = curve(t, 1e8 * (2 ** (-t / 50) - 2 ** (-t / 3)))
    assert fit("auto", rise).model == "uptake"
    assert fit("auto", rise).tia_bq_s / 3600 == pytest.approx(1e8 * 47 / LN2, rel=1e-6)


def test_fractions_before_and_after_are_those_of_the_exponential():
    result = fit("mono", falling(50.0, (24, 96, 168)))
    assert result.fraction_before_first_scan == pytest.approx(1 - 2 ** (-24 / 50), rel=1e-6)
    assert result.fraction_after_last_scan == pytest.approx(2 ** (-168 / 50), rel=1e-6)


def test_no_organ_holds_a_nuclide_longer_than_it_lives():
    constant = curve((24, 96, 168), (1e8, 1e8, 1e8))
    result = fit("mono", constant)
    assert result.effective_half_life_h == pytest.approx(LU177_HALF_LIFE_H, rel=1e-4)
    assert "HALF_LIFE_AT_BOUND" in [flag.code for flag in result.flags]


def test_propagated_uncertainty_equals_that_of_repeated_noise():
    rng = np.random.default_rng(5)
    t = np.array([24, 96, 168.0])
    clean = 1e8 * 2 ** (-t / 50)
    draws = [fit("mono", curve(t, clean * (1 + 0.03 * rng.standard_normal(3)), 0.03)).tia_bq_s for _ in range(400)]
    stated = fit("mono", curve(t, clean, 0.03)).tia_sd_bq_s
    # the spread of 400 draws is known to 1/sqrt(800) = 3.5 %; three of these
    assert np.std(draws) == pytest.approx(stated, rel=0.11)


def test_dose_mapping_is_exact_at_one_and_two_half_lives_and_bounded_in_its_window():
    for x in (1.0, 2.0):
        assert fit("hanscheid", falling(50.0, (50 * x,))).tia_bq_s == pytest.approx(1e8 * 50 * 3600 / LN2, rel=1e-12)
    ratios = [fit("hanscheid", falling(50.0, (50 * x,))).tia_bq_s * LN2 / (1e8 * 50 * 3600) for x in np.linspace(0.75, 2.5, 30)]
    # R(x) = 2x 2^-x: -12 % to +6.15 %
    assert min(ratios) > 0.88 and max(ratios) < 1.0616


@pytest.mark.parametrize(("t_h", "flagged"), [(24, True), (38, False), (72, False), (124, False), (168, True)])
def test_a_single_scan_outside_its_window_is_flagged(t_h, flagged):
    result = fit("auto", falling(50.0, (t_h,)), typical_half_life_h={"kidney_left": 50.0})
    assert ("SINGLE_SCAN_OUTSIDE_WINDOW" in [flag.code for flag in result.flags]) is flagged


def test_points_that_lie_on_no_curve_are_flagged_and_widen_the_uncertainty():
    good, bad = fit("mono", falling(50.0, (24, 96, 168))), fit("mono", curve((24, 96, 168), (1e8, 3e7, 2e7)))
    assert "FIT_POOR" not in [flag.code for flag in good.flags]
    assert "FIT_POOR" in [flag.code for flag in bad.flags]
    assert bad.tia_sd_bq_s / bad.tia_bq_s > 2 * good.tia_sd_bq_s / good.tia_bq_s


def test_auto_joins_points_that_no_exponential_follows():
    result = fit("auto", curve((24, 96, 168), (1e8, 5e6, 6e7)))
    assert result.model == "trapezoid"
    assert "FIT_POOR" in [flag.code for flag in result.flags]
    by_hand = 24 * 1e8 + 72 * (1e8 + 5e6) / 2 + 72 * (5e6 + 6e7) / 2 + 6e7 * LU177_HALF_LIFE_H / LN2
    assert result.tia_bq_s == pytest.approx(by_hand * 3600, rel=1e-9)


def test_known_half_life_takes_physical_decay_for_microspheres():
    result = CurveFit("known-half-life", Known(64.1, known_half_life_h={"default": 64.1}))(falling(64.1, (20,)))
    assert result.tia_bq_s == pytest.approx(1e8 * 64.1 * 3600 / LN2, rel=1e-12)
    with pytest.raises(DosimetryError, match="above the physical"):
        fit("known-half-life", falling(50, (24,)), known_half_life_h={"default": 300.0})


def test_the_trapezoid_states_head_and_tail_and_adds_up():
    t = np.array([24, 96, 168.0])
    a = 1e8 * 2 ** (-t / 50)
    result = fit("trapezoid", curve(t, a))
    by_hand = 24 * a[0] + 72 * (a[0] + a[1]) / 2 + 72 * (a[1] + a[2]) / 2 + a[2] * 50 / LN2
    assert result.tia_bq_s == pytest.approx(by_hand * 3600, rel=1e-12)
    assert "constant" in result.head and "effective slope" in result.tail


def test_a_curve_that_rises_between_three_scans_is_integrated_by_trapezoids():
    result = fit("auto", curve((4, 24, 96), (1e7, 1e8, 4e7)))
    assert result.model == "trapezoid"
    assert "rises" in result.reason


def test_too_few_points_are_refused_with_region_and_remedy():
    with pytest.raises(
        DosimetryError, match=r"kidney_left: 4 time points needed for bi; found 3 at \[24\.0, 96\.0, 168\.0\] h; add a scan"
    ):
        fit("bi", falling(50.0, (24, 96, 168)))
    with pytest.raises(DosimetryError, match="exactly one scan"):
        fit("hanscheid", falling(50.0, (24, 96)))


def test_nothing_is_not_zero():
    with pytest.raises(DosimetryError, match="no positive activity"):
        fit("auto", curve((24, 96, 168), (0, 0, 0)))


def test_a_negative_activity_counts_as_zero_and_is_flagged():
    result = fit("mono", Curve("spleen", np.array([24, 96, 168.0]), np.array([1e8, 4e7, -1e5]), np.full(3, 1e6)))
    assert "NEGATIVE_ACTIVITY" in [flag.code for flag in result.flags]


@pytest.mark.parametrize("times", [(24, 24), (96, 24), (0, 24), (-1, 24)])
def test_times_must_increase_and_lie_after_the_administration(times):
    with pytest.raises(ValueError, match="times must"):
        curve(times, (1e8, 5e7))


def test_aicc_is_undefined_for_too_few_points():
    assert aicc(1.0, 4, 2) is None
    # n ln(RSS/n) + 2K + 2K(K+1)/(n-K-1) with n = 5, K = 3
    assert aicc(1.0, 5, 2) == pytest.approx(5 * np.log(1 / 5) + 6 + 24)


def test_integrals_of_terms_agree_with_numerical_quadrature():
    terms = np.array([[3.0, 0.01], [-3.0, 0.5]])
    t = np.linspace(0, 3000, 600_001)
    a = activity_bq(terms, t)
    numeric = np.sum((a[1:] + a[:-1]) / 2) * (t[1] - t[0])
    assert integral_bq_h(terms) == pytest.approx(numeric, rel=1e-6)


def test_lea_catcheside_of_one_exponential_is_its_closed_form():
    # the contract's example: T_eff 54.6 h, repair 2.8 h
    g = lea_catcheside(np.array([[5.0, LN2 / 54.6]]), 2.8)
    assert g == pytest.approx(2.8 / (2.8 + 54.6), rel=1e-12)
    assert bed_gy(4.72, g, 2.6) == pytest.approx(5.14, abs=0.005)
    assert eqd2_gy(bed_gy(4.72, g, 2.6), 2.6) == pytest.approx(2.90, abs=0.005)


def test_lea_catcheside_of_two_terms_agrees_with_its_double_integral():
    terms, mu = np.array([[1.0, 0.02], [-1.0, 0.4]]), LN2 / 2.8
    t = np.linspace(0, 800, 4001)
    dt = t[1] - t[0]
    rate = activity_bq(terms, t)
    decayed = np.zeros_like(t)
    for i in range(1, t.size):  # ∫ rate(w) e^{-μ(t-w)} dw by recursion with the trapezoid rule
        decayed[i] = decayed[i - 1] * np.exp(-mu * dt) + dt / 2 * (rate[i - 1] * np.exp(-mu * dt) + rate[i])
    numeric = 2 * np.sum(rate * decayed) * dt / (np.sum(rate) * dt) ** 2
    # second-order quadrature at 0.2 h steps on a 0.4 /h rate: (0.08)²/12 ≈ 5e-4
    assert lea_catcheside(terms, 2.8) == pytest.approx(numeric, rel=1e-3)
