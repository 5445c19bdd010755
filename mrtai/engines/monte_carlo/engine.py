"""The Monte Carlo dose engine: batches of histories until they are enough, each batch an independent estimate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.dose_input import bounding_box, checked, deposit_density_kg_per_ml
from mrtai.engines.local import Local
from mrtai.engines.monte_carlo.histories import World, on_cpu
from mrtai.engines.monte_carlo.source import Emission, Sites, electrons, photons
from mrtai.engines.monte_carlo.tables import TOTAL, VOXEL_CUTS, Tables, tables
from mrtai.engines.monte_carlo.voxels import Lattice
from mrtai.physics.materials import MATERIALS, NAMES, material_map
from mrtai.physics.tissue import matter
from mrtai.units import CM_PER_MM, GRAM_PER_KG, JOULES_PER_MEV
from mrtai.values.cross_sections import CrossSections
from mrtai.values.dose import Dose
from mrtai.values.image import Image, Quantity
from mrtai.values.nuclide import Nuclide
from mrtai.values.refusal import DosimetryError
from mrtai.values.spectrum import Spectrum

BATCHES: Final = 25
"""Independent estimates; their spread gives the statistical uncertainty, itself uncertain by 1/√(2·24) = 14 %."""

HISTORIES: Final = 2_000_000
FEWEST_HISTORIES: Final = 2 * BATCHES
DENSER: Final = 10.0
"""Tentative collisions are this much denser than the densest tissue asks for: each one scores, and they cost less than new photons
(measured in a water cube: ten times the efficiency in a distant plane)."""

VACUUM_KG_PER_ML: Final = 1e-9

Progress = Callable[[str, float], None]
Means = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class MonteCarlo:
    """Photons and electrons followed one by one through the patient's voxels; alphas stay where they are born.

    The photon part holds all bremsstrahlung. Nothing comes back from beyond the image: there is vacuum.

    Attributes:
        nuclide, spectrum: what decays, and what it emits.
        cross_sections: of photons in the elements.
        histories: emitted particles to follow at most, half of them photons.
        target_relative_sd: stop earlier when every region asked for is known this well (one standard deviation); None to run all.
        material: index into ``MATERIALS`` of every voxel, shape ``(z, y, x)``; by density where None.
        device: ``cpu`` or ``cuda``; ``threads`` of the CPU.
        seed: the same seed gives the same histories on any number of threads.
        progress: told what is being done and the fraction finished.
    """

    nuclide: Nuclide
    spectrum: Spectrum
    cross_sections: CrossSections
    histories: int = HISTORIES
    target_relative_sd: float | None = None
    material: NDArray[np.uint8] | None = None
    device: str = "cpu"
    threads: int = 1
    seed: int = 7
    progress: Progress | None = None

    def __call__(self, tia: Image, density: Image) -> Dose:
        """Return the dose maps [Gy] with their statistical uncertainty; see ``ports.DoseEngine``."""
        return self.run(tia, density, {})[0]

    def region_means(self, tia: Image, density: Image, masks: Mapping[str, NDArray[np.bool_]]) -> Means:
        """Return mean dose [Gy] and its statistical standard deviation over each mask, shape ``(z, y, x)``."""
        return self.run(tia, density, masks)[1]

    def run(self, tia: Image, density: Image, masks: Mapping[str, NDArray[np.bool_]]) -> tuple[Dose, Means]:
        """Return the dose maps and the means of regions, from the same histories."""
        checked(tia, density)
        self._require_possible(tia)
        box = bounding_box(matter(density))
        batch = _Batch(self, tia, density, box)
        sums = _Sums(batch.shape, {name: np.flatnonzero(mask[box]) for name, mask in masks.items()})
        each = max(self.histories // BATCHES, 2)
        for number in range(BATCHES):
            sums.add(*batch.gray(number, each))
            if self.progress is not None:
                self.progress(f"Monte Carlo, {(number + 1) * each:,} histories", (number + 1) / BATCHES)
            if self.target_relative_sd is not None and number >= BATCHES // 2 and sums.worst() < self.target_relative_sd:
                break
        return self._dose(sums, tia, density, box), sums.means()

    def _require_possible(self, tia: Image) -> None:
        if self.histories < FEWEST_HISTORIES:
            raise DosimetryError(
                "too few histories",
                where="--histories",
                found=str(self.histories),
                remedy=f"ask for {FEWEST_HISTORIES} at least; a million is usual",
                code="TOO_FEW_HISTORIES",
            )
        if self.material is not None and (self.material.shape != tia.grid.shape or int(self.material.max()) >= len(NAMES)):
            raise DosimetryError(
                "the material map does not fit",
                where="--material",
                found=f"shape {self.material.shape}, largest index {int(self.material.max())}",
                remedy=f"give indices below {len(NAMES)} on the activity's grid",
                code="BAD_MATERIAL_MAP",
            )
        if self.device == "cuda":
            from mrtai.engines.monte_carlo.gpu import require_gpu

            require_gpu()

    def _dose(self, sums: "_Sums", tia: Image, density: Image, box: tuple[slice, ...]) -> Dose:
        somewhere = matter(density)

        def image(values: NDArray[Any]) -> Image:
            full = np.zeros(tia.grid.shape, dtype=np.float32)
            full[box] = values.reshape(full[box].shape)
            return Image(np.where(somewhere, full, 0.0).astype(np.float32), Quantity.ABSORBED_DOSE, tia.grid)

        parts = {"electron": image(sums.electron / sums.batches), "photon": image(sums.photon / sums.batches)}
        if self.nuclide.alpha_mev_per_decay > 0:
            parts["alpha"] = Local(self.nuclide)(tia, density).parts["alpha"]
        return Dose(parts, sd=image(sums.sd()))


class _Batch:
    """Runs batches of one case; keeps what does not change between them."""

    def __init__(self, engine: MonteCarlo, tia: Image, density: Image, box: tuple[slice, ...]) -> None:
        self.engine = engine
        self.physics: Tables = tables(engine.cross_sections, VOXEL_CUTS)
        rho = np.ascontiguousarray(density.voxels[box], dtype=np.float32)
        material = material_map(rho) if engine.material is None else np.ascontiguousarray(engine.material[box])
        self.shape = rho.shape
        gram_per_cm3 = rho * np.float32(GRAM_PER_KG)
        self.lattice = Lattice(gram_per_cm3, material, tia.grid.spacing_mm * CM_PER_MM, _majorant(gram_per_cm3, material, self.physics))
        decays = tia.voxels[box].astype(np.float64).ravel() * tia.grid.voxel_ml
        voxel = np.flatnonzero(decays)
        self.decays = float(decays.sum())
        self.sites = Sites(voxel.astype(np.int32), np.cumsum(decays[voxel]) / (self.decays or 1.0))
        joule = self.decays * JOULES_PER_MEV / tia.grid.voxel_ml
        self.electron_gy_per_mev = (joule / deposit_density_kg_per_ml(density.voxels)[box].ravel()).astype(np.float32)
        self.photon_gy_per_mev = (joule / np.maximum(rho, VACUUM_KG_PER_ML).ravel()).astype(np.float32)

    def gray(self, number: int, histories: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return one batch's estimate of electron and photon dose [Gy], each of shape ``(voxels,)``."""
        size = int(np.prod(self.shape))
        electron, photon = (np.zeros(size, dtype=np.float32) for _ in range(2))
        share = max(histories // 2, 1)
        for stream, emission in enumerate((electrons(self.engine.spectrum), photons(self.engine.spectrum))):
            if emission.mev_per_decay > 0 and self.decays > 0:
                first = (2 * number + stream) * share
                freed, kerma = self._mev(first, first + share, emission)
                electron += freed * np.float32(emission.mev_per_decay / share)
                photon += kerma * np.float32(emission.mev_per_decay / share)
        return electron * self.electron_gy_per_mev, photon * self.photon_gy_per_mev

    def _mev(self, first: int, last: int, emission: Emission) -> tuple[NDArray[Any], NDArray[Any]]:
        engine = self.engine
        world = World(self.lattice, self.physics, VOXEL_CUTS, emission, self.sites)
        rows = 1 if engine.device == "cuda" else engine.threads
        tallies = tuple(np.zeros((rows, int(np.prod(self.shape))), dtype=np.float32) for _ in range(2))
        if engine.device == "cuda":
            from mrtai.engines.monte_carlo.gpu import on_gpu

            on_gpu(first, last, engine.seed, world, *tallies)
        else:
            on_cpu(first, last, engine.seed, world, *tallies)
        return tallies[0].sum(axis=0), tallies[1].sum(axis=0)


class _Sums:
    """Sums over batches of voxel doses, their squares, and regions' means."""

    def __init__(self, shape: tuple[int, ...], regions: Mapping[str, NDArray[np.intp]]) -> None:
        size = int(np.prod(shape))
        self.electron, self.photon, self.square = (np.zeros(size, dtype=np.float32) for _ in range(3))
        self.regions = regions
        self.rows: list[list[float]] = []

    @property
    def batches(self) -> int:
        """Number of batches so far."""
        return len(self.rows)

    def add(self, electron_gy: NDArray[Any], photon_gy: NDArray[Any]) -> None:
        """Add one batch's estimate."""
        total = electron_gy + photon_gy
        self.electron += electron_gy
        self.photon += photon_gy
        self.square += total * total
        self.rows.append([float(total[voxels].mean(dtype=np.float64)) if voxels.size else np.nan for voxels in self.regions.values()])

    def sd(self) -> NDArray[Any]:
        """Return the standard deviation of the mean of each voxel [Gy]."""
        n = self.batches
        total = self.electron + self.photon
        spread: NDArray[Any] = np.sqrt(np.maximum(self.square - total * total / n, 0.0) / (n - 1) / n)
        return spread

    def means(self) -> Means:
        """Return mean and standard deviation of every region [Gy]."""
        rows = np.array(self.rows)
        sd = rows.std(axis=0, ddof=1) / np.sqrt(self.batches)
        return {name: (float(rows[:, i].mean()), float(sd[i])) for i, name in enumerate(self.regions)}

    def worst(self) -> float:
        """Return the largest relative standard deviation of all regions; infinite without regions."""
        return max((sd / mean if mean > 0 else np.inf for mean, sd in self.means().values()), default=np.inf)


def _majorant(gram_per_cm3: NDArray[Any], material: NDArray[np.uint8], physics: Tables) -> NDArray[Any]:
    """Return ``DENSER`` times the largest attenuation coefficient [1/cm] in the lattice over the photon table's energies."""
    densest = [float(gram_per_cm3[material == index].max(initial=0.0)) for index in range(len(MATERIALS))]
    largest: NDArray[Any] = np.max([rho * physics.photon[index, :, TOTAL] for index, rho in enumerate(densest)], axis=0)
    positive: NDArray[Any] = np.maximum(DENSER * largest, 1e-12)
    return positive
