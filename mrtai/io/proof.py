"""Proof before sending: every object is read again by another route than it was written, and compared with the values in memory.

Images are read by GDCM (through SimpleITK) where it can, else byte by byte; nothing of the writers' geometry or of highdicom is used.
Voxels are compared at places in the patient, so that a flip, a shift or an exchange of axes cannot cancel out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import Choices, biological_regions, dose_map
from mrtai.io.dicom_write.header import PATIENT, STUDY, content_digest, derived_uid
from mrtai.io.iod_check import iod_errors
from mrtai.io.proof_read import Volume, contour_measures, read_float_map, read_rtdose, read_segments, sr_numbers
from mrtai.io.read_case import Case, Json
from mrtai.physics.radiobiology import biological_maps
from mrtai.units import SECONDS_PER_HOUR
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image
from mrtai.values.refusal import DosimetryError

CENTROID_VOXELS: Final = 0.5
SEG_VOLUME: Final = 0.005
RTSTRUCT_VOLUME: Final = 0.03
INTEGRAL_DOSE: Final = 0.001
VOXEL_VALUE: Final = 1e-6
"""Largest difference of a voxel relative to the map's largest: 32 bit integers and floats stay far below."""

SR_NUMBER: Final = 1e-5
"""Numbers of the report have six significant digits."""

PLACES: Final = 4000
"""Places in the patient at which voxels are compared, for each map and each region."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One comparison: what was read back against what was meant, in ``unit``; ``agrees`` within the tolerance of its kind."""

    file: str
    what: str
    found: float
    meant: float
    unit: str
    agrees: bool


@dataclass(slots=True)
class Proof:
    """The comparisons of all objects, and the faults that are no numbers."""

    checks: list[Checked] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def near(self, file: str, what: str, found: float, meant: float, unit: str, tolerance: float) -> None:
        """Record a comparison that must agree within ``tolerance`` of ``unit``."""
        self.checks.append(Checked(file, what, float(found), float(meant), unit, bool(abs(found - meant) <= tolerance)))

    @property
    def disagreements(self) -> list[str]:
        """What differed, in words without identity."""
        numbers = [f"{c.file}: {c.what} {c.found:.6g} {c.unit} for {c.meant:.6g}" for c in self.checks if not c.agrees]
        return self.faults + numbers


def prove(
    files: Sequence[Path], case: Case, source: Source, choices: Choices, *, progress: Callable[[str], None] = lambda _: None
) -> Proof:
    """Return the comparisons of all objects of a case, all of which agree.

    Raises:
        DosimetryError: any object disagrees with what is in memory, names another patient, or breaks its definition; the message says what.
    """
    proof = Proof()
    headers = {path.stem: pydicom.dcmread(path, defer_size=2**16) for path in files}
    known = {one.SOPInstanceUID for scan in source.scans for one in (*scan.spect, *scan.ct)}
    known |= {ds.SOPInstanceUID for ds in headers.values()}
    _require_set(proof, set(headers), case, source)
    for path in files:
        _common(proof, path, headers[path.stem], source, known)
        _content(proof, path, headers[path.stem], case, source, choices)
        proof.faults += [f"{path.stem}: {error}" for error in iod_errors(path)]
        progress(path.stem)
    if proof.disagreements:
        shown = "; ".join(proof.disagreements[:5])
        raise DosimetryError(
            "the DICOM objects do not say what the case says, nothing was released",
            where="proof",
            found=f"{len(proof.disagreements)} disagreements: {shown}",
            remedy="write the objects again; if it stays, report it with this line",
            code="PROOF_FAILED",
        )
    return proof


def _require_set(proof: Proof, names: set[str], case: Case, source: Source) -> None:
    wanted = {"rtstruct", "rtplan", "seg", "rtdose", "pmap_dose", "pmap_tia", "sr", "pdf"}
    wanted |= {f"pmap_dose_rate_{n}" for n in range(1, len(case.dose_rates) + 1)}
    proof.faults += [f"{name}: missing" for name in sorted(wanted - names)]


def _common(proof: Proof, path: Path, ds: Dataset, source: Source, known: set[str]) -> None:
    """Patient, study, space, own UID and references; a difference is named by its element, never by its value."""
    home = source.home.spect[0]
    for name in (*PATIENT, *STUDY):
        if _plain(ds.get(name)) != _plain(home.get(name)):
            proof.faults.append(f"{path.stem}: {name} is not that of the source")
    if "FrameOfReferenceUID" in ds and ds.FrameOfReferenceUID != source.home.frame_of_reference:
        proof.faults.append(f"{path.stem}: FrameOfReferenceUID is not that of the source")
    whole = pydicom.dcmread(path)
    if ds.SOPInstanceUID != derived_uid("instance", content_digest(whole)) or ds.file_meta.MediaStorageSOPInstanceUID != ds.SOPInstanceUID:
        proof.faults.append(f"{path.stem}: the SOP instance UID is not that of the content")
    if any(element.tag.is_private for element in whole.iterall()):
        proof.faults.append(f"{path.stem}: private elements")
    dangling = {e.value for e in whole.iterall() if e.keyword == "ReferencedSOPInstanceUID"} - known - {_study_of(home)}
    others = {scan.spect[0].StudyInstanceUID for scan in source.scans} | {one.StudyInstanceUID for scan in source.scans for one in scan.ct}
    if dangling - others:
        proof.faults.append(f"{path.stem}: {len(dangling - others)} references to what does not exist")


def _study_of(header: Dataset) -> str:
    return str(header.StudyInstanceUID)


def _plain(value: object) -> str:
    return "" if value is None else str(value).strip()


def _content(proof: Proof, path: Path, ds: Dataset, case: Case, source: Source, choices: Choices) -> None:
    name = path.stem
    if name == "rtdose":
        read = read_rtdose(path, ds)
        meant = dose_map(case, choices)
        _map(proof, name, read, meant, 1.0)
        _region_doses(proof, name, read, meant, case)
    elif name.startswith("rtdose_"):
        maps = biological_maps(case.dose, biological_regions(case))
        _map(proof, name, read_rtdose(path, ds), maps[name.removeprefix("rtdose_").upper()], 1.0)
    elif name.startswith("pmap_"):
        image, factor = _mapped(case, name)
        _map(proof, name, read_float_map(pydicom.dcmread(path)), image, factor)
    elif name == "seg":
        _segments(proof, path, case, choices)
    elif name == "rtstruct":
        _contours(proof, ds, case)
    elif name == "sr":
        _numbers(proof, ds, case)
    elif name == "pdf":
        content = bytes(pydicom.dcmread(path).EncapsulatedDocument)
        if content[: len(case.pdf)] != case.pdf or content[len(case.pdf) :].strip(b"\0"):
            proof.faults.append("pdf: not the report's bytes")
    elif name.startswith("reg_"):
        _registration(proof, name, ds, case, source, int(name.removeprefix("reg_")) - 1)


def _mapped(case: Case, name: str) -> tuple[Image, float]:
    if name == "pmap_dose":
        return case.dose, 1.0
    if name == "pmap_tia":
        return case.tia, 1.0
    return case.dose_rates[int(name.rsplit("_", 1)[1]) - 1], SECONDS_PER_HOUR


def _map(proof: Proof, name: str, read: Volume, meant: Image, factor: float) -> None:
    """Compare integral, centre of mass and voxels at places in the patient."""
    grid = meant.grid
    total = float(meant.voxels.sum(dtype=np.float64)) * factor
    found = float(read.voxels.sum(dtype=np.float64)) * read.scale
    proof.near(name, "integral over the map, relative", found / total if total else found, 1.0 if total else 0.0, "", INTEGRAL_DOSE)
    proof.near(
        name,
        "voxel volume",
        abs(float(np.linalg.det(read.affine[:3, :3]))),
        float(np.prod(grid.spacing_mm)),
        "mm3",
        1e-3 * float(np.prod(grid.spacing_mm)),
    )
    if read.voxels.size != meant.voxels.size:
        proof.faults.append(f"{name}: {read.voxels.size} voxels for {meant.voxels.size}")
        return
    index = _places(meant.voxels, grid)
    values = read.at(_world(grid, index))
    largest = max(float(meant.voxels.max()) * factor, float(np.finfo(np.float32).tiny))
    wrong = np.abs(values - meant.voxels[tuple(index.T[::-1])].astype(np.float64) * factor).max() / largest
    proof.near(name, "largest difference of a voxel, relative to the map's largest", float(wrong), 0.0, "", VOXEL_VALUE)
    if total > 0:
        apart = np.linalg.norm(_centre(read.voxels, read.affine) - _centre(meant.voxels, grid.affine))
        proof.near(name, "distance of the centres of mass", float(apart), 0.0, "mm", CENTROID_VOXELS * float(grid.spacing_mm.min()))


def _region_doses(proof: Proof, name: str, read: Volume, meant: Image, case: Case) -> None:
    """Compare every region's mean dose, read at the places of its voxels, with the mean in results.json where the grid is the same."""
    if not meant.grid.same_as(case.labels.grid):
        return
    for row in case.results["regions"]:
        if row["members"] or row["name"] not in case.labels.names.values() or row["absorbed_dose_gy"]["mean"] is None:
            continue
        where = np.argwhere(case.labels.mask(row["name"]))[:, ::-1]
        if len(where):
            found = float(read.at(_world(meant.grid, where)).mean())
            mean = float(row["absorbed_dose_gy"]["mean"])
            proof.near(name, f"mean dose of {row['name']}", found, mean, "Gy", INTEGRAL_DOSE * abs(mean))


def _segments(proof: Proof, path: Path, case: Case, choices: Choices) -> None:
    grid = case.contours.grid
    rows = [row for row in case.drawn if not (choices.labelmap and row["members"])]
    found = read_segments(path)
    proof.near("seg", "number of segments", len(found), len(rows), "", 0)
    for number, row in enumerate(rows, start=1):
        if number not in found:
            proof.faults.append(f"seg: no frame of {row['name']}")
            continue
        mask, segment = case.mask(row), found[number]
        if segment.label != row["name"]:
            proof.faults.append(f"seg: segment {number} is not named {row['name']}")
        volume_ml = float(mask.sum()) * grid.voxel_ml
        proof.near("seg", f"volume of {row['name']}", segment.volume_ml, volume_ml, "mL", SEG_VOLUME * volume_ml)
        _centroid(proof, "seg", row, segment.centroid_mm, _mask_centre(mask, grid), grid)
        inside = segment.contains(_world(grid, _some(np.argwhere(mask)[:, ::-1])))
        proof.near("seg", f"share of {row['name']}'s voxels found inside", float(inside.mean()), 1.0, "", SEG_VOLUME)


def _contours(proof: Proof, ds: Dataset, case: Case) -> None:
    grid = case.contours.grid
    measured = contour_measures(ds, float(grid.spacing_mm[2]))
    proof.near("rtstruct", "number of regions", len(measured), len(case.drawn), "", 0)
    for number, row in enumerate(case.drawn, start=1):
        name, volume_ml, centroid_mm = measured.get(number, ("", 0.0, np.zeros(3)))
        if name != row["name"]:
            proof.faults.append(f"rtstruct: region {number} is not named {row['name']}")
        mask = case.mask(row)
        meant_ml = float(mask.sum()) * grid.voxel_ml
        proof.near("rtstruct", f"volume of {row['name']}", volume_ml, meant_ml, "mL", RTSTRUCT_VOLUME * meant_ml)
        _centroid(proof, "rtstruct", row, centroid_mm, _mask_centre(mask, grid), grid)


def _centroid(proof: Proof, name: str, row: Json, found_mm: Array, meant_mm: Array, grid: Grid) -> None:
    apart = float(np.linalg.norm(found_mm - meant_mm))
    proof.near(name, f"distance of the centroids of {row['name']}", apart, 0.0, "mm", CENTROID_VOXELS * float(grid.spacing_mm.min()))


def _numbers(proof: Proof, ds: Dataset, case: Case) -> None:
    """Compare the numbers of the structured report, each by region, concept and scan."""
    found = sr_numbers(ds)
    meant = _meant_numbers(case)
    proof.faults += [f"sr: {what} of {region} is missing" for region, what, _ in sorted(set(meant) - set(found))]
    for key in sorted(set(meant) & set(found)):
        region, what, scan = key
        proof.near("sr", f"{what} of {region}{f' at scan {scan}' if scan else ''}", found[key], meant[key], "", SR_NUMBER * abs(meant[key]))


def _meant_numbers(case: Case) -> Mapping[tuple[str, str, int], float]:
    wanted: dict[tuple[str, str, int], float | None] = {}
    for row in case.results["regions"]:
        dose, name = row["absorbed_dose_gy"], row["name"]
        pairs = (
            ("118565006", row["volume_ml"]),
            ("MASS", row["mass_g"]),
            ("TEFF", row["kinetics"]["effective_half_life_h"]),
            ("TIA", row["tia_mbq_h"]),
            ("TIAC", row["tiac_h"]),
            ("128533", dose["mean"]),
            ("128533 uncertainty", dose["mean_sd"]),
            ("BED", row["radiobiology"]["bed_gy"]),
            ("EQD2", row["radiobiology"]["eqd2_gy"]),
        )
        wanted |= {(name, what, 0): value for what, value in pairs}
        for scan, mbq in enumerate(row["time_activity"]["activity_mbq"], start=1):
            wanted[(name, "ACTIVITY", scan)] = mbq
    return {key: float(value) for key, value in wanted.items() if value is not None}


def _registration(proof: Proof, name: str, ds: Dataset, case: Case, source: Source, position: int) -> None:
    meant = np.array(case.results["scans"][position]["registration"]["matrix"], dtype=np.float64)
    frame = source.scans[position].frame_of_reference
    for item in ds.RegistrationSequence:
        if item.FrameOfReferenceUID != frame:
            continue
        matrix = item.MatrixRegistrationSequence[0].MatrixSequence[0].FrameOfReferenceTransformationMatrix
        found = np.array([float(x) for x in matrix]).reshape(4, 4)
        corners = np.column_stack([case.dose.grid.corners_mm, np.ones(8)])
        apart = float(np.abs((corners @ (found - meant).T)[:, :3]).max())
        proof.near(name, "where it puts the corners of the map", apart, 0.0, "mm", 0.01)
        return
    proof.faults.append(f"{name}: the scan's frame of reference is not in it")


def _places(voxels: np.ndarray, grid: Grid) -> np.ndarray:
    """Return voxel indices (x, y, z), the same every time: the highest voxel, some with a value, some of all."""
    drawn = np.random.default_rng(7).integers(0, voxels.size, 100 * PLACES)
    with_value = drawn[voxels.ravel()[drawn] != 0][:PLACES]
    flat = np.concatenate([[int(voxels.argmax())], with_value, drawn[:PLACES]])
    return np.column_stack(np.unravel_index(flat, voxels.shape))[:, ::-1]


def _some(index: np.ndarray) -> np.ndarray:
    if len(index) <= PLACES:
        return index
    return index[np.random.default_rng(7).choice(len(index), PLACES, replace=False)]


def _world(grid: Grid, index: np.ndarray) -> Array:
    places: Array = index @ grid.affine[:3, :3].T + grid.origin_mm
    return places


def _mask_centre(mask: np.ndarray, grid: Grid) -> Array:
    return _centre(mask, grid.affine)


def _centre(voxels: np.ndarray, affine: Array) -> Array:
    """Return the centre of mass in LPS millimetres."""
    sums = [voxels.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.float64) for axis in (2, 1, 0)]
    index = np.array([float(np.arange(len(one)) @ one) / float(one.sum()) for one in sums])
    centre: Array = affine[:3, :3] @ index + affine[:3, 3]
    return centre
