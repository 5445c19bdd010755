"""Agreement statistics: published worked examples, numbers of independent libraries, limits and invariants."""

import numpy as np
import pytest
from scipy import stats

from mrtai.physics.agreement import equivalence, growth_p, limits_of_agreement
from mrtai.physics.by_patient import jackknife_95
from mrtai.physics.concordance import concordance, icc, icc_by_patient
from mrtai.physics.method_regression import deming, passing_bablok

# Bland & Altman 1986, table 1: first peak expiratory flow by each meter [L/min]
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], float)
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], float)
PEOPLE = tuple(f"P{n}" for n in range(17))
# Shrout & Fleiss 1979, table 2: six targets, four judges
JUDGED = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_bias_and_limits_are_those_of_bland_and_altman_1986():
    found = limits_of_agreement(WRIGHT - MINI, PEOPLE)
    assert (round(found.bias, 1), round(found.sd, 1)) == (-2.1, 38.8)
    assert tuple(round(end, 1) for end in found.bias_95) == (-22.0, 17.8)
    # the paper takes 2 of its printed standard deviations, we 1.96
    assert (round(-2.1 - 2 * round(found.sd, 1), 1), round(-2.1 + 2 * round(found.sd, 1), 1)) == (-79.7, 75.5)
    assert found.upper - found.bias == pytest.approx(1.959964 * found.sd) and found.within_sd is None
    # its standard error of a limit is √(3 s²/n) = 16.3; ours has 1 + 1.96²/2 · n/(n − 1) for 3
    half = (found.lower_95[1] - found.lower_95[0]) / 2
    assert half / stats.t.ppf(0.975, 16) == pytest.approx(16.3, rel=0.02)


def test_the_interval_of_the_bias_is_that_of_statsmodels():
    # statsmodels 0.15.0: DescrStatsW(WRIGHT - MINI).tconfint_mean()
    assert limits_of_agreement(WRIGHT - MINI, PEOPLE).bias_95 == pytest.approx((-22.04883769664517, 17.81354357899811), rel=1e-12)


def test_intervals_of_the_limits_are_those_of_bland_and_altman_1999():
    # section 2: 85 people, mean −16.29 and standard deviation 19.61 mmHg; any sample with these gives the same
    sample = stats.zscore(np.random.default_rng(1).normal(size=85), ddof=1) * 19.61 - 16.29
    found = limits_of_agreement(sample, [str(n) for n in range(85)])
    assert (round(found.lower, 1), round(found.upper, 1)) == (-54.7, 22.1)
    assert tuple(round(end, 1) for end in found.bias_95) == (-20.5, -12.1)
    # standard error 1.71 s/√n = 3.64
    assert found.lower_95[1] - found.lower == pytest.approx(1.99 * 3.64, abs=0.02)


def test_repeats_of_one_patient_add_the_variance_within_to_that_between():
    rng = np.random.default_rng(2)
    between, within, repeats = 3.0, 4.0, 5
    patients = np.repeat(np.arange(400), repeats)
    sample = np.repeat(rng.normal(0, between, 400), repeats) + rng.normal(0, within, patients.size)
    found = limits_of_agreement(sample, patients)
    # a single difference has the variance 9 + 16; standard errors of 400 patients and 1600 repeats are 3 % and 2 %
    assert (found.sd, found.within_sd) == (pytest.approx(5.0, rel=0.05), pytest.approx(within, rel=0.05))
    assert found.lower_95[0] < -1.96 * 5 < found.lower_95[1] and found.upper_95[0] < 1.96 * 5 < found.upper_95[1]


def test_components_of_variance_are_those_of_the_one_way_analysis():
    # balanced: Bland & Altman 2007, section 3, from the mean squares of scipy's own F
    sample = np.random.default_rng(3).normal(size=(7, 3)) + np.arange(7)[:, None]
    f = stats.f_oneway(*sample).statistic
    within = float(np.mean(sample.var(axis=1, ddof=1)))
    found = limits_of_agreement(sample.ravel(), np.repeat(np.arange(7), 3))
    assert found.within_sd**2 == pytest.approx(within)
    assert found.sd**2 == pytest.approx(within + (f * within - within) / 3)
    # the mean has the error of seven patients, not of 21 values
    assert found.bias_95[1] - found.bias == pytest.approx(stats.t.ppf(0.975, 6) * np.sqrt(f * within / 21))


def test_limits_with_repeats_cover_what_they_should():
    rng, hits = np.random.default_rng(4), 0
    patients = np.repeat(np.arange(12), 3)
    for _ in range(400):
        found = limits_of_agreement(np.repeat(rng.normal(0, 1, 12), 3) + rng.normal(0, 1, 36), patients)
        hits += found.upper_95[0] < 1.96 * np.sqrt(2) < found.upper_95[1]
    # 95 % of 400, standard error 1.1 %
    assert 0.91 < hits / 400 < 0.985


def test_one_patient_has_a_bias_and_no_limits():
    found = limits_of_agreement(np.array([1.0, 3.0]), ["P", "P"])
    assert found.bias == 2.0 and (found.sd, found.lower, found.bias_95) == (None, None, None)


def test_a_spread_that_grows_with_the_mean_is_seen_and_a_constant_one_is_not():
    rng = np.random.default_rng(5)
    manual = rng.uniform(1, 100, 60)
    assert growth_p(manual * np.exp(rng.normal(0, 0.1, 60)), manual) < 1e-4
    assert growth_p(manual + rng.normal(0, 1, 60), manual) > 0.05
    assert growth_p(manual, manual) is None and growth_p(manual[:4] + 1, manual[:4]) is None


def test_equivalence_has_the_p_of_pingouin_and_statsmodels():
    # pingouin 0.7.0 tost(paired=True) and statsmodels 0.15.0 ttost_paired on the logarithms
    ratios = np.log(WRIGHT / MINI)
    for margin, p, shown in ((0.05, 0.11431924558360616, False), (0.10, 0.006092393502065115, True)):
        found = equivalence(ratios, PEOPLE, margin)
        assert found.p == pytest.approx(p, rel=1e-9) and found.shown is shown
    assert found.ln_ratio_90 == pytest.approx((-0.06339668329686168, 0.03982760337415538), rel=1e-9)


def test_repeats_do_not_make_a_patient_count_twice_in_equivalence():
    ratios = np.log(WRIGHT / MINI)
    once, thrice = equivalence(ratios, PEOPLE, 0.1), equivalence(np.tile(ratios, 3), PEOPLE * 3, 0.1)
    assert thrice.p == pytest.approx(once.p)


def test_intraclass_correlations_are_those_of_shrout_and_fleiss_1979_and_of_pingouin():
    absolute, consistent = icc(JUDGED)
    assert (round(absolute.value, 2), round(consistent.value, 2)) == (0.29, 0.71)  # table 4 of the paper
    # pingouin 0.7.0 intraclass_corr
    assert (absolute.value, consistent.value) == pytest.approx((0.28976377952755916, 0.7148407148407154), rel=1e-12)
    assert tuple(round(end, 2) for end in absolute.interval_95) == (0.02, 0.76)
    assert tuple(round(end, 2) for end in consistent.interval_95) == (0.34, 0.95)


def test_intraclass_correlations_of_two_meters_are_those_of_pingouin():
    absolute, consistent = icc_by_patient(WRIGHT, MINI, PEOPLE)
    assert (absolute.value, consistent.value) == pytest.approx((0.9459284056, 0.9429130724), abs=1e-10)
    assert tuple(round(end, 2) for end in absolute.interval_95) == (0.86, 0.98)
    assert tuple(round(end, 2) for end in consistent.interval_95) == (0.85, 0.98)


def test_a_shift_lowers_absolute_agreement_and_leaves_consistency():
    shifted, same = icc(np.column_stack([MINI + 100, MINI])), icc(np.column_stack([MINI, MINI]))
    assert shifted[1].value == pytest.approx(1.0) and shifted[0].value < 0.8
    assert [one.value for one in same] == [1.0, 1.0] and same[0].interval_95 == (1.0, 1.0)


def test_lins_concordance_is_precision_times_accuracy():
    found = concordance(WRIGHT, MINI, PEOPLE)
    r = stats.pearsonr(WRIGHT, MINI).statistic
    scale, shift = WRIGHT.std() / MINI.std(), (WRIGHT.mean() - MINI.mean()) ** 2 / (WRIGHT.std() * MINI.std())
    assert found.value == pytest.approx(r * 2 / (scale + 1 / scale + shift), rel=1e-12)  # Lin 1989, equation 1
    assert found.value < r
    low, high = found.interval_95
    # an independent way to its error: leaving out one person at a time
    ends = jackknife_95(lambda chosen: float(np.arctanh(concordance(WRIGHT[chosen], MINI[chosen], PEOPLE[: chosen.sum()]).value)), PEOPLE)
    assert (low, high) == pytest.approx(tuple(np.tanh(ends)), abs=0.04)


def test_lins_interval_has_the_width_of_repeated_sampling():
    # two methods with correlation 0.8, one standard deviation apart, where all three of Lin's terms matter
    rng, found, halves = np.random.default_rng(8), [], []
    people = [str(n) for n in range(80)]
    for _ in range(600):
        common = rng.normal(0, np.sqrt(0.8), 80)
        auto, manual = (common + rng.normal(shift, np.sqrt(0.2), 80) for shift in (1.0, 0.0))
        one = concordance(auto, manual, people)
        found.append(np.arctanh(one.value))
        halves.append(np.diff(np.arctanh(one.interval_95))[0] / 2 / 1.96)
    # the standard deviation of 600 is known to 3 %
    assert np.mean(halves) == pytest.approx(np.std(found), rel=0.09)


def test_an_interval_of_repeats_is_wider_than_if_they_were_independent():
    tiled = (np.tile(WRIGHT, 4), np.tile(MINI, 4))
    told = concordance(*tiled, PEOPLE * 4).interval_95
    untold = concordance(*tiled, [str(n) for n in range(68)]).interval_95
    assert told[1] - told[0] > 1.5 * (untold[1] - untold[0])
    assert icc_by_patient(*tiled, PEOPLE * 4)[0].interval_95[0] < icc(np.column_stack(tiled))[0].interval_95[0]


def test_demings_line_is_that_of_orthogonal_distance_regression():
    # scipy 1.17.1 odr (ODRPACK), equal weights, of WRIGHT on MINI; its iteration stops some 1e-6 short
    found = deming(WRIGHT, MINI, PEOPLE)
    assert (found.slope.value, found.intercept.value) == pytest.approx((1.02999277, -15.68849709), rel=1e-5)
    low, high = found.slope.interval_95
    assert low < 1 < high and found.intercept.interval_95[0] < 0 < found.intercept.interval_95[1]


def test_demings_line_does_not_care_which_method_is_called_manual():
    there, back = deming(WRIGHT, MINI, PEOPLE), deming(MINI, WRIGHT, PEOPLE)
    assert there.slope.value * back.slope.value == pytest.approx(1.0, rel=1e-12)


def slow_passing_bablok(auto, manual):
    slopes = []
    for i in range(len(auto)):
        for j in range(i):
            x, y = manual[i] - manual[j], auto[i] - auto[j]
            if x == 0 and y == 0:
                continue
            slope = np.inf * np.sign(y) if x == 0 else y / x
            if slope != -1:
                slopes.append(slope)
    slopes.sort()
    count, offset = len(slopes), sum(slope < -1 for slope in slopes)
    if count % 2:
        return slopes[(count + 1) // 2 + offset - 1]
    return (slopes[count // 2 + offset - 1] + slopes[count // 2 + offset]) / 2


def test_passing_and_bablok_is_the_shifted_median_of_all_slopes():
    rng = np.random.default_rng(6)
    for count in (7, 12, 23):
        manual = rng.uniform(0, 10, count).round(1)
        auto = (1.2 * manual + 0.5 + rng.normal(0, 1.5, count)).round(1)
        found = passing_bablok(auto, manual, [str(n) for n in range(count)])
        assert found.slope.value == pytest.approx(slow_passing_bablok(auto, manual), rel=1e-12)
        assert found.intercept.value == pytest.approx(np.median(auto - found.slope.value * manual))


def test_passing_and_bablok_is_symmetric_and_its_interval_ignores_one_outlier():
    there, back = passing_bablok(WRIGHT, MINI, PEOPLE), passing_bablok(MINI, WRIGHT, PEOPLE)
    assert there.slope.value * back.slope.value == pytest.approx(1.0, rel=1e-9)
    rng = np.random.default_rng(9)
    truth = np.linspace(1, 20, 30)
    one, other = truth + rng.normal(0, 3, 30), truth + rng.normal(0, 3, 30)
    many = [str(n) for n in range(30)]
    there, back = passing_bablok(one, other, many).slope, passing_bablok(other, one, many).slope
    assert there.interval_95[0] * back.interval_95[1] == pytest.approx(1.0, rel=1e-9)
    assert there.interval_95[0] < there.value < there.interval_95[1]
    line = np.linspace(1, 20, 20)
    wild = line * 1.1
    wild[7] = 900.0
    found = passing_bablok(wild, line, [str(n) for n in range(20)])
    assert found.slope.value == pytest.approx(1.1) and found.slope.interval_95 == pytest.approx((1.1, 1.1), rel=0.02)
    assert passing_bablok(wild, line, ["P"] * 20).slope.interval_95 is None


def test_passing_and_babloks_interval_covers_the_true_slope():
    rng, hits = np.random.default_rng(7), 0
    truth = np.linspace(1, 20, 25)
    for _ in range(300):
        found = passing_bablok(truth + rng.normal(0, 1, 25), truth + rng.normal(0, 1, 25), [str(n) for n in range(25)])
        hits += found.slope.interval_95[0] <= 1 <= found.slope.interval_95[1]
    # 95 % of 300, standard error 1.3 %
    assert hits / 300 > 0.91


def test_a_method_agrees_with_itself_without_any_doubt():
    limits = limits_of_agreement(MINI - MINI, PEOPLE)
    assert (limits.bias, limits.sd, limits.lower_95, limits.upper_95) == (0.0, 0.0, (0.0, 0.0), (0.0, 0.0))
    same = concordance(MINI, MINI, PEOPLE)
    assert same.value == pytest.approx(1.0) and same.interval_95 == pytest.approx((1.0, 1.0))
    for line in (deming(MINI, MINI, PEOPLE), passing_bablok(MINI, MINI, PEOPLE)):
        assert line.slope.value == pytest.approx(1.0) and line.intercept.value == pytest.approx(0.0, abs=1e-9)
    found = equivalence(np.zeros(17), PEOPLE, 0.05)
    assert found.p == 0.0 and found.shown


def test_values_that_do_not_vary_have_no_correlation():
    flat = np.full(5, 2.0)
    people = [str(n) for n in range(5)]
    assert concordance(flat, flat, people) is None and icc(np.column_stack([flat, flat])) is None
    assert deming(flat, flat, people) is None and passing_bablok(flat, flat, people) is None
