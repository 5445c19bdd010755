"""Dose-voxel-kernel convolution by FFT: electrons by local mass, photons to the image's far corner."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mrtai.engines.dose_input import checked, deposit_density_kg_per_ml
from mrtai.physics.kernel import electron_octant, photon_octant
from mrtai.physics.tissue import matter
from mrtai.units import JOULES_PER_MEV, WATER_DENSITY_KG_PER_ML
from mrtai.values.dose import Dose
from mrtai.values.image import Image, Quantity
from mrtai.values.kernel import PointKernel
from mrtai.values.refusal import DosimetryError

Convolved = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Convolution:
    """Point kernels of water integrated over the study's own voxels.

    The electrons' energy is divided by the mass of the voxel that takes it. The photon part is dose to water and is not
    divided by density: collision kerma is continuous across an interface. Outside all matter the dose is zero.

    Attributes:
        kernel: energy around a point source of the nuclide.
        device: ``cpu`` or ``cuda``.
        threads: of the CPU's FFT.
    """

    kernel: PointKernel
    device: str = "cpu"
    threads: int = 1

    def __call__(self, tia: Image, density: Image) -> Dose:
        """Return the dose maps [Gy] by radiation; see ``ports.DoseEngine``."""
        checked(tia, density)
        grid = tia.grid
        somewhere = matter(density)
        decays = tia.voxels.astype(np.float32, copy=False) * np.float32(grid.voxel_ml)
        electron_mev = self._convolved(decays, electron_octant(self.kernel, grid.spacing_mm, grid.shape))
        photon_mev = self._convolved(decays, _photons(self.kernel, tuple(grid.spacing_mm.tolist()), grid.shape))
        electron_kg = deposit_density_kg_per_ml(density) * np.float32(grid.voxel_ml)
        electron_gy = np.where(somewhere, electron_mev * np.float32(JOULES_PER_MEV) / electron_kg, 0)
        photon_gy = np.where(somewhere, photon_mev * np.float32(JOULES_PER_MEV / (WATER_DENSITY_KG_PER_ML * grid.voxel_ml)), 0)
        return Dose(
            {
                "electron": Image(electron_gy.astype(np.float32), Quantity.ABSORBED_DOSE, grid),
                "photon": Image(photon_gy.astype(np.float32), Quantity.ABSORBED_DOSE, grid),
            }
        )

    def _convolved(self, source: NDArray[Any], octant: NDArray[Any]) -> NDArray[Any]:
        if self.device == "cuda":
            return _on_cuda(source, octant)
        return _on_cpu(source, octant, self.threads)


def _on_cpu(source: NDArray[Any], octant: NDArray[Any], threads: int) -> NDArray[Any]:
    shape = _padded(source.shape, octant.shape)
    spectrum = fft.rfftn(source, shape, workers=threads)
    spectrum *= fft.rfftn(_wrapped(octant, shape), workers=threads)
    dose: NDArray[Any] = fft.irfftn(spectrum, shape, workers=threads)[: source.shape[0], : source.shape[1], : source.shape[2]]
    # the transform rounds to about 1e-7 of the maximum, which may fall below zero far from all sources
    np.maximum(dose, 0, out=dose)
    return dose


def _on_cuda(source: NDArray[Any], octant: NDArray[Any]) -> NDArray[Any]:
    import torch

    if not torch.cuda.is_available():
        raise DosimetryError("no CUDA device", where="--device cuda", found="no usable GPU", remedy="run with --device cpu", code="NO_CUDA")
    shape = _padded(source.shape, octant.shape)
    spectrum = torch.fft.rfftn(torch.from_numpy(np.ascontiguousarray(source)).cuda(), s=shape)
    spectrum *= torch.fft.rfftn(torch.from_numpy(_wrapped(octant, shape)).cuda())
    dose = torch.fft.irfftn(spectrum, s=shape)[: source.shape[0], : source.shape[1], : source.shape[2]]
    result: NDArray[Any] = dose.clamp_min(0).cpu().numpy()
    return result


def _padded(source: tuple[int, ...], octant: tuple[int, ...]) -> tuple[int, int, int]:
    """Return FFT lengths that keep the far side of the kernel from wrapping into the image."""
    a, b, c = (int(fft.next_fast_len(n + k - 1, real=True)) for n, k in zip(source, octant, strict=True))
    return a, b, c


def _wrapped(octant: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return the whole kernel with its centre at index 0 and negative steps at the end of each axis."""
    kernel = np.zeros(shape, dtype=np.float32)
    a, b, c = octant.shape
    kernel[:a, :b, :c] = octant
    kernel[shape[0] - a + 1 :] = kernel[a - 1 : 0 : -1]
    kernel[:, shape[1] - b + 1 :] = kernel[:, b - 1 : 0 : -1]
    kernel[:, :, shape[2] - c + 1 :] = kernel[:, :, c - 1 : 0 : -1]
    return kernel


@lru_cache(maxsize=2)
def _photons(kernel: PointKernel, spacing_mm: tuple[float, ...], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    return photon_octant(kernel, np.array(spacing_mm), shape).astype(np.float32)
