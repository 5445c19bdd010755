"""The walk: one short function that knows what comes after what.

Each room is entered through ``step``: ``plainly`` just calls it, a shell may wrap the same call in a task of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mrtai.physics.align_scans import on_one_grid
from mrtai.physics.kinetics import RegionFits, region_fits
from mrtai.physics.plausibility import case_flags
from mrtai.physics.region_dose import Maps, region_doses
from mrtai.physics.resample import largest_share
from mrtai.physics.tia_map import tia_map
from mrtai.ports import Aligner, DoseEngine, Segmenter, TacModel
from mrtai.values.dose import Dose
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import Protocol as DosimetryProtocol
from mrtai.values.report import Aligned, Report
from mrtai.values.study import Cycle

Result = TypeVar("Result")


class Step(Protocol):
    """Enters a room: calls ``room`` with ``args`` and returns what it returns."""

    def __call__(self, room: Callable[..., Result], *args: Any) -> Result:
        """Return ``room(*args)``."""
        ...


@dataclass(frozen=True, slots=True)
class Engines:
    """What fills the sockets of this run for one nuclide, with the names the report gives them (room → engine)."""

    nuclide: Nuclide
    aligner: Aligner
    segmenter: Segmenter
    kinetics: TacModel
    dose: DoseEngine
    names: Mapping[str, str]


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
    fits, tia = step(integrate, aligned, contours, protocol, engines.kinetics)
    dose = step(absorb, tia, aligned, engines.dose)
    return step(measure, aligned, contours, fits, tia, dose, protocol, engines)


def align(cycle: Cycle, aligner: Aligner) -> Aligned:
    """Return every scan on the grid of the first complete one, with density and body there."""
    return on_one_grid(cycle, aligner)


def segment(aligned: Aligned, segmenter: Segmenter) -> Labels:
    """Return exclusive regions in the reference scan's space, on the grid they were drawn on."""
    return segmenter(aligned)


def integrate(aligned: Aligned, contours: Labels, protocol: DosimetryProtocol, model: TacModel) -> tuple[RegionFits, Image]:
    """Return every region's fitted curve and the TIA map they add up to."""
    labels = largest_share(contours, aligned.density.grid)
    fits = region_fits(aligned, labels, protocol, model)
    tia, even = tia_map(aligned.spects, labels, fits.tia_bq_s, fits.time_shares)
    return fits.with_even(even), tia


def absorb(tia: Image, aligned: Aligned, engine: DoseEngine) -> Dose:
    """Return the dose maps of the TIA map in the patient's density."""
    return engine(tia, aligned.density)


def measure(
    aligned: Aligned, contours: Labels, fits: RegionFits, tia: Image, dose: Dose, protocol: DosimetryProtocol, engines: Engines
) -> Report:
    """Return the draft: dose, volume, kinetics and flags of every region and union."""
    return Report(
        protocol=protocol,
        aligned=aligned,
        contours=contours,
        labels=fits.labels,
        regions=region_doses(Maps(aligned, contours, fits, dose), protocol, engines.nuclide, engines.kinetics),
        tia=tia,
        dose=dose,
        provisional=len(aligned.cycle.time_points) < protocol.expected_scans,
        engines=engines.names,
        flags=(*aligned.cycle.flags, *aligned.flags, *case_flags(aligned, fits, engines.nuclide)),
    )
