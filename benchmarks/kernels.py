"""Make the point kernels of water that mrtai ships: `python -m benchmarks.kernels [NUCLIDE …]`.

Every nuclide of the dosimetry table and all its radioactive progeny; without names all that are missing are made. Each file
`mrtai/data/kernels/<nuclide>.npz` holds the shells' borders, energies per decay by electrons and by photons, their relative
standard deviations, and how they were made.
"""

import argparse
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from mrtai import __version__
from mrtai.engines.monte_carlo.kernel import water_kernel
from mrtai.io.cross_sections import photon_cross_sections
from mrtai.io.tables import nuclide, progeny, spectrum

FOLDER = Path(__file__).parents[1] / "mrtai" / "data" / "kernels"
TABLE = tuple(
    """Lu-177 Y-90 I-131 Tb-161 Cu-67 Ho-166 Re-188 Re-186 Sm-153 Ga-68 F-18 Cu-64 Zr-89 I-124 Tc-99m In-111 I-123
    At-211 Pb-212 Bi-212 Ra-223 Ac-225 Bi-213 Th-227""".split()  # noqa: SIM905
)
LONGEST_PROGENY_H = 24 * 365.25


def with_progeny(names: Sequence[str]) -> list[str]:
    """Return the names and, after them, all radioactive progeny that decays within a year."""
    found, queue = list(names), deque(names)
    while queue:
        for child in progeny(queue.popleft()):
            if child in found or child.count("-") != 1:
                continue
            try:
                short = nuclide(child).half_life_h < LONGEST_PROGENY_H
            except Exception:
                continue
            if short:
                found.append(child)
                queue.append(child)
    return found


def main() -> None:
    """Make what was asked for, or what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nuclides", nargs="*", metavar="NUCLIDE")
    parser.add_argument("--histories", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    names = options.nuclides or [name for name in with_progeny(TABLE) if not (FOLDER / f"{name}.npz").is_file()]
    for name in names:
        start = perf_counter()
        made = water_kernel(spectrum(name), photon_cross_sections(), histories=options.histories, threads=options.threads)
        kernel = made.kernel
        np.savez_compressed(
            FOLDER / f"{name}.npz",
            r_edges_mm=kernel.r_edges_mm,
            electron_mev=kernel.electron_mev.astype(np.float32),
            photon_mev=kernel.photon_mev.astype(np.float32),
            electron_relative_sd=made.electron_relative_sd.astype(np.float32),
            photon_relative_sd=made.photon_relative_sd.astype(np.float32),
            electron_range_mm=kernel.electron_range_mm,
            source=f"{kernel.source}, mrtai {__version__}, ICRP 107 (icrp107-database 0.0.3)",
        )
        energies = f"{kernel.electron_mev.sum():.5f} and {kernel.photon_mev.sum():.5f} MeV"
        print(
            f"{name}: electrons and photons {energies} within 1 m, range {kernel.electron_range_mm:.2f} mm, {perf_counter() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
