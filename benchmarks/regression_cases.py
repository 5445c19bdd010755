"""Locked cases of ``benchmarks.regression``: small phantoms for every change; virtual patients and, where it is, a real one at releases.

What stands here is not to be changed: another phantom, seed or setting is another case under another name.
"""

import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.virtual_cycle import virtual_cycle
from mrtai.cycle import dose_cycle
from mrtai.engines.given_labels import GivenLabels
from mrtai.engines_of_run import CaseRequest, engines_for
from mrtai.io.protocols import load_protocol
from mrtai.io.study import read_study
from mrtai.physics.align_scans import IDENTITY
from mrtai.values.calibration import Recovery
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.protocol import Protocol
from mrtai.values.report import Report
from mrtai.values.study import Administration, Cycle, TimePoint

Doses = Mapping[str, float]
"""Mean absorbed dose [Gy] by region."""

GRID: Final = Grid.axial((36, 34, 44), (4.8, 4.8, 4.8))
GIVEN: Final = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
FWHM_MM: Final = 11.0
NOISE: Final = 0.04
# centre (x, y, z) and semi-axes [mm], concentration at 0 h [Bq/mL], effective half-life [h]
REGIONS: Final = {
    "liver": ((-45, -10, 25), (45, 42, 40), 2.2e5, 67.0),
    "spleen": ((60, 25, 30), (22, 20, 28), 7.0e5, 66.0),
    "kidney_left": ((45, 35, -25), (18, 17, 33), 1.1e6, 52.0),
    "kidney_right": ((-45, 35, -30), (18, 17, 33), 1.05e6, 50.0),
    "lesion_1": ((-60, -15, 35), (14, 14, 14), 3.5e6, 82.0),
}
REST: Final = (1.5e4, 40.0)
REAL_CASES: Final = frozenset({"real patient, 2 scans, no CT, local"})
RECOVERY: Final = Recovery(1.6, 0.95, ((0.02, 0.0), (0.0, 0.002)))


def small_cases() -> dict[str, Callable[[], Doses]]:
    """Return the cases of a second or two each: engines, kinetics, maps and recovery on one phantom."""
    three = (24.0, 96.0, 168.0)
    return {
        "phantom, 3 scans, convolution": partial(_phantom, three),
        "phantom, 3 scans, local": partial(_phantom, three, dose_engine="local"),
        "phantom, 1 scan, population": partial(_phantom, (72.0,), dose_engine="local"),
        "phantom, 5 scans, averaged shapes": partial(_phantom, (4.0, 24.0, 72.0, 120.0, 192.0), dose_engine="local"),
        "phantom, 3 scans, trapezoid": partial(_phantom, three, dose_engine="local", kinetics="trapezoid"),
        "phantom, 3 scans, recovery": partial(_phantom, three, dose_engine="local", partial_volume="recovery", recovery=RECOVERY),
        "phantom, 3 scans, voxel fit": partial(_phantom, three, dose_engine="local", tia_map="voxel-fit"),
    }


def virtual_cases() -> dict[str, Callable[[], Doses]]:
    """Return the cases of a minute each: virtual patients under a clinical scanner, aligned and dosed as a study is."""
    return {
        "virtual patient 12000, 3 scans": partial(_virtual, 12000, (24.0, 96.0, 168.0)),
        "virtual patient 12001, 3 scans": partial(_virtual, 12001, (24.0, 96.0, 168.0)),
        "virtual patient 12002, 1 scan": partial(_virtual, 12002, (72.0,)),
    }


def real_cases() -> dict[str, Callable[[], Doses]]:
    """Return the real patient where its data are present, in the folder that ``MRTAI_TEST_DATA`` names; nothing elsewhere.

    Dewaraja and Van, University of Michigan Deep Blue Data, doi 10.7302/0n8e-rz46 (CC BY-NC 4.0): two quantitative SPECT with contours
    and without CT. Only mean doses of it are kept here.
    """
    folder = Path(os.environ.get("MRTAI_TEST_DATA", "")) / "spect" / "umich_lu177_dotatate_nc"
    scans = tuple(folder / f"SCAN_00{number}.zip" for number in (1, 2))
    return {name: partial(_real, scans) for name in REAL_CASES} if folder.is_dir() else {}


def _real(scans: tuple[Path, ...]) -> Doses:
    protocol = replace(load_protocol("lu177-dotatate"), check_engine="none", dose_engine="local", segmenter="none")
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        for scan in scans:
            with zipfile.ZipFile(scan) as archive:
                archive.extractall(study / scan.stem)
        # its headers contradict each other: a choice that makes it a case, see tests/test_real_patient.py
        started = ("2018-11-15T13:06:28", "2018-11-16T13:05:32")
        decided = "".join(f'[[scan]]\nstarted_at = "{at}"\ndecay_referred_to = "scan"\n' for at in started)
        (study / "study.toml").write_text(f'agent = "DOTATATE"\n{decided}', encoding="utf-8")
        cycle = read_study(study, protocol=protocol, pseudonym_key=b"k" * 32)
    nowhere = Path()
    return _doses(_walked(cycle, protocol, engines_for(protocol, CaseRequest(nowhere, protocol.name, nowhere), cycle=cycle)))


def _phantom(times_h: tuple[float, ...], **choices: Any) -> Doses:
    protocol = replace(load_protocol("lu177-dotatate"), check_engine="none", segmenter="none", **choices)
    cycle, labels = _cycle(times_h)
    nowhere = Path()
    engines = engines_for(protocol, CaseRequest(nowhere, protocol.name, nowhere), cycle=cycle)
    return _doses(_walked(cycle, protocol, replace(engines, aligner=lambda fixed, moving: IDENTITY, segmenter=GivenLabels(labels))))


def _virtual(seed: int, times_h: tuple[float, ...]) -> Doses:
    protocol = replace(load_protocol("lu177-dotatate"), check_engine="none")
    _, cycle, engines = virtual_cycle(seed, protocol, times_h)
    return _doses(_walked(cycle, protocol, engines))


def _walked(cycle: Cycle, protocol: Protocol, engines: Any) -> Report:
    # dose rates are not in the table and cost a dose calculation a scan
    return dose_cycle(cycle, protocol, engines, lambda room, *args: () if room.__name__ == "rates" else room(*args))


def _doses(report: Report) -> Doses:
    return {row.name: float(f"{row.dose.mean_gy:.6g}") for row in report.regions if row.dose is not None and row.kind != "remainder"}


def _cycle(times_h: tuple[float, ...]) -> tuple[Cycle, Labels]:
    labels = np.zeros(GRID.shape, np.uint8)
    for value, (centre, axes, _, _) in enumerate(REGIONS.values(), start=1):
        labels[_ellipsoid(centre, axes)] = value
    body = _ellipsoid((0, 5, 0), (100, 75, 400))
    rng = np.random.default_rng(20260302)
    points = []
    for n, t_h in enumerate(times_h, start=1):
        bq_ml = np.where(body, REST[0] * 0.5 ** (t_h / REST[1]), 0.0)
        for value, (_, _, concentration, half_life_h) in enumerate(REGIONS.values(), start=1):
            bq_ml[labels == value] = concentration * 0.5 ** (t_h / half_life_h)
        seen = ndimage.gaussian_filter(bq_ml, FWHM_MM / np.sqrt(8 * np.log(2)) / GRID.spacing_mm[::-1])
        seen = seen * (1 + NOISE * rng.standard_normal(GRID.shape))
        spect = Image(seen.astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID)
        at = GIVEN + timedelta(hours=t_h)
        points.append(TimePoint(n, at, t_h, None, spect, _ct(body) if n == 1 else None, None, f"{n:064x}", "scan", "header"))
    cycle = Cycle("P-00000000000000aa", 1, Administration("Lu-177", "DOTATATE", 7.4e9, GIVEN), tuple(points))
    return cycle, Labels(labels, dict(enumerate(REGIONS, start=1)), GRID)


def _ct(body: NDArray[np.bool_]) -> Image:
    lung = _ellipsoid((0, -20, 75), (60, 40, 25))
    bone = _ellipsoid((0, 60, 0), (14, 14, 400))
    return Image(np.where(body, np.where(lung, -750, np.where(bone, 350, 45)), -1000).astype(np.int16), Quantity.HOUNSFIELD, GRID)


def _ellipsoid(centre: tuple[float, ...], axes: tuple[float, ...]) -> NDArray[np.bool_]:
    k, j, i = np.indices(GRID.shape)
    places = np.stack([i, j, k], axis=-1) @ GRID.affine[:3, :3].T + GRID.origin_mm
    inside: NDArray[np.bool_] = (((places - centre) / np.array(axes)) ** 2).sum(axis=-1) <= 1
    return inside
