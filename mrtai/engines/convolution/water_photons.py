"""Photon dose in unbounded water: every voxel reaches every voxel, by FFT in two resolutions.

The kernel is divided smoothly in the distance. Its near part is convolved voxel by voxel, its far part between blocks of about
8 mm and interpolated back: beyond 16 mm a kernel hardly changes over a block. Kernels are even, so their transforms are real and
one octant of them is kept. The image's transforms skip the padding's zeros and never hold the padded lattice at once.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mrtai.engines.convolution.lattice import coarsening, interpolated, spread
from mrtai.physics.kernel import NEAR_VOXELS, voxel_energy
from mrtai.values.grid import Array
from mrtai.values.kernel import PointKernel
from mrtai.values.refusal import DosimetryError

BLOCK_MM: Final = 8.0
NEAR_BLOCKS: Final = 2.0
FAR_BLOCKS: Final = 5.0
"""The far part sets in between these distances, in units of the largest block edge."""

CHUNK: Final = 16
"""Lines transformed at once along the first axis."""

Shape = tuple[int, int, int]


def photon_energy(
    decays: NDArray[Any], spacing_mm: Array, kernel: PointKernel, *, device: str = "cpu", threads: int = 1
) -> NDArray[np.float32]:
    """Return the energy [MeV] that long-range radiation leaves in each voxel of unbounded water, shape ``(z, y, x)``.

    Args:
        decays: in each voxel, shape ``(z, y, x)``.
        spacing_mm: voxel edges ``(x, y, z)``.
        kernel: of water; its photon column is used.
        device: ``cpu`` or ``cuda``.
        threads: of the CPU's FFT.
    """
    edges_mm = np.asarray(spacing_mm, dtype=np.float64)[::-1]
    factor = coarsening(spacing_mm, BLOCK_MM)
    blocks_mm = edges_mm * factor
    source = decays.astype(np.float32, copy=False)
    borders = (NEAR_BLOCKS * float(blocks_mm.max()), FAR_BLOCKS * float(blocks_mm.max()))
    reach = _shape(np.minimum(decays.shape, np.ceil(borders[1] / edges_mm).astype(int) + 2))
    if max(factor) == 1 or reach == decays.shape:
        octant = _octant(kernel, tuple(edges_mm), _shape(decays.shape), "all", borders)
        return np.maximum(_convolved(source, octant, device, threads), 0)
    result = _convolved(source, _octant(kernel, tuple(edges_mm), reach, "near", borders), device, threads)
    blocks = spread(source, factor)
    far = _convolved(blocks, _far_octant(kernel, tuple(edges_mm), tuple(blocks_mm), _shape(blocks.shape), borders), device, threads)
    result += interpolated(far, factor, decays.shape)
    # the transform rounds to about 1e-7 of the maximum, which may fall below zero far from all sources
    return np.maximum(result, 0, out=result)


def _shape(numbers: Any) -> Shape:
    a, b, c = (int(n) for n in numbers)
    return a, b, c


class Octant:
    """A kernel in voxels for steps from 0, shape ``(z, y, x)``, that remembers its transform."""

    def __init__(self, mev: NDArray[np.float32]) -> None:
        self.mev = mev
        self._transform: tuple[Shape, NDArray[np.float32]] | None = None

    def transform(self, padded: Shape) -> NDArray[np.float32]:
        """Return the real transform of the even kernel on a lattice of even lengths: frequencies from 0 to the half."""
        if self._transform is None or self._transform[0] != padded:
            half = [n // 2 + 1 for n in padded]
            whole = np.zeros(half, dtype=np.float32)
            whole[tuple(slice(n) for n in self.mev.shape)] = self.mev
            # the cosine transform of type I is the Fourier transform of the even continuation
            self._transform = padded, fft.dctn(whole, type=1, overwrite_x=True)
        return self._transform[1]


def _far_share(r_mm: NDArray[Any], borders_mm: tuple[float, float]) -> NDArray[Any]:
    """Return the share of the kernel that is left to the far part: from 0 to 1, smooth to the second derivative."""
    t = np.clip((r_mm - borders_mm[0]) / (borders_mm[1] - borders_mm[0]), 0.0, 1.0)
    share: NDArray[Any] = t**3 * (10.0 - 15.0 * t + 6.0 * t**2)
    return share


@lru_cache(maxsize=4)
def _octant(kernel: PointKernel, edges_mm: tuple[float, ...], shape: Shape, part: str, borders_mm: tuple[float, float]) -> Octant:
    """Return ``all`` of the photon kernel or its ``near`` part on voxels of ``edges_mm`` (z, y, x)."""
    middle = 0.5 * (kernel.r_edges_mm[1:] + kernel.r_edges_mm[:-1])
    share = 1.0 - _far_share(middle, borders_mm) if part == "near" else 1.0
    spacing = np.array(edges_mm[::-1])
    mev = voxel_energy(kernel.r_edges_mm, kernel.photon_mev * share, spacing, shape, near_mm=NEAR_VOXELS * float(spacing.max()))
    return Octant(mev.astype(np.float32))


@lru_cache(maxsize=4)
def _far_octant(
    kernel: PointKernel, edges_mm: tuple[float, ...], blocks_mm: tuple[float, ...], shape: Shape, borders_mm: tuple[float, float]
) -> Octant:
    """Return the far part between blocks' centres, as energy in one voxel of ``edges_mm`` (z, y, x)."""
    middle = 0.5 * (kernel.r_edges_mm[1:] + kernel.r_edges_mm[:-1])
    per_mm = kernel.photon_mev / np.diff(kernel.r_edges_mm)
    z, y, x = ((np.arange(n) * edge) ** 2 for n, edge in zip(shape, blocks_mm, strict=True))
    r_mm = np.maximum(np.sqrt(z[:, None, None] + y[:, None] + x), 1e-3)
    mev = np.interp(r_mm, middle, per_mm, right=0.0) / (4.0 * np.pi * r_mm**2) * float(np.prod(edges_mm))
    return Octant((mev * _far_share(r_mm, borders_mm)).astype(np.float32))


def _convolved(source: NDArray[np.float32], octant: Octant, device: str, threads: int) -> NDArray[np.float32]:
    """Return the sum over all voxels of source times kernel, nothing beyond the borders."""
    padded = _shape(_even_length(n + k - 1) for n, k in zip(source.shape, octant.mev.shape, strict=True))
    kernel = octant.transform(padded)
    if device == "cuda":
        return _on_cuda(source, kernel, padded)
    nz, ny, nx = source.shape
    lines = fft.rfft(source, padded[2], axis=2, workers=threads)
    lines = fft.fft(lines, padded[1], axis=1, workers=threads, overwrite_x=True)
    z, y = (np.minimum(np.arange(n), n - np.arange(n)) for n in padded[:2])
    for start in range(0, padded[1], CHUNK):
        chunk = slice(start, start + CHUNK)
        columns = fft.fft(lines[:, chunk], padded[0], axis=0, workers=threads)
        columns *= kernel[np.ix_(z, y[chunk])]
        lines[:, chunk] = fft.ifft(columns, axis=0, workers=threads, overwrite_x=True)[:nz]
    lines = fft.ifft(lines, axis=1, workers=threads, overwrite_x=True)[:, :ny]
    dose: NDArray[np.float32] = fft.irfft(lines, padded[2], axis=2, workers=threads)[:, :, :nx]
    return dose


def _even_length(least: int) -> int:
    """Return a length that is even and quick to transform."""
    length = int(fft.next_fast_len(least, real=True))
    while length % 2:
        length = int(fft.next_fast_len(length + 1, real=True))
    return length


def _on_cuda(source: NDArray[np.float32], kernel: NDArray[np.float32], padded: Shape) -> NDArray[np.float32]:
    import torch

    if not torch.cuda.is_available():
        raise DosimetryError("no CUDA device", where="--device cuda", found="no usable GPU", remedy="run with --device cpu", code="NO_CUDA")
    z, y = (torch.from_numpy(np.minimum(np.arange(n), n - np.arange(n))).cuda() for n in padded[:2])
    spectrum = torch.fft.rfftn(torch.from_numpy(np.ascontiguousarray(source)).cuda(), s=padded)
    spectrum *= torch.from_numpy(kernel).cuda()[z][:, y]
    nz, ny, nx = source.shape
    dose: NDArray[np.float32] = torch.fft.irfftn(spectrum, s=padded)[:nz, :ny, :nx].cpu().numpy()
    return dose
