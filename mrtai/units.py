"""Unit factors and physical constants: the only place where a bare conversion number may stand.

Inside the package activities are Bq, time-integrated activities Bq s, doses Gy, curve times h, lengths mm,
volumes mL, masses kg and energies MeV per decay. MBq, mGy and days exist only at the door and in reports.
"""

from typing import Final

import numpy as np

SECONDS_PER_MINUTE: Final = 60.0
SECONDS_PER_HOUR: Final = 3600.0
HOURS_PER_DAY: Final = 24.0
SECONDS_PER_DAY: Final = SECONDS_PER_HOUR * HOURS_PER_DAY
MILLISECONDS_PER_SECOND: Final = 1000.0
MICROSECONDS_PER_SECOND: Final = 1e6

BQ_PER_KBQ: Final = 1e3
BQ_PER_MBQ: Final = 1e6
BQ_S_PER_MBQ_H: Final = BQ_PER_MBQ * SECONDS_PER_HOUR
GRAM_PER_KG: Final = 1000.0
KG_PER_GRAM: Final = 1e-3
ML_PER_MM3: Final = 1e-3
MM3_PER_ML: Final = 1e3
MGY_PER_GY: Final = 1e3

JOULES_PER_MEV: Final = 1.602176634e-13  # CODATA 2018, exact
WATER_DENSITY_KG_PER_ML: Final = 1e-3

LN2: Final = float(np.log(2.0))
"""Half-life over mean life: λ = ln 2 / T½."""

PLASTIC_NUMBER: Final = 1.32471795724474602596
"""Root of x³ = x + 1: steps of 1/x and 1/x² fill a square evenly (Roberts' R₂ sequence)."""

FWHM_PER_SIGMA: Final = float(2.0 * np.sqrt(2.0 * np.log(2.0)))
"""Full width at half maximum of a Gaussian in units of its standard deviation."""

KEV_PER_MEV: Final = 1e3
EV_PER_MEV: Final = 1e6
MM_PER_CM: Final = 10.0
CM_PER_MM: Final = 0.1

# CODATA 2018
ELECTRON_MASS_MEV: Final = 0.51099895
CLASSICAL_ELECTRON_RADIUS_CM: Final = 2.8179403262e-13
FINE_STRUCTURE: Final = 7.2973525693e-3
AVOGADRO_PER_MOL: Final = 6.02214076e23
HC_MEV_ANGSTROM: Final = 1.239841984e-2
BOHR_RADIUS_CM: Final = 5.29177210903e-9
