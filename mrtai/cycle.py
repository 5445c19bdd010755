"""The walk: one short function that knows what comes after what.

Each room is entered through ``step``: ``plainly`` just calls it, a shell may wrap the same call in a task of its own.
``dose_cycle`` walks from a cycle to its draft; ``run_case`` adds the doors, from a study's folder to a CASE folder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np

from mrtai.engines.region_means import region_means
from mrtai.engines.voxel_fit import voxel_tia
from mrtai.engines_of_run import CaseRequest, Engines, chosen, engines_for
from mrtai.io.case_folder import require_replaceable, write_case
from mrtai.io.earlier_cycles import EarlierCase, prior_inputs, read_earlier, require_same_patient, with_doses
from mrtai.io.earlier_lesions import lesion_inputs
from mrtai.io.manifest import input_roles
from mrtai.io.nifti import label_inputs
from mrtai.io.protocols import load_protocol
from mrtai.io.pseudonym import load_key
from mrtai.io.region_names import region_code, region_kind
from mrtai.io.study import named_files, read_study
from mrtai.io.tables import nuclide
from mrtai.physics.align_scans import on_one_grid
from mrtai.physics.chain import progeny_flags
from mrtai.physics.kinetics import RegionFits, region_fits
from mrtai.physics.marrow import marrow_doses, with_progeny
from mrtai.physics.next_scan import proposed
from mrtai.physics.partial_volume import RECOVERY, partial_volume, point_spread_mm
from mrtai.physics.plausibility import case_flags, visits
from mrtai.physics.region_dose import Maps, region_doses, region_masks
from mrtai.physics.resample import largest_share
from mrtai.physics.scan_gates import displaced_flags, hot_spot_flags, scale_flags
from mrtai.physics.second_opinion import compared, disagreement_flags
from mrtai.physics.tia_map import rescaled, tia_map
from mrtai.physics.verdict import gated
from mrtai.ports import Aligner, ContourDoseEngine, DoseEngine, Segmenter
from mrtai.values.dose import Dose
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.protocol import Protocol as DosimetryProtocol
from mrtai.values.report import Aligned, RegionDose, Report
from mrtai.values.study import Cycle, InputFile

Result = TypeVar("Result")


class Step(Protocol):
    """Enters a room: calls ``room`` with ``args`` and returns what it returns."""

    def __call__(self, room: Callable[..., Result], *args: Any) -> Result:
        """Return ``room(*args)``."""
        ...


def plainly(room: Callable[..., Result], *args: Any) -> Result:
    """Return ``room(*args)``."""
    return room(*args)


def dose_cycle(cycle: Cycle, protocol: DosimetryProtocol, engines: Engines, step: Step = plainly) -> Report:
    """Return the draft of a cycle from all its scans so far.

    Raises:
        DosimetryError: the study cannot be dosed as it stands.
    """
    aligned = step(align, cycle, engines.aligner)
    contours = step(segment, aligned, engines.segmenter)
    fits, tia, tia_sd, other_tia = step(integrate, aligned, contours, protocol, engines)
    plain = engines.rates or engines.dose
    dose = step(absorb, tia, aligned, for_patient(engines.dose, aligned, fits, protocol, curves=other_tia is not None))
    # beside a dose whose blur a network took back, one with recovery would tell the same thing twice
    other = None if other_tia is None or dose.deblurred else step(absorb, other_tia, aligned, plain)
    dose_rates = step(rates, aligned, plain)
    report = replace(
        step(measure, Maps(aligned, contours, fits, dose, other), tia, protocol, engines), tia_sd=tia_sd, dose_rates=dose_rates
    )
    return gated(step(check, report, fits, engines))


def align(cycle: Cycle, aligner: Aligner) -> Aligned:
    """Return every scan on the grid of the first complete one, with density and body there."""
    return on_one_grid(cycle, aligner)


def segment(aligned: Aligned, segmenter: Segmenter) -> Labels:
    """Return exclusive regions in the reference scan's space, on the grid they were drawn on."""
    return segmenter(aligned)


def integrate(
    aligned: Aligned, contours: Labels, protocol: DosimetryProtocol, engines: Engines
) -> tuple[RegionFits, Image, Image | None, Image | None]:
    """Return every region's fitted curve, and the TIA map they add up to.

    Then the map's uncertainty, where voxels have curves of their own, and the map as it would be with what blur took given back or not,
    whichever the protocol does not say, where that is known.
    """
    labels = largest_share(contours, aligned.density.grid)
    curves = [point.recovery or protocol.recovery for point in aligned.cycle.time_points]
    blur = partial_volume(aligned.spects, curves, contours, labels, aligned.body, protocol.spect_fwhm_mm, aligned.in_view)
    given_back = blur.spects or aligned.spects
    spects, others = (given_back, aligned.spects) if protocol.partial_volume == RECOVERY else (aligned.spects, given_back)
    fits = region_fits(aligned, labels, protocol, engines.kinetics, replace(blur, spects=()))
    if protocol.tia_map == "voxel-fit":
        t_h = np.array([point.t_h for point in aligned.cycle.time_points])
        found = voxel_tia(spects, fits, engines.nuclide, t_h, threads=engines.threads, device=engines.device)
        fits = fits.with_even(found.spread_evenly).with_factors(found.factor, spects)
        return fits, found.tia, found.sd, rescaled(found.tia, fits) if fits.other_tia_bq_s else None
    tia, even = tia_map(spects, labels, fits.tia_bq_s, fits.time_shares)
    other = tia_map(others, labels, {**fits.tia_bq_s, **fits.other_tia_bq_s}, fits.time_shares)[0] if fits.other_tia_bq_s else None
    return fits.with_even(even), tia, None, other


def for_patient(engine: DoseEngine, aligned: Aligned, fits: RegionFits, protocol: DosimetryProtocol, *, curves: bool) -> DoseEngine:
    """Return an engine that knows what can be told of the patient: regions, and where all scans have ``curves`` what recovery did."""
    if not isinstance(engine, ContourDoseEngine):
        return engine
    if not curves or protocol.partial_volume != RECOVERY:
        return engine.with_contours(fits.labels)
    known = [point.recovery or protocol.recovery for point in aligned.cycle.time_points]
    return engine.with_contours(fits.labels, recovered=True, fwhm_mm=point_spread_mm(known, fits.labels.grid))


def absorb(tia: Image, aligned: Aligned, engine: DoseEngine) -> Dose:
    """Return the dose maps of the TIA map in the patient's density."""
    return engine(tia, aligned.density)


def rates(aligned: Aligned, engine: DoseEngine) -> tuple[Image, ...]:
    """Return the absorbed dose rate at the start of each scan [Gy/s]: what one second of that scan's activity gives.

    Negative voxels of a reconstruction count as none, as they do in the TIA map.
    """
    seconds = [replace(spect, voxels=np.maximum(spect.voxels, 0), quantity=Quantity.TIME_INTEGRATED_ACTIVITY) for spect in aligned.spects]
    return tuple(replace(engine(second, aligned.density).total, quantity=Quantity.DOSE_RATE) for second in seconds)


def measure(maps: Maps, tia: Image, protocol: DosimetryProtocol, engines: Engines) -> Report:
    """Return the draft: dose, volume, kinetics and flags of every region and union, and when to scan again while scans are missing."""
    aligned, fits = maps.aligned, maps.fits
    maps = replace(maps, contours=maps.contours.with_flags(hot_spot_flags(aligned, fits.labels)), kernel=engines.kernel)
    scan_flags = (*displaced_flags(aligned, fits.labels, protocol.spect_fwhm_mm), *scale_flags(fits))
    regions = tuple(named(row) for row in region_doses(maps, protocol, engines.nuclide, engines.kinetics))
    provisional = visits([point.t_h for point in aligned.cycle.time_points]) < protocol.expected_scans
    agent, limit_gy = aligned.cycle.administration.agent, protocol.dose_limits_gy.get("red_marrow")
    decays = with_progeny(engines.chain, protocol.progeny)
    return Report(
        protocol=protocol,
        aligned=aligned,
        contours=maps.contours,
        labels=fits.labels,
        regions=regions,
        tia=tia,
        dose=maps.dose,
        provisional=provisional,
        engines=engines.names,
        flags=(
            *case_flags(aligned, fits, engines.nuclide, protocol),
            *scan_flags,
            *progeny_flags(engines.chain, protocol.progeny),
            *maps.dose.flags,
        ),
        marrow=marrow_doses(regions, aligned.cycle.blood, agent, decays, engines.blood or engines.kinetics, limit_gy),
        next_scan=proposed(fits, protocol, engines.known) if provisional and engines.known else None,
    )


def check(report: Report, fits: RegionFits, engines: Engines) -> Report:
    """Return the draft with a second engine's opinion of every region's mean dose, flagged where the two disagree.

    Of a deblurred dose the opinion is only told: it is that of the map as scanned, which is meant to differ.
    """
    if engines.check is None:
        return report
    maps = Maps(report.aligned, report.contours, fits, report.dose)
    measured = {row.name: row.dose.mean_gy for row in report.regions if row.dose is not None}
    masks = {name: mask for name, mask in region_masks(maps).items() if name in measured}
    means = region_means(engines.check, report.tia, report.aligned.density, masks)
    checks = {name: compared(name, measured[name], *means[name]) for name in masks}
    report = replace(report, check=tuple(checks.values()))
    if report.dose.deblurred:
        return report
    pair = (engines.names["dose"], engines.names["check"])
    rows = tuple(
        replace(row, flags=(*row.flags, *disagreement_flags(checks[row.name], pair))) if row.name in checks else row
        for row in report.regions
    )
    return replace(report, regions=rows)


def named(row: RegionDose) -> RegionDose:
    """Return the row with its SNOMED code, and as kind ``other`` where the vocabulary does not know its name."""
    unknown = row.kind == "organ" and region_kind(row.name) == "other"
    return replace(row, kind="other" if unknown else row.kind, code=region_code(row.name))


def run_case(request: CaseRequest, step: Step = plainly) -> Path:
    """Return the CASE folder written for the request; nothing is left half-written when it fails.

    Raises:
        DosimetryError: the study was refused or held.
    """
    timings_s: dict[str, float] = {}
    reused: tuple[str, ...] | list[str] = getattr(step, "reused", ())

    def timed(room: Callable[..., Result], *args: Any) -> Result:
        start = perf_counter()
        result = step(room, *args)
        timings_s[room.__name__] = round(timings_s.get(room.__name__, 0.0) + perf_counter() - start, 3)
        return result

    require_replaceable(request.out)
    asked = load_protocol(request.protocol)
    protocol = chosen(asked, request)
    earlier = read_earlier(request.priors, nuclide(protocol.nuclide))
    cycle = timed(read, study_of(request), asked)
    require_same_patient(earlier, cycle)
    engines = engines_for(protocol, request, earlier, cycle=cycle)
    beside = inputs_beside(request, earlier)
    report = replace(dose_cycle(cycle, protocol, engines, timed), earlier=with_doses(earlier))
    return timed(write, report, request, beside, {"timings_s": timings_s, "reused": reused, "models": engines.models})


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """What the first room reads, and nothing beside it: what else a run is asked for does not make it read again.

    ``named`` are the files that ``study.toml`` names, wherever they lie. ``patient`` and ``pseudonym_key`` are never shown or stored.
    """

    study: Path
    patient: str | None = field(repr=False)
    cycle: str | None
    study_toml: Path | None
    calibrations: tuple[Path, ...]
    named: tuple[Path, ...]
    whole: bool
    pseudonym_key: bytes = field(repr=False)


def study_of(request: CaseRequest) -> StudyRequest:
    """Return the part of a request that concerns the study."""
    return StudyRequest(
        study=request.study,
        patient=request.patient,
        cycle=request.cycle,
        study_toml=request.study_toml,
        calibrations=request.calibrations,
        named=named_files(request.study, request.study_toml),
        whole=request.whole,
        pseudonym_key=load_key(),
    )


def read(asked: StudyRequest, protocol: DosimetryProtocol) -> Cycle:
    """Return the cycle of a study's folder, without identity."""
    return read_study(
        asked.study,
        protocol=protocol,
        patient=asked.patient,
        cycle=asked.cycle,
        study_toml=asked.study_toml,
        calibrations=asked.calibrations,
        whole=asked.whole,
        pseudonym_key=asked.pseudonym_key,
    )


def inputs_beside(request: CaseRequest, earlier: tuple[EarlierCase, ...]) -> tuple[InputFile, ...]:
    """Return the files of a run that are not the study's: label map and earlier cycles."""
    labels = () if request.labels is None else label_inputs(request.labels)
    return (*labels, *lesion_inputs(earlier), *prior_inputs(earlier))


def write(report: Report, request: CaseRequest, beside: tuple[InputFile, ...], walked: Mapping[str, Any]) -> Path:
    """Write the CASE folder and return its path; ``walked`` is what the manifest tells of the walk: timings, and rooms reused."""
    cycle = replace(report.aligned.cycle, inputs=(*report.aligned.cycle.inputs, *beside))
    report = replace(report, aligned=replace(report.aligned, cycle=cycle))
    # base names only: a folder's name may be a patient's
    parameters = {
        "protocol": Path(request.protocol).name,
        "kinetics": report.protocol.kinetics,
        "dose_engine": report.protocol.dose_engine,
        "check_engine": report.protocol.check_engine,
        "check_histories": report.protocol.check_histories,
        "segmenter": report.protocol.segmenter,
        "lesion_segmenter": report.protocol.lesion_segmenter,
        "partial_volume": report.protocol.partial_volume,
        "device": request.device,
        "threads": request.threads,
        "cycle": request.cycle,
        "labels": None if request.labels is None else request.labels.name,
        "study_toml": None if request.study_toml is None else request.study_toml.name,
        "calibrations": [path.name for path in request.calibrations],
        "priors": len(request.priors),
        "inputs": input_roles(
            report.aligned.cycle.inputs,
            labels=request.labels,
            study_toml=request.study_toml,
            calibrations=request.calibrations,
            priors=request.priors,
        ),
    }
    seeds = {"registration": request.seed, "monte_carlo": request.seed}
    told = {"timings_s": dict(walked["timings_s"]), "reused": list(walked["reused"])}
    manifest = {"seeds": seeds, "parameters": parameters, "models": dict(walked["models"]), **told}
    return write_case(report, request.out, manifest=manifest)
