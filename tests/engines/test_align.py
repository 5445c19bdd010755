import numpy as np
import pytest

from mrtai.engines.align import RigidAligner
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

GRID = Grid.axial((56, 56, 64), (4.0, 4.0, 4.0))


def torso(grid, noise=0.0, seed=0):
    """An asymmetric soft body with a spine, a lung and a liver; smooth borders as a CT's partial volume gives them."""
    k, j, i = np.indices(grid.shape)
    x, y, z = np.moveaxis(np.stack([i, j, k], axis=-1) @ grid.affine[:3, :3].T + grid.origin_mm, -1, 0)

    def inside(cx, cy, cz, rx, ry, rz):
        return np.clip((1 - np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2)) * min(rx, ry, rz) / 4 + 0.5, 0, 1)

    hu = -1000 + 1040 * inside(0, 0, 0, 100, 80, 95)
    hu += 300 * inside(0, 45, 0, 14, 14, 90) + 40 * inside(-40, -5, -20, 40, 45, 35) - 700 * inside(45, 0, 40, 30, 40, 40)
    hu += 60 * inside(50, 20, -40, 18, 18, 30) + 60 * inside(-50, 35, -45, 16, 16, 28)
    hu += noise * np.random.default_rng(seed).standard_normal(grid.shape)
    return Image(hu.astype(np.float32), Quantity.HOUNSFIELD, grid)


def rigid(angles_deg, shift_mm):
    a, b, c = np.radians(angles_deg)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rz @ ry @ rx, shift_mm
    return matrix


def error_mm(found, true, grid=GRID):
    centre = grid.corners_mm.mean(axis=0)
    points = np.c_[centre + 0.6 * (grid.corners_mm - centre), np.ones(8)]
    return np.linalg.norm(points @ (found - true).T, axis=1).max()


@pytest.mark.parametrize(("angles", "shift"), [((2, -1, 1.5), (6, -8, 4)), ((-1, 2, -2), (-7, 5, -9))])
def test_a_patient_who_moved_is_brought_back(angles, shift):
    to_first = rigid(angles, shift)
    # the later scan shows the body where the inverse movement put it
    later = torso(GRID.moved(to_first), noise=15, seed=1).on(GRID)
    alignment = RigidAligner()(torso(GRID, noise=15, seed=2), later)
    assert alignment.moved
    # a quarter of a 4 mm voxel
    assert error_mm(alignment.transform, to_first) < 1.0
    assert alignment.residual_mm < 1.0
    assert alignment.similarity_after > alignment.similarity_before
    assert alignment.overlap_after > 0.97
    assert alignment.flags == ()


def test_a_patient_who_lay_still_is_not_interpolated():
    alignment = RigidAligner()(torso(GRID, noise=15, seed=1), torso(GRID, noise=15, seed=2))
    assert not alignment.moved
    assert np.array_equal(alignment.transform, np.eye(4))


def test_another_table_position_is_found_from_the_bodies_centres():
    far = rigid((0, 0, 0), (0, 150, -300))
    body = torso(GRID, noise=15, seed=2)
    shifted = Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm - far[:3, 3], GRID.direction)
    later = body.on(shifted)
    alignment = RigidAligner()(torso(GRID, noise=15, seed=3), later)
    assert error_mm(alignment.transform, far, shifted) < 1.0


def test_another_patient_is_flagged():
    stranger = Image(np.full(GRID.shape, -1000, dtype=np.float32), Quantity.HOUNSFIELD, GRID)
    voxels = stranger.voxels.copy()
    voxels[20:30, 20:50, 5:15] = 40
    alignment = RigidAligner()(torso(GRID), Image(voxels, Quantity.HOUNSFIELD, GRID))
    assert alignment.flags


def test_what_cannot_be_registered_stays_where_it_is_and_is_flagged():
    water = Image(np.full(GRID.shape, 0, dtype=np.float32), Quantity.HOUNSFIELD, GRID)
    moved = water.on(Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm + 2000.0, GRID.direction))
    alignment = RigidAligner()(water, moved)
    assert not alignment.moved
    assert "REGISTRATION_FAILED" in [flag.code for flag in alignment.flags]


def test_the_same_registration_twice_is_bit_identical():
    to_first = rigid((1, 1, 1), (3, 3, 3))
    later = torso(GRID.moved(to_first), noise=15, seed=1).on(GRID)
    first, second = (RigidAligner()(torso(GRID, noise=15, seed=2), later).transform for _ in range(2))
    assert np.array_equal(first, second)
