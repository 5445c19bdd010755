"""Lesions beside organs: lesions win, physiological uptake is left out, names are kept, and a model that is missing is told."""

import numpy as np
import pytest

from mrtai.engines.lesions import Look, draw_lesions_on
from mrtai.values.grid import Grid
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import PriorPet
from tests.physics.lesion_phantoms import GRID, ball, body, radius_of_ml, seen
from tests.physics.lesion_phantoms import organs as labelled

CT_GRID = Grid.axial((77, 90, 102), (3.0, 3.0, 3.0))
KIDNEYS = {"kidney_left": ((60, 40, -30), 28), "kidney_right": ((-60, 40, -30), 28)}
LIVER = {"liver": ((-40, -10, 30), 50)}


def patient(*lesions, liver_contrast=8.0):
    """Return the image of a body with liver and kidneys, and of lesions given as (centre, mL, concentration)."""
    truth = body() + 29 * sum(ball(*place) for place in KIDNEYS.values()) + (liver_contrast - 1) * ball(*LIVER["liver"])
    for centre, volume_ml, height in lesions:
        truth = truth + height * ball(centre, radius_of_ml(volume_ml))
    return seen(truth)


ORGANS = labelled(CT_GRID, **LIVER, **KIDNEYS)
IN_LIVER = ((-45, -15, 35), 12.0, 20.0)
NODE = ((30, -30, -60), 10.0, 15.0)


@pytest.mark.parametrize("name", ["threshold", "adaptive", "gradient"])
def test_lesions_are_drawn_beside_organs_and_win_over_them(name):
    labels = draw_lesions_on(name, Look(patient(IN_LIVER, NODE)), ORGANS)
    assert list(labels.names.values()) == ["liver", "kidney_left", "kidney_right", "lesion_1", "lesion_2"]
    assert labels.grid.same_as(CT_GRID)
    inside = ball(IN_LIVER[0], radius_of_ml(12), CT_GRID) > 0.9
    assert labels.mask("lesion_1")[inside].mean() > 0.85
    assert not np.any(labels.mask("liver") & labels.mask("lesion_1"))
    assert np.array_equal(labels.mask("kidney_left"), ORGANS.mask("kidney_left"))
    both = labels.mask("liver") | labels.mask("lesion_1")
    assert np.all(both[ORGANS.mask("liver")])
    assert labels.origin == f"given, lesions: {name}"
    assert labels.flags == {}


def test_volumes_are_the_same_on_the_grid_of_the_ct():
    drawn = draw_lesions_on("adaptive", Look(patient(NODE)), ORGANS)
    coarse = draw_lesions_on("adaptive", Look(patient(NODE)), labelled(GRID, **LIVER, **KIDNEYS))
    volumes = [labels.mask("lesion_1").sum() * labels.grid.voxel_ml for labels in (drawn, coarse)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.06)


def test_without_kidneys_among_the_contours_the_lesions_are_doubted():
    labels = draw_lesions_on("adaptive", Look(patient(NODE)), labelled(CT_GRID, **LIVER))
    assert [flag.code for flag in labels.flags[""]] == ["LESIONS_WITHOUT_ORGANS"]
    assert sum(name.startswith("lesion_") for name in labels.names.values()) == 3


def test_lesions_that_somebody_drew_stay_alone():
    given = labelled(CT_GRID, **KIDNEYS, lesion_1=(NODE[0], 12))
    assert draw_lesions_on("adaptive", Look(patient(NODE, IN_LIVER)), given) is given
    assert draw_lesions_on("none", Look(patient(NODE)), ORGANS) is ORGANS


def test_a_name_without_a_model_is_refused():
    with pytest.raises(DosimetryError, match=r"no model of that name draws lesions.*'lesions'.*adaptive") as refused:
        draw_lesions_on("lesions", Look(patient(NODE)), ORGANS)
    assert refused.value.code == "UNKNOWN_MODEL"


def test_lesions_beyond_the_contours_image_are_told():
    low = Grid.axial((40, 90, 102), (3.0, 3.0, 3.0), (-151.5, -133.5, -60.0))
    labels = draw_lesions_on("adaptive", Look(patient(NODE, ((0, 0, 80), 10, 15))), labelled(low, **KIDNEYS))
    assert "LESIONS_OUTSIDE_CONTOURS" in [flag.code for flag in labels.flags[""]]
    assert "lesion_1" in labels.names.values()


PET_GRID = Grid.axial((64, 76, 88), (3.5, 3.5, 3.5))
FAINT = ((30, -30, -60), 4.0)


def pet(*lesions, shift_mm=(0.0, 0.0, 0.0), noise=0.05):
    """Return a PET of the same patient with hot lesions, given as (centre, mL), lying elsewhere by ``shift_mm``."""
    truth = body(PET_GRID) + 29 * sum(ball(*place, PET_GRID) for place in KIDNEYS.values()) + 4 * ball(*LIVER["liver"], PET_GRID)
    for centre, volume_ml in lesions:
        truth = truth + 25 * ball(centre, radius_of_ml(volume_ml), PET_GRID)
    image = seen(truth, grid=PET_GRID, fwhm_mm=6.5, noise=noise, seed=5)
    moved = np.eye(4)
    moved[:3, 3] = shift_mm
    return image.on(image.grid.moved(moved))


def lesion_names(labels):
    return [name for name in labels.names.values() if name.startswith("lesion_")]


def test_a_pet_before_the_therapy_shows_a_lesion_too_faint_for_the_spect():
    # 4 mL at 3.2 times the background: a third of the contrast is left at this resolution
    spect = patient((*FAINT, 3.2))
    assert lesion_names(draw_lesions_on("adaptive", Look(spect), ORGANS)) == []
    labels = draw_lesions_on("adaptive", Look(spect), ORGANS, prior=PriorPet(pet(FAINT)))
    assert [flag.code for flag in labels.flags["lesion_1"]] == ["LESION_FOUND_BY_PET"]
    assert labels.mask("lesion_1")[ball(FAINT[0], 6, CT_GRID) > 0.9].mean() > 0.8


def test_a_lesion_that_only_the_pet_shows_keeps_its_contour_and_is_flagged():
    labels = draw_lesions_on("adaptive", Look(patient()), ORGANS, prior=PriorPet(pet(FAINT)))
    assert [flag.code for flag in labels.flags["lesion_1"]] == ["LESION_NOT_SEEN_IN_SPECT"]
    assert labels.mask("lesion_1").sum() * CT_GRID.voxel_ml == pytest.approx(4.0, rel=0.3)


def test_a_lesion_that_both_show_is_one_and_drawn_on_the_spect():
    alone = draw_lesions_on("adaptive", Look(patient(NODE)), ORGANS)
    both = draw_lesions_on("adaptive", Look(patient(NODE)), ORGANS, prior=PriorPet(pet(NODE[:2])))
    assert np.array_equal(alone.voxels, both.voxels)
    assert both.flags == {}


def test_a_pet_that_lies_elsewhere_is_registered_first():
    far = pet(FAINT, shift_mm=(24.0, -18.0, 30.0))
    labels = draw_lesions_on("adaptive", Look(patient((*FAINT, 3.2))), ORGANS, prior=PriorPet(far))
    assert lesion_names(labels) == ["lesion_1"]
    assert labels.mask("lesion_1")[ball(FAINT[0], 6, CT_GRID) > 0.9].mean() > 0.6


def test_lesions_of_the_pet_beyond_the_view_are_told():
    low = Grid.axial((30, 56, 64), (4.8, 4.8, 4.8), (-151.2, -132.0, -112.8))
    truth = body(low) + 29 * sum(ball(*place, low) for place in KIDNEYS.values()) + 7 * ball(*LIVER["liver"], low)
    labels = draw_lesions_on("adaptive", Look(seen(truth, grid=low)), ORGANS, prior=PriorPet(pet(((0, 0, 85), 4.0))))
    assert "PET_LESIONS_OUT_OF_VIEW" in [flag.code for flag in labels.flags.get("", ())]
    assert lesion_names(labels) == []
