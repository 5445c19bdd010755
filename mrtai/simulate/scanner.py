"""Three scanners: ``exact``, ``ideal`` and ``clinical``, from activity per region to images.

``exact`` and ``ideal`` give every voxel wholly to one region and scale it so that each region's total is exact. ``clinical``
fills voxels by their shares, moves the patient between scans, blurs, leaves some scatter and adds tomographic noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.resample import cropped, largest_share
from mrtai.simulate.anatomy import OUTSIDE, Anatomy
from mrtai.simulate.solids import rotation
from mrtai.simulate.voxelise import Voxelised, voxelised
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import VIRTUAL_ORIGIN, Labels

EXACT, IDEAL, CLINICAL = "exact", "ideal", "clinical"
CT_GRID = Grid.axial((160, 128, 160), (3.0, 3.0, 3.0))
SPECT_GRID = Grid.axial((100, 128, 128), (4.8, 4.8, 4.8))
REMAINDER = "remainder"

RENDERING_TOLERANCE = 0.012
MARGIN_MM = 6.0

CT_NOISE_HOUNSFIELD = 12.0
LARGEST_SHIFT_MM = 8.0
LARGEST_TURN_DEG = 2.0


@dataclass(frozen=True, slots=True)
class Camera:
    """Resolution, residual scatter and count rate of the clinical scanner.

    Attributes:
        fwhm_mm: of the reconstructed point spread.
        scatter_share: of the activity that stays as a broad haze of ``scatter_sigma_mm`` after scatter correction.
        sensitivity_cps_per_mbq: per head, in air; ``survival`` of it is left by attenuation in a torso.
        views: angles of the noise model over half a turn (opposite views of both heads added).
    """

    fwhm_mm: float = 11.0
    scatter_share: float = 0.05
    scatter_sigma_mm: float = 50.0
    sensitivity_cps_per_mbq: float = 9.3
    heads: int = 2
    survival: float = 0.4
    views: int = 60

    def counts(self, activity_mbq: float, duration_s: float) -> float:
        """Return the expected counts of all heads together."""
        return self.sensitivity_cps_per_mbq * self.heads * self.survival * activity_mbq * duration_s


def true_labels(anatomy: Anatomy, ct: Voxelised) -> tuple[Labels, Labels]:
    """Return the regions on the CT grid, and the body (one region) there, by largest share of each voxel."""
    names = dict(enumerate(anatomy.regions, start=1))
    regions = Labels(ct.largest(np.maximum(anatomy.region_of_tissue, 0)), names, ct.grid, origin=VIRTUAL_ORIGIN)
    body = Labels(ct.largest(anatomy.region_of_tissue != OUTSIDE), {1: "body"}, ct.grid, origin=VIRTUAL_ORIGIN)
    return regions, body


def on_spect_grid(labels: Labels, grid: Grid) -> Labels:
    """Return the labels on the SPECT grid by largest share, as the walk does it.

    Raises:
        ValueError: a region is too small to win a voxel; its activity would be lost.
    """
    coarse = largest_share(labels, grid)
    lost = [name for value, name in labels.names.items() if not np.any(coarse.voxels == value)]
    if lost:
        raise ValueError(f"{', '.join(lost)}: too small for the SPECT grid, no voxel is mostly theirs")
    return coarse


def renders_last(anatomy: Anatomy) -> bool:
    """Return True when both lattices give the anatomy's last region its volume within ``RENDERING_TOLERANCE``.

    Largest share rounds every voxel of a surface to all or nothing and shaves curved rims: a lesion of 10 mL can lose a tenth of
    its volume on 4.8 mm, and ``exact`` and ``ideal``, whose totals are exact, then show that much more dose than the truth. Where
    lesions are put so that the lattices render them, these scanners show the errors of the walk instead.
    """
    solid, value = anatomy.solids[-1], len(anatomy.regions)
    ct = voxelised(anatomy, _around(CT_GRID, solid.centre_mm, solid.reach_mm + MARGIN_MM))
    labels, _ = true_labels(anatomy, ct)
    tissues = anatomy.region_of_tissue
    volume_ml = float(ct.tissue_volume_ml(tissues.size)[tissues == value].sum())
    coarse = largest_share(labels, _around(SPECT_GRID, solid.centre_mm, solid.reach_mm))
    return all(
        abs(int(np.sum(rendered.voxels == value)) * rendered.grid.voxel_ml / volume_ml - 1.0) < RENDERING_TOLERANCE
        for rendered in (labels, coarse)
    )


def _around(grid: Grid, centre_mm: Array, half_mm: Array) -> Grid:
    """Return the part of an axial grid that holds a box ``(x, y, z)``."""
    low = np.floor((centre_mm - half_mm - grid.origin_mm) / grid.spacing_mm).astype(int)[::-1]
    high = np.ceil((centre_mm + half_mm - grid.origin_mm) / grid.spacing_mm).astype(int)[::-1] + 1
    starts, stops = np.clip(low, 0, None), np.minimum(high, grid.shape)
    return cropped(grid, tuple(slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True)))


def wholly(amount: Mapping[str, float], labels: Labels, body: Labels) -> NDArray[np.float32]:
    """Return an amount per mL where every voxel belongs to one region and every region's sum is ``amount``, ``(z, y, x)``.

    ``remainder`` is spread over the body in no region. Works alike for activity [Bq] and time-integrated activity [Bq s].
    """
    numbers = {name: value for value, name in labels.names.items()}
    # the body in no region gets a number of its own, so that air stays at zero
    rest = max(numbers.values()) + 1
    voxels = np.where((labels.voxels == 0) & (body.voxels == 1), rest, labels.voxels)
    count = np.bincount(voxels.ravel(), minlength=rest + 1)
    per_ml = np.zeros(rest + 1)
    for name, total in amount.items():
        number = rest if name == REMAINDER else numbers[name]
        if count[number]:
            per_ml[number] = total / (count[number] * labels.grid.voxel_ml)
    image: NDArray[np.float32] = per_ml.astype(np.float32)[voxels]
    return image


def by_share(amount: Mapping[str, float], anatomy: Anatomy, voxels: Voxelised) -> NDArray[np.float32]:
    """Return an amount per mL with voxels filled by the shares of their tissues; every region's total is ``amount``."""
    regions = anatomy.region_of_tissue
    volume_ml = np.bincount(regions + 1, weights=voxels.tissue_volume_ml(regions.size))
    number = {name: index + 1 for index, name in enumerate(anatomy.regions)} | {REMAINDER: 0}
    per_ml = np.zeros(volume_ml.size)
    for name, total in amount.items():
        per_ml[number[name] + 1] = total / volume_ml[number[name] + 1]
    return voxels.mixed(per_ml[regions + 1])


def ct_image(anatomy: Anatomy, voxels: Voxelised, rng: np.random.Generator | None) -> Image:
    """Return the CT [HU, whole numbers] with borders averaged over each voxel; with noise where a generator is given."""
    hounsfield = voxels.mixed(anatomy.hounsfield_of_tissue)
    if rng is not None:
        noise = ndimage.gaussian_filter(rng.standard_normal(voxels.grid.shape, dtype=np.float32), 0.6)
        hounsfield += noise * np.float32(CT_NOISE_HOUNSFIELD / noise.std())
    return Image(np.clip(np.rint(hounsfield), -1024, 3071).astype(np.int16), Quantity.HOUNSFIELD, voxels.grid)


def seen(concentration: NDArray[np.float32], grid: Grid, camera: Camera) -> NDArray[np.float32]:
    """Return the concentration as the camera resolves it: point spread and residual scatter; the total in view is kept."""
    spacing = grid.spacing_mm[::-1]
    sharp = ndimage.gaussian_filter(concentration, camera.fwhm_mm / FWHM_PER_SIGMA / spacing, mode="reflect")
    # reflection at the edge of view returns what the haze would carry out of it
    haze = ndimage.gaussian_filter(concentration, camera.scatter_sigma_mm / spacing, mode="reflect", truncate=3.0)
    image: NDArray[np.float32] = (1 - camera.scatter_share) * sharp + camera.scatter_share * haze
    return image


def drawn_shift(rng: np.random.Generator) -> Array:
    """Return how a patient lies differently: a rigid matrix (4, 4) on LPS millimetres from the first scan to this one."""
    transform = np.eye(4)
    transform[:3, :3] = rotation(np.deg2rad(rng.uniform(-LARGEST_TURN_DEG, LARGEST_TURN_DEG, 3)))
    transform[:3, 3] = rng.uniform(-LARGEST_SHIFT_MM, LARGEST_SHIFT_MM, 3)
    return transform


def grid_in_patient(grid: Grid, shift: Array) -> Grid:
    """Return where a scanner's voxels lie in the unshifted patient."""
    back: Array = np.asarray(np.linalg.inv(shift), dtype=np.float64)
    return grid.moved(back)
