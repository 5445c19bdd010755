"""Bodies on the voxels of a SPECT: regions, density, and how unevenly each region takes activity up.

A voxel belongs wholly to one region, so that a region's mean dose over its own voxels is the region's dose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.tissue import density_kg_per_ml
from mrtai.simulate.anatomy import OUTSIDE, torso
from mrtai.simulate.solids import turned
from mrtai.simulate.voxelise import voxelised
from mrtai.units import MM3_PER_ML
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import VIRTUAL_ORIGIN, Labels

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

FIELD_MM: Final = (480.0, 614.4)
"""Length and width of the view."""

LESION_ML: Final = (1.0, 30.0)
LESIONS: Final = (6, 13)
HOSTS: Final = ("liver", "liver", "spleen", "kidney_left", "kidney_right", "spine", "", "", "")
"""Where lesions lie, by region; empty for soft tissue in no region."""


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """One anatomy.

    Attributes:
        regions: every exclusive region, lesions among them, on the SPECT's grid; 0 is the body in no region, and air.
        body: True in the patient, shape ``(z, y, x)``.
        density: on the same grid.
        uptake: concentration relative to the region's mean, shape ``(z, y, x)``; 0 outside the body.
    """

    regions: Labels
    body: Mask
    density: Image
    uptake: Floats


def spect_grid(spacing_mm: float) -> Grid:
    """Return a square axial grid that holds the torso."""
    length, width = (int(np.ceil(mm / spacing_mm / 2)) * 2 for mm in FIELD_MM)
    return Grid.axial((length, width, width), (spacing_mm,) * 3)


def from_formulas(rng: np.random.Generator, grid: Grid) -> Body:
    """Return a body of the simulator's torso."""
    anatomy = torso(rng)
    tissue = voxelised(anatomy, grid, per_edge=1).centre
    hounsfield = anatomy.hounsfield_of_tissue + rng.normal(0, 8, len(anatomy.tissues))
    names = dict(enumerate(anatomy.regions, start=1))
    region = anatomy.region_of_tissue[tissue]
    return body_of(rng, np.maximum(region, 0).astype(np.uint8), names, region != OUTSIDE, hounsfield[tissue], grid)


def body_of(
    rng: np.random.Generator, regions: NDArray[np.uint8], names: Mapping[int, str], body: Mask, hounsfield: NDArray[np.floating], grid: Grid
) -> Body:
    """Return the body of a label map with lesions painted into it and uneven uptake; ``hounsfield`` ``(z, y, x)`` before blur and noise."""
    regions, names = regions.copy(), dict(names)
    solid = body & (hounsfield > -300)
    for _ in range(int(rng.integers(*LESIONS))):
        _paint_lesion(rng, regions, names, solid, grid)
    found = np.bincount(regions.ravel(), minlength=max(names) + 1)
    names = {value: name for value, name in names.items() if found[value]}
    smooth = ndimage.gaussian_filter(hounsfield.astype(np.float32), 0.5)
    smooth += ndimage.gaussian_filter(rng.standard_normal(regions.shape, dtype=np.float32), 0.6) * np.float32(rng.uniform(5, 25))
    density = Image(density_kg_per_ml(smooth), Quantity.DENSITY, grid)
    return Body(Labels(regions, names, grid, origin=VIRTUAL_ORIGIN), body, density, uneven(rng, regions, names, body, grid))


def _paint_lesion(rng: np.random.Generator, regions: NDArray[np.uint8], names: dict[int, str], solid: Mask, grid: Grid) -> None:
    """Paint a lesion into a host where there is room for it; in one of six it touches another."""
    host = str(rng.choice(HOSTS))
    value = next((v for v, name in names.items() if name == host), 0)
    voxel = int(max(names)) + 1
    volume_ml = float(np.exp(rng.uniform(*np.log(LESION_ML))))
    lesions = np.isin(regions, [v for v, name in names.items() if name.startswith("lesion_")])
    inside = (regions == value) & solid
    # small ones may lie anywhere in their host, large ones not at its skin
    depth = 1 if volume_ml < 8 else 2
    room = np.argwhere(ndimage.binary_erosion(inside, iterations=depth))
    if len(room) == 0:
        return
    apart = rng.random() > 1 / 6
    for _ in range(20):
        shape = _lesion(rng, room[rng.integers(len(room))], volume_ml, regions.shape, grid)
        allowed = (inside | (regions == 0)) & solid
        near = ndimage.binary_dilation(shape, iterations=1) if apart else shape
        if shape.sum() >= 4 and (shape & allowed).sum() > 0.8 * shape.sum() and not (near & lesions).any():
            regions[shape & allowed] = voxel
            names[voxel] = f"lesion_{sum(name.startswith('lesion_') for name in names.values()) + 1}"
            return


def _lesion(rng: np.random.Generator, centre: NDArray[np.intp], volume_ml: float, shape: tuple[int, ...], grid: Grid) -> Mask:
    """Return the voxels of an ellipsoid with a bumpy surface."""
    half = rng.lognormal(0, 0.2, 3)
    half *= (volume_ml * MM3_PER_ML / (4 / 3 * np.pi * np.prod(half))) ** (1 / 3)
    reach = int(np.ceil(1.5 * half.max() / grid.spacing_mm.min())) + 1
    low = np.maximum(centre - reach, 0)
    high = np.minimum(centre + reach + 1, shape)
    place = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij"), axis=-1)
    own = ((place - (centre + rng.uniform(-0.5, 0.5, 3))) * grid.spacing_mm[::-1]) @ turned(rng, 90) / half
    bumps = ndimage.gaussian_filter(rng.standard_normal(place.shape[:3]), 1.5)
    inside = np.sqrt((own**2).sum(axis=-1)) < 1 + rng.uniform(0, 0.2) * bumps / max(float(bumps.std()), 1e-6)
    whole = np.zeros(shape, dtype=np.bool_)
    whole[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = inside
    return whole


def uneven(rng: np.random.Generator, regions: NDArray[np.uint8], names: Mapping[int, str], body: Mask, grid: Grid) -> Floats:
    """Return relative uptake of mean 1 in every region: cortex and medulla, necrotic cores, and a smooth random field everywhere."""
    field = ndimage.gaussian_filter(rng.standard_normal(regions.shape, dtype=np.float32), rng.uniform(8, 20) / grid.spacing_mm[0])
    uptake = np.exp(rng.uniform(0.0, 0.3) * field / field.std()).astype(np.float32)
    boxes = ndimage.find_objects(regions)
    for value, name in names.items():
        box = boxes[value - 1]
        mask = regions[box] == value
        if name.startswith("kidney"):
            _cortex(rng, uptake[box], mask, grid)
        elif name.startswith("lesion_") and mask.sum() * grid.voxel_ml > 3 and rng.random() < 0.4:
            depth = _depth(mask, grid)
            core = mask & (depth > rng.uniform(0.3, 0.7) * depth.max())
            uptake[box][core] *= rng.uniform(0.0, 0.4)
    flat = np.where(body, regions, max(names) + 1).ravel()
    means = np.bincount(flat, weights=uptake.ravel()) / np.maximum(np.bincount(flat), 1)
    result: Floats = np.where(body, uptake / np.maximum(means, 1e-6)[flat].reshape(regions.shape), 0).astype(np.float32)
    return result


def _cortex(rng: np.random.Generator, uptake: Floats, mask: Mask, grid: Grid) -> None:
    """Give the depth of a kidney less than its cortex, and its pelvis next to nothing or, filled, a lot; in place."""
    depth = _depth(mask, grid)
    uptake[mask & (depth > rng.uniform(7, 12))] *= rng.uniform(0.3, 0.9)
    if rng.random() < 0.6:
        uptake[mask & (depth > rng.uniform(0.6, 0.85) * depth.max())] *= rng.uniform(0.0, 0.6) if rng.random() < 0.8 else rng.uniform(1, 3)


def _depth(mask: Mask, grid: Grid) -> NDArray[np.float64]:
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=grid.spacing_mm[::-1])[1:-1, 1:-1, 1:-1]
    return depth
