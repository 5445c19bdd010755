"""Contours and dose maps of both sides compared, region by region and whole."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.contour_agreement import contour_agreement
from mrtai.physics.dose_map_shares import DoseMapShares
from mrtai.physics.dvh import volume_receiving
from mrtai.physics.gamma_index import CRITERIA, counted_points, passing
from mrtai.values.compared_maps import (
    ContourAgreement,
    Criterion,
    CycleGamma,
    CycleMaps,
    DvhAgreement,
    GammaPassed,
    MapsCompared,
    RegionMaps,
)
from mrtai.values.validation import ComparedCycle, RegionPair, Unmatched

_VOLUMES: Final = {"d98": 98, "d50": 50, "d2": 2}

Mask = NDArray[np.bool_]


def maps_compared(auto: Sequence[ComparedCycle], manual: Sequence[ComparedCycle], pairs: Sequence[RegionPair]) -> MapsCompared:
    """Return what contours and maps say of every pair whose cycle has them on both sides; one cycle is in memory at a time."""
    theirs = {(cycle.patient, cycle.cycle): cycle for cycle in manual}
    regions: list[RegionMaps] = []
    gammas: list[CycleGamma] = []
    for cycle in auto:
        key = (cycle.patient, cycle.cycle)
        names = [pair.auto.name for pair in pairs if (pair.patient, pair.cycle) == key]
        ours = cycle.maps() if names else None
        other = theirs[key].maps() if ours is not None else None
        if ours is not None and other is not None:
            own, whole = cycle_maps_compared(key, ours, other, names)
            regions += own
            gammas += whole
    return MapsCompared(tuple(regions), tuple(gammas))


def misplaced(found: MapsCompared) -> tuple[Unmatched, ...]:
    """Return the cycles whose contours overlap nowhere with their partners: no agreement can be worse, another place explains it."""
    overlaps: dict[tuple[str, int], list[float]] = {}
    for one in found.regions:
        if one.contour is not None:
            overlaps.setdefault((one.patient, one.cycle), []).append(one.contour.dice)
    why = "no contour overlaps its partner: the two sides seem to lie in different frames of reference"
    return tuple(Unmatched("manual", *key, None, why) for key, dice in overlaps.items() if not any(dice))


def cycle_maps_compared(
    key: tuple[str, int], auto: CycleMaps, manual: CycleMaps, names: Iterable[str]
) -> tuple[tuple[RegionMaps, ...], tuple[CycleGamma, ...]]:
    """Return what one cycle's maps say of its regions, and of the whole map; ``key`` is patient and cycle."""
    gamma, shares = _Gamma.of(auto, manual), DoseMapShares(auto, manual)
    found = (
        RegionMaps(
            *key,
            name,
            _contour(auto, manual, name),
            _dvh(auto, manual, name),
            _inside(gamma, manual, name),
            shares.of(name),
        )
        for name in names
    )
    regions = tuple(one for one in found if one.contour or one.dvh or one.gamma)
    whole = gamma.inside(None)
    return regions, (CycleGamma(*key, whole),) if whole else ()


@dataclass(frozen=True, slots=True, eq=False)
class _Gamma:
    """Points of the manual dose map that count, shape ``(z, y, x)``, and which of them pass each criterion, ``(points,)``."""

    points: Mask | None
    passed: tuple[tuple[Criterion, Mask], ...]

    @classmethod
    def of(cls, auto: CycleMaps, manual: CycleMaps) -> "_Gamma":
        """Return the gamma of two cycles' maps; nothing where a side has no dose, or nothing of it counts."""
        if auto.dose is None or manual.dose is None:
            return cls(None, ())
        points = counted_points(auto.dose, manual.dose)
        return cls(points, tuple((one, passing(auto.dose, manual.dose, points, one)) for one in CRITERIA) if points.any() else ())

    def inside(self, mask: Mask | None) -> tuple[GammaPassed, ...]:
        """Return how many points pass, of a region's or of all."""
        if self.points is None or not self.passed:
            return ()
        chosen = np.ones(int(self.points.sum()), dtype=np.bool_) if mask is None else mask[self.points]
        count = int(chosen.sum())
        return tuple(GammaPassed(one, count, int(passed[chosen].sum())) for one, passed in self.passed) if count else ()


def _inside(gamma: _Gamma, manual: CycleMaps, name: str) -> tuple[GammaPassed, ...]:
    mask = manual.on_dose(name)
    return () if mask is None else gamma.inside(mask)


def _contour(auto: CycleMaps, manual: CycleMaps, name: str) -> ContourAgreement | None:
    ours, theirs = auto.contour(name), manual.contour(name)
    if ours is None or theirs is None:
        return None
    return contour_agreement(ours, auto.contours.grid, theirs, manual.contours.grid)


def _dvh(auto: CycleMaps, manual: CycleMaps, name: str) -> DvhAgreement | None:
    ours, theirs = _doses_gy(auto, name), _doses_gy(manual, name)
    if ours is None or theirs is None:
        return None
    both = [{key: float(np.percentile(dose, 100 - share)) for key, share in _VOLUMES.items()} for dose in (ours, theirs)]
    return DvhAgreement(both[0], both[1], volume_receiving(ours, both[1]["d50"]))


def _doses_gy(maps: CycleMaps, name: str) -> NDArray[np.float64] | None:
    """Return the doses of a region's voxels, shape ``(voxels,)``, None where there is no dose or no voxel."""
    mask = None if maps.dose is None else maps.on_dose(name)
    return None if maps.dose is None or mask is None else maps.dose.voxels[mask].astype(np.float64)
