"""How a contour's volume, a displaced scan and a dead time act on what is measured in a region.

A region stands for a uniform sphere of its volume without surroundings, seen through a Gaussian: radius r, concentration 1,
standard deviation σ = FWHM/2.355. With E(s) = erf(s/(σ√2))/2 and g the normal density of σ, all lengths in mm.
"""

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.special import erf

from mrtai.units import FWHM_PER_SIGMA, MM3_PER_ML
from mrtai.values.grid import Array
from mrtai.values.kernel import PointKernel

NODES = 64
FARTHEST = 8.0
"""Beyond so many standard deviations a Gaussian holds nothing that a double can tell."""


def volume_sd(volume_ml: float, voxel_mm: float, fwhm_mm: float) -> float:
    """Return the relative standard uncertainty of a contour's volume, u(v)/v = 3 u(d)/d with u(d)² = a²/6 + FWHM²/(4 ln 2).

    Gear 2018 (EANM guidance), for the diameter d of the sphere of that volume; first order, so it may exceed 1.

    Args:
        volume_ml: of the contour.
        voxel_mm: voxel size a of the image that was outlined.
        fwhm_mm: resolution of that image; 0 for a sharp one.
    """
    diameter_sd_mm = np.sqrt(voxel_mm**2 / 6.0 + fwhm_mm**2 / (4.0 * np.log(2.0)))
    return float(3.0 * diameter_sd_mm / (2.0 * radius_mm(np.asarray(volume_ml))))


def radius_mm(volume_ml: Array) -> Array:
    """Return the radius of the sphere of a volume [mm], any shape."""
    return np.asarray(np.cbrt(3.0 * MM3_PER_ML * volume_ml / (4.0 * np.pi)))


def content_ml(contour_ml: Array | float, object_ml: Array | float, fwhm_mm: Array | float) -> Array:
    """Return what a spherical contour holds of a blurred sphere about the same centre, in mL of the sphere's own concentration.

    For radii a and b, integrated over the contour from the blurred sphere B,
    4π ∫₀ᵃ B(ρ) ρ² dρ = (4π/3) {(a³+b³) E(a+b) - (a³-b³) E(a-b) + σ² [(a²-ab+b²-σ²) g(a+b) - (a²+ab+b²-σ²) g(a-b)]}.
    Where a = b, its share of the object is the recovery coefficient. It is the same with a and b exchanged. All of any one shape.
    """
    a, b, sigma = radius_mm(np.asarray(contour_ml)), radius_mm(np.asarray(object_ml)), np.asarray(fwhm_mm / FWHM_PER_SIGMA)
    whole = (a**3 + b**3) * _half_erf(a + b, sigma) - (a**3 - b**3) * _half_erf(a - b, sigma)
    edge = (a * a - a * b + b * b - sigma**2) * _normal(a + b, sigma) - (a * a + a * b + b * b - sigma**2) * _normal(a - b, sigma)
    return np.asarray(4.0 * np.pi / 3.0 * (whole + sigma**2 * edge) / MM3_PER_ML)


def surface_value(volume_ml: float, fwhm_mm: float) -> float:
    """Return φ/2, the blurred sphere at its own surface in units of its concentration: E(2r) - σ/(r√(2π)) (1 - e^{-2r²/σ²})."""
    radius, sigma = float(radius_mm(np.asarray(volume_ml))), fwhm_mm / FWHM_PER_SIGMA
    return float(_half_erf(2.0 * radius, sigma) + sigma / (radius * np.sqrt(2.0 * np.pi)) * np.expm1(-2.0 * (radius / sigma) ** 2))


def counts_slope(volume_ml: float, fwhm_mm: float) -> float:
    """Return d ln A / d ln v of the activity summed over a contour of volume v about an object of that volume: φ/(2R).

    Widening the contour by dv adds the surface value φ/2 times dv to its content R v, with R the blurred sphere's recovery
    coefficient. This is the coefficient of Gear 2018 (EANM guidance), whose C is the count rate of the whole contour, like our sum
    over voxels; a mean over the contour has φ/(2R) - 1. It is 1/2 for a sharp or huge object, where a contour gains nothing
    outside and loses everything inside, and 1 for one far smaller than the resolution.
    """
    return surface_value(volume_ml, fwhm_mm) * volume_ml / float(content_ml(volume_ml, volume_ml, fwhm_mm))


def registration_sd(volume_ml: float, fwhm_mm: float, residual_mm: float) -> float:
    """Return the relative root-mean-square loss of a contour's content when the object lies elsewhere.

    A blurred sphere is displaced from the contour of its own size by a normal vector of rms length ``residual_mm``. The loss is
    1 - M(d)/M(0), with M(d) the overlap of two spheres at a distance blurred by the resolution, averaged over the Maxwell density
    of d. For small residuals it is √(5/3) κ residual² with M(d) ≈ M(0) (1 - κ d²). A loss is never a gain: a part √(3/5) of
    this is its mean, which a symmetric uncertainty about the measured value must cover.
    """
    if residual_mm == 0.0:
        return 0.0
    axis_mm = residual_mm / np.sqrt(3.0)
    nodes, weights = leggauss(NODES)
    far_mm = 0.5 * FARTHEST * axis_mm * (nodes + 1.0)
    density = weights * far_mm**2 * np.exp(-0.5 * (far_mm / axis_mm) ** 2)
    loss = 1.0 - _displaced_ml(volume_ml, fwhm_mm, far_mm) / content_ml(volume_ml, volume_ml, fwhm_mm)
    return float(np.sqrt(np.sum(density * loss**2) / density.sum()))


def mass_exponent(kernel: PointKernel, volume_ml: float) -> float:
    """Return d ln S / d ln v of a sphere's dose from its own decays in water: -1 + d ln φ / d ln v.

    What the sphere keeps of the energy left at a distance d is its overlap with itself moved by d, 1 - 3d/(4r) + d³/(16r³) up to d = 2r;
    by ln v that grows by (d/(4r) - d³/(16r³)). Energy that stays where it is made gives -1, photons that leave anyway near -2/3.
    """
    away = 0.5 * (kernel.r_edges_mm[:-1] + kernel.r_edges_mm[1:]) / float(radius_mm(np.asarray(volume_ml)))
    energy_mev = np.where(away < 2.0, kernel.electron_mev + kernel.photon_mev, 0.0)
    kept = float(energy_mev @ (1.0 - 0.75 * away + away**3 / 16.0))
    return float(energy_mev @ (away / 4.0 - away**3 / 16.0)) / kept - 1.0 if kept > 0 else -1.0


def dead_time_slope(factor: float) -> float:
    """Return d ln f / d ln τ = ln f / (1 - ln f) of the factor f = n/m = e^{nτ} of a paralysable detector at an observed rate m.

    From mτ = nτ e^{-nτ} = ln f / f. It has no bound at f = e, where the detector cannot count faster.
    """
    return float(np.log(factor) / (1.0 - np.log(factor)))


def _displaced_ml(volume_ml: float, fwhm_mm: float, far_mm: Array) -> Array:
    """Return M(d) [mL] for distances of shape ``(distances,)``: d M(d) = ∫₀^{2r} t V(t) [g(d-t) - g(d+t)] dt.

    V(t) is what two spheres of radius r have in common at a distance t.
    """
    r, sigma = float(radius_mm(np.asarray(volume_ml))), fwhm_mm / FWHM_PER_SIGMA
    low = np.clip(far_mm - FARTHEST * sigma, 0.0, 2.0 * r)
    high = np.minimum(far_mm + FARTHEST * sigma, 2.0 * r)
    nodes, weights = leggauss(NODES)
    t = low + np.outer(nodes + 1.0, high - low) / 2.0
    common = np.pi / 12.0 * (2.0 * r - t) ** 2 * (4.0 * r + t)
    blurred = _normal(far_mm - t, sigma) - _normal(far_mm + t, sigma)
    return np.asarray(weights @ (t * common * blurred) * (high - low) / 2.0 / far_mm / MM3_PER_ML)


def _half_erf(length: Array | float, sigma: Array | float) -> Array:
    return np.asarray(0.5 * erf(length / (sigma * np.sqrt(2.0))))


def _normal(length: Array, sigma: Array | float) -> Array:
    return np.asarray(np.exp(-0.5 * (length / sigma) ** 2) / (sigma * np.sqrt(2.0 * np.pi)))
