import numpy as np
import pytest

from mrtai.io.priors import agent_priors
from mrtai.physics.next_scan import LATEST_H, next_scan
from mrtai.physics.population import posterior
from mrtai.values.curve import Curve
from mrtai.values.half_life import Known
from mrtai.values.refusal import DosimetryError

KNOWN = Known(159.528, agent_priors("DOTATATE").kinetics)


def curve_of(region, t_h, half_life_h=50.0, relative_sd=0.05):
    t = np.array(t_h, dtype=float)
    activity = 1e8 * np.exp2(-t / half_life_h)
    return Curve(region, t, activity, relative_sd * activity)


def ln_sd(after):
    ln = np.log(after.tia_bq_h)
    return float(np.sqrt(after.weight @ np.square(ln - after.weight @ ln)))


def test_the_expected_uncertainty_is_the_mean_over_scans_that_were_really_made():
    curve = curve_of("kidney_left", (24,))
    found = next_scan({"kidney_left": curve}, KNOWN)
    prior, rng, left = KNOWN.prior("kidney_left"), np.random.default_rng(0), []
    before = posterior(curve, prior, KNOWN.physical_per_h)
    drawn = rng.choice(before.weight.size, 400, p=before.weight)
    for index in drawn:
        activity = before.activity_bq(found.time_h)[index]
        sd = np.hypot(0.05 * activity, 0.01 * curve.activity_bq.max())
        b = max(activity + sd * rng.standard_normal(), 3 * sd)
        both = Curve("kidney_left", [24.0, found.time_h], [curve.activity_bq[0], b], [curve.activity_sd_bq[0], sd])
        left.append(ln_sd(posterior(both, prior, KNOWN.physical_per_h)))
    # noise of the imagined scan is taken log-normal, which matters where little is left: 5 %, and 1 % of 400 draws
    assert found.relative_sd_then["kidney_left"] == pytest.approx(np.mean(left), rel=0.06)
    assert found.relative_sd_now["kidney_left"] == pytest.approx(ln_sd(before), rel=1e-12)
    assert found.relative_sd_then["kidney_left"] < 0.5 * found.relative_sd_now["kidney_left"]


def test_the_proposal_is_the_smallest_of_its_candidates_and_lies_in_the_next_days():
    found = next_scan({"kidney_left": curve_of("kidney_left", (24, 48)), "spleen": curve_of("spleen", (24, 48), 70)}, KNOWN)
    times, sds = zip(*found.candidates, strict=True)
    assert found.time_h == times[int(np.argmin(sds))]
    assert min(times) > 48 and max(times) <= 48 + LATEST_H


def test_a_slow_region_asks_for_a_later_scan_than_a_fast_one():
    fast = next_scan({"kidney_left": curve_of("kidney_left", (4, 24), 30)}, KNOWN).time_h
    slow = next_scan({"kidney_left": curve_of("kidney_left", (4, 24), 90)}, KNOWN).time_h
    assert slow > fast + 24


def test_a_region_without_priors_is_refused():
    with pytest.raises(DosimetryError, match="stomach"):
        next_scan({"stomach": curve_of("stomach", (24,))}, KNOWN)
