"""One CT in many guises is drawn alike by the shipped `organs-ct`: regions lie where the patient is, not where the file's axes are."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from mrtai.engines.onnx_segmenter import OnnxSegmenter
from mrtai.engines.prepare import around_body, prepared
from mrtai.io.bundles import installed, load_bundle
from mrtai.physics.resample import resampled
from mrtai.simulate.anatomy import torso
from mrtai.simulate.scanner import CT_GRID, ct_image
from mrtai.simulate.voxelise import voxelised
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

SOLID = ("lung_left", "lung_right", "liver", "spleen", "kidney_left", "kidney_right")
SEED = 900_501


@pytest.fixture(scope="module")
def segmenter():
    if "organs-ct" not in installed():
        pytest.skip("no organs-ct")
    return OnnxSegmenter(load_bundle("organs-ct"))


@pytest.fixture(scope="module")
def ct():
    rng = np.random.default_rng(SEED)
    anatomy = torso(rng)
    return ct_image(anatomy, voxelised(anatomy, CT_GRID), rng)


@pytest.fixture(scope="module")
def drawn(segmenter, ct):
    return segmenter.drawn(ct)


def dice_in_world(labels, other, name):
    """Dice of a region, both looked up at the voxel centres of the first drawing."""
    there = resampled(Image(other.mask(name).astype(np.float32), Quantity.DENSITY, other.grid), labels.grid, order=1).voxels > 0.5
    here = labels.mask(name)
    return 2 * (here & there).sum() / (here.sum() + there.sum())


def turned(ct, axes, flips):
    """The same voxels in another order of array axes, each forwards or backwards."""
    voxels = np.transpose(ct.voxels, axes)
    affine = ct.grid.affine[:, [2 - axes[2], 2 - axes[1], 2 - axes[0], 3]].copy()
    for axis in (axis for axis in range(3) if flips[axis]):
        voxels = np.flip(voxels, axis)
        affine[:3, 3] += affine[:3, 2 - axis] * (voxels.shape[axis] - 1)
        affine[:3, 2 - axis] *= -1
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Image(np.ascontiguousarray(voxels), ct.quantity, Grid(voxels.shape, spacing, affine[:3, 3], affine[:3, :3] / spacing))


def on_lattice_of(ct, spacing_mm, turn):
    """The same CT resampled to voxels of another size along turned axes."""
    middle_mm = ct.grid.corners_mm.mean(axis=0)
    size_mm = np.abs(turn).T @ (np.array(ct.grid.shape[::-1]) * ct.grid.spacing_mm)
    count = np.ceil(size_mm / spacing_mm).astype(int)
    origin = middle_mm - turn @ ((count - 1) / 2 * spacing_mm)
    x, y, z = (int(n) for n in count)
    return resampled(ct, Grid((z, y, x), np.array(spacing_mm), origin, turn), order=1, outside=-1000.0)


def rotation(axis, degrees):
    angle, (i, j) = np.deg2rad(degrees), [n for n in range(3) if n != axis]
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn


@pytest.mark.slow
def test_all_48_orders_of_axes_are_one_input(segmenter, ct):
    """So their drawings differ by nothing: what the network sees is the same to rounding."""
    contract = segmenter.bundle.contract
    straight, grid = around_body(*prepared([(ct.voxels, ct.grid)], contract), contract)
    for axes, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        one = turned(ct, axes, flips)
        seen, where = around_body(*prepared([(one.voxels, one.grid)], contract), contract)
        assert where.same_as(grid)
        assert np.allclose(seen, straight, atol=1e-4)


@pytest.mark.slow
def test_a_mirrored_and_turned_file_is_drawn_alike(segmenter, ct, drawn):
    other = segmenter.drawn(turned(ct, (2, 0, 1), (True, False, True)))
    assert all(dice_in_world(drawn, other, name) > 0.99 for name in SOLID)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spacing_mm", "turn"),
    [
        ((2.0, 2.0, 4.0), np.eye(3)),
        ((3.0, 3.0, 3.0), rotation(2, 15)),
        ((2.0, 2.0, 2.0), rotation(2, -20) @ rotation(0, 8)),
    ],
    ids=["anisotropic", "turned", "oblique"],
)
def test_other_voxels_and_oblique_axes_are_drawn_alike(segmenter, ct, drawn, spacing_mm, turn):
    other = segmenter.drawn(on_lattice_of(ct, spacing_mm, turn))
    found = {name: dice_in_world(drawn, other, name) for name in SOLID}
    assert min(found.values()) >= 0.97, found


@pytest.mark.slow
def test_what_a_cropped_ct_holds_whole_is_drawn_alike(segmenter, ct, drawn):
    """Without the pelvis, which changes what the network sees around an organ but not the organs above."""
    low = 50
    grid = ct.grid
    origin_mm = grid.origin_mm + np.array([0, 0, low * grid.spacing_mm[2]])
    above = replace(grid, shape=(grid.shape[0] - low, *grid.shape[1:]), origin_mm=origin_mm)
    cropped = Image(ct.voxels[low:].copy(), ct.quantity, above)
    other = segmenter.drawn(cropped)
    whole = [name for name in SOLID if not drawn.mask(name)[: low + 10].any()]
    assert whole
    found = {name: dice_in_world(drawn, other, name) for name in whole}
    assert min(found.values()) >= 0.9, found
