import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from mrtai.engines import tac_model
from mrtai.engines_of_run import curve_network
from mrtai.io.earlier_cycles import by_region, read_earlier, require_same_patient
from mrtai.io.fits import write_fits
from mrtai.io.priors import agent_priors
from mrtai.io.results import results
from mrtai.io.tables import nuclide
from mrtai.units import LN2
from mrtai.values.curve import Curve
from mrtai.values.half_life import Known
from mrtai.values.refusal import DosimetryError
from tests.io.sample_report import sample_report

LU177 = nuclide("Lu-177")
PRIORS = agent_priors("DOTATATE").kinetics


def curve_of(half_life_h, t_h, region="kidney_left", relative_sd=0.03):
    t = np.array(t_h, dtype=float)
    activity = 1e8 * np.exp2(-t / half_life_h)
    return Curve(region, t, activity, relative_sd * activity)


def written(path, *curves, method="auto"):
    model = tac_model(method, Known(LU177.half_life_h, PRIORS), curve_network(method))
    write_fits([model(curve) for curve in curves], path, nuclide=LU177, administered_mbq=None)
    return path


def test_a_measured_half_life_comes_back_with_its_uncertainty(tmp_path):
    curve = curve_of(60, (24, 96, 168))
    fit = tac_model("mono", Known(LU177.half_life_h))(curve)
    (case,) = read_earlier([written(tmp_path / "c1.json", curve, method="mono")], LU177)
    cycle = case.cycles["kidney_left"]
    assert cycle.rate_per_h == pytest.approx(LN2 / 60 - LU177.decay_per_h, rel=1e-5)
    assert cycle.log_sd == pytest.approx(LN2 / 60**2 * fit.effective_half_life_sd_h / cycle.rate_per_h, rel=1e-5)
    assert cycle.shape == ((1.0, 1.0),)


def test_the_shape_of_several_exponentials_comes_back(tmp_path):
    t = np.array([1.0, 4, 24, 72, 168])
    activity = 1e8 * (np.exp2(-t / 60) - np.exp2(-t / 3))
    (case,) = read_earlier([written(tmp_path / "c1.json", Curve("spleen", t, activity, 0.03 * activity), method="uptake")], LU177)
    (slow, one), (fast, ratio) = case.cycles["spleen"].shape
    assert (slow, one) == (pytest.approx(0.5, rel=1e-4), 1.0)
    assert fast == pytest.approx(-0.5, rel=1e-4)
    assert ratio == pytest.approx((LN2 / 3 - LU177.decay_per_h) / (LN2 / 60 - LU177.decay_per_h), rel=1e-3)


def test_what_a_population_fit_took_from_its_prior_is_not_counted_twice(tmp_path):
    curve = curve_of(80, (24, 96))
    alone = tac_model("mono", Known(LU177.half_life_h))(curve)
    (case,) = read_earlier([written(tmp_path / "c1.json", curve, method="population")], LU177)
    cycle = case.cycles["kidney_left"]
    # the posterior is normal only nearly, and the mono fit's own uncertainty is a linear one: 15 %
    assert LN2 / (cycle.rate_per_h + LU177.decay_per_h) == pytest.approx(80, rel=0.02)
    assert cycle.log_sd == pytest.approx(LN2 / 80**2 * alone.effective_half_life_sd_h / cycle.rate_per_h, rel=0.15)


def test_a_network_s_curve_counts_like_a_population_s_with_its_slowest_phase_alone(tmp_path):
    curve = curve_of(80, (24, 96))
    (of_network,) = read_earlier([written(tmp_path / "c1.json", curve, method="neural")], LU177)
    (of_population,) = read_earlier([written(tmp_path / "c2.json", curve, method="population")], LU177)
    cycle, other = (case.cycles["kidney_left"] for case in (of_network, of_population))
    assert cycle.shape == ((1.0, 1.0),)
    # two readings of two scans: alike within their uncertainty
    assert np.log(cycle.rate_per_h) == pytest.approx(np.log(other.rate_per_h), abs=other.log_sd)
    assert cycle.log_sd == pytest.approx(other.log_sd, rel=0.3)


def test_an_assumed_half_life_is_not_a_measurement(tmp_path):
    path = written(tmp_path / "c1.json", curve_of(50, (72,)), curve_of(50, (24, 96, 168), region="spleen"))
    (case,) = read_earlier([path], LU177)
    assert set(case.cycles) == {"spleen"}
    with pytest.raises(DosimetryError, match=r"--prior c2.json: no region of the earlier cycle has a measured half-life"):
        read_earlier([written(tmp_path / "c2.json", curve_of(50, (72,)))], LU177)


def test_lesions_carry_over_only_where_the_caller_vouches_for_their_names(tmp_path):
    path = written(tmp_path / "c1.json", curve_of(90, (24, 96, 168), region="lesion_1"), curve_of(50, (24, 96, 168)))
    cases = read_earlier([path], LU177)
    assert set(by_region(cases, lesions=True)) == {"lesion_1", "kidney_left"}
    assert set(by_region(cases, lesions=False)) == {"kidney_left"}


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "not the results of an earlier cycle"), ('{"schema": "other/1"}', "not the results"), ('["mrtai.fits/1"]', "not the results")],
)
def test_foreign_files_are_refused(tmp_path, content, words):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(DosimetryError, match=words):
        read_earlier([path], LU177)
    with pytest.raises(DosimetryError, match="missing"):
        read_earlier([tmp_path / "none.json"], LU177)


def test_another_nuclide_is_refused(tmp_path):
    with pytest.raises(DosimetryError, match="another nuclide; found Lu-177 then, I-131 now"):
        read_earlier([written(tmp_path / "c1.json", curve_of(50, (24, 96, 168)))], nuclide("I-131"))


def case_folder(folder, given_at, agent=None):
    """Write the sample report's results as an earlier CASE, given at another time."""
    report = sample_report()
    document = results(report)
    document["administrations"][0]["time"] = given_at.isoformat()
    for region in document["regions"]:
        region["kinetics"]["effective_half_life_sd_h"] = 2.0
    if agent:
        document["administrations"][0]["agent"] = agent
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(document))
    return folder, report.aligned.cycle


def test_only_the_same_patients_earlier_cycles_of_the_same_agent_count(tmp_path):
    cycle = sample_report().aligned.cycle
    at = cycle.administration.at
    before, _ = case_folder(tmp_path / "before", at - timedelta(days=56))
    nuclide_of = nuclide(cycle.administration.nuclide)
    cases = read_earlier([before], nuclide_of)
    require_same_patient(cases, cycle)
    with pytest.raises(DosimetryError, match="another patient's") as refused:
        require_same_patient(cases, replace(cycle, pseudonym="P-other"))
    assert cycle.pseudonym not in str(refused.value) and "P-other" not in str(refused.value)
    later, _ = case_folder(tmp_path / "later", at)
    with pytest.raises(DosimetryError, match="not earlier"):
        require_same_patient(read_earlier([later], nuclide_of), cycle)
    other, _ = case_folder(tmp_path / "other", at - timedelta(days=56), agent="PSMA-617")
    with pytest.raises(DosimetryError, match="another agent"):
        require_same_patient(read_earlier([other], nuclide_of), cycle)


def test_cases_are_put_in_the_order_of_their_administrations(tmp_path):
    at = sample_report().aligned.cycle.administration.at
    second, _ = case_folder(tmp_path / "second", at - timedelta(days=56))
    first, _ = case_folder(tmp_path / "first", at - timedelta(days=112))
    times = [case.administered_at for case in read_earlier([second, first], LU177)]
    assert times == sorted(times)
