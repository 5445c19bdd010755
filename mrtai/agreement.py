"""Which step makes two cases differ: steps are exchanged one at a time, and the dose is computed again from the images both keep.

A dose comes of contours, activity images, curves (times, choice of scans, method) and the dose calculation (engine, density). Taking
each from one side or the other gives a dose; a step's share is its mean gain over all orders of exchange (Shapley 1953). Where a
side's own numbers differ from what this version computes from its images, the difference belongs to the step that they come out of:
of integrals to the curve, of doses to the dose calculation. So both ends are the doses that the sides state, and the shares add up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path
from typing import Final

import numpy as np

from mrtai.cycle import absorb, for_patient, integrate
from mrtai.engines_of_run import CaseRequest, Engines, engines_for
from mrtai.physics.align_scans import IDENTITY, on_one_grid
from mrtai.physics.attribution import ACTIVITY, CONTOUR, CURVE, DOSE, STEPS, shapley
from mrtai.physics.kinetics import RegionFits
from mrtai.physics.region_dose import Maps, region_masks
from mrtai.values.compared_images import CycleImages
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import PARENCHYMA
from mrtai.values.report import Aligned
from mrtai.values.study import TimePoint
from mrtai.values.validation import IMAGES, SAME_TIME_H, Attribution, ComparedCycle, Contribution, NotRecomputed, RegionPair

AUTO, MANUAL = "automatic", "manual"
SIDES: Final = (AUTO, MANUAL)
STATED_DIGITS: Final = 1e-6
"""Integrals that agree to the digits kept in ``results.json`` are the same."""

Corner = Mapping[str, str]
"""By step, the side that it is taken from."""


@dataclass(frozen=True, eq=False)
class Exchange:
    """Two sides of one cycle whose steps can be exchanged.

    Attributes:
        images: by side; ``homes`` the same on their grid with density and body; ``engines`` what its choices name.
        scale: by side and contour, the stated integral over the one computed from the side's own images.
        same: steps that are the same on both sides, for which one computation does.
        known: mean doses [Gy] by region of what was computed.
    """

    images: Mapping[str, CycleImages]
    homes: Mapping[str, Aligned]
    engines: Mapping[str, Engines]
    scale: Mapping[str, Mapping[str, float]]
    same: frozenset[str]
    known: dict[tuple[str, ...], Mapping[str, float]] = field(default_factory=dict)

    def mean_doses_gy(self, corner: Corner) -> Mapping[str, float]:
        """Return every region's mean dose [Gy] with each step taken from the side that ``corner`` names; computed once."""
        key = tuple(AUTO if step in self.same else corner[step] for step in STEPS)
        if key not in self.known:
            self.known[key] = self._computed(dict(zip(STEPS, key, strict=True)))
        return self.known[key]

    def _computed(self, corner: Corner) -> dict[str, float]:
        drawn = self.images[corner[CONTOUR]]
        aligned = _taken(self.images, self.homes, corner)
        curve = self.images[corner[CURVE]]
        fits, tia, curves = _integrated(aligned, drawn.labels, curve, self.engines[corner[CURVE]])
        tia = _scaled(tia, fits, self.scale[corner[CURVE]])
        dose = absorb(tia, aligned, for_patient(self.engines[corner[DOSE]].dose, aligned, fits, curve.protocol, curves=curves))
        masks = region_masks(Maps(aligned, drawn.contours, fits, dose))
        total = dose.total.voxels
        return {name: float(total[mask].mean(dtype=np.float64)) for name, mask in masks.items() if mask.any()}


def from_images(
    auto: Sequence[ComparedCycle],
    manual: Sequence[ComparedCycle],
    pairs: Sequence[RegionPair],
    protocols: Sequence[Path] = (),
    *,
    threads: int = 1,
) -> tuple[tuple[Attribution | None, ...], tuple[NotRecomputed, ...]]:
    """Return the attribution of every pair by computing again, None where that cannot be, and the cycles where it cannot with why.

    Args:
        auto: cycles of one side.
        manual: cycles of the other.
        pairs: in any order.
        protocols: files of protocols that do not come with mrtai.
        threads: of the dose engines.
    """
    theirs = {(cycle.patient, cycle.cycle): cycle for cycle in manual}
    found: dict[tuple[str, int, str], Attribution | None] = {}
    refused: list[NotRecomputed] = []
    for cycle in auto:
        key = (cycle.patient, cycle.cycle)
        own = [pair for pair in pairs if (pair.patient, pair.cycle) == key]
        if not own:
            continue
        try:
            shares = recomputed(cycle.images(protocols), theirs[key].images(protocols), own, threads=threads)
        except DosimetryError as refusal:
            refused.append(NotRecomputed(*key, f"{refusal.what}: {refusal.found}; {refusal.remedy}"))
            continue
        found |= {(*key, pair.auto.name): one for pair, one in zip(own, shares, strict=True)}
    return tuple(found.get((pair.patient, pair.cycle, pair.auto.name)) for pair in pairs), tuple(refused)


def recomputed(auto: CycleImages, manual: CycleImages, pairs: Sequence[RegionPair], *, threads: int = 1) -> tuple[Attribution | None, ...]:
    """Return the attribution of each of a cycle's ``pairs`` by computing again, None where a side has no dose above 0 or no contour.

    Raises:
        DosimetryError: the sides lie on different reference scans, or a step of one cannot be taken with the other's images.
    """
    exchange = exchange_of(auto, manual, pairs, threads=threads)
    return tuple(attributed(exchange, pair) for pair in pairs)


def exchange_of(auto: CycleImages, manual: CycleImages, pairs: Sequence[RegionPair], *, threads: int = 1) -> Exchange:
    """Return the exchange of two sides; ``pairs`` state their integrals. Raises as ``recomputed`` does."""
    images = {AUTO: auto, MANUAL: manual}
    grids = [side.cycle.time_points[0].spect.grid for side in images.values()]
    if not grids[0].same_as(grids[1]):
        raise DosimetryError(
            "the two sides lie on different reference scans",
            where="recomputation",
            found="other grids",
            remedy="work both up from the same first scan",
            code="NOT_RECOMPUTED",
        )
    homes = {name: on_one_grid(side.cycle, lambda fixed, moving: IDENTITY) for name, side in images.items()}
    engines = {name: _engines(side, threads) for name, side in images.items()}
    stated = {
        AUTO: {pair.auto.name: pair.auto.tia_bq_s or 0.0 for pair in pairs},
        MANUAL: {pair.auto.name: pair.manual.tia_bq_s or 0.0 for pair in pairs},
    }
    scale = {side: _scale(images, homes, engines[side], stated[side], side) for side in SIDES}
    same = {
        CONTOUR: _same_contours(images),
        ACTIVITY: _same_activity(images),
        CURVE: _same_curves(images, scale),
        DOSE: _same_doses(images),
    }
    return Exchange(images, homes, engines, scale, frozenset(step for step, is_same in same.items() if is_same))


def attributed(exchange: Exchange, pair: RegionPair) -> Attribution | None:
    """Return the attribution of one region, see ``recomputed``."""
    name = pair.auto.name
    stated = {AUTO: pair.auto.absorbed_dose_gy or 0.0, MANUAL: pair.manual.absorbed_dose_gy or 0.0}
    own = {side: exchange.mean_doses_gy(dict.fromkeys(STEPS, side)).get(name, 0.0) for side in SIDES}
    if min(*stated.values(), *own.values()) <= 0:
        return None
    beyond = {side: log(stated[side] / own[side]) for side in SIDES}
    gains = shapley(STEPS, lambda swapped: _ln_dose(exchange, name, swapped, beyond))
    total = log(stated[AUTO] / stated[MANUAL])
    return Attribution(total, tuple(Contribution((step,), gains[step]) for step in STEPS), IMAGES)


def _ln_dose(exchange: Exchange, name: str, swapped: frozenset[str], beyond: Mapping[str, float]) -> float:
    corner = {step: AUTO if step in swapped else MANUAL for step in STEPS}
    dose_gy = exchange.mean_doses_gy(corner).get(name, 0.0)
    if dose_gy <= 0:
        raise DosimetryError(
            "a region has no dose with the other side's images",
            where=name,
            found="no activity in its contour",
            remedy="check that both sides are of one patient in one place",
            code="NOT_RECOMPUTED",
        )
    return log(dose_gy) + beyond[corner[DOSE]]


def _taken(images: Mapping[str, CycleImages], homes: Mapping[str, Aligned], corner: Corner) -> Aligned:
    """Return the scans of the curve's side with the images of the activity's side, in the density of the dose's side.

    A scan that the activity's side has not keeps its own image: to count with it or not is the curve's choice.
    """
    curve = homes[corner[CURVE]]
    others = images[corner[ACTIVITY]].cycle.time_points
    points = tuple(_with_image(point, others) for point in curve.cycle.time_points)
    whole = all(side.whole for side in images.values())
    return replace(
        curve,
        cycle=replace(curve.cycle, time_points=points),
        spects=tuple(point.spect for point in points),
        density=homes[corner[DOSE]].density,
        # a case does not keep where each scan's view ended, but a carried scan is 0 beyond it
        in_view=() if whole else tuple(point.spect.voxels != 0 for point in points),
    )


def _with_image(point: TimePoint, others: Sequence[TimePoint]) -> TimePoint:
    nearest = min(others, key=lambda other: abs(other.t_h - point.t_h))
    return replace(point, spect=nearest.spect) if abs(nearest.t_h - point.t_h) <= SAME_TIME_H else point


def _integrated(aligned: Aligned, labels: Labels, curve: CycleImages, engines: Engines) -> tuple[RegionFits, Image, bool]:
    """Return fits, TIA map, and whether all scans have a recovery curve."""
    # on the grid of the scans as the case kept them: carried there again, voxels shared by two regions might fall otherwise
    fits, tia, _, other = integrate(aligned, labels, curve.protocol, engines)
    return fits, tia, other is not None


def _scale(
    images: Mapping[str, CycleImages], homes: Mapping[str, Aligned], engines: Engines, stated: Mapping[str, float], side: str
) -> dict[str, float]:
    aligned = _taken(images, homes, dict.fromkeys(STEPS, side))
    fits, *_ = _integrated(aligned, images[side].labels, images[side], engines)
    found = {}
    for name, fit in fits.fits.items():
        own = stated.get(PARENCHYMA if name == "liver" and PARENCHYMA in stated else name, 0.0)
        found[name] = own / fit.tia_bq_s if fit is not None and fit.tia_bq_s > 0 and own > 0 else 1.0
    return found


def _scaled(tia: Image, fits: RegionFits, scale: Mapping[str, float]) -> Image:
    """Return the map whose regions' integrals are as much larger as those that the side states."""
    table = np.ones(int(fits.labels.voxels.max()) + 1, dtype=np.float32)
    for value, name in {**fits.labels.names, 0: "remainder"}.items():
        if value < table.size:
            table[value] = scale.get(name, 1.0)
    return replace(tia, voxels=tia.voxels * table[fits.labels.voxels])


def _engines(side: CycleImages, threads: int) -> Engines:
    nowhere = Path()
    request = CaseRequest(study=nowhere, protocol=side.protocol.name, out=nowhere, threads=threads)
    return engines_for(side.protocol, request, cycle=side.cycle)


def _same_contours(images: Mapping[str, CycleImages]) -> bool:
    one, other = (side.labels for side in images.values())
    return one.grid.same_as(other.grid) and dict(one.names) == dict(other.names) and np.array_equal(one.voxels, other.voxels)


def _same_activity(images: Mapping[str, CycleImages]) -> bool:
    one, other = (side.cycle.time_points for side in images.values())
    exchanged = [(point, _with_image(point, other)) for point in one] + [(point, _with_image(point, one)) for point in other]
    return all(np.array_equal(own.spect.voxels, theirs.spect.voxels) for own, theirs in exchanged)


def _same_curves(images: Mapping[str, CycleImages], scale: Mapping[str, Mapping[str, float]]) -> bool:
    one, other = images.values()
    times = [[point.t_h for point in side.cycle.time_points] for side in (one, other)]
    choices = [(side.protocol.sha256, side.protocol.kinetics, side.protocol.partial_volume) for side in (one, other)]
    # one may have leant on earlier cycles, or another version have fitted
    ours = all(abs(value - 1) <= STATED_DIGITS for side in scale.values() for value in side.values())
    return times[0] == times[1] and choices[0] == choices[1] and ours


def _same_doses(images: Mapping[str, CycleImages]) -> bool:
    one, other = images.values()
    told = [(side.protocol.dose_engine, side.protocol.progeny, side.protocol.spect_fwhm_mm) for side in (one, other)]
    if told[0] != told[1]:
        return False
    cts = [next((point.ct for point in side.cycle.time_points if point.ct is not None), None) for side in (one, other)]
    if cts[0] is None or cts[1] is None:
        return False
    return cts[0].grid.same_as(cts[1].grid) and np.array_equal(cts[0].voxels, cts[1].voxels)
