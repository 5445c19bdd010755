"""A virtual patient under the clinical scanner as a cycle: what the benchmarks of the walk start from."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from mrtai.engines_of_run import CaseRequest, Engines, engines_for
from mrtai.io.priors import agent_priors
from mrtai.io.tables import nuclide, point_kernel
from mrtai.ports import Aligner
from mrtai.simulate.noise import noisy
from mrtai.simulate.patient import Settings, virtual_patient
from mrtai.simulate.scanner import Camera
from mrtai.units import BQ_PER_MBQ
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.protocol import Protocol
from mrtai.values.report import Alignment
from mrtai.values.study import Cycle, TimePoint
from mrtai.values.virtual import AgentPriors, VirtualPatient, VirtualScan

Result = TypeVar("Result")

REGISTRATION_MM: Final = 0.06
"""What ``drawn_registration`` errs by, root mean square: what registration itself misses these patients by, see the page."""

TRUTH_SE: Final = 0.006
"""Of the true doses: far below any error that is looked for here, and a quarter of the time of the simulator's own."""

_ALIKE: Final = {"similarity_before": 0.0, "similarity_after": 0.0, "overlap_before": 1.0, "overlap_after": 1.0}


def virtual_cycle(
    seed: int, protocol: Protocol, times_h: tuple[float, ...], priors: AgentPriors | None = None
) -> tuple[VirtualPatient, Cycle, Engines]:
    """Return the patient of a seed with population kinetics, its cycle, and engines that take the true contours and check nothing."""
    settings = Settings(
        priors or agent_priors(protocol.agent),
        protocol.typical_administered_bq,
        times_h,
        seed,
        scanner="clinical",
        kinetics="population",
        dose_relative_se=TRUTH_SE,
    )
    virtual = virtual_patient(nuclide=nuclide(protocol.nuclide), kernel=point_kernel(protocol.nuclide), settings=settings)
    cycle = cycle_of(virtual, virtual.scans)
    return virtual, cycle, engines_for(protocol, CaseRequest(Path(), protocol.name, Path()), cycle=cycle)


def cycle_of(virtual: VirtualPatient, scans: tuple[VirtualScan, ...], labels: Labels | None = None) -> Cycle:
    """Return the scans as a study of them would be read, with contours of the unshifted patient, the true ones if none are given."""
    points = tuple(
        TimePoint(
            index=index,
            started_at=scan.started_at,
            t_h=scan.t_h,
            duration_s=scan.duration_s,
            spect=scan.spect,
            ct=scan.ct,
            contours=(labels or virtual.labels) if index == 1 else None,
            series_uid_sha256=f"{virtual.seed}-{index}",
            decay_referred_to="scan",
            calibration="header",
        )
        for index, scan in enumerate(scans, start=1)
    )
    return Cycle("P-virtual", 1, virtual.administration, points)


def unshifted(virtual: VirtualPatient, scan: VirtualScan, rng: np.random.Generator) -> VirtualScan:
    """Return a later scan as it would be were it the first: the patient unshifted, with noise of its own."""
    camera, whole_bq = Camera(), float(scan.noise_free.voxels.sum(dtype=np.float64)) * scan.noise_free.grid.voxel_ml
    counts = camera.counts(whole_bq / BQ_PER_MBQ, scan.duration_s)
    spect = replace(scan.noise_free, voxels=noisy(scan.noise_free.voxels, counts, camera.views, rng))
    return replace(scan, ct=virtual.scans[0].ct, spect=spect, shift=np.eye(4))


def drawn_registration(scans: Sequence[VirtualScan], rng: np.random.Generator) -> Aligner:
    """Return an aligner that knows how the patient lay, but for a displacement of ``REGISTRATION_MM`` drawn for every scan."""

    def aligned(_: Image, moving: Image) -> Alignment:
        # a scan that was cut is a view of the whole one
        scan = next(scan for scan in scans if np.may_share_memory(moving.voxels, scan.ct.voxels))
        back = np.linalg.inv(scan.shift)
        back[:3, 3] += rng.normal(0, REGISTRATION_MM / np.sqrt(3), 3)
        return Alignment(back, moved=True, residual_mm=REGISTRATION_MM, **_ALIKE)

    return aligned


def as_done(work: Callable[[int], Result], seeds: range, workers: int) -> Iterator[Result]:
    """Yield what the work on every seed gives as it is done, by several processes."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(work, seed) for seed in seeds]):
            yield done.result()


def read_rows(paths: Sequence[Path]) -> list[Any]:
    """Return the lines of files of JSON lines."""
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def without_rates(room: Callable[..., Result], *args: Any) -> Result | tuple[()]:
    """Enter every room but that of the dose rates, whose maps no benchmark looks at."""
    return () if room.__name__ == "rates" else room(*args)
