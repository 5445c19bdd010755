"""What engines may ask of published data; the door gives it to them, since engines read no files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mrtai.values.cross_sections import CrossSections
from mrtai.values.kernel import PointKernel
from mrtai.values.nuclide import Nuclide
from mrtai.values.spectrum import Spectrum


@dataclass(frozen=True, slots=True)
class NuclearData:
    """Published data by name of a nuclide, read when asked for.

    Attributes:
        nuclide: half-life and energies per decay.
        spectrum: what it emits, line by line.
        point_kernel: energy around a point source in water.
        progeny: direct progeny with branching fractions.
        cross_sections: of photons in the elements of tissue.
    """

    nuclide: Callable[[str], Nuclide]
    spectrum: Callable[[str], Spectrum]
    point_kernel: Callable[[str], PointKernel]
    progeny: Callable[[str], Mapping[str, float]]
    cross_sections: Callable[[], CrossSections]
