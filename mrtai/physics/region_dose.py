"""From maps and fits to one row a region: dose, volume, mass, biological effect and flags."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.dvh import statistics
from mrtai.physics.kinetics import RegionFits, TacModel
from mrtai.physics.measure import REMAINDER, lies_in, touches_border
from mrtai.physics.organ_ranges import EXPECTED
from mrtai.physics.partial_volume import RECOVERY, recovery_flags
from mrtai.physics.plausibility import region_flags
from mrtai.physics.radiobiology import bed_gy, eqd2_gy, lea_catcheside
from mrtai.physics.region_uncertainty import (
    after_network,
    effect_of,
    inputs_of,
    known_badly,
    may_concern,
    only_told,
    region_uncertainty,
    uncertainty_flags,
    united,
)
from mrtai.physics.resample import averaged
from mrtai.physics.tissue import density
from mrtai.physics.uncertainty_inputs import mass_exponent
from mrtai.physics.union_fit import gathered, summed_curve, union_fit
from mrtai.values.curve import Fit
from mrtai.values.dose import Dose
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image
from mrtai.values.kernel import PointKernel
from mrtai.values.labels import Labels
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import Protocol
from mrtai.values.regions import is_lesion, unions
from mrtai.values.report import Aligned, BiologicalDose, DoseStatistics, RegionDose
from mrtai.values.uncertainty import Uncertainty

BODY = "body"
MOST_OUTSIDE_BODY = 0.05
"""Contours and outlines may disagree about the skin."""


@dataclass(frozen=True, eq=False)
class Maps:
    """What regions are measured in: maps of one case on the common grid, contours on their own.

    ``other``: dose with recovery where the draft's is without, and the other way round; None where no recovery curve is known.
    ``kernel``: energy around a decay, where one is known, for how a wrong mass changes the dose.
    """

    aligned: Aligned
    contours: Labels
    fits: RegionFits
    dose: Dose
    other: Dose | None = None
    kernel: PointKernel | None = None

    @cached_property
    def other_gy(self) -> NDArray[Any] | None:
        """Dose of all radiations [Gy] in ``other``, shape ``(z, y, x)``."""
        return None if self.other is None else self.other.total.voxels

    @cached_property
    def total_gy(self) -> NDArray[Any]:
        """Dose of all radiations [Gy], shape ``(z, y, x)``."""
        return self.dose.total.voxels

    @cached_property
    def contour_density(self) -> Image:
        """Density on the contours' own grid: from the CT where the contours lie on it."""
        ct = self.aligned.cycle.time_points[self.aligned.reference].ct
        if ct is not None and ct.grid.same_as(self.contours.grid):
            return density(ct)
        return averaged(self.aligned.density if ct is None else density(ct), self.contours.grid)

    @cached_property
    def drawn_on_scan(self) -> bool:
        """True when the contours fill the lattice of a CT or SPECT of the study, so that their border is the border of view."""
        scans = self.aligned.cycle.time_points
        grids = [image.grid for point in scans for image in (point.spect, point.ct) if image is not None]
        own = self.contours.grid
        return any(grid.shape == own.shape and np.allclose(grid.spacing_mm, own.spacing_mm) for grid in grids)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return the region's voxels on the common grid; the remainder is the body outside all regions."""
        if name == REMAINDER:
            outside: NDArray[np.bool_] = self.aligned.body & (self.fits.labels.voxels == 0)
            return outside
        return self.fits.labels.mask(name)

    def volume_and_mass(self, name: str) -> tuple[float, float]:
        """Return volume [mL] and mass [kg], from the contour on its own grid; of the remainder on the common grid."""
        if name == REMAINDER:
            voxel_ml = self.dose.grid.voxel_ml
            mask = self.mask(name)
            return int(mask.sum()) * voxel_ml, float(self.aligned.density.voxels[mask].sum(dtype=np.float64)) * voxel_ml
        mask, voxel_ml = self.contours.mask(name), self.contours.grid.voxel_ml
        return int(mask.sum()) * voxel_ml, float(self.contour_density.voxels[mask].sum(dtype=np.float64)) * voxel_ml


def region_doses(maps: Maps, protocol: Protocol, nuclide: Nuclide, model: TacModel) -> tuple[RegionDose, ...]:
    """Return single regions in label order, the remainder, unions and the body; codes are given by who knows a vocabulary.

    Where the name of a union is also that of a contour (``liver``), the union takes the name and the contour alone is
    reported as ``liver_without_lesions``.
    """
    groups = _members(maps)
    drawn = [name for name, fit in maps.fits.fits.items() if fit is not None]
    rows: dict[str, RegionDose] = {}
    known: dict[str, Uncertainty] = {}
    told: dict[str, frozenset[str]] = {}
    # unions come last: their members' doses say which of the members' flags are only told
    for name, members in sorted(groups.items(), key=lambda group: len(group[1]) > 1):
        row = _row(maps, name, members, protocol, nuclide, model, told)
        if row.uncertainty is not None:
            known[members[0]] = row.uncertainty
        row = _united(maps, row, members, known, protocol)
        holders = [name, *(union for union, of in groups.items() if set(members) < set(of))]
        if _is_calm(row, holders, protocol, drawn):
            alone = len(members) == 1
            # all else that a union tells is of its members
            codes = known_badly(protocol) if alone else known_badly(protocol) & {"DOSE_UNCERTAIN"}
            row = replace(row, flags=only_told(row.flags, codes, protocol))
            told |= dict.fromkeys(members if alone else (), codes)
        rows[name] = row
    return tuple(rows[name] for name in groups)


def _is_calm(row: RegionDose, holders: Sequence[str], protocol: Protocol, drawn: Sequence[str]) -> bool:
    if row.dose is None or row.spread is None:
        return False
    return not may_concern(holders, row.dose.mean_gy, row.spread, protocol, drawn)


def region_masks(maps: Maps) -> dict[str, NDArray[np.bool_]]:
    """Return the voxels of every reported region on the common grid, shape ``(z, y, x)``, in the order of the report."""
    return {name: _mask(maps, name, members) for name, members in _members(maps).items()}


def _members(maps: Maps) -> dict[str, tuple[str, ...]]:
    """Return every reported region's members: itself for a single one."""
    names = [name for name in maps.contours.names.values() if maps.contours.mask(name).any()]
    in_liver = [n for n in names if is_lesion(n) and "liver" in names and lies_in(maps.contours, n, "liver")]
    groups = unions(names, in_liver)
    groups[BODY] = (*names, REMAINDER)
    singles = [name for name in (*names, REMAINDER) if name not in groups]
    return {name: (name,) for name in singles} | groups


def _row(
    maps: Maps,
    name: str,
    members: tuple[str, ...],
    protocol: Protocol,
    nuclide: Nuclide,
    model: TacModel,
    told: Mapping[str, Collection[str]],
) -> RegionDose:
    """Return one region's row without the uncertainty of its dose; ``told``: by member, flags that a union does not repeat."""
    single = members == (name,)
    alone = len(members) == 1
    fit, flags = (
        (maps.fits.fits[name], maps.fits.flags[name]) if single else union_fit(maps.fits, name, members, model, {} if alone else told)
    )
    mask = _mask(maps, name, members)
    flags = (*flags, *_contour_flags(maps, name, members), *_view_flags(maps, name, members), *_body_flags(maps, name, mask))
    volume_ml, mass_kg = np.sum([maps.volume_and_mass(member) for member in members], axis=0).tolist()
    measurable = fit is not None or set(members) <= maps.fits.empty
    dose = _dose(maps, mask) if measurable and mask.any() else None
    biological, why_not = _biological(name, dose, fit, protocol)
    size = (volume_ml, mass_kg)
    uncertainty, why_unknown = _uncertainty(maps, members[0], fit, dose, biological, size, protocol) if alone else (None, ())
    recovered = _recovered(maps, mask, dose, protocol)
    known = {} if maps.dose.deblurred else maps.fits.recovery
    blurred = {member: recovery_flags(known.get(member), protocol.partial_volume) for member in members}
    flags = (*flags, *(blurred[members[0]] if alone else gathered(blurred)))
    if fit is not None and dose is not None:
        administered_bq = maps.aligned.cycle.administration.administered_bq
        flags = (*flags, *region_flags(name, fit.tia_bq_s, dose.mean_gy, administered_bq, protocol, nuclide))
    return RegionDose(
        name=name,
        kind=_kind(name, single),
        members=_shown(name, members),
        code=None,
        source_name=_source_name(maps.contours, name) if single else None,
        found_in_scans=tuple(sorted(set.intersection(*(set(maps.fits.seen_in[member]) for member in members)))),
        volume_ml=volume_ml or None,
        mass_kg=mass_kg or None,
        fit=fit,
        dose=dose,
        biological=biological,
        flags=(*flags, *(() if fit is None else fit.flags), *why_not, *why_unknown),
        common_relative_sd=maps.fits.common_relative_sd,
        curve=summed_curve(maps.fits, name, members),
        tracking_uid=maps.contours.tracking_uids.get(name) if single else None,
        recovery=maps.fits.recovery.get(members[0]) if alone else None,
        without_recovery_gy=recovered[0],
        with_recovery_gy=recovered[1],
        uncertainty=uncertainty,
    )


def _uncertainty(
    maps: Maps,
    name: str,
    fit: Fit | None,
    dose: DoseStatistics | None,
    biological: BiologicalDose | None,
    size: tuple[float, float],
    protocol: Protocol,
) -> tuple[Uncertainty | None, tuple[Flag, ...]]:
    """Return the uncertainty of a region drawn on its own, None where its fit states none."""
    if fit is None or dose is None:
        return None, ()
    inputs = inputs_of(name, fit, aligned=maps.aligned, fits=maps.fits, outlined=maps.contours.grid, protocol=protocol, size=size)
    if inputs is None:
        return None, ()
    inputs = after_network(inputs, name, size, maps.dose)
    exponent = inputs.mass_exponent if maps.kernel is None else mass_exponent(maps.kernel, size[0])
    return region_uncertainty(replace(inputs, effect=effect_of(dose, biological), mass_exponent=exponent))


def _united(maps: Maps, row: RegionDose, members: tuple[str, ...], known: Mapping[str, Uncertainty], protocol: Protocol) -> RegionDose:
    """Return the row with its dose's uncertainty: its own, or of a union that of its members together."""
    if row.dose is None:
        return row
    own = row.uncertainty
    spreads = united(members, known, maps.fits, whole=row.name == BODY) if own is None else (own.tia, own.dose)
    if spreads is None:
        return row
    tia, spread = spreads
    return replace(
        row,
        dose=replace(row.dose, mean_sd_gy=spread.relative_sd * row.dose.mean_gy),
        spread=spread,
        tia_relative_sd=tia.relative_sd,
        budget=spread.budget,
        flags=(*row.flags, *uncertainty_flags(spread, protocol)),
    )


def _recovered(maps: Maps, mask: NDArray[np.bool_], dose: DoseStatistics | None, protocol: Protocol) -> tuple[float | None, float | None]:
    """Return the mean dose [Gy] without and with recovery; None and None where no recovery curve is known."""
    if maps.other_gy is None or dose is None:
        return None, None
    pair = dose.mean_gy, float(maps.other_gy[mask].mean(dtype=np.float64))
    return pair[::-1] if protocol.partial_volume == RECOVERY else pair


def _shown(name: str, members: tuple[str, ...]) -> tuple[str, ...]:
    """Return a union's members by the names they have in the report, where ``liver`` means parenchyma and lesions."""
    if members in ((name,), ("liver",)):
        return ()
    return tuple("liver_without_lesions" if member == "liver" else member for member in members)


def _kind(name: str, single: bool) -> str:
    if name in (BODY, REMAINDER):
        return name
    if not single:
        return "union"
    return "lesion" if is_lesion(name) else "organ"


def _source_name(contours: Labels, name: str) -> str | None:
    value = {n: v for v, n in contours.names.items()}.get(name)
    return None if value is None else contours.source_names.get(value)


def _mask(maps: Maps, name: str, members: tuple[str, ...]) -> NDArray[np.bool_]:
    if name == BODY:
        return maps.aligned.body
    mask: NDArray[np.bool_] = np.any([maps.mask(member) for member in members], axis=0)
    return mask


def _contour_flags(maps: Maps, name: str, members: tuple[str, ...]) -> tuple[Flag, ...]:
    """Return what makes the contours doubtful; the body's outline is none of them.

    The liver has no row but its unions, so both tell all that is told of it.
    """
    if name in (BODY, REMAINDER):
        return ()
    flags = {member: maps.contours.flags.get(member, ()) for member in members}
    alone = members if members == (name,) else tuple(member for member in members if member == "liver")
    told = tuple(flag for member in alone for flag in flags.pop(member))
    return (*told, *gathered(flags))


def _dose(maps: Maps, mask: NDArray[np.bool_]) -> DoseStatistics:
    by_radiation = {kind: part.voxels[mask] for kind, part in maps.dose.parts.items()}
    by_nuclide = {name: part.voxels[mask] for name, part in maps.dose.by_nuclide.items()}
    return statistics(maps.total_gy[mask], by_radiation, relative_sd=None, by_nuclide_gy=by_nuclide)


def _view_flags(maps: Maps, name: str, members: tuple[str, ...]) -> tuple[Flag, ...]:
    if name in (BODY, REMAINDER):
        return ()
    # a SEG may hold only the slices it needs, so its own border means nothing; where a gate told of it, it said more
    borders = [labels for labels in (maps.fits.labels, maps.contours) if labels is not maps.contours or maps.drawn_on_scan]
    told = {member for member in members if any(flag.code == "ORGAN_CUT" for flag in maps.contours.flags.get(member, ()))}
    cut = {member for labels in borders for member in members if member not in told and touches_border(labels.mask(member))}
    if not cut:
        return ()
    text = "The region reaches the border of the image: part of it may lie outside, so volume, activity and dose are of the part in view."
    usual = all(member in EXPECTED and EXPECTED[member].runs_out for member in cut)
    severity = Severity.INFO if usual else Severity.REVIEW
    return (Flag("ORGAN_CUT_BY_VIEW", severity, text, "Use a scan that shows the whole region."),)


def _body_flags(maps: Maps, name: str, mask: NDArray[np.bool_]) -> tuple[Flag, ...]:
    """Return a flag when part of the region gets no dose because no body was found there."""
    if name in (BODY, REMAINDER) or not mask.any():
        return ()
    outside = 1.0 - float(maps.aligned.body[mask].mean())
    if outside <= MOST_OUTSIDE_BODY:
        return ()
    text = f"{outside:.0%} of the region lies where the CT shows no body; dose and mass there are zero or wrong."
    return (Flag("REGION_OUTSIDE_BODY", Severity.REVIEW, text, "Check the contour and that the CT covers the region."),)


def _biological(
    name: str, dose: DoseStatistics | None, fit: Fit | None, protocol: Protocol
) -> tuple[BiologicalDose | None, tuple[Flag, ...]]:
    """Return BED and EQD2 of the mean dose, or why there are none."""
    if dose is None or fit is None:
        return None, ()
    family = "kidneys" if name in ("kidney_left", "kidney_right") else name
    parameters = protocol.radiobiology.get(name, protocol.radiobiology.get(family))
    if parameters is None:
        text = "The protocol has no radiobiological parameters for this region."
        return None, (Flag("NO_RADIOBIOLOGY", Severity.INFO, text, "Set alpha_beta_gy and repair_half_life_h in the protocol."),)
    if fit.effective_half_life_h is None or fit.terms.size == 0:
        text = "BED needs the curve's shape, which this method does not give."
        return None, (Flag("NO_KINETICS_FOR_BED", Severity.INFO, text, "Add a scan or choose a fitted model."),)
    g = lea_catcheside(fit.terms, parameters.repair_half_life_h)
    bed = bed_gy(dose.mean_gy, g, parameters.alpha_beta_gy)
    return BiologicalDose(parameters, g, bed, eqd2_gy(bed, parameters.alpha_beta_gy)), ()
