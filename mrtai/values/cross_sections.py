"""How photons interact with elements."""

from dataclasses import dataclass

import numpy as np

from mrtai.values.grid import Array


@dataclass(frozen=True, slots=True, eq=False)
class CrossSections:
    """Photon cross sections of elements, tabulated.

    Attributes:
        z: atomic numbers, shape ``(elements,)``; ``atomic_mass`` their masses [g/mol].
        energy_mev: energies, shape ``(energies,)``, evenly spaced in the logarithm.
        photoelectric, coherent, incoherent, pair: mass cross sections [cm²/g], shape ``(elements, energies)``.
        x_per_angstrom: momentum transfer sin(θ/2)/λ, shape ``(momenta,)``.
        form_factor: of the whole atom, shape ``(elements, momenta)``.
        scattering_function: incoherent, of the whole atom, shape ``(elements, momenta)``.
        source: where the numbers come from.
    """

    z: Array
    atomic_mass: Array
    energy_mev: Array
    photoelectric: Array
    coherent: Array
    incoherent: Array
    pair: Array
    x_per_angstrom: Array
    form_factor: Array
    scattering_function: Array
    source: str

    def __post_init__(self) -> None:
        shape = (self.z.size, self.energy_mev.size)
        for name in ("photoelectric", "coherent", "incoherent", "pair"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: shape {shape} needed, got {getattr(self, name).shape}")
        if not np.allclose(np.diff(np.log(self.energy_mev), 2), 0, atol=1e-9):
            raise ValueError("energies must be evenly spaced in the logarithm")
