"""Every planted fault of a contour raises its own flag; anatomies without a fault raise none that a person must look at."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mrtai.io.digest import digest
from mrtai.io.nifti import read_image, read_labels
from mrtai.io.value_json import decoded, encoded
from mrtai.physics.contour_gates import CODES, contour_flags
from mrtai.physics.ct_envelope import ct_statistics, envelope_of
from mrtai.physics.organs_in_view import EDGE, organs_in_view
from mrtai.physics.resample import cropped, largest_share
from mrtai.simulate.anatomy import torso
from mrtai.simulate.scanner import ct_image, true_labels
from mrtai.simulate.voxelise import voxelised
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

GRID = Grid.axial((80, 64, 80), (6.0, 6.0, 6.0))
SEEDS = range(20)


def patient(seed):
    """Return true labels and CT of a virtual patient on coarse voxels."""
    rng = np.random.default_rng(seed)
    anatomy = torso(rng)
    voxels = voxelised(anatomy, GRID, per_edge=1)
    return true_labels(anatomy, voxels)[0], ct_image(anatomy, voxels, rng)


@pytest.fixture(scope="module")
def patients():
    return [patient(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def clean(patients):
    return patients[4]


def value_of(labels, name):
    return next(value for value, own in labels.names.items() if own == name)


def drawn(labels, name, mask):
    """Return the labels with region ``name`` where ``mask`` says, and nothing where it was."""
    voxels = np.where(labels.mask(name), 0, labels.voxels)
    return replace(labels, voxels=np.where(mask, value_of(labels, name), voxels))


def part_of(labels, ct, *box):
    box = tuple(slice(*side.indices(n)) for side, n in zip((*box, slice(None), slice(None), slice(None)), ct.grid.shape, strict=False))
    grid = cropped(ct.grid, box)
    return replace(labels, voxels=labels.voxels[box], grid=grid), Image(ct.voxels[box], ct.quantity, grid)


def told(labels, ct, doubt=None, envelope=None, *, all_of_them=False):
    """Return ``{(region, code)}`` of what a person must look at, or of everything."""
    flags = contour_flags(labels, ct, doubt or {}, envelope or {})
    return {(name, flag.code) for name, own in flags.items() for flag in own if all_of_them or flag.severity is not Severity.INFO}


def test_true_contours_of_twenty_patients_have_nothing_to_look_at_but_one_true_asymmetry(patients):
    found, ratios = set(), {}
    for seed, (labels, ct) in enumerate(patients):
        found |= {(seed, *flag) for flag in told(labels, ct)}
        small, large = sorted(labels.mask(f"kidney_{side}").sum() for side in ("left", "right"))
        ratios[seed] = large / small
    assert found == {(13, "kidney_left", "ORGAN_ASYMMETRY"), (13, "kidney_right", "ORGAN_ASYMMETRY")}
    # sizes are drawn at random, and of this patient's kidneys one is half as large again
    assert [seed for seed, ratio in ratios.items() if ratio > 1.5] == [13]


@pytest.mark.parametrize("faded", [1, 2])
def test_an_organ_that_fades_before_the_end_of_the_data_is_cut_and_one_that_ends_there_is_not(clean, faded):
    labels, ct = clean
    liver = labels.mask("liver")
    layers = np.flatnonzero(liver.any(axis=(1, 2)))
    middle, top = int(layers.mean()), int(layers.max())
    seen, narrow = part_of(labels, ct, slice(0, middle))
    mask = seen.mask("liver").copy()
    mask[-faded:] = False  # a model that sees air beyond the end draws it so
    assert ("liver", "ORGAN_CUT") in told(drawn(seen, "liver", mask), narrow)
    whole, wide = part_of(labels, ct, slice(0, top + 1 + faded))
    assert ("liver", "ORGAN_CUT") not in told(whole, wide, all_of_them=True)
    # and the same at the other end, upside down
    low = int(layers.min())
    seen, narrow = part_of(labels, ct, slice(middle, None))
    mask = seen.mask("liver").copy()
    mask[:faded] = False
    assert ("liver", "ORGAN_CUT") in told(drawn(seen, "liver", mask), narrow)
    whole, wide = part_of(labels, ct, slice(low - faded, None))
    assert ("liver", "ORGAN_CUT") not in told(whole, wide, all_of_them=True)


def test_an_organ_cut_by_the_view_is_told_with_the_end_and_its_cross_section(clean):
    labels, ct = clean
    k = int(np.argwhere(labels.mask("liver"))[:, 0].mean())
    flags = contour_flags(*part_of(labels, ct, slice(0, k + 1)), {}, {})
    (flag,) = (flag for flag in flags["liver"] if flag.code == "ORGAN_CUT")
    area_mm2 = int(labels.mask("liver")[k].sum()) * 36
    assert f"head ({area_mm2} mm²)" in flag.text and flag.severity is Severity.REVIEW
    # what a CT of the trunk usually shows in part is only noted
    assert {flag.severity for flag in flags["spine"] if flag.code == "ORGAN_CUT"} == {Severity.INFO}
    assert "urinary_bladder" not in flags


def test_ends_are_named_in_the_patient_however_the_array_lies(clean):
    labels, ct = clean
    k, x = int(np.argwhere(labels.mask("liver"))[:, 0].mean()), int(np.argwhere(labels.mask("spleen"))[:, 2].mean())
    labels, ct = part_of(labels, ct, slice(0, k + 1), slice(None), slice(0, x + 1))
    expected = {"liver": {"head"}, "spleen": {"head", "left"}}
    for axes, signs in itertools.product(((0, 1, 2), (2, 0, 1), (1, 0, 2)), ((1, 1, 1), (-1, 1, -1))):
        flipped = [a for a, sign in enumerate(signs) if sign < 0]
        grid = turned(ct.grid, axes, signs)
        other = [np.flip(voxels.transpose(axes), flipped).copy() for voxels in (labels.voxels, ct.voxels)]
        organs = organs_in_view(replace(labels, voxels=other[0], grid=grid), Image(other[1], ct.quantity, grid))
        assert {name: set(organs[name].cuts_mm2) for name in expected} == expected
        assert organs["liver"].centre_mm == pytest.approx(organs_in_view(labels, ct)["liver"].centre_mm, abs=1e-6)


def turned(grid, axes, signs):
    """Return the grid of ``np.flip(voxels.transpose(axes), …)``, flipped where a sign is negative."""
    columns = [2 - axis for axis in axes][::-1]  # of the new x, y, z
    flips = signs[::-1]
    shape = tuple(grid.shape[axis] for axis in axes)
    last = np.array([(n - 1) if sign < 0 else 0 for n, sign in zip(shape[::-1], flips, strict=True)])
    direction, spacing = grid.direction[:, columns], grid.spacing_mm[columns]
    origin = grid.origin_mm + (direction * spacing) @ last
    return Grid(shape, spacing, origin, direction * np.array(flips))


def test_the_round_border_of_the_reconstruction_cuts_as_the_image_does(clean):
    labels, ct = clean
    _, j, i = np.indices(ct.grid.shape)
    circle = np.hypot(j - 31.5, i - 39.5) < 18  # 108 mm: through liver and spleen
    narrow = Image(np.where(circle, ct.voxels, -2000).astype(np.int16), ct.quantity, ct.grid)
    seen = replace(labels, voxels=np.where(circle, labels.voxels, 0))
    organs = organs_in_view(seen, narrow)
    assert organs["spleen"].cuts_mm2[EDGE] > 0 and organs["liver"].cuts_mm2[EDGE] > 0
    assert {("spleen", "ORGAN_CUT"), ("liver", "ORGAN_CUT")} <= told(seen, narrow)
    assert not any(EDGE in organ.cuts_mm2 for organ in organs_in_view(labels, ct).values())


def test_slices_of_padding_are_no_data(clean):
    labels, ct = clean
    k = int(np.argwhere(labels.mask("liver"))[:, 0].mean())
    padded = ct.voxels.copy()
    padded[k + 1 :] = -1024
    seen = replace(labels, voxels=np.where(np.arange(GRID.shape[0])[:, None, None] > k, 0, labels.voxels))
    organs = organs_in_view(seen, Image(padded, ct.quantity, ct.grid))
    assert set(organs["liver"].cuts_mm2) == {"head"}


def test_swapped_kidneys_are_named_as_swapped_and_as_nothing_else(clean):
    labels, ct = clean
    names = {"kidney_left": "kidney_right", "kidney_right": "kidney_left"}
    swapped = replace(labels, names={value: names.get(name, name) for value, name in labels.names.items()})
    assert told(swapped, ct) == {("kidney_left", "ORGAN_SWAPPED"), ("kidney_right", "ORGAN_SWAPPED")}


def test_a_mirrored_ct_is_told_by_liver_spleen_kidneys_and_lungs(clean):
    labels, ct = clean
    mirrored = replace(labels, voxels=labels.voxels[..., ::-1]), Image(ct.voxels[..., ::-1], ct.quantity, ct.grid)
    swapped = {name for name, code in told(*mirrored) if code == "ORGAN_SWAPPED"}
    assert swapped == {"liver", "spleen", "kidney_left", "kidney_right", "lung_left", "lung_right"}


def test_a_liver_that_runs_over_its_neighbours_is_too_large(clean):
    labels, ct = clean
    swollen = ndimage.binary_dilation(labels.mask("liver"), iterations=5)
    assert ("liver", "ORGAN_VOLUME") in told(drawn(labels, "liver", swollen), ct)


def test_a_kidney_drawn_in_the_pelvis_is_out_of_place(clean):
    labels, ct = clean
    moved = np.roll(labels.mask("kidney_left"), -20, axis=0)  # 120 mm to the feet
    flags = contour_flags(drawn(labels, "kidney_left", moved), ct, {}, {})
    assert {(name, flag.code) for name, own in flags.items() for flag in own} >= {("kidney_left", "ORGAN_POSITION")}
    assert "below the spleen" in next(flag.text for flag in flags["kidney_left"] if flag.code == "ORGAN_POSITION")


def test_one_kidney_across_the_spine_is_out_of_place(clean):
    labels, ct = clean
    alone = drawn(labels, "kidney_left", np.zeros(GRID.shape, dtype=bool))
    across = drawn(alone, "kidney_right", labels.mask("kidney_left"))
    assert ("kidney_right", "ORGAN_POSITION") in told(across, ct)


def test_a_bright_spleen_is_no_phase_of_contrast(clean):
    labels, ct = clean
    hot = Image(np.where(labels.mask("spleen"), ct.voxels + 400, ct.voxels).astype(np.int16), ct.quantity, ct.grid)
    assert told(labels, hot) == {("spleen", "ORGAN_HU")}
    venous = Image(np.where(labels.mask("spleen"), ct.voxels + 90, ct.voxels).astype(np.int16), ct.quantity, ct.grid)
    assert told(labels, venous) == set()


def test_half_a_kidney_is_told_beside_a_whole_one(clean):
    labels, ct = clean
    mask = labels.mask("kidney_right")
    middle = int(np.argwhere(mask)[:, 0].mean())
    half = mask & (np.arange(GRID.shape[0])[:, None, None] > middle)
    assert {("kidney_left", "ORGAN_ASYMMETRY"), ("kidney_right", "ORGAN_ASYMMETRY")} <= told(drawn(labels, "kidney_right", half), ct)


def test_an_organ_in_pieces_is_told_and_a_lesion_that_divides_it_is_none(clean):
    labels, ct = clean
    liver, z = labels.mask("liver"), np.arange(GRID.shape[0])[:, None, None]
    middle = int(np.argwhere(liver)[:, 0].mean())
    gap = liver & (np.abs(z - middle) <= 1)
    assert ("liver", "ORGAN_FRAGMENTS") in told(replace(labels, voxels=np.where(gap, 0, labels.voxels)), ct)
    lesion = replace(labels, voxels=np.where(gap, value_of(labels, "lesion_1"), labels.voxels))
    assert "ORGAN_FRAGMENTS" not in {code for name, code in told(lesion, ct, all_of_them=True) if name == "liver"}


def test_drawings_that_disagree_are_told_beyond_what_voxels_explain(clean):
    labels, ct = clean
    doubt = {"liver": 0.14, "spleen": 0.07, "aorta": 0.15, "urinary_bladder": 0.3}
    assert told(labels, ct, doubt) == {("liver", "ORGAN_DOUBT"), ("urinary_bladder", "ORGAN_DOUBT")}


def test_a_kidney_that_should_be_in_view_is_missed(clean):
    labels, ct = clean
    without = drawn(labels, "kidney_right", np.zeros(GRID.shape, dtype=bool))
    flags = contour_flags(without, ct, {}, {})
    assert [flag.code for flag in flags[""]] == ["ORGAN_MISSING"]
    assert flags[""][0].severity is Severity.REVIEW and "No right kidney was found" in flags[""][0].text
    # also where the contours do not even have a name for it
    nameless = replace(without, names={value: name for value, name in without.names.items() if name != "kidney_right"})
    assert ("", "ORGAN_MISSING") in told(nameless, ct)


def test_an_organ_beyond_the_view_is_not_missed(clean):
    labels, ct = clean
    top = int(np.argwhere(labels.mask("kidney_left") | labels.mask("kidney_right"))[:, 0].max())
    chest = part_of(labels, ct, slice(top + 3, None))
    assert not any(code == "ORGAN_MISSING" for _, code in told(*chest, all_of_them=True))


def test_a_ct_unlike_the_training_is_told_with_what_is_unlike(patients, clean):
    labels, ct = clean
    envelope = envelope_of(ct_statistics(other) for _, other in patients if other is not ct)
    assert told(labels, ct, envelope=envelope) == set()
    shifted = Image((ct.voxels + 300).astype(np.int16), ct.quantity, ct.grid)
    flags = contour_flags(labels, shifted, {}, envelope)
    assert [flag.code for flag in flags[""]] == ["CT_UNFAMILIAR"] and "50th percentile" in flags[""][0].text
    child = replace(ct.grid, spacing_mm=ct.grid.spacing_mm * 0.6)
    small = replace(labels, grid=child), Image(ct.voxels, ct.quantity, child)
    assert ("", "CT_UNFAMILIAR") in told(*small, envelope={"body_mm2": envelope["body_mm2"]})
    noise = np.random.default_rng(0).normal(0, 60, ct.voxels.shape)
    noisy = Image((ct.voxels + noise).astype(np.int16), ct.quantity, ct.grid)
    assert ("", "CT_UNFAMILIAR") in told(labels, noisy, envelope={"noise_hu": envelope["noise_hu"]})


def test_a_voxel_size_is_judged_only_where_the_training_states_one(clean):
    labels, ct = clean
    assert told(labels, ct, envelope={"slice_mm": [0.5, 5.0]}) == {("", "CT_UNFAMILIAR")}
    assert told(labels, ct, envelope={"slice_mm": [0.5, 7.0], "network": "any"}) == set()


def test_statistics_of_a_known_ct_are_what_was_put_in():
    grid = Grid.axial((40, 60, 80), (4.0, 4.0, 5.0))
    _, j, i = np.indices(grid.shape)
    body = np.hypot(j - 29.5, i - 39.5) < 20
    noise = np.random.default_rng(0).normal(0, 12, grid.shape)
    statistics = ct_statistics(Image(np.where(body, 40 + noise, -1000).astype(np.float32), Quantity.HOUNSFIELD, grid))
    assert statistics["slice_mm"] == 5.0 and statistics["voxel_mm"] == 4.0 and statistics["extent_mm"] == 200.0
    # the disc's voxels, within the rim that the opening takes
    assert statistics["body_mm2"] == pytest.approx(np.pi * 80**2, rel=0.04)
    assert statistics["body_hu_p50"] == pytest.approx(40, abs=1) and statistics["noise_hu"] == pytest.approx(12, rel=0.05)


def test_a_map_without_a_body_has_statistics_too():
    empty = Image(np.full((10, 10, 10), -1000, dtype=np.int16), Quantity.HOUNSFIELD, Grid.axial((10, 10, 10), (4.0, 4.0, 4.0)))
    statistics = ct_statistics(empty)
    assert statistics["body_mm2"] == 0.0 and statistics["body_hu_p50"] == -1000.0


def test_no_gate_drops_an_organ_and_every_code_is_known(clean):
    labels, ct = clean
    before = labels.voxels.copy()
    flags = contour_flags(labels, ct, dict.fromkeys(labels.names.values(), 1.0), {"noise_hu": [0.0, 0.1]})
    assert {flag.code for own in flags.values() for flag in own} <= CODES
    assert np.array_equal(labels.voxels, before)


def test_contours_on_another_grid_than_the_cts_are_refused(clean):
    labels, ct = clean
    with pytest.raises(ValueError, match="own grid"):
        contour_flags(labels, Image(ct.voxels[1:], ct.quantity, cropped(ct.grid, (slice(1, 80), slice(0, 64), slice(0, 80)))), {}, {})


def test_flags_stay_with_the_labels_on_another_grid_and_when_they_are_kept(clean):
    labels, _ = clean
    flag = Flag("ORGAN_DOUBT", Severity.REVIEW, "Drawings disagree.", "Look.")
    flagged = replace(labels, flags={"liver": [flag], "": (flag,)})
    assert flagged.flags["liver"] == (flag,)
    with pytest.raises(TypeError):
        flagged.flags["spleen"] = (flag,)
    assert largest_share(flagged, Grid.axial((40, 32, 40), (12.0, 12.0, 12.0))).flags == flagged.flags
    arrays = {}
    again = decoded(encoded(flagged, lambda array: arrays.setdefault(digest(array), array) is None or digest(array)), arrays.__getitem__)
    assert again.flags == flagged.flags and digest(again) == digest(flagged) != digest(labels)


OURS = {"lung": "lung_{side}", "vertebrae": "spine", "sacrum": "spine"}
KEPT = {"liver", "spleen", "kidney_left", "kidney_right", "stomach", "aorta", "urinary_bladder"}


def our_name(name):
    beginning = name.split("_")[0]
    return name if name in KEPT else OURS[beginning].format(side=name.rpartition("_")[2]) if beginning in OURS else None


def test_a_real_torso_that_ends_in_the_liver_is_told_and_its_kidneys_are_not(real_data):
    folder = real_data("ct") / "ts_torso_3mm"
    ct, given = read_image(folder / "ct.nii.gz", Quantity.HOUNSFIELD), read_labels(folder / "labels.nii.gz")
    names = sorted({our_name(name) for name in given.names.values()} - {None})
    table = np.zeros(256, dtype=np.uint8)
    for value, name in given.names.items():
        table[value] = names.index(our_name(name)) + 1 if our_name(name) else 0
    labels = Labels(table[given.voxels], dict(enumerate(names, start=1)), given.grid)
    assert told(labels, ct) == {("liver", "ORGAN_CUT"), ("spleen", "ORGAN_CUT")}
    noted = told(labels, ct, all_of_them=True) - told(labels, ct)
    assert noted == {(name, "ORGAN_CUT") for name in ("lung_left", "lung_right", "stomach", "aorta", "spine")}
