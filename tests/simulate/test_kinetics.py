import numpy as np
import pytest
from scipy.integrate import quad

from mrtai.io.priors import agent_priors
from mrtai.io.tables import nuclide
from mrtai.simulate.kinetics import activity_bq, drawn_curves, effective_half_life_h, tia_bq_s
from mrtai.values.refusal import DosimetryError
from mrtai.values.virtual import TrueCurve

VOLUMES = {
    "liver": 1500.0,
    "kidney_left": 150.0,
    "kidney_right": 150.0,
    "spleen": 180.0,
    "lung_left": 1500.0,
    "lung_right": 1500.0,
    "red_marrow": 200.0,
    "spine": 300.0,
    "stomach": 200.0,
    "urinary_bladder": 150.0,
    "lesion_1": 20.0,
    "lesion_2": 35.0,
    "remainder": 20000.0,
}
AGENTS = [("DOTATATE", "Lu-177"), ("PSMA-617", "Lu-177"), ("iodide", "I-131"), ("microspheres", "Y-90")]


def curves(agent="DOTATATE", of="Lu-177", *, kinetics="mono", seed=0):
    drawn = drawn_curves(
        np.random.default_rng(seed), agent_priors(agent), volume_ml=VOLUMES, nuclide=nuclide(of), administered_bq=1e9, kinetics=kinetics
    )
    return {curve.region: curve for curve in drawn}


@pytest.mark.parametrize("kinetics", ["mono", "population"])
@pytest.mark.parametrize(("agent", "of"), AGENTS)
def test_the_closed_integral_is_the_numerical_one(agent, of, kinetics):
    for curve in curves(agent, of, kinetics=kinetics).values():
        pieces = [(0, 3), (3, 30), (30, 300), (300, 9000)]
        numerical_bq_h = sum(quad(lambda t, c=curve: float(activity_bq(c, t)), *piece, epsrel=1e-10)[0] for piece in pieces)
        assert tia_bq_s(curve) == pytest.approx(numerical_bq_h * 3600, rel=1e-7)


@pytest.mark.parametrize("kinetics", ["mono", "population"])
@pytest.mark.parametrize(("agent", "of"), AGENTS)
def test_there_is_never_more_activity_than_was_given(agent, of, kinetics):
    t_h = np.concatenate([np.linspace(0, 30, 301), np.arange(31, 400)])
    given = 1e9 * np.exp(-nuclide(of).decay_per_h * t_h)
    for seed in range(10):
        total = sum(activity_bq(curve, t_h) for curve in curves(agent, of, kinetics=kinetics, seed=seed).values())
        assert np.all(total <= given)


@pytest.mark.parametrize(("agent", "of"), AGENTS)
def test_no_half_life_exceeds_the_physical_one(agent, of):
    for seed in range(10):
        for curve in curves(agent, of, kinetics="population", seed=seed).values():
            assert effective_half_life_h([curve], nuclide(of)) <= nuclide(of).half_life_h * (1 + 1e-12)


def test_mono_curves_halve_every_half_life():
    for curve in curves().values():
        half_life_h = effective_half_life_h([curve], nuclide("Lu-177"))
        now, later = activity_bq(curve, 24.0), activity_bq(curve, 24.0 + half_life_h)
        assert float(later / now) == pytest.approx(0.5, rel=1e-12)


def test_uptake_starts_from_zero_and_peaks_within_hours():
    drawn = curves(kinetics="population")
    t_h = np.linspace(0, 48, 4801)
    for name in ("kidney_left", "liver", "lesion_1"):
        activity = activity_bq(drawn[name], t_h)
        assert activity[0] == pytest.approx(0, abs=1e-6 * activity.max())
        assert 1.0 < t_h[activity.argmax()] < 12.0
    assert len(drawn["remainder"].terms) == 1


def test_population_and_mono_pass_through_the_same_activity_at_24_h():
    mono, population = curves(seed=5), curves(seed=5, kinetics="population")
    for name in mono:
        # scaled alike unless a patient's total had to be capped
        assert float(activity_bq(mono[name], 24.0)) == pytest.approx(float(activity_bq(population[name], 24.0)), rel=1e-9)


def test_dotatate_shares_at_24_h_are_those_of_scans():
    drawn = [curves(seed=seed) for seed in range(20)]
    share = {name: np.median([float(activity_bq(c[name], 24.0)) / 1e9 for c in drawn]) for name in VOLUMES}
    assert 0.008 < share["kidney_left"] < 0.02
    assert 0.045 < share["liver"] < 0.085
    assert 0.012 < share["spleen"] < 0.03
    assert 0.06 < share["remainder"] < 0.14
    per_ml = share["lesion_1"] / VOLUMES["lesion_1"] / (share["liver"] / VOLUMES["liver"])
    assert 5 <= per_ml <= 20


def test_microspheres_only_decay():
    drawn = curves("microspheres", "Y-90", kinetics="population")
    assert drawn["kidney_left"].terms == ()
    assert drawn["liver"].terms[0][1] == pytest.approx(nuclide("Y-90").decay_per_h)
    assert tia_bq_s(drawn["kidney_left"]) == 0


def test_a_union_of_equal_half_lives_has_that_half_life():
    rate = np.log(2) / 60.0
    pair = [TrueCurve("a", ((1e6, rate),)), TrueCurve("b", ((3e6, rate),))]
    assert effective_half_life_h(pair, nuclide("Lu-177")) == pytest.approx(60.0, rel=1e-9)


def test_an_agent_without_priors_is_refused_with_the_choices():
    with pytest.raises(DosimetryError, match=r"no population kinetics.*DOTATATE"):
        agent_priors("aspirin")
