"""A camera's calibration from noise-free phantoms in closed form."""

from dataclasses import replace

import numpy as np
import pytest

from mrtai.physics.calibrate import camera_fit, fitted_recovery
from mrtai.physics.dead_time import dead_time_of, fitted_dead_time
from mrtai.physics.recovery import coefficient, used
from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.values.calibration import GaussianRecovery, Recovery
from mrtai.values.phantom import Sphere, SphereRecovery
from mrtai.values.refusal import DosimetryError
from tests.physics.blurred_spheres import GRID, HALF_LIFE_H, SENSITIVITY, SPHERES, phantom, scan

CURVE = Recovery(5.0, 0.8)
DIAMETERS_MM = (10.0, 13.0, 17.0, 22.0, 28.0, 37.0, 60.0)


def fitted(scans, hours, filled):
    return camera_fit(scans, hours, filled, HALF_LIFE_H)


def spheres(noise_sd, deviations=None):
    volumes = [np.pi / 6 * (d / 10) ** 3 for d in DIAMETERS_MM]
    deviations = np.zeros(len(volumes)) if deviations is None else deviations
    return [SphereRecovery(d, v, coefficient(CURVE, v) + e, noise_sd) for d, v, e in zip(DIAMETERS_MM, volumes, deviations, strict=True)]


def test_sensitivity_is_counts_over_what_decayed_meanwhile():
    filled = phantom()
    for t_h in (0.0, 3.0, 160.0):
        fit = fitted([scan(filled, t_h=t_h)], [t_h], filled)
        assert fit.sensitivity_cps_per_mbq == pytest.approx(SENSITIVITY, rel=1e-9)


def test_the_sensitivity_is_as_uncertain_as_the_dose_calibrator_and_the_counts():
    filled = phantom(activity_sd=0.016)
    tomogram = scan(filled)
    fit = fitted([tomogram], [3.0], filled)
    edge = 1 - tomogram.counts[1:-1, 1:-1, 1:-1].sum() / tomogram.counts.sum()
    expected = np.sqrt(0.016**2 + 1 / tomogram.recorded_counts + edge**2)
    assert fit.sensitivity_sd / fit.sensitivity_cps_per_mbq == pytest.approx(expected, rel=1e-6)


def test_a_uniform_phantom_gives_the_sensitivity_alone():
    uniform = phantom(())
    fit = fitted([scan(uniform)], [3.0], uniform)
    assert fit.sensitivity_cps_per_mbq == pytest.approx(SENSITIVITY, rel=1e-9)
    assert (fit.recovery, fit.spheres, fit.shifts_mm) == (None, (), ((0.0, 0.0, 0.0),))


def test_recoveries_do_not_depend_on_where_the_phantom_lies():
    filled = phantom()
    here = fitted([scan(filled)], [3.0], filled)
    there = fitted([scan(filled, shift_mm=(6.0, -5.0, 3.0))], [3.0], filled)
    rc = [one.coefficient for one in here.spheres]
    assert [one.coefficient for one in there.spheres] == pytest.approx(rc, abs=0.01)
    # without looking for it the 16 mm sphere would have lost half
    assert rc[0] > 0.3


def test_an_error_of_the_dose_calibrator_does_not_reach_the_recovery():
    filled = phantom()
    tomogram = scan(filled)
    wrong = replace(
        filled,
        activity_bq=1.1 * filled.activity_bq,
        spheres=tuple(replace(one, concentration_bq_per_ml=1.1 * one.concentration_bq_per_ml) for one in SPHERES),
    )
    right, off = fitted([tomogram], [3.0], filled), fitted([tomogram], [3.0], wrong)
    assert off.sensitivity_cps_per_mbq == pytest.approx(right.sensitivity_cps_per_mbq / 1.1)
    assert [one.coefficient for one in off.spheres] == pytest.approx([one.coefficient for one in right.spheres])


def test_a_curve_of_that_form_is_found_exactly():
    recovery, between = fitted_recovery(spheres(0.01))
    assert (recovery.beta_ml, recovery.gamma) == pytest.approx((5.0, 0.8), rel=1e-5)
    assert between == 0.0


def test_spheres_under_a_gaussian_and_a_haze_give_that_curve_and_it_counts():
    volumes_ml = np.pi / 6000 * np.array(DIAMETERS_MM) ** 3
    rc = 0.94 * content_ml(volumes_ml, volumes_ml, 11.0) / volumes_ml
    recovery, between = fitted_recovery([SphereRecovery(*one, 1e-4) for one in zip(DIAMETERS_MM, volumes_ml, rc, strict=True)])
    assert (recovery.gaussian.fwhm_mm, recovery.gaussian.plateau) == pytest.approx((11.0, 0.94), rel=1e-4)
    assert between < 1e-6
    # what the guidance's formula is off such spheres by, why it does not count
    assert recovery.scatter > 0.02


def test_where_luck_may_have_brought_spheres_closer_the_guidances_formula_counts():
    rng = np.random.default_rng(8)
    others = [fitted_recovery(spheres(0.002, rng.normal(0, 0.03, len(DIAMETERS_MM))))[0].gaussian for _ in range(60)]
    assert sum(gaussian is not None for gaussian in others) <= 6


def test_a_plateau_that_no_camera_has_is_no_curve():
    few = [SphereRecovery(d, np.pi / 6 * (d / 10) ** 3, rc, 1.4e-4) for d, rc in ((8.0, 0.34), (10.0, 0.58), (13.0, 1.06))]
    assert fitted_recovery(few)[0].gaussian is None
    for plateau in (0.4, 95.3):
        with pytest.raises(ValueError, match="plateau"):
            GaussianRecovery(11.0, plateau)


def test_the_covariance_is_that_of_many_fits():
    rng = np.random.default_rng(5)
    noise, draws = 0.01, []
    for _ in range(400):
        recovery, _ = fitted_recovery(spheres(noise, rng.normal(0, noise, len(DIAMETERS_MM))))
        draws.append((recovery.beta_ml, recovery.gamma))
    stated, _ = fitted_recovery(spheres(noise))
    found = np.cov(np.array(draws).T)
    # 400 draws tell a variance to 7 %
    assert np.diag(stated.covariance) == pytest.approx(np.diag(found), rel=0.25)
    assert stated.covariance[0][1] / np.sqrt(np.prod(np.diag(stated.covariance))) == pytest.approx(
        found[0, 1] / np.sqrt(found[0, 0] * found[1, 1]), abs=0.1
    )


def test_scatter_beyond_the_noise_widens_the_curve():
    rng = np.random.default_rng(6)
    scatters, shares = [], []
    for _ in range(60):
        recovery, between = fitted_recovery(spheres(0.002, rng.normal(0, 0.03, len(DIAMETERS_MM))))
        scatters.append(between)
        assert used(recovery).scatter == between
        shares.append((recovery.beta_ml - 5.0) / np.sqrt(recovery.covariance[0][0]))
    assert np.mean(scatters) == pytest.approx(0.03, rel=0.2)
    # a standardised error: 1, up to the few degrees of freedom
    assert 0.7 < np.std(shares) < 1.6


def test_tau_is_found_from_decaying_activity():
    activity, k, tau_s = np.array([2000.0, 1200.0, 600.0, 200.0]), 4.0, 5e-6
    rate = k * activity
    observed = rate * np.exp(-rate * tau_s)
    found, sd, slope = fitted_dead_time(activity, observed, 0.001 * observed)
    assert found == pytest.approx(tau_s, rel=1e-5)
    assert slope == pytest.approx(k, rel=1e-5)
    assert 0 < sd < tau_s


def test_dead_time_is_corrected_in_the_sensitivity():
    filled = phantom()
    big = replace(filled, activity_bq=200 * filled.activity_bq, spheres=tuple(Sphere(s.diameter_mm, s.centre_mm, 2e8) for s in SPHERES))
    hours = [2.0, 100.0, 300.0]
    fit = fitted([scan(big, t_h=t_h, tau_us=5.0) for t_h in hours], hours, big)
    assert fit.dead_time.tau_us == pytest.approx(5.0, rel=1e-4)
    assert fit.dead_time.factors[0] > 1.05
    assert fit.sensitivity_cps_per_mbq == pytest.approx(SENSITIVITY, rel=1e-5)
    one = fitted([scan(big, t_h=2.0, tau_us=5.0)], [2.0], big)
    assert one.sensitivity_cps_per_mbq < 0.96 * SENSITIVITY
    assert [a.coefficient for a in fit.spheres] == pytest.approx([b.coefficient for b in one.spheres], abs=1e-3)


def test_a_paralysed_camera_is_refused():
    filled = phantom()
    big = replace(filled, activity_bq=2000 * filled.activity_bq, spheres=())
    hours = [2.0, 100.0, 300.0, 500.0]
    scans = [scan(big, t_h=t_h, tau_us=5.0) for t_h in hours]
    assert scans[0].recorded_counts < scans[1].recorded_counts
    with pytest.raises(DosimetryError, match="the camera was paralysed; found a true rate of"):
        fitted(scans, hours, big)


def test_no_dead_time_is_stated_where_none_can_be_seen():
    filled = phantom()
    scans = [scan(filled, t_h=t_h) for t_h in (2.0, 300.0)]
    activity = np.array([100.0, 100.0 * scans[1].counts.sum() / scans[0].counts.sum()])
    assert dead_time_of(scans[:1], activity[:1]) == (None, "needs scans of activities that differ by a factor of 2")
    assert dead_time_of(scans, activity)[1].startswith("not seen: ")
    silent = [replace(one, recorded_counts=None) for one in scans]
    assert dead_time_of(silent, activity) == (None, "a scan does not state its recorded counts (0018,0070)")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"spheres": SPHERES[:2]}, "TOO_FEW_SPHERES"),
        ({"spheres": (*SPHERES, Sphere(20.0, (0.0, 0.0, 75.0), 1e6))}, "SPHERE_OUT_OF_VIEW"),
        ({"spheres": (*SPHERES, Sphere(20.0, (0.0, 0.0, 0.0), 1e5)), "background_bq_per_ml": 1e5}, "NO_CONTRAST"),
    ],
)
def test_a_phantom_that_cannot_calibrate_is_refused(change, code):
    filled = phantom()
    with pytest.raises(DosimetryError) as refusal:
        fitted([scan(filled)], [3.0], replace(filled, **change))
    assert refusal.value.code == code


def test_a_scan_without_counts_or_with_a_cut_phantom_is_refused():
    filled = phantom()
    tomogram = scan(filled)
    with pytest.raises(DosimetryError, match="no counts"):
        fitted([replace(tomogram, counts=np.zeros(GRID.shape))], [3.0], filled)
    cut = tomogram.counts.copy()
    cut[-1] = cut[20]
    with pytest.raises(DosimetryError, match=r"the phantom is not all in view; found [0-9]+% of the counts in the outermost voxels"):
        fitted([replace(tomogram, counts=cut)], [3.0], filled)


def test_recoveries_without_a_curve_are_refused():
    flat = [SphereRecovery(d, np.pi / 6 * (d / 10) ** 3, -0.2, 0.01) for d in DIAMETERS_MM]
    with pytest.raises(DosimetryError, match="the recovery curve cannot be fitted"):
        fitted_recovery(flat)
