"""Dose of a nuclide and its progeny: one engine a nuclide, added up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.dose_input import AIR_DENSITY_KG_PER_ML, checked
from mrtai.engines.region_means import region_means
from mrtai.physics.chain import chain, progeny_source
from mrtai.physics.tissue import matter
from mrtai.ports import DoseEngine
from mrtai.values.chain import Progeny
from mrtai.values.dose import Dose
from mrtai.values.image import Image, Quantity
from mrtai.values.nuclear_data import NuclearData
from mrtai.values.nuclide import Nuclide


@dataclass(frozen=True, slots=True)
class MemberDose:
    """The engine of one nuclide of a chain; ``decays`` of it for each decay of the parent."""

    name: str
    engine: DoseEngine
    decays: float


@dataclass(frozen=True, slots=True)
class ChainDose:
    """Parent and progeny, each by its own engine.

    Attributes:
        members: parent first.
        free_fraction: of all progeny decays, spread over the body evenly by mass; the rest happen where the parent decays.
    """

    members: tuple[MemberDose, ...]
    free_fraction: float = 0.0

    def __call__(self, tia: Image, density: Image) -> Dose:
        """Return the dose maps [Gy] by radiation and by nuclide for the parent's decays; see ``ports.DoseEngine``."""
        checked(tia, density)
        # dose is linear in decays, so all progeny share one map and what engines keep of it
        doses = [(member, member.engine(source, density)) for member, source in self._sources(tia, density)]
        kinds = {kind: None for _, dose in doses for kind in dose.parts}
        parts = {
            kind: _sum([(member.decays, dose.parts[kind].voxels) for member, dose in doses if kind in dose.parts], tia) for kind in kinds
        }
        by_nuclide = {member.name: _sum([(member.decays, dose.total.voxels)], tia) for member, dose in doses}
        return Dose(parts, _sd([(member.decays, dose.sd) for member, dose in doses]), by_nuclide)

    def region_means(self, tia: Image, density: Image, masks: Mapping[str, NDArray[np.bool_]]) -> Mapping[str, tuple[float, float | None]]:
        """Return mean dose [Gy] of the whole chain and its statistical standard deviation over each mask, shape ``(z, y, x)``."""
        checked(tia, density)
        means = [region_means(member.engine, source, density, masks) for member, source in self._sources(tia, density)]
        decays = [member.decays for member in self.members]
        result: dict[str, tuple[float, float | None]] = {}
        for name in masks:
            sds = [found[name][1] for found in means]
            known = [d * sd for d, sd in zip(decays, sds, strict=True) if sd is not None]
            mean = sum(d * found[name][0] for d, found in zip(decays, means, strict=True))
            result[name] = (mean, float(np.linalg.norm(known)) if len(known) == len(sds) else None)
        return result

    def _sources(self, tia: Image, density: Image) -> list[tuple[MemberDose, Image]]:
        """Return every member with the map of one decay of it per decay of the parent; all progeny share one."""
        # activity that blur put into air is no tissue's, and no blood carries it away
        tissue = matter(density) & (density.voxels >= AIR_DENSITY_KG_PER_ML)
        progeny_tia = progeny_source(tia, density, tissue, self.free_fraction)
        return [(member, progeny_tia if index else tia) for index, member in enumerate(self.members)]


def chain_engine(parent: Nuclide, data: NuclearData, make: Callable[[Nuclide], DoseEngine], progeny: Progeny) -> DoseEngine:
    """Return the engine of ``parent`` with its progeny; the plain one where there are none, or where they are left out."""
    if progeny.stay == "none":
        return make(parent)
    members = chain(parent.name, data).members
    if len(members) == 1:
        return make(parent)
    return ChainDose(
        tuple(MemberDose(member.nuclide.name, make(member.nuclide), member.decays) for member in members), progeny.free_fraction
    )


def _sum(terms: list[tuple[float, NDArray[Any]]], like: Image) -> Image:
    voxels = reduce(np.add, (np.float32(decays) * gray for decays, gray in terms))
    return Image(voxels.astype(np.float32, copy=False), Quantity.ABSORBED_DOSE, like.grid)


def _sd(terms: list[tuple[float, Image | None]]) -> Image | None:
    """Return the quadrature sum [Gy], since each nuclide has histories of its own; None where an engine states none."""
    known = [(decays, sd) for decays, sd in terms if sd is not None]
    if len(known) < len(terms):
        return None
    variance = reduce(np.add, (np.square(np.float32(decays) * sd.voxels) for decays, sd in known))
    return Image(np.sqrt(variance), Quantity.ABSORBED_DOSE, known[0][1].grid)
