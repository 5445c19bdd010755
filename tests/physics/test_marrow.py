"""Red marrow from blood and from the image: closed forms, ratios, limits, and what must be said aloud."""

from dataclasses import replace

import numpy as np
import pytest

from mrtai.engines import known_beside, tac_model
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.tables import nuclide
from mrtai.physics.chain import chain
from mrtai.physics.marrow import marrow_doses, rmblr, with_progeny
from mrtai.values.chain import Progeny
from mrtai.values.curve import Curve, Fit
from mrtai.values.flag import Severity
from mrtai.values.marrow import BloodSamples
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import DoseStatistics, Dvh, RegionDose

LU177 = nuclide("Lu-177")
MONO = tac_model("mono", known_beside(LU177))
C0_BQ_PER_ML, HALF_LIFE_H = 5.0e4, 20.0
C_TILDE = C0_BQ_PER_ML * HALF_LIFE_H * 3600 / np.log(2)
# by hand: 0.14792 MeV of electrons per decay (ICRP 107), 1.602e-13 J/MeV, one gram
BY_HAND_GY = C_TILDE * 0.14792 * 1.602177e-13 / 1e-3


def blood(relative_sd=0.03, **values):
    t_h = np.array([1.0, 4.0, 12.0, 24.0, 48.0])
    activity = C0_BQ_PER_ML * 0.5 ** (t_h / HALF_LIFE_H)
    return BloodSamples(Curve("blood", t_h, activity, relative_sd * activity), **values)


def region(name, mean_gy, volume_ml=100.0, *, photon_gy=0.0, tia_bq_s=1e12, sd_gy=None):
    dose = DoseStatistics(mean_gy, sd_gy, 0.0, 0.0, mean_gy, {}, {"electron": mean_gy - photon_gy, "photon": photon_gy}, Dvh((), ()))
    curve = Curve(name, np.array([24.0]), np.array([1e6]), np.array([np.nan]))
    fit = Fit(curve, "auto", "mono", {}, np.empty((0, 0)), np.empty((0, 2)), tia_bq_s, None, 50.0, 0.0, 0.0, "")
    return RegionDose(name, "organ", (), None, None, (1,), volume_ml, volume_ml * 1e-3, fit, dose, None)


def withheld(name):
    return replace(region(name, 1.0), fit=None, dose=None)


def doses(*regions, samples=None, agent="DOTATATE", limit_gy=None, decay=LU177, model=MONO):
    found = marrow_doses(regions, samples, agent, decay, model, limit_gy)
    return {dose.method: dose for dose in found}


def codes(dose):
    return {flag.code for flag in dose.flags}


def test_the_blood_dose_of_one_exponential_is_its_closed_form():
    found = doses(samples=blood())["blood"]
    # the fit recovers a noise-free exponential to its own stopping rule; the energy is rounded to five digits
    assert found.absorbed_dose_gy == pytest.approx(BY_HAND_GY, rel=1e-4)
    assert found.tia_bq_s == pytest.approx(C_TILDE * 1170.0, rel=1e-5)
    assert found.text.startswith("blood samples (5)") and "RMBLR 1 " in found.text and "photons not counted" in found.text
    assert found.rmblr == 1.0 and found.region is None


def test_the_marrow_mass_cancels_in_the_dose_and_scales_its_decays():
    light, heavy = (doses(samples=blood(marrow_mass_kg=kg))["blood"] for kg in (0.6, 1.8))
    assert heavy.absorbed_dose_gy == pytest.approx(light.absorbed_dose_gy, rel=1e-12)
    assert heavy.tia_bq_s == pytest.approx(3.0 * light.tia_bq_s, rel=1e-12)


@pytest.mark.parametrize(
    "agent", ["DOTATATE", "177Lu-DOTATATE", "[177Lu]Lu-DOTA-TATE", "Lutetium (177Lu) oxodotreotide", "DOTA-0-Tyr3-octreotate"]
)
def test_dotatate_is_in_marrow_as_in_blood_whatever_the_haematocrit(agent):
    assert rmblr(agent, None) == rmblr(agent, 0.3) == 1.0


def test_other_agents_fill_the_extracellular_share_of_the_marrow():
    assert rmblr("PSMA-617", 0.42) == pytest.approx(0.19 / 0.58)
    # blood without cells is all plasma
    assert rmblr("PSMA-617", 1e-12) == pytest.approx(0.19)
    found = doses(samples=blood(haematocrit=0.42), agent="PSMA-617")["blood"]
    assert found.absorbed_dose_gy == pytest.approx(BY_HAND_GY * 0.19 / 0.58, rel=1e-4)
    assert found.haematocrit == 0.42 and "0.19/(1 - 0.42)" in found.text


def test_an_agent_that_needs_a_haematocrit_says_so_and_gives_no_number():
    with pytest.raises(DosimetryError, match=r"needs a haematocrit.*study\.toml"):
        rmblr("PSMA-617", None)
    found = doses(region("spine", 0.1), samples=blood(), agent="PSMA-617")
    assert found["blood"].absorbed_dose_gy is found["blood"].tia_bq_s is None
    assert codes(found["blood"]) == {"HAEMATOCRIT_MISSING"}
    assert found["blood"].flags[0].severity is Severity.WITHHELD
    assert found["image"].absorbed_dose_gy == 0.1


def test_a_curve_that_cannot_be_fitted_withholds_the_blood_dose_alone():
    short = blood().curve
    samples = BloodSamples(Curve("blood", short.t_h[:1], short.activity_bq[:1], short.activity_sd_bq[:1]))
    found = doses(region("spine", 0.1), samples=samples)
    assert found["blood"].absorbed_dose_gy is None
    assert codes(found["blood"]) == {"TOO_FEW_POINTS"}
    assert found["image"].flags == ()


def test_the_blood_uncertainty_is_that_of_the_fit_and_of_the_ratio():
    # without noise in the fit only the 15 % of the ratio are left; 1e-6 relative of the fit adds nothing visible
    exact = doses(samples=blood(relative_sd=1e-6))["blood"]
    assert exact.absorbed_dose_sd_gy / exact.absorbed_dose_gy == pytest.approx(0.15, rel=1e-4)
    noisy = doses(samples=blood(relative_sd=0.2))["blood"]
    fit = MONO(blood(relative_sd=0.2).curve)
    assert noisy.absorbed_dose_sd_gy / noisy.absorbed_dose_gy == pytest.approx(np.hypot(fit.tia_sd_bq_s / fit.tia_bq_s, 0.15), rel=1e-9)


def test_photons_reach_the_blood_dose_from_the_map_where_a_region_shows_them():
    alone = doses(samples=blood())["blood"]
    joined = doses(region("spine", 0.5, photon_gy=0.04, sd_gy=0.05), samples=blood())["blood"]
    assert joined.absorbed_dose_gy - alone.absorbed_dose_gy == pytest.approx(0.04)
    # the photons' 10 % are those of the region's mean
    assert joined.absorbed_dose_sd_gy == pytest.approx(np.hypot(alone.absorbed_dose_sd_gy, 0.004), rel=1e-9)
    assert "photons of the dose map in spine" in joined.text


def test_the_contour_of_the_marrow_goes_before_the_spine_and_the_spine_before_vertebrae():
    rows = [region("vertebrae_L1", 0.3), region("spine", 0.2), region("red_marrow", 0.1)]
    for n, name in ((3, "red_marrow"), (2, "spine"), (1, "vertebrae_L1")):
        found = doses(*rows[:n])["image"]
        assert found.region == name and found.absorbed_dose_gy == rows[n - 1].dose.mean_gy
    assert doses(region("spinal_cord", 1.0), region("liver", 1.0)) == {}


def test_vertebrae_are_averaged_by_volume_and_their_decays_added():
    found = doses(region("vertebrae_L1", 0.2, 10.0, sd_gy=0.02), region("vertebrae_L2", 0.5, 30.0, sd_gy=0.03))["image"]
    assert found.region == "vertebrae" and "2 contours" in found.text
    assert found.absorbed_dose_gy == pytest.approx((0.2 * 10 + 0.5 * 30) / 40)
    assert found.absorbed_dose_sd_gy == pytest.approx((0.02 * 10 + 0.03 * 30) / 40)
    assert found.volume_ml == 40.0 and found.tia_bq_s == 2e12


def test_a_region_without_dose_is_passed_over_or_said_to_be_missing():
    assert doses(withheld("red_marrow"), region("spine", 0.2))["image"].region == "spine"
    partly = doses(region("vertebrae_L1", 0.2), withheld("vertebrae_L2"))["image"]
    assert partly.absorbed_dose_gy == 0.2 and "vertebrae_L2" in partly.flags[0].text
    gone = doses(withheld("spine"))["image"]
    assert gone.absorbed_dose_gy is None and gone.flags[0].severity is Severity.WITHHELD


def test_both_methods_stand_side_by_side_and_a_factor_of_two_is_told_on_both():
    near = doses(region("spine", 1.9 * BY_HAND_GY), samples=blood())
    assert list(near) == ["blood", "image"] and near["blood"].flags == near["image"].flags == ()
    far = doses(region("spine", 4.0 * BY_HAND_GY), samples=blood())
    assert codes(far["blood"]) == codes(far["image"]) == {"MARROW_METHODS_DIFFER"}
    text = far["blood"].flags[0].text
    assert f"{4.0 * BY_HAND_GY:.3g} Gy by image" in text and f"{far['blood'].absorbed_dose_gy:.3g} Gy by blood" in text
    assert "16 patients" in text


def test_the_limit_is_told_of_blood_and_of_a_stand_in_but_once_of_the_contour_itself():
    found = doses(region("spine", 1.5 * BY_HAND_GY), samples=blood(), limit_gy=0.5 * BY_HAND_GY)
    assert codes(found["blood"]) == codes(found["image"]) == {"DOSE_ABOVE_LIMIT"}
    assert "blood-based" in found["blood"].flags[0].text
    itself = doses(region("red_marrow", 1.5 * BY_HAND_GY), samples=blood(), limit_gy=0.5 * BY_HAND_GY)
    assert codes(itself["image"]) == set()
    assert codes(doses(samples=blood(), limit_gy=1.01 * BY_HAND_GY)["blood"]) == set()


def test_alphas_and_progeny_are_left_in_the_marrow_where_they_stay():
    ac225 = chain("Ac-225", NUCLEAR_DATA)
    alone, all_stay, half_leave = (with_progeny(ac225, p) for p in (Progeny("none"), Progeny(), Progeny(free_fraction=0.5)))
    assert alone == ac225.parent
    energy = all_stay.alpha_mev_per_decay + all_stay.electron_mev_per_decay
    assert energy == pytest.approx(ac225.energy_mev["alpha"] + ac225.energy_mev["electron"])
    assert half_leave.alpha_mev_per_decay == pytest.approx((alone.alpha_mev_per_decay + all_stay.alpha_mev_per_decay) / 2)
    found = doses(samples=blood(), decay=all_stay)["blood"]
    assert found.absorbed_dose_gy == pytest.approx(C_TILDE * energy * 1.602177e-13 / 1e-3, rel=1e-5)


@pytest.mark.parametrize("values", [{"haematocrit": 0.0}, {"haematocrit": 42.0}, {"marrow_mass_kg": 0.0}, {"marrow_mass_kg": float("inf")}])
def test_impossible_blood_is_no_value(values):
    with pytest.raises(ValueError, match="blood"):
        blood(**values)
