"""Noise of a tomogram: Poisson deviates of the projections, reconstructed."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

Floats = NDArray[np.float32]
Matrix = Any  # scipy's sparse matrices carry no types

LARGEST_RELATIVE_SD = 0.5
"""Of the log-normal factor; where there is next to no activity relative noise has no meaning."""

LARGEST_DEVIATION = 4.0
"""Of a voxel's noise, in its own standard deviations."""


def noisy(concentration: Floats, counts: float, views: int, rng: np.random.Generator) -> Floats:
    """Return the image with the noise of a tomogram of ``counts`` detected counts, ``(z, y, x)``, slices square.

    Each slice is projected with linear strips at ``views`` angles over half a turn, the Poisson deviation of every bin is
    drawn and carried back by filtered back-projection (ramp times Hann). That field has the texture and the streaks of real
    noise but is additive, while iterative reconstruction never goes below zero and is noisier where it is brighter. So the
    field, divided by its own analytic standard deviation, modulates the image as a log-normal factor of mean 1 with the same
    relative standard deviation, which is capped at 0.5: no voxel is negative and expected activity is kept in every voxel.
    """
    slices, rows, columns = concentration.shape
    if rows != columns:
        raise ValueError(f"noise: square slices needed, got {rows} x {columns}")
    image = np.ascontiguousarray(concentration.reshape(slices, -1).T, dtype=np.float32)  # (pixels, slices)
    field, sd = noise_field(image, counts, views, rng)
    # a single count where next to none are expected lies hundreds of standard deviations off, which no exponential bears
    unit = np.divide(field, sd, out=np.zeros_like(field), where=sd > 0).clip(-LARGEST_DEVIATION, LARGEST_DEVIATION)
    relative = np.divide(sd, image, out=np.zeros_like(sd), where=image > 0)
    log_variance = np.log1p(np.minimum(relative, LARGEST_RELATIVE_SD) ** 2)
    factor = np.exp(np.sqrt(log_variance) * unit - log_variance / 2)
    return np.ascontiguousarray((image * factor).T.reshape(concentration.shape), dtype=np.float32)


def noise_field(image: Floats, counts: float, views: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return additive noise and its analytic standard deviation, in the image's unit; all arrays ``(pixels, slices)``."""
    side = int(np.sqrt(len(image)))
    strips, squares, products = _strips(side, views)
    total = strips @ image
    per_unit = counts / float(total.sum())
    expected = np.maximum(total, 0.0) * np.float32(per_unit)  # (views * bins, slices)
    response = _ramp_hann(side)
    deviation = rng.poisson(expected) - expected
    field = strips.T @ _filtered(deviation, response, views)
    kernel = fft.irfft(response)
    # deviates of different bins are independent; filtered ones are not, and a pixel lies between two neighbouring bins
    variance = squares.T @ _filtered(expected, fft.rfft(kernel**2), views)
    variance += products.T @ _filtered(expected, fft.rfft(kernel * np.roll(kernel, -1)), views)
    scale = np.float32(np.pi / (views * per_unit))
    return field * scale, np.sqrt(np.maximum(variance, 0.0)) * scale


def _filtered(bins: NDArray[Any], response: NDArray[Any], views: int) -> Floats:
    """Return every projection convolved with the filter of that frequency response, ``(views * bins, slices)``."""
    stack = bins.astype(np.float32).reshape(views, -1, bins.shape[1])
    padded = 2 * (response.size - 1)
    spectrum = fft.rfft(stack, padded, axis=1) * response[:, None].astype(np.complex64)
    filtered: Floats = fft.irfft(spectrum, padded, axis=1)[:, : stack.shape[1]]
    return filtered.reshape(bins.shape)


def _ramp_hann(side: int) -> NDArray[Any]:
    """Return the frequency response of the band-limited ramp times a Hann window that ends at the Nyquist frequency."""
    padded = 4 * side
    step = np.arange(padded)
    step = np.minimum(step, padded - step)
    ramp = np.where(step % 2 == 1, -1.0 / (np.pi * np.maximum(step, 1)) ** 2, 0.0)
    ramp[0] = 0.25
    frequency = np.arange(padded // 2 + 1) / padded
    response: NDArray[Any] = fft.rfft(ramp) * (0.5 + 0.5 * np.cos(2 * np.pi * frequency))
    return response


@lru_cache(maxsize=2)
def _strips(side: int, views: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return the system matrix of one slice, its squares, and twice the products of neighbouring bins.

    Shape ``(views * bins, pixels)``: a pixel is split linearly between the two bins its centre projects to.
    """
    centre = (side - 1) / 2
    y, x = np.mgrid[:side, :side].reshape(2, -1) - centre
    angles = np.pi * np.arange(views) / views
    place = x * np.cos(angles)[:, None] + y * np.sin(angles)[:, None] + centre
    inside = (place >= 0) & (place < side - 1)
    view, pixel = np.nonzero(inside)
    low = np.floor(place[inside]).astype(np.int64)
    upper = (place[inside] - low).astype(np.float32)
    row, shape = view * side + low, (views * side, side * side)

    def matrix(at_low: Floats, at_high: Floats) -> Matrix:
        entries = (np.concatenate([at_low, at_high]), (np.concatenate([row, row + 1]), np.concatenate([pixel, pixel])))
        return sparse.csr_matrix(entries, shape=shape)

    products = sparse.csr_matrix((2 * upper * (1 - upper), (row, pixel)), shape=shape)
    return matrix(1 - upper, upper), matrix((1 - upper) ** 2, upper**2), products
