"""`neural`: what holds by construction, what it refuses, where it leaves the reading to the population."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrtai.engines import tac_model
from mrtai.engines.curve_net import NAME, TASK
from mrtai.engines_of_run import CaseRequest, engines_for
from mrtai.io.bundles import load_network
from mrtai.io.priors import agent_priors
from mrtai.io.protocols import load_protocol
from mrtai.io.tables import nuclide
from mrtai.physics.curves import activity_bq, integral_bq_h
from mrtai.units import LN2, SECONDS_PER_HOUR
from mrtai.values.curve import Curve
from mrtai.values.half_life import EarlierCycle, Known
from mrtai.values.refusal import DosimetryError

LU177 = nuclide("Lu-177")
DOTATATE = agent_priors("DOTATATE").kinetics


@pytest.fixture(scope="module")
def network():
    return load_network(NAME, TASK)


def mono(half_life_h, t_h, relative_sd=0.05, region="kidney_left", noise=0.0):
    t = np.array(t_h, dtype=float)
    activity = 1e8 * np.exp2(-t / half_life_h)
    return Curve(region, t, activity * (1.0 + relative_sd * noise), relative_sd * activity)


def fit(curve, network, method="neural", priors=DOTATATE, physical_h=LU177.half_life_h, **known):
    return tac_model(method, Known(physical_h, priors, **known), network)(curve)


def codes(result):
    return {flag.code for flag in result.flags}


@pytest.mark.parametrize("t_h", [(72,), (24, 96), (24, 72, 168), (4, 24, 72, 168)])
@pytest.mark.parametrize("half_life_h", [35, 50, 70])
def test_a_curve_without_noise_is_read_within_its_own_interval(network, t_h, half_life_h):
    result = fit(mono(half_life_h, t_h, 0.03), network)
    low, high = result.tia_95_bq_s
    assert low <= 1e8 * half_life_h / LN2 * SECONDS_PER_HOUR <= high
    assert low < result.tia_68_bq_s[0] < result.tia_68_bq_s[1] < high
    assert (result.model, result.method) == ("neural", "neural")
    assert "curve-net@" in result.reason


def test_the_curve_that_is_drawn_has_the_integral_that_is_stated_and_keeps_physics(network):
    rng = np.random.default_rng(8)
    for _ in range(60):
        t = np.sort(rng.uniform(4, 200, rng.integers(1, 5)))
        curve = mono(rng.uniform(20, 150), t, 0.1, noise=rng.standard_normal(t.size))
        result = fit(curve, network)
        assert integral_bq_h(result.terms) * SECONDS_PER_HOUR == pytest.approx(result.tia_bq_s, rel=1e-9)
        assert result.terms[:, 1].min() >= LU177.decay_per_h
        tail = integral_bq_h(result.terms, start_h=float(t[-1]))
        # single precision in the network
        assert 0 <= tail <= activity_bq(result.terms, t[-1]) / LU177.decay_per_h * (1 + 1e-5)
        assert result.fraction_after_last_scan == pytest.approx(tail * SECONDS_PER_HOUR / result.tia_bq_s)


def test_the_integral_is_proportional_to_the_activities(network):
    for t_h in ((72,), (24, 96), (4, 24, 72, 168)):
        curve = mono(45, t_h, noise=0.7)
        louder = replace(curve, activity_bq=1e3 * curve.activity_bq, activity_sd_bq=1e3 * curve.activity_sd_bq)
        assert fit(louder, network).tia_bq_s == pytest.approx(1e3 * fit(curve, network).tia_bq_s, rel=1e-6)


def test_more_activity_in_a_single_scan_is_a_larger_integral(network):
    tia = [fit(Curve("kidney_left", [72.0], [a], [2e6]), network).tia_bq_s for a in np.linspace(1e7, 2e8, 40)]
    assert np.all(np.diff(tia) > 0)


def test_a_higher_late_activity_is_a_longer_half_life(network):
    late = np.linspace(0.15, 0.6, 12)
    half_life = [fit(Curve("kidney_left", [24.0, 120.0], [1e8, 1e8 * a], [3e6, 3e6]), network).effective_half_life_h for a in late]
    assert np.all(np.diff(half_life) > 0)


def test_points_without_uncertainty_are_taken_as_good_to_5_percent(network):
    curve = mono(50, (24, 96))
    unknown = fit(replace(curve, activity_sd_bq=np.full(2, np.nan)), network)
    assert unknown.tia_bq_s == pytest.approx(fit(curve, network).tia_bq_s, rel=1e-4)


FIVE = (10, 24, 48, 96, 168)


@pytest.mark.parametrize(
    ("curve", "changes", "words"),
    [
        (mono(50, FIVE), {}, r"5 scans \(at most 4\)"),
        (mono(50, (24, 900)), {}, "time in usual lifetimes 12.5"),
        (mono(50, (0.5, 24)), {"from_h": 0.0}, "time in usual lifetimes 0.00693"),
        (mono(50, (72,)), {"population_log_sd": 1.2}, "spread of the population 1.2"),
        (mono(50, (72,)), {"median_log_sd": 0.9}, "doubt about the population's median 0.9"),
        (mono(50, (72,)), {"rate_per_h": 1e-4}, "physical decay as a share of the usual fall 0.97"),
        (mono(50, (72,)), {"shape": ((0.7, 1.0), (0.3, 8.0))}, "a prior of several exponentials"),
    ],
)  # fmt: skip
def test_outside_of_what_it_was_trained_on_the_population_reads_and_a_flag_says_so(network, curve, changes, words):
    priors = {**DOTATATE, "kidneys": replace(DOTATATE["kidneys"], **changes)}
    result, population = fit(curve, network, priors=priors), fit(curve, None, "population", priors)
    assert (result.model, result.tia_bq_s, result.tia_68_bq_s) == ("population", population.tia_bq_s, population.tia_68_bq_s)
    assert codes(result) - codes(population) == {"OUTSIDE_TRAINING"}
    (flag,) = [flag for flag in result.flags if flag.code == "OUTSIDE_TRAINING"]
    assert re.search(words, flag.text), flag.text


def test_without_population_or_network_it_refuses(network):
    with pytest.raises(DosimetryError, match=r"stomach: no population kinetics .*; name the agent"):
        fit(mono(50, (72,), region="stomach"), network)
    with pytest.raises(DosimetryError, match="no network for this method"):
        fit(mono(50, (72,)), None)
    with pytest.raises(DosimetryError, match="no scan lies late enough"):
        fit(mono(50, (2,)), network)


def test_an_early_scan_is_left_out_as_for_the_population(network):
    result = fit(mono(50, (2, 24, 96)), network)
    assert result.tia_bq_s == pytest.approx(fit(mono(50, (24, 96)), network).tia_bq_s)
    assert "EARLY_SCAN_LEFT_OUT" in codes(result)


def test_an_earlier_cycle_narrows_the_interval(network):
    earlier = {"kidney_left": (EarlierCycle("1", LN2 / 50 - LU177.decay_per_h, 0.05, ((1.0, 1.0),)),)}
    with_cycle, without = fit(mono(50, (24,)), network, earlier=earlier), fit(mono(50, (24,)), network)
    width = [np.diff(result.tia_68_bq_s)[0] / result.tia_bq_s for result in (with_cycle, without)]
    assert with_cycle.model == "neural"
    assert width[0] < 0.7 * width[1]


def test_points_off_any_curve_are_flagged_and_widen_the_interval(network):
    on, off = mono(50, (24, 72, 168), 0.02), mono(50, (24, 72, 168), 0.02, noise=np.array([8.0, -8.0, 8.0]))
    near, far = fit(on, network), fit(off, network)
    assert "FIT_POOR" not in codes(near)
    assert "FIT_POOR" in codes(far)
    assert far.tia_sd_bq_s > 5 * near.tia_sd_bq_s
    assert np.diff(far.tia_95_bq_s) > 5 * np.diff(near.tia_95_bq_s)
    assert near.probability_off < 0.001 < 0.1 < far.probability_off


def test_a_cohort_is_covered_as_stated(network):
    rng = np.random.default_rng(41)
    inside = []
    for half_life_h in np.minimum(50 * 1.28 ** rng.standard_normal(300), 150):
        result = fit(mono(half_life_h, (24, 96), 0.05, noise=rng.standard_normal(2)), network)
        truth = 1e8 * half_life_h / LN2 * SECONDS_PER_HOUR
        inside.append([low <= truth <= high for low, high in (result.tia_68_bq_s, result.tia_95_bq_s)])
    # 300 patients know a share of 68 % to 2.7 %: two of these beside the 5 points that are allowed
    assert np.mean(inside, axis=0) == pytest.approx([0.68, 0.95], abs=0.1)


def test_a_run_by_protocol_reads_with_the_network_and_names_its_digest(network):
    protocol = replace(load_protocol("lu177-dotatate"), kinetics="neural", segmenter="none", dose_engine="local", check_engine="none")
    engines = engines_for(protocol, CaseRequest(Path("study"), protocol.name, Path("case")))
    assert dict(engines.models) == {network.label: network.sha256}
    assert engines.names["kinetics"] == "neural"
    assert engines.kinetics(mono(50, (24, 96))).model == "neural"
