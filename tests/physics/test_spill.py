"""What shapes keep of their activity under blur, against closed forms: spheres, slabs, ellipsoids, cylinders."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import erf

from mrtai.physics.spill import blurred, equivalent_sphere_ml, hazes, kept_share, left_alone, near, sigma_of_shares
from mrtai.physics.spill import filled as shares_filled
from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels

FWHM_MM = 11.0
SIGMA_MM = FWHM_MM / FWHM_PER_SIGMA


def filled(axes_mm, spacing_mm, beside_mm=(0.0, 0.0, 0.0)):
    """Return the voxels of an ellipsoid of these half axes, ``(z, y, x)`` as the axes are."""
    reach = [np.arange(-np.ceil(half / spacing_mm) - 1, np.ceil(half / spacing_mm) + 2) * spacing_mm for half in axes_mm]
    z, y, x = np.meshgrid(*reach, indexing="ij")
    return sum(((of - off) / half) ** 2 for of, off, half in zip((z, y, x), beside_mm, axes_mm, strict=True)) < 1.0


def kept(mask, spacing_mm):
    return kept_share(mask, np.full(3, spacing_mm), FWHM_MM)


@pytest.mark.parametrize("radius_mm", [10.0, 16.0, 30.0])
@pytest.mark.parametrize("spacing_mm", [1.5, 3.0])
def test_a_sphere_stands_for_itself(radius_mm, spacing_mm):
    mask = filled((radius_mm,) * 3, spacing_mm, beside_mm=(0.4, -0.7, 0.2))
    # its voxels are as many as its volume to 1 or 2 %, and tell its surface no better
    assert equivalent_sphere_ml(kept(mask, spacing_mm), FWHM_MM) == pytest.approx(4 / 3 * np.pi * radius_mm**3 / 1000, rel=0.03)


def test_the_equivalent_sphere_is_the_inverse_of_what_a_sphere_keeps():
    for volume_ml in (0.1, 5.0, 150.0, 2000.0):
        assert equivalent_sphere_ml(float(content_ml(volume_ml, volume_ml, FWHM_MM)) / volume_ml, FWHM_MM) == pytest.approx(volume_ml)
    assert equivalent_sphere_ml(0.0, FWHM_MM) == 1e-4 and equivalent_sphere_ml(1.0, FWHM_MM) == 1e7


@pytest.mark.parametrize("thick_mm", [12.0, 30.0, 60.0])
def test_a_slab_keeps_what_its_closed_form_says(thick_mm):
    """Mean over the slab of its own blur: erf(a) - (1 - exp(-a²))/(a √π) with a = thickness/(σ√2)."""
    side = 260
    mask = np.ones((int(thick_mm), side, side), dtype=bool)
    a = thick_mm / (SIGMA_MM * np.sqrt(2))
    edge = 1.0 - 2.0 * SIGMA_MM / np.sqrt(2 * np.pi) / side
    share = (erf(a) - (1 - np.exp(-(a**2))) / (a * np.sqrt(np.pi))) * edge**2
    # faces along a lattice of 2 mm, to which so many voxels are thinned, lose a²/(12 σ²) = 1.5 % too little
    assert 1.0 - kept(mask, 1.0) == pytest.approx((1.0 - share) * 0.985, rel=4e-3)


@pytest.mark.parametrize("ratio", [1.5, 3.0])
@pytest.mark.parametrize("flat", [True, False])
def test_far_from_its_smallest_radius_a_region_is_the_sphere_of_its_surface_over_volume(ratio, flat):
    short_mm = 30.0
    axes_mm = (short_mm, ratio * short_mm, ratio * short_mm) if flat else (short_mm, short_mm, ratio * short_mm)
    mask = filled(axes_mm, 3.0)
    # surface by Thomsen's formula, right to 1.1 %
    a, b, c = np.array(axes_mm) ** 1.6075
    surface = 4 * np.pi * ((a * b + a * c + b * c) / 3) ** (1 / 1.6075)
    radius_mm = 3 * (4 / 3 * np.pi * np.prod(axes_mm)) / surface
    assert equivalent_sphere_ml(kept(mask, 3.0), FWHM_MM) == pytest.approx(4 / 3 * np.pi * radius_mm**3 / 1000, rel=0.06)


def test_the_equivalent_sphere_hardly_depends_on_the_resolution_that_is_assumed():
    mask = filled((75.0, 30.0, 25.0), 3.0)  # a kidney
    spheres = [equivalent_sphere_ml(kept_share(mask, np.full(3, 3.0), fwhm_mm), fwhm_mm) for fwhm_mm in (8.0, 11.0, 15.0)]
    assert np.ptp(spheres) < 0.04 * spheres[1]
    # 236 mL lose as much as 153 mL would as a sphere
    assert spheres[1] == pytest.approx(0.65 * 4 / 3 * np.pi * 75 * 30 * 25 / 1000, rel=0.02)


def test_a_thinned_lattice_says_the_same():
    mask = filled((60.0, 45.0, 40.0), 1.0)
    assert mask.sum() > 4e5
    assert kept(mask, 1.0) == pytest.approx(kept(filled((60.0, 45.0, 40.0), 2.0), 2.0), rel=1e-3)


def boxes() -> tuple[Labels, np.ndarray]:
    voxels = np.zeros((40, 40, 40), dtype=np.uint8)
    voxels[10:30, 10:30, 10:20], voxels[10:30, 10:30, 20:30] = 1, 2
    body = np.zeros(voxels.shape, dtype=bool)
    body[:, :, :30] = True
    return Labels(voxels, {1: "spleen", 2: "stomach"}, Grid.axial((40,) * 3, (3.0,) * 3)), body


def test_blur_shows_each_region_in_the_others_as_the_blurred_image_does():
    labels, body = boxes()
    regions = shares_filled(labels, labels.grid, body)
    assert regions.values == (1, 2, 0)
    seen = near(regions, np.full(3, SIGMA_MM))
    sigma = FWHM_MM / FWHM_PER_SIGMA / 3.0
    masks = [labels.voxels == 1, labels.voxels == 2, (labels.voxels == 0) & body]
    for j, source in enumerate(masks):
        image = ndimage.gaussian_filter(source.astype(np.float32), sigma, truncate=4.0)
        assert seen[:, j] == pytest.approx([image[mask].mean() for mask in masks], rel=1e-4, abs=1e-6)
    # the spleen lies within the body, the stomach's far face at its end
    assert seen[0].sum() == pytest.approx(1.0, abs=1e-3) and seen[1].sum() < 0.95
    # a box of 2 by 2 by 1 edges has 8 faces of that size, two of them to the stomach; edges see less
    assert seen[0, 1] / (1 - seen[0, 0]) == pytest.approx(2 / 8, abs=0.03)


def test_a_haze_on_its_coarse_lattice_is_that_of_the_image():
    labels, body = boxes()
    regions = shares_filled(labels, labels.grid, body)
    masks = [labels.voxels == 1, labels.voxels == 2, (labels.voxels == 0) & body]
    seen = hazes(regions, 74.0).overlaps(regions)
    for j, source in enumerate(masks):
        image = ndimage.gaussian_filter(source.astype(np.float32), 74.0 / 3.0, truncate=4.0)
        assert seen[:, j] == pytest.approx([image[mask].mean() for mask in masks], rel=0.03)


def test_a_region_that_reaches_no_voxel_of_the_scan_is_left_out():
    labels, body = boxes()
    elsewhere = Grid.axial((40,) * 3, (3.0,) * 3)
    away = Grid(elsewhere.shape, elsewhere.spacing_mm, elsewhere.origin_mm + np.array([0.0, 0.0, 400.0]), elsewhere.direction)
    assert shares_filled(labels, away, body).values == (0,)


def test_blurred_shares_bring_the_voxels_along():
    image, fine = Grid.axial((40,) * 3, (4.8,) * 3), Grid.axial((40,) * 3, (1.6,) * 3)
    assert sigma_of_shares(11.9, image, fine) == pytest.approx(np.sqrt((11.9 / FWHM_PER_SIGMA) ** 2 - 4.8**2 / 6), rel=1e-9)
    assert sigma_of_shares(11.9, image, image) == pytest.approx(np.sqrt((11.9 / FWHM_PER_SIGMA) ** 2 - 4.8**2 / 12), rel=1e-9)
    assert sigma_of_shares(4.0, image, fine) == pytest.approx(2.0 / FWHM_PER_SIGMA)


def test_a_mean_is_of_what_the_scan_sees():
    labels, body = boxes()
    regions = shares_filled(labels, labels.grid, body)
    scan, view = np.where(labels.voxels == 1, 5.0, 1.0).astype(np.float32), np.ones(body.shape, dtype=bool)
    scan[20:], view[20:] = 0.0, False
    assert regions.means(scan, view) == pytest.approx([5.0, 1.0, 1.0])
    assert regions.means(scan)[0] == pytest.approx(2.5)
    assert regions.means(scan, np.zeros_like(view)) == pytest.approx([0.0, 0.0, 0.0])


def slabs() -> tuple[Labels, np.ndarray]:
    """A spleen before the middle of the image, a stomach behind it, both across all of it."""
    voxels = np.full((60, 8, 8), 1, dtype=np.uint8)
    voxels[30:] = 2
    return Labels(voxels, {1: "spleen", 2: "stomach"}, Grid.axial(voxels.shape, (2.0,) * 3)), np.ones(voxels.shape, dtype=bool)


def weighed(regions, of_scans):
    """The second region weighed, as one camera shows it in every scan."""
    return left_alone(regions, [blurred(regions, np.full(3, SIGMA_MM))] * len(of_scans), np.array(of_scans), [1])


def test_a_voxel_counts_by_what_its_neighbours_show_there():
    """At a depth d in the stomach 8 times as much in the spleen shows 8 (1 - erf(d/(√2 σ)))/2 of the stomach's own."""
    labels, body = slabs()
    regions = shares_filled(labels, labels.grid, body)
    counted = weighed(regions, [[8.0, 1.0]])
    depth_mm = 2.0 * np.arange(30) + 1.0
    times = 8.0 * (1.0 - erf(depth_mm / (np.sqrt(2.0) * SIGMA_MM))) / 2.0
    assert counted.shares[1][:, 4, 4] == pytest.approx(1.0 / (1.0 + (times / 2.0) ** 2), abs=0.02)
    assert counted.shares[0] is regions.shares[0]


def test_the_scan_that_shows_most_of_others_decides_and_one_without_the_region_says_nothing():
    labels, body = slabs()
    regions = shares_filled(labels, labels.grid, body)
    alone = weighed(regions, [[8.0, 1.0]])
    for of_scans in ([[8.0, 1.0], [3.0, 1.0]], [[8.0, 1.0], [5.0, 0.0]], [[8.0, 1.0], [5.0, -1.0]]):
        assert weighed(regions, of_scans).shares[1] == pytest.approx(alone.shares[1], abs=1e-6)
    assert np.all(weighed(regions, [[0.0, 1.0]]).shares[1] > 0.999)
    # a region that is next to nothing beside its neighbour still has voxels that count
    assert np.isfinite(weighed(regions, [[1e30, 1.0]]).volumes).all()
    assert weighed(regions, [[1e30, 1.0]]).volumes[1] > 0


def test_what_counts_less_is_seen_less():
    """Rows are means as voxels count: against the blurred image, weighed."""
    labels, body = boxes()
    regions = shares_filled(labels, labels.grid, body)
    counted = weighed(regions, [[9.0, 1.0, 0.5]])
    seen, hazed = blurred(regions, np.full(3, SIGMA_MM)).overlaps(counted), hazes(regions, 74.0).overlaps(counted)
    weight = np.zeros(body.shape)
    weight[counted.where[1]] = counted.shares[1]
    assert weight.sum() < 0.95 * (labels.voxels == 2).sum()
    for j, source in enumerate([labels.voxels == 1, labels.voxels == 2, (labels.voxels == 0) & body]):
        for width_mm, found, within in ((SIGMA_MM, seen, 1e-4), (74.0, hazed, 0.03)):
            image = ndimage.gaussian_filter(source.astype(np.float32), width_mm / 3.0, truncate=4.0)
            assert found[1, j] == pytest.approx((image * weight).sum() / weight.sum(), rel=within, abs=1e-6)
    assert seen[0] == pytest.approx(near(regions, np.full(3, SIGMA_MM))[0])


def test_what_is_shown_of_concentrations_is_the_blurred_image():
    labels, body = boxes()
    regions = shares_filled(labels, labels.grid, body)
    levels = np.array([9.0, 1.0, 0.5])
    image = ndimage.gaussian_filter(regions.held(levels), SIGMA_MM / 3.0, truncate=4.0)
    assert blurred(regions, np.full(3, SIGMA_MM)).image(levels) == pytest.approx(image, abs=1e-4)
