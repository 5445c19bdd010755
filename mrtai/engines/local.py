"""Local deposition: every decay leaves its charged particles' energy where it happens."""

from dataclasses import dataclass

import numpy as np

from mrtai.engines.dose_input import checked, deposit_density_kg_per_ml
from mrtai.physics.tissue import matter
from mrtai.units import JOULES_PER_MEV
from mrtai.values.dose import Dose
from mrtai.values.image import Image, Quantity
from mrtai.values.nuclide import Nuclide


@dataclass(frozen=True, slots=True)
class Local:
    """Electrons and alphas at the place of the decay, photons not at all.

    Good for organs' electron dose in voxels larger than the electrons' range; leaves out all photon dose.
    """

    nuclide: Nuclide

    def __call__(self, tia: Image, density: Image) -> Dose:
        """Return D = Ã E / ρ [Gy] for electrons and alphas, zero in the surrounding air; see ``ports.DoseEngine``."""
        checked(tia, density)
        somewhere = matter(density)
        per_ml = np.where(somewhere, tia.voxels / deposit_density_kg_per_ml(density.voxels), 0.0)
        energies = {"electron": self.nuclide.electron_mev_per_decay, "alpha": self.nuclide.alpha_mev_per_decay}
        zero = Image(np.zeros(tia.grid.shape, dtype=np.float32), Quantity.ABSORBED_DOSE, tia.grid)
        parts = {
            kind: Image((per_ml * (mev * JOULES_PER_MEV)).astype(np.float32), Quantity.ABSORBED_DOSE, tia.grid)
            for kind, mev in energies.items()
            if mev > 0
        }
        return Dose(parts or {"electron": zero})
