"""The published data that the shells hand to engines."""

from typing import Final

from mrtai.io.cross_sections import photon_cross_sections
from mrtai.io.tables import nuclide, point_kernel, progeny, spectrum
from mrtai.values.nuclear_data import NuclearData

NUCLEAR_DATA: Final = NuclearData(nuclide, spectrum, point_kernel, progeny, photon_cross_sections)
