"""Windows over a scan, and back onto the CT's own grid however it lies in the file."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from mrtai.engines.onnx_segmenter import OnnxSegmenter, by_name, cleaned, scores
from mrtai.engines.prepare import lattice, on_lattice, prepared
from mrtai.io.bundles import verified
from mrtai.physics.resample import resampled
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError
from tests.engines.tiny_model import CLASSES, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return verified(write_bundle(tmp_path_factory.mktemp("models") / "by-number"))


@pytest.fixture(scope="module")
def ct():
    """A body with one lung and one liver, off the middle, so that no mirror or turn looks like it."""
    grid = Grid((50, 60, 70), (2.0, 2.0, 2.5), (-70.0, -50.0, 300.0), np.eye(3))
    z, y, x = (n * s + o for n, s, o in zip(np.ogrid[:50, :60, :70], (2.5, 2, 2), (300, -50, -70), strict=True))
    hu = np.full(grid.shape, -1000.0, np.float32)
    hu[((x - 5) / 60) ** 2 + ((y - 8) / 50) ** 2 + 0 * z < 1] = -20
    hu[((x - 25) / 18) ** 2 + ((y - 12) / 15) ** 2 + ((z - 390) / 28) ** 2 < 1] = -150
    hu[((x + 20) / 22) ** 2 + ((y + 8) / 16) ** 2 + ((z - 340) / 20) ** 2 < 1] = 110
    return Image(hu, Quantity.HOUNSFIELD, grid)


def dice_in_world(labels, other, name):
    """Dice of a region in two drawings, each looked up at the voxel centres of the first."""
    mask = Image(other.mask(name).astype(np.float32), Quantity.DENSITY, other.grid)
    there = resampled(mask, labels.grid, order=0).voxels > 0.5
    here = labels.mask(name)
    return 2 * (here & there).sum() / (here.sum() + there.sum())


def require_same_place(labels, others, least_dice=0.95):
    """Both regions lie at the same place; of 30 mL a twentieth lies in voxels that an interpolation of the CT itself changes."""
    assert dice_in_world(labels, others, "liver") > least_dice
    middles = [centre_mm(drawing, "liver") for drawing in (labels, others)]
    assert np.linalg.norm(middles[0] - middles[1]) < 0.5


def centre_mm(labels, name):
    return labels.grid.affine[:3, :3] @ np.argwhere(labels.mask(name)).mean(axis=0)[::-1] + labels.grid.origin_mm


def turned(ct, axes, flips):
    """The same voxels in another order of array axes, each forwards or backwards."""
    voxels = np.transpose(ct.voxels, axes)
    affine = ct.grid.affine[:, [2 - axes[2], 2 - axes[1], 2 - axes[0], 3]].copy()
    for axis in range(3):
        if flips[axis]:
            voxels = np.flip(voxels, axis)
            column = 2 - axis
            affine[:3, 3] += affine[:3, column] * (voxels.shape[axis] - 1)
            affine[:3, column] *= -1
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    grid = Grid(voxels.shape, spacing, affine[:3, 3], affine[:3, :3] / spacing)
    return Image(np.ascontiguousarray(voxels), ct.quantity, grid)


def test_a_scan_is_drawn_where_its_numbers_say(bundle, ct):
    labels = OnnxSegmenter(bundle).drawn(ct)
    assert labels.names == {1: "body", 2: "lung_left", 3: "liver"}
    assert labels.origin == "by-number@1.2.3"
    for name, hounsfield in (("lung_left", -150), ("liver", 110)):
        truth = ct.voxels == hounsfield
        found = labels.mask(name)
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.93


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_every_order_of_axes_gives_the_same_regions(bundle, ct, axes):
    straight = OnnxSegmenter(bundle).drawn(ct)
    for flips in product((False, True), repeat=3):
        labels = OnnxSegmenter(bundle).drawn(turned(ct, axes, flips))
        assert all(dice_in_world(labels, straight, name) > 0.99 for name in ("lung_left", "liver"))


def test_a_turned_patient_gives_the_same_regions(bundle, ct):
    straight = OnnxSegmenter(bundle).drawn(ct)
    angle = np.deg2rad(17)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    oblique = Grid((44, 66, 74), (2.2, 2.2, 2.8), (-62.0, -68.0, 302.0), turn)
    labels = OnnxSegmenter(bundle).drawn(resampled(ct, oblique, order=1, outside=-1000.0))
    require_same_place(straight, labels)


def test_other_voxels_and_a_cut_scan_give_the_same_regions(bundle, ct):
    straight = OnnxSegmenter(bundle).drawn(ct)
    flat = Grid((25, 120, 140), (1.0, 1.0, 5.0), (-70.5, -50.5, 301.25), np.eye(3))
    labels = OnnxSegmenter(bundle).drawn(resampled(ct, flat, order=1, outside=-1000.0))
    require_same_place(straight, labels, least_dice=0.9)
    lower = Image(ct.voxels[:30].copy(), ct.quantity, replace(ct.grid, shape=(30, 60, 70)))
    cut = OnnxSegmenter(bundle).drawn(lower)
    assert np.mean(cut.mask("liver") == straight.mask("liver")[:30]) > 0.999


def test_the_lattice_lies_on_multiples_of_its_spacing(ct):
    grid = lattice(ct.grid, 3.0)
    assert np.allclose(grid.origin_mm / 3.0, np.rint(grid.origin_mm / 3.0))
    assert np.allclose(grid.direction, np.eye(3))
    low, high = ct.grid.corners_mm.min(axis=0), ct.grid.corners_mm.max(axis=0)
    assert np.all(grid.corners_mm.min(axis=0) <= low + 3) and np.all(grid.corners_mm.max(axis=0) >= high - 3)


def test_a_coarser_lattice_sees_averages():
    grid = Grid.axial((24, 24, 24), (1.0, 1.0, 1.0))
    noise = np.random.default_rng(1).normal(0, 100, grid.shape).astype(np.float32)
    on = on_lattice(noise, grid, lattice(grid, 4.0), 0.0)
    # 64 voxels each, interpolated once more: noise falls by the root of their number at least
    assert on.std() < 100 / 8 * 1.1


def test_beyond_the_image_lies_what_the_channel_says(bundle, ct):
    narrow = Image(np.full((40, 20, 20), 40.0, np.float32), Quantity.HOUNSFIELD, Grid.axial((40, 20, 20), (4.0, 4.0, 4.0)))
    image, grid = prepared([(narrow.voxels, narrow.grid)], bundle.contract)
    assert image.shape[1:] == grid.shape
    assert np.allclose(image, 0.04)


def test_windows_are_blended_without_seams(bundle):
    """Every voxel's answer depends on itself alone here, so any number of windows gives what one gives."""
    image = np.random.default_rng(2).uniform(-1, 1, (1, 50, 70, 33)).astype(np.float32)
    shares = scores(bundle, image)
    assert shares.shape == (len(CLASSES), 50, 70, 33)
    assert np.allclose(shares.sum(axis=0), 1, atol=1e-5)
    corner = scores(bundle, image[:, :32, :32, :32])
    assert np.allclose(shares[:, :32, :32, :32], corner, atol=1e-4)


def test_channels_of_one_region_are_added_up(bundle):
    lobes = replace(bundle, classes={1: "lung_left", 2: "lung_left", 3: "liver"})
    shares = np.zeros((4, 1, 1, 1), np.float32)
    shares[:, 0, 0, 0] = 0.1, 0.3, 0.35, 0.25
    joined, names = by_name(lobes, shares)
    assert names == {1: "lung_left", 2: "liver"}
    assert np.allclose(joined.ravel(), (0.1, 0.65, 0.25))


def test_crumbs_of_an_organ_are_removed_and_large_parts_stay():
    found = np.zeros((20, 20, 20), np.uint8)
    found[:, :, :] = 1
    found[2:10, 2:10, 2:10] = 3
    found[15, 15, 15] = 3
    found[12:18, 2:8, 2:6] = 3
    result = cleaned(found, {1: "body", 3: "liver"})
    assert result[15, 15, 15] == 1
    assert result[5, 5, 5] == 3
    assert result[14, 4, 4] == 3


def test_three_slices_are_refused(bundle, ct):
    thin = Image(ct.voxels[:3].copy(), ct.quantity, replace(ct.grid, shape=(3, 60, 70)))
    with pytest.raises(DosimetryError, match="too thin"):
        OnnxSegmenter(bundle).drawn(thin)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-1000, -1000, "no patient"), (0, 0, "no patient"), (0, 255, "not a CT"), (0, 40000, "not a CT|no patient")],
)
def test_what_is_no_ct_is_refused(bundle, ct, low, high, words):
    voxels = np.random.default_rng(3).uniform(low, high + 1e-3, ct.grid.shape).astype(np.float32)
    with pytest.raises(DosimetryError, match=words):
        OnnxSegmenter(bundle).drawn(Image(voxels, Quantity.HOUNSFIELD, ct.grid))


def test_a_map_of_something_else_is_refused(bundle, ct):
    with pytest.raises(ValueError, match="HOUNSFIELD"):
        OnnxSegmenter(bundle).drawn(replace(ct, quantity=Quantity.ACTIVITY_CONCENTRATION))
