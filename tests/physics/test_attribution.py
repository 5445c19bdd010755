"""Shares of steps: Shapley's formula against all orders, and what numbers alone can tell."""

from dataclasses import replace
from itertools import permutations
from math import exp, log

import numpy as np
import pytest

from mrtai.physics.attribution import STEPS, attribution, group_attributions, shapley
from mrtai.physics.mixed_units import require_same_units, unit_factor
from mrtai.values.refusal import DosimetryError
from mrtai.values.validation import RegionNumbers, RegionPair

MANUAL = RegionNumbers("liver", 1500.0, {24.0: 4e8, 96.0: 1.5e8}, 1.2e14, 60.0, 3.0)


def changed(*, volume=1.0, activity=1.0, curve=1.0, dose=1.0):
    """A region whose steps differ by factors from the manual one's."""
    return RegionNumbers(
        "liver",
        MANUAL.volume_ml * volume,
        {t_h + 0.1: bq * activity for t_h, bq in MANUAL.activity_bq.items()},
        MANUAL.tia_bq_s * activity * curve,
        60.0,
        MANUAL.absorbed_dose_gy * activity * curve * dose / volume,
    )


def pair(auto, manual=MANUAL, patient="P", group="liver"):
    return RegionPair(patient, 1, group, True, auto, manual)


def shares(found):
    return {part.steps: part.ln_ratio for part in found.contributions}


def test_shapley_is_the_mean_over_all_orders_of_exchange_where_steps_interact():
    rng = np.random.default_rng(1)
    known = {}

    def value(chosen):
        return known.setdefault(chosen, float(rng.normal()))

    found = shapley(STEPS, value)
    orders = list(permutations(STEPS))
    for step in STEPS:
        gains = [known[frozenset(order[: order.index(step) + 1])] - known[frozenset(order[: order.index(step)])] for order in orders]
        assert found[step] == pytest.approx(np.mean(gains), abs=1e-12)
    assert sum(found.values()) == pytest.approx(known[frozenset(STEPS)] - known[frozenset()], abs=1e-12)


@pytest.mark.parametrize("step", ["volume", "activity", "curve", "dose"])
def test_one_fault_alone_is_its_steps(step):
    found = attribution(pair(changed(**{step: 1.07})))
    name = "contour" if step == "volume" else step
    wanted = log(1.07) * (-1 if step == "volume" else 1)
    for steps, gain in shares(found).items():
        assert gain == pytest.approx(wanted if steps == (name,) else 0.0, abs=1e-12)


def test_contributions_add_up_to_the_difference_of_the_doses():
    rng = np.random.default_rng(2)
    for factors in np.exp(rng.normal(0, 0.3, (20, 4))):
        auto = changed(**dict(zip(("volume", "activity", "curve", "dose"), factors, strict=True)))
        found = attribution(pair(auto))
        assert sum(shares(found).values()) == pytest.approx(found.total_ln_ratio, abs=1e-9)
        assert found.total_ln_ratio == pytest.approx(log(auto.absorbed_dose_gy / MANUAL.absorbed_dose_gy), abs=1e-12)


@pytest.mark.parametrize(
    ("unknown", "wanted"),
    [
        ({"volume_ml": None}, {("activity",), ("curve",), ("contour", "dose")}),
        ({"activity_bq": {}}, {("contour",), ("activity", "curve"), ("dose",)}),
        ({"tia_bq_s": None}, {("contour",), ("activity",), ("curve", "dose")}),
        ({"volume_ml": None, "activity_bq": {}}, {("activity", "curve"), ("contour", "dose")}),
        ({"tia_bq_s": None, "activity_bq": {}}, {("contour",), ("activity", "curve", "dose")}),
        ({"tia_bq_s": None, "volume_ml": None}, {("activity",), ("contour", "curve", "dose")}),
        ({"tia_bq_s": None, "volume_ml": None, "activity_bq": {}}, {("contour", "activity", "curve", "dose")}),
    ],
)
def test_steps_that_one_side_does_not_tell_stay_together_and_still_add_up(unknown, wanted):
    auto = changed(volume=1.2, activity=1.1, curve=0.95, dose=1.03)
    found = attribution(pair(auto, replace(MANUAL, **unknown)))
    assert set(shares(found)) == wanted
    assert sum(shares(found).values()) == pytest.approx(log(auto.absorbed_dose_gy / 3.0), abs=1e-9)
    whole = shares(attribution(pair(auto)))
    for steps, gain in shares(found).items():
        assert gain == pytest.approx(sum(whole[(step,)] for step in steps), abs=1e-9)


def test_without_a_dose_on_both_sides_nothing_is_said():
    assert attribution(pair(replace(MANUAL, absorbed_dose_gy=None))) is None
    assert attribution(pair(MANUAL, replace(MANUAL, absorbed_dose_gy=0.0))) is None


def test_activities_are_compared_at_scans_that_both_sides_have():
    auto = replace(MANUAL, activity_bq={24.3: 4.4e8, 96.0: 1.65e8, 168.0: 9e7})
    found = shares(attribution(pair(auto)))
    assert found[("activity",)] == pytest.approx(log(1.1)) and found[("curve",)] == pytest.approx(-log(1.1))
    assert [t_h for t_h, _, _ in pair(auto).activities_bq] == [24.0, 96.0]
    # two manual scans close to one of ours: one alone is its partner
    twice = replace(MANUAL, activity_bq={24.0: 4e8, 24.5: 3.9e8})
    assert [t_h for t_h, _, _ in pair(auto, twice).activities_bq] == [24.0]


def test_a_class_is_the_mean_of_its_patients_over_pairs_that_tell_the_same_steps():
    pairs = [pair(changed(volume=exp(-0.1)), patient="A"), pair(changed(volume=exp(-0.1)), patient="A"), pair(MANUAL, patient="B")]
    pairs.append(pair(MANUAL, replace(MANUAL, volume_ml=None, absorbed_dose_gy=9.0), patient="C"))
    (found,) = group_attributions(pairs, [attribution(one) for one in pairs])
    assert (found.group, found.pairs, found.of) == ("liver", 3, 4)
    assert found.mean.total_ln_ratio == pytest.approx(0.05) and shares(found.mean)[("contour",)] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("field", "factor", "units"),
    [
        ("absorbed_dose_gy", 1000.0, "Gy and mGy"),
        ("absorbed_dose_gy", 1 / 1000, "mGy and Gy"),
        ("tia_bq_s", 3600.0, "MBq h and MBq s"),
        ("tia_bq_s", 1e6, "MBq h and Bq h"),
        ("effective_half_life_h", 3600.0, "h and s"),
        ("effective_half_life_h", 1 / 24, "h and days"),
        ("volume_ml", 1000.0, "mL and mm³"),
    ],
)
def test_a_factor_that_units_explain_is_refused_with_its_units(field, factor, units):
    # the two sides themselves differ by a tenth, as methods do
    wrong = replace(MANUAL, **{field: getattr(MANUAL, field) * factor * 1.1})
    with pytest.raises(DosimetryError, match=units) as refused:
        require_same_units([pair(MANUAL, wrong)])
    assert refused.value.code == "MIXED_UNITS"


@pytest.mark.parametrize(("factor", "units"), [(1e6, "MBq and Bq"), (1e-3, "MBq and GBq")])
def test_activities_in_another_unit_are_refused(factor, units):
    wrong = replace(MANUAL, activity_bq={t_h: bq * factor for t_h, bq in MANUAL.activity_bq.items()})
    with pytest.raises(DosimetryError, match=units):
        require_same_units([pair(MANUAL, wrong)])


def test_times_in_days_are_refused():
    wrong = replace(MANUAL, activity_bq={t_h / 24: bq for t_h, bq in MANUAL.activity_bq.items()})
    with pytest.raises(DosimetryError, match=r"time, .*h and days"):
        require_same_units([pair(MANUAL, wrong)])


def test_one_cycle_in_another_unit_is_found_among_many():
    wrong = replace(MANUAL, absorbed_dose_gy=3000.0)
    pairs = [pair(MANUAL, patient=f"P{n}") for n in range(9)]
    require_same_units(pairs)
    with pytest.raises(DosimetryError, match="cycle 10"):
        require_same_units([*pairs, pair(MANUAL, wrong, patient="P9")])


def test_a_dose_three_times_as_high_is_a_difference_and_no_unit():
    require_same_units([pair(replace(MANUAL, absorbed_dose_gy=9.0, volume_ml=500.0))])
    assert unit_factor("absorbed_dose", 10.0) is None
