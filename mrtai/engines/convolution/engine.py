"""Dose by kernels of water, made right for the patient's own matter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.convolution.electrons import electron_energy
from mrtai.engines.convolution.rays import photon_ratio
from mrtai.engines.convolution.water_photons import photon_energy
from mrtai.engines.dose_input import bounding_box, checked, deposit_density_kg_per_ml
from mrtai.engines.local import Local
from mrtai.physics.bremsstrahlung import bremsstrahlung_lines
from mrtai.physics.materials import MATERIALS
from mrtai.physics.resample import cropped
from mrtai.physics.tissue import matter
from mrtai.units import ELECTRON_MASS_MEV, JOULES_PER_MEV, WATER_DENSITY_KG_PER_ML
from mrtai.values.cross_sections import CrossSections
from mrtai.values.dose import Dose
from mrtai.values.grid import Array
from mrtai.values.image import Image, Quantity
from mrtai.values.kernel import PointKernel
from mrtai.values.nuclide import Nuclide
from mrtai.values.spectrum import Spectrum


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """Electrons by superposition in the voxels' own density, photons by FFT in water times the ratio to the body's own matter.

    The electrons' energy is divided by the mass of the voxel that takes it. Photon dose is not divided by density: collision
    kerma is continuous across an interface. Alphas stay where they are born. Outside all matter the dose is zero.

    Attributes:
        kernel: energy around a point source of the nuclide in water.
        nuclide, spectrum: what decays, and what it emits.
        cross_sections: of photons in the elements.
        device: ``cpu`` or ``cuda``, for the FFT; ``threads`` of the CPU.
        own_matter: False for water everywhere, as a plain dose-voxel-kernel method has it; for comparison.
    """

    kernel: PointKernel
    nuclide: Nuclide
    spectrum: Spectrum
    cross_sections: CrossSections
    device: str = "cpu"
    threads: int = 1
    own_matter: bool = True

    def __call__(self, tia: Image, density: Image) -> Dose:
        """Return the dose maps [Gy] by radiation; see ``ports.DoseEngine``."""
        checked(tia, density)
        grid, box = tia.grid, bounding_box(matter(density) | (tia.voxels > 0))
        part = cropped(grid, box)
        inner = self._parts(Image(tia.voxels[box], tia.quantity, part), Image(density.voxels[box], density.quantity, part))
        full = {}
        for kind, gray in inner.items():
            voxels = np.zeros(grid.shape, dtype=np.float32)
            voxels[box] = gray
            full[kind] = Image(voxels, Quantity.ABSORBED_DOSE, grid)
        return Dose(full)

    def _parts(self, tia: Image, density: Image) -> dict[str, NDArray[np.float32]]:
        somewhere, rho = matter(density), density.voxels
        spacing_mm, voxel_ml = tia.grid.spacing_mm, tia.grid.voxel_ml
        decays = tia.voxels.astype(np.float32, copy=False) * np.float32(voxel_ml)
        like_water = np.full_like(rho, WATER_DENSITY_KG_PER_ML), np.ones_like(somewhere)
        electron_mev = electron_energy(
            decays, *((rho, somewhere) if self.own_matter else like_water), spacing_mm=spacing_mm, kernel=self.kernel, threads=self.threads
        )
        electron_gy = electron_mev * np.float32(JOULES_PER_MEV / voxel_ml) / deposit_density_kg_per_ml(rho)
        photon_gy = photon_energy(decays, spacing_mm, self.kernel, device=self.device, threads=self.threads)
        photon_gy *= np.float32(JOULES_PER_MEV / (WATER_DENSITY_KG_PER_ML * voxel_ml))
        if self.own_matter:
            lines = photon_lines(self.spectrum, self.cross_sections)
            photon_gy *= photon_ratio(tia, density, lines, self.cross_sections, self.threads)
        parts = {"electron": np.where(somewhere, electron_gy, 0), "photon": np.where(somewhere, photon_gy, 0)}
        if self.nuclide.alpha_mev_per_decay > 0:
            parts["alpha"] = Local(self.nuclide)(tia, density).parts["alpha"].voxels
        return parts


def photon_lines(spectrum: Spectrum, cross_sections: CrossSections) -> Array:
    """Return all photons per decay as lines, shape ``(materials, lines, 2)`` of MeV and yield: emitted, annihilation, bremsstrahlung.

    Only the last depends on the material that the decay happens in.
    """
    annihilation = np.array([[ELECTRON_MASS_MEV, 2.0 * spectrum.positrons * spectrum.betas_per_decay]])
    return np.stack(
        [
            np.vstack([spectrum.photons, annihilation, bremsstrahlung_lines(spectrum, cross_sections, index)])
            for index in range(len(MATERIALS))
        ]
    )
