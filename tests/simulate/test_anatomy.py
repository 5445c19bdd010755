import numpy as np
import pytest

from mrtai.simulate.anatomy import AIR, OUTSIDE, Anatomy, Tissue, torso
from mrtai.simulate.lattice import lattice
from mrtai.simulate.scanner import CT_GRID
from mrtai.simulate.solids import Solid, Waves, turned
from mrtai.simulate.voxelise import voxelised
from mrtai.values.grid import Grid

# ICRP 89 reference adults span about half of these ranges; individuals spread wider
PLAUSIBLE_ML = {
    "liver": (900, 2500),
    "spleen": (90, 400),
    "kidney_left": (90, 260),
    "kidney_right": (90, 260),
    "lung_left": (1000, 2600),
    "lung_right": (1000, 2600),
    "urinary_bladder": (80, 350),
    "stomach": (120, 450),
    "spine": (180, 500),
    "red_marrow": (90, 400),
}


def sphere(radius_mm, hounsfield=40.0, inside_mm=10.0, centre_mm=(0.0, 0.0, 0.0)):
    """Return a body sphere with an inner sphere ``ball`` of ``radius_mm``."""
    tissues = (Tissue("air", None, -1000.0), Tissue("soft", "", hounsfield), Tissue("ball", "ball", hounsfield))
    body = Solid(1, np.zeros(3), np.full(3, radius_mm + inside_mm), np.eye(3))
    ball = Solid(2, np.array(centre_mm), np.full(3, radius_mm), np.eye(3))
    return Anatomy(tissues, (body, ball), ("ball",), ())


@pytest.mark.parametrize("seed", range(3))
def test_organ_volumes_are_those_of_adults(seed):
    anatomy = torso(np.random.default_rng(seed))
    voxels = voxelised(anatomy, CT_GRID, per_edge=2)
    region = anatomy.region_of_tissue
    volume_ml = np.bincount(region + 1, weights=voxels.tissue_volume_ml(region.size))[2:]
    by_name = dict(zip(anatomy.regions, volume_ml, strict=True))
    for name, (low, high) in PLAUSIBLE_ML.items():
        assert low < by_name[name] < high, name
    lesions = [volume for name, volume in by_name.items() if name.startswith("lesion_")]
    assert 3 <= len(lesions) <= 6
    assert all(4 < volume < 45 for volume in lesions)


def test_left_is_left_and_the_back_is_the_back(anatomy):
    centre = {}
    for solid in anatomy.solids:
        centre.setdefault(anatomy.tissues[solid.tissue].region, solid.centre_mm)
    assert centre["liver"][0] < 0 < centre["spleen"][0]
    assert centre["kidney_right"][0] < 0 < centre["kidney_left"][0]
    assert centre["lung_right"][0] < 0 < centre["lung_left"][0]
    assert min(centre["kidney_left"][1], centre["kidney_right"][1]) > centre["stomach"][1]
    assert centre["lung_left"][2] > centre["liver"][2] > centre["urinary_bladder"][2]


def test_the_body_lies_inside_the_view_and_every_organ_inside_the_body(anatomy):
    voxels = voxelised(anatomy, CT_GRID, per_edge=2)
    air = voxels.centre == AIR
    for axis in range(3):
        assert np.take(air, [0, -1], axis=axis).all()
    # no organ touches air: the border voxels of air hold nothing but fat
    near_air = {anatomy.tissues[t].name for row in voxels.sub[(voxels.sub == AIR).any(axis=1)] for t in np.unique(row)}
    assert near_air == {"air", "fat"}


def test_lesions_of_the_liver_lie_in_the_liver(anatomy):
    assert anatomy.liver_lesions
    parenchyma = next(s for s in anatomy.solids if anatomy.tissues[s.tissue].name == "liver")
    for solid in anatomy.solids:
        if anatomy.tissues[solid.tissue].region in anatomy.liver_lesions:
            assert parenchyma.holds(*parenchyma.local(solid.centre_mm[None]).T).all()


def test_microsphere_patients_have_lesions_in_the_liver_only():
    anatomy = torso(np.random.default_rng(1), only_liver_lesions=True)
    assert len(anatomy.liver_lesions) == sum(name.startswith("lesion_") for name in anatomy.regions)


def test_a_sphere_has_the_volume_of_a_sphere():
    centres = np.random.default_rng(0).uniform(-1, 1, (4, 3))
    found = [lattice(sphere(13.365, centre_mm=centre)) for centre in centres]
    # 10 mL on sub-points 0.67 mm apart: some 0.1 % each
    assert [cells.volume_ml[1] for cells in found] == pytest.approx([10.0] * 4, rel=3e-3)
    cells = found[0]
    assert cells.mass_kg[1] == pytest.approx(cells.volume_ml[1] * cells.density_kg_per_ml[2])


def test_voxels_agree_with_the_formula_at_random_points(anatomy):
    rng = np.random.default_rng(0)
    points = rng.uniform((-170, -110, -210), (170, 110, 210), (20000, 3)).astype(np.float32)
    cells = lattice(anatomy)
    exact = anatomy.tissue_at(points)
    assert np.mean(cells.tissue_at(points, by_formula=True) == exact) > 0.9999  # single precision at the very surface
    assert np.mean(cells.tissue_at(points, by_formula=False) == exact) > 0.98


def test_a_moved_grid_sees_the_same_volumes(anatomy):
    transform = np.eye(4)
    transform[:3, :3] = turned(np.random.default_rng(4), 2.0)
    transform[:3, 3] = (5.0, -4.0, 3.0)
    still = voxelised(anatomy, CT_GRID, per_edge=2).tissue_volume_ml(len(anatomy.tissues))
    moved = voxelised(anatomy, CT_GRID.moved(transform), per_edge=2).tissue_volume_ml(len(anatomy.tissues))
    # 1.5 mm sub-points: the smallest lesions hold some 1500 of them
    assert moved[1:] == pytest.approx(still[1:], rel=0.02)


def test_the_bound_on_steepness_holds_for_rough_solids():
    rng = np.random.default_rng(2)
    solid = Solid(1, np.zeros(3), np.array([20.0, 14.0, 30.0]), turned(rng, 30), (2.5, 8.0), Waves.drawn(rng, 0.03))
    points, steps = rng.uniform(-30, 30, (5000, 3)), rng.normal(size=(5000, 3)) * 1e-3
    change = solid.excess(*solid.local(points + steps).T) - solid.excess(*solid.local(points).T)
    assert np.abs(change).max() <= solid.steepest_per_mm() * np.linalg.norm(steps, axis=1).max()
    assert np.all(np.abs(change) <= solid.steepest_per_mm() * np.linalg.norm(steps, axis=1) * 1.0001)


def test_mixed_voxels_average_and_largest_takes_the_majority():
    anatomy = sphere(10.0)
    voxels = voxelised(anatomy, Grid.axial((24, 24, 24), (4.0, 4.0, 4.0)))
    share = voxels.mixed(np.array([0.0, 0.0, 1.0]))
    ball = voxels.largest(anatomy.region_of_tissue == 1) == 1
    assert share.sum() * voxels.grid.voxel_ml == pytest.approx(voxels.tissue_volume_ml(3)[2], rel=1e-5)
    assert share[ball].min() > 0.5 > share[~ball].max()
    assert anatomy.region_of_tissue[AIR] == OUTSIDE
