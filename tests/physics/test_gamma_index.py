"""The gamma criterion: closed forms, a slow twin, and pymedphys' numbers."""

import numpy as np
import pytest

from mrtai.physics.gamma_index import CRITERIA, counted_points, passing
from mrtai.values.compared_maps import Criterion
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

GRID = Grid.axial((12, 16, 20), (4.0, 4.0, 5.0))
STRICT = Criterion(3.0, 3.0)


def dose(voxels, grid=GRID):
    return Image(np.asarray(voxels, np.float32), Quantity.ABSORBED_DOSE, grid)


def places(grid=GRID):
    k, j, i = np.indices(grid.shape)
    return np.stack([i, j, k], axis=-1) @ grid.affine[:3, :3].T + grid.origin_mm


def blob(grid=GRID, centre=(2.0, -3.0, 1.0), width_mm=18.0):
    return 10 * np.exp(-((places(grid) - centre) ** 2).sum(axis=-1) / (2 * width_mm**2))


def share(evaluated, reference, criterion=STRICT):
    points = counted_points(evaluated, reference)
    return float(passing(evaluated, reference, points, criterion).mean())


def test_a_map_passes_itself_everywhere():
    image = dose(blob())
    assert all(share(image, image, one) == 1.0 for one in CRITERIA)


@pytest.mark.parametrize(("percent", "passes"), [(2.9, True), (3.1, False)])
def test_a_flat_map_passes_up_to_the_dose_difference(percent, passes):
    grid = Grid.axial((4, 5, 6), (4.0, 4.0, 5.0))
    flat = np.full(grid.shape, 5.0)
    assert share(dose(flat * (1 + percent / 100), grid), dose(flat, grid)) == float(passes)


@pytest.mark.parametrize(("shift_mm", "passes"), [(2.9, True), (3.25, False)])
def test_a_step_passes_up_to_the_distance(shift_mm, passes):
    # a cliff far steeper than the criterion: only the distance counts; linear between voxels, so a little more than the reach fails
    def cliff(shift):
        fine = Grid.axial((6, 6, 400), (0.25, 4.0, 5.0))
        return dose(np.where(places(fine)[..., 0] < shift, 10.0, 2.0), fine)

    evaluated, reference = cliff(shift_mm), cliff(0.0)
    assert (share(evaluated, reference) == 1.0) is passes


def test_on_a_slope_distance_and_dose_trade_off_as_a_line_and_a_point_do():
    # D = s x on both sides, the evaluated one higher by h: γ = h / √(ΔD² + (s Δd)²), 1 where h = √(…)
    grid = Grid.axial((3, 3, 40), (2.0, 4.0, 5.0))
    ramp = 0.1 * (places(grid)[..., 0] - grid.origin_mm[0]) + 10.0
    bound = float(np.hypot(0.03 * np.float32(ramp).max(), 0.1 * 3.0))
    inner = np.zeros(grid.shape, bool)
    inner[1, 1, 5:-5] = True
    for h, passes in ((0.97 * bound, True), (1.02 * bound, False)):
        assert passing(dose(ramp + h, grid), dose(ramp, grid), inner, STRICT).all() == passes
        assert passing(dose(ramp + h, grid), dose(ramp, grid), inner, STRICT).any() == passes


def test_local_percent_are_of_the_points_own_dose():
    reference = blob() + 1.0
    evaluated = reference + 0.2  # 2 % of the maximum, 20 % of the least dose
    assert share(dose(evaluated), dose(reference)) == 1.0
    assert share(dose(evaluated), dose(reference), Criterion(3.0, 3.0, local=True)) < 1.0


def twin(evaluated, reference, points, criterion, parts=10):
    """One point after the other, all places of the lattice within reach, trilinear by hand."""
    grid, found = evaluated.grid, []
    inverse = np.linalg.inv(grid.affine)
    top = float(reference.voxels.max())
    steps = [np.array(s) for s in np.ndindex((2 * parts + 1,) * 3)]
    shifts = [(s - parts) * criterion.mm / parts for s in steps if ((s - parts) ** 2).sum() <= parts**2]
    for k, j, i in np.argwhere(points):
        wanted = float(reference.voxels[k, j, i])
        tolerance = criterion.percent / 100 * (wanted if criterion.local else top)
        here = reference.grid.affine @ [i, j, k, 1]
        gamma = np.inf
        for shift in shifts:
            x, y, z, _ = inverse @ [*(here[:3] + shift), 1]
            value = trilinear(evaluated.voxels, z, y, x)
            gamma = min(gamma, float(shift @ shift) / criterion.mm**2 + ((value - wanted) / tolerance) ** 2)
        found.append(gamma <= 1 + 1e-6)
    return np.array(found)


def trilinear(voxels, *place):
    place = [min(max(p, 0), n - 1) for p, n in zip(place, voxels.shape, strict=True)]
    low = [min(int(p), n - 2) for p, n in zip(place, voxels.shape, strict=True)]
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([(p - a) if c else 1 - (p - a) for p, a, c in zip(place, low, corner, strict=True)])
        total += weight * float(voxels[tuple(a + c for a, c in zip(low, corner, strict=True))])
    return total


@pytest.mark.parametrize("criterion", [STRICT, Criterion(2.0, 4.0, local=True)])
def test_passing_points_are_those_of_a_slow_twin_on_another_turned_grid(criterion):
    turn = np.radians(12)
    direction = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    other = Grid((10, 14, 18), np.array([4.5, 4.5, 5.5]), np.array([-38.0, -30.0, -25.0]), direction)
    rng = np.random.default_rng(3)
    evaluated = dose(blob(other, (3.5, -2.0, 1.5)) * (1 + 0.03 * rng.normal(size=other.shape)), other)
    reference = dose(blob())
    points = counted_points(evaluated, reference)
    chosen = np.zeros_like(points)
    chosen[tuple(np.argwhere(points)[rng.permutation(int(points.sum()))[:3]].T)] = True
    found = passing(evaluated, reference, chosen, criterion)
    assert found.tolist() == twin(evaluated, reference, chosen, criterion).tolist()


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (Criterion(3.0, 3.0), 0.997765),
        (Criterion(3.0, 3.0, local=True), 0.971695),
        (Criterion(2.0, 2.0, local=True), 0.815270),
    ],
)
def test_passing_rates_are_those_of_pymedphys(criterion, expected):
    # pymedphys 0.41.0 on these two maps: gamma(axes, reference, axes, evaluated, percent, mm, lower_percent_dose_cutoff=10,
    # interp_fraction=40, max_gamma=1.1, local_gamma=...), share of its 2685 finite values that are at most 1
    rng = np.random.default_rng(7)
    reference, evaluated = blob(), blob(centre=(3.8, -2.0, 2.0)) * (1 + 0.02 * rng.normal(size=GRID.shape))
    # a lattice of a tenth finds the nearest place a little later or earlier than its shells of a fortieth: 0.3 % of the points
    assert share(dose(evaluated), dose(reference), criterion) == pytest.approx(expected, abs=0.003)


def test_points_below_the_cut_off_or_outside_the_other_map_do_not_count():
    reference = np.zeros(GRID.shape)
    reference[3, 3, 3], reference[5, 5, 5], reference[11, 15, 19] = 10.0, 0.99, 10.0
    half = Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm - [40.0, 0.0, 0.0], GRID.direction)
    assert np.argwhere(counted_points(dose(reference), dose(reference))).tolist() == [[3, 3, 3], [11, 15, 19]]
    assert np.argwhere(counted_points(dose(reference, half), dose(reference))).tolist() == [[3, 3, 3]]
