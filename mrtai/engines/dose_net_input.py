"""What `dose-net` sees and what its answer means; for training and inference alike.

Everything is relative: maps are divided by a level of the patient's own, so that twice the activity gives twice the dose.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.dose_input import bounding_box
from mrtai.engines.prepare import normalised
from mrtai.physics.iterative_yang import ITERATIONS, yang_factor
from mrtai.physics.tissue import matter
from mrtai.units import WATER_DENSITY_KG_PER_ML
from mrtai.values.bundle import Channel, InputContract
from mrtai.values.image import Image

Floats = NDArray[np.float32]

DOSE_NET: Final = "dose-net"
DOSE_TASK: Final = "dose"

LEVEL_PERCENTILE: Final = 99.0
MARGIN: Final = 2
"""Voxels around the body's box that belong to the input."""

FAINT: Final = 0.01
"""Of the level: below, logarithms say nothing."""

PATCH: Final = (64, 64, 64)
SPACING_MM: Final = 4.8

DOSE_NET_CONTRACT: Final = InputContract(
    channels=(
        Channel("root of dose / level", 0.0, 6.0, 0.5, 0.5, 0.0),
        Channel("log(dose / level + 0.01)", -4.7, 3.6, -2.0, 1.5, -4.7),
        Channel("root of TIA / level", 0.0, 6.0, 0.5, 0.5, 0.0),
        Channel("log of the region's blur factor", -1.61, 1.61, 0.0, 0.5, 0.0),
        Channel("share of neighbours in the same region", 0.0, 1.0, 1.0, 0.3, 1.0),
        Channel("density, g/mL", 0.0, 2.0, 1.0, 0.3, 0.0),
        Channel("FWHM in voxels", 1.0, 4.0, 2.3, 0.5, 1.0),
    ),
    spacing_mm=SPACING_MM,
    patch=PATCH,
)
"""On the voxels of the TIA map; ``spacing_mm`` is what most of the training had, the envelope says what may be."""


@dataclass(frozen=True, slots=True, eq=False)
class DoseInput:
    """One case as the network is shown it.

    Attributes:
        channels: shape ``(channels, z, y, x)``.
        base_gy: convolution's dose with the regions' blur taken back, by the iterative Yang method or by recovery, ``(z, y, x)``: what the
            network's answer multiplies.
        level_gy: the dose that others are divided by.
    """

    channels: Floats
    base_gy: Floats
    level_gy: float


def dose_input(
    dose_gy: Floats, tia: Image, density: Image, regions: NDArray[np.integer] | None, fwhm_mm: float, *, recovered: bool = False
) -> DoseInput:
    """Return the network's input.

    Args:
        dose_gy: by ``convolution``, shape ``(z, y, x)``.
        tia: time-integrated activity as the scans show it, blurred, or ``recovered``: with what blur moved given back.
        density: on the same grid.
        regions: number of every voxel's region, 0 outside all; None where nobody drew any.
        fwhm_mm: resolution of the scans.
        recovered: the network is shown such maps as blur would leave them, so that it sees the same scans in either way.
    """
    body = matter(density)
    factor = blur_factor(tia, density, regions, fwhm_mm, recovered=recovered)
    base_gy = dose_gy if recovered else dose_gy * factor
    again = np.where(body, factor, np.float32(1.0)) if recovered else np.float32(1.0)
    seen_gy, activity = dose_gy / again, tia.voxels / again
    level_gy, level_tia = (max(float(np.percentile(v[body], LEVEL_PERCENTILE)), 1e-30) for v in (seen_gy, activity))
    same = np.ones_like(dose_gy) if regions is None else same_neighbours(np.where(body, regions.astype(np.int32), -1))
    rho = density.voxels / np.float32(WATER_DENSITY_KG_PER_ML)
    width = np.full_like(dose_gy, fwhm_mm / tia.grid.spacing_mm.mean())
    relative = seen_gy / np.float32(level_gy)
    planes = (np.sqrt(relative), np.log(relative + FAINT), np.sqrt(activity / np.float32(level_tia)), np.log(factor), same, rho, width)
    channels = [normalised(plane, channel) for plane, channel in zip(planes, DOSE_NET_CONTRACT.channels, strict=True)]
    return DoseInput(np.stack(channels), base_gy, level_gy)


def blur_factor(tia: Image, density: Image, regions: NDArray[np.integer] | None, fwhm_mm: float, *, recovered: bool = False) -> Floats:
    """Return by what voxels are multiplied to take the blur of the regions back, ``(z, y, x)``; 1 where nobody drew any.

    Of a ``recovered`` map it is what blur would divide it by. See ``dose_input``.
    """
    if regions is None:
        return np.ones(tia.grid.shape, dtype=np.float32)
    inside = np.where(matter(density), regions.astype(np.int32), -1)
    return yang_factor(tia.voxels, inside, tia.grid, fwhm_mm, 1 if recovered else ITERATIONS)


def as_scanned(tia: Image, density: Image, regions: NDArray[np.integer] | None, fwhm_mm: float) -> Image:
    """Return a recovered TIA map as blur would leave it, which is about what the scans showed."""
    factor = blur_factor(tia, density, regions, fwhm_mm, recovered=True)
    return replace(tia, voxels=tia.voxels / np.where(matter(density), factor, np.float32(1.0)))


def body_box(density: Image) -> tuple[slice, ...]:
    """Return the box ``(z, y, x)`` that the input is made of: the body's with a margin, as far as the image reaches."""
    found = bounding_box(matter(density))
    return tuple(slice(max(s.start - MARGIN, 0), min(s.stop + MARGIN, n)) for s, n in zip(found, density.grid.shape, strict=True))


def same_neighbours(regions: NDArray[np.integer]) -> Floats:
    """Return the share of a voxel's six neighbours that lie in its own region, shape ``(z, y, x)``; beyond the map all do."""
    same = np.zeros(regions.shape, dtype=np.float32)
    for axis in range(3):
        alike = np.diff(regions, axis=axis) == 0
        for end in ((1, 0), (0, 1)):
            same += np.pad(alike, [end if k == axis else (0, 0) for k in range(3)], constant_values=True)
    return same / np.float32(6.0)


def answered(answer: Floats, base_gy: Floats) -> tuple[Floats, Floats]:
    """Return dose and its standard deviation [Gy] of an answer ``(2, z, y, x)``: logarithms of what multiplies the base, and of sd/base."""
    return base_gy * np.exp(answer[0]), base_gy * np.exp(answer[1])
