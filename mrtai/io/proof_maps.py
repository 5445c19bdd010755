"""Maps as their object shows them: every voxel at its place, in the right unit; RT Dose and Parametric Map."""

from typing import Final

import numpy as np
import pydicom

from mrtai.io.dicom_write import biological_regions, dose_above_zero, dose_map
from mrtai.io.proof_read import Volume, frame_positions_mm, read_float_map, read_rtdose, slice_steps_mm
from mrtai.io.proof_values import (
    CENTROID_VOXELS,
    INTEGRAL_DOSE,
    PLACES,
    PLANE_MM,
    VOXEL_VALUE,
    Proof,
    Subject,
    centre_of,
    code,
    words,
    world,
)
from mrtai.physics.radiobiology import biological_maps
from mrtai.units import SECONDS_PER_HOUR
from mrtai.values.image import Image

DOSE_WORDS: Final = {"DoseUnits": "GY", "DoseSummationType": "PLAN", "TissueHeterogeneityCorrection": "IMAGE"}
PMAP_CODES: Final = {
    "pmap_dose": ("UCUM:Gy", "DCM:128513"),
    "pmap_tia": ("UCUM:Bq.s/mL", "99MRTAI:TIA"),
    "pmap_dose_rate": ("UCUM:Gy/h", "99MRTAI:DOSERATE"),
}
"""Unit and quantity."""

QUANTITY: Final = "SCT:246205007"


def check_rtdose(proof: Proof, subject: Subject) -> None:
    """Compare a dose with the map in memory, what kind of dose it says it is, and the plan it refers to."""
    ds, name, is_physical = subject.ds, subject.name, subject.name == "rtdose"
    for element, word in {**DOSE_WORDS, "DoseType": "PHYSICAL" if is_physical else "EFFECTIVE"}.items():
        proof.same(name, element, words(ds.get(element)), word)
    plans = [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in ds.get("ReferencedRTPlanSequence", [])]
    plan = subject.headers.get("rtplan")
    proof.same(name, "the plan that it refers to", plans, [] if plan is None else [(plan.SOPClassUID, plan.SOPInstanceUID)])
    rounded = f"rounded by {float(ds.DoseGridScaling) / 2:.1e} Gy at most"
    proof.same(name, "DoseComment", words(ds.get("DoseComment"))[: len(rounded)], rounded)
    proof.same(name, "absence of histograms", not is_physical and "DVHSequence" in ds, False)
    meant = _meant_dose(subject)
    # GDCM takes the first step for all: every offset is compared, from the file itself
    offsets_mm = np.array([float(x) for x in ds.GridFrameOffsetVector])
    even_mm = np.arange(meant.grid.shape[0]) * meant.grid.spacing_mm[2]
    if offsets_mm.shape != even_mm.shape or np.abs(offsets_mm - even_mm).max() > PLANE_MM:
        proof.faults.append(f"{name}: GridFrameOffsetVector is not even")
    read = read_rtdose(subject.path, ds)
    _map(proof, name, read, meant, 1.0)
    if is_physical:
        _region_doses(proof, subject, read, meant)


def check_pmap(proof: Proof, subject: Subject) -> None:
    """Compare a parametric map with the map in memory, its frames one by one, its unit and quantity."""
    name, whole = subject.name, pydicom.dcmread(subject.path)
    image, factor = _meant_map(subject)
    positions_mm, steps_mm = frame_positions_mm(whole), slice_steps_mm(whole)
    even_mm = positions_mm[0] + np.arange(len(positions_mm))[:, None] * (positions_mm[min(1, len(positions_mm) - 1)] - positions_mm[0])
    if np.abs(positions_mm - even_mm).max() > PLANE_MM:
        proof.faults.append(f"{name}: the frames are not evenly stacked")
    for what, step_mm in steps_mm.items():
        proof.near(name, what, step_mm, float(image.grid.spacing_mm[2]), "mm", PLANE_MM)
    order = [int(np.atleast_1d(item.FrameContentSequence[0].DimensionIndexValues)[-1]) for item in whole.PerFrameFunctionalGroupsSequence]
    proof.same(name, "the order of the frames", order, list(range(1, len(order) + 1)))
    derived = [image.ReferencedSOPInstanceUID for one in _derivations(whole) for image in one.SourceImageSequence]
    proof.same(name, "the images that its frames derive from", derived, [one.ReferencedSOPInstanceUID for one in whole.SourceImageSequence])
    mappings = [
        one
        for group in (*whole.SharedFunctionalGroupsSequence, *whole.PerFrameFunctionalGroupsSequence)
        for one in group.get("RealWorldValueMappingSequence", [])
    ]
    unit, quantity = PMAP_CODES[name if name in PMAP_CODES else "pmap_dose_rate"]
    said = {(code(one.MeasurementUnitsCodeSequence), *_quantities(one)) for one in mappings}
    proof.same(name, "unit or quantity of the real-world values", said, {(unit, quantity)})
    _map(proof, name, read_float_map(whole), image, factor)


def _derivations(whole: pydicom.Dataset) -> list[pydicom.Dataset]:
    return list(whole.SharedFunctionalGroupsSequence[0].get("DerivationImageSequence", []))


def _quantities(mapping: pydicom.Dataset) -> list[str]:
    items = mapping.get("QuantityDefinitionSequence", [])
    return [code(item.ConceptCodeSequence) for item in items if code(item.ConceptNameCodeSequence) == QUANTITY]


def _meant_dose(subject: Subject) -> Image:
    if subject.name == "rtdose":
        return dose_map(subject.case, subject.choices)
    return biological_maps(dose_above_zero(subject.case), biological_regions(subject.case))[subject.name.removeprefix("rtdose_").upper()]


def _meant_map(subject: Subject) -> tuple[Image, float]:
    case, name = subject.case, subject.name
    if name in ("pmap_dose", "pmap_tia"):
        return (case.dose if name == "pmap_dose" else case.tia), 1.0
    return case.dose_rates[int(name.rsplit("_", 1)[1]) - 1], SECONDS_PER_HOUR


def _map(proof: Proof, name: str, read: Volume, meant: Image, factor: float) -> None:
    """Compare integral, centre of mass and voxels at places in the patient."""
    grid = meant.grid
    total = float(meant.voxels.sum(dtype=np.float64)) * factor
    found = float(read.voxels.sum(dtype=np.float64)) * read.scale
    proof.near(name, "integral over the map, relative", found / total if total else found, 1.0 if total else 0.0, "", INTEGRAL_DOSE)
    voxel_mm3 = float(np.prod(grid.spacing_mm))
    proof.near(name, "voxel volume", abs(float(np.linalg.det(read.affine[:3, :3]))), voxel_mm3, "mm3", 1e-3 * voxel_mm3)
    if read.voxels.size != meant.voxels.size:
        proof.faults.append(f"{name}: {read.voxels.size} voxels for {meant.voxels.size}")
        return
    index = _places(meant.voxels)
    values = read.at(world(grid, index))
    largest = max(float(meant.voxels.max()) * factor, float(np.finfo(np.float32).tiny))
    wrong = np.abs(values - meant.voxels[tuple(index.T[::-1])].astype(np.float64) * factor).max() / largest
    proof.near(name, "largest difference of a voxel, relative to the map's largest", float(wrong), 0.0, "", VOXEL_VALUE)
    if total > 0:
        apart = np.linalg.norm(centre_of(read.voxels, read.affine) - centre_of(meant.voxels, grid.affine))
        proof.near(name, "distance of the centres of mass", float(apart), 0.0, "mm", CENTROID_VOXELS * float(grid.spacing_mm.min()))


def _region_doses(proof: Proof, subject: Subject, read: Volume, meant: Image) -> None:
    """Compare every region's mean dose, read at the places of its voxels, with the mean in results.json where the grid is the same."""
    labels = subject.case.labels
    if not meant.grid.same_as(labels.grid):
        return
    for row in subject.case.results["regions"]:
        if row["members"] or row["name"] not in labels.names.values() or row["absorbed_dose_gy"]["mean"] is None:
            continue
        where = np.argwhere(labels.mask(row["name"]))[:, ::-1]
        if len(where):
            found = float(read.at(world(meant.grid, where)).mean())
            mean = float(row["absorbed_dose_gy"]["mean"])
            proof.near(subject.name, f"mean dose of {row['name']}", found, mean, "Gy", INTEGRAL_DOSE * abs(mean))


def _places(voxels: np.ndarray) -> np.ndarray:
    """Return voxel indices (x, y, z), the same every time: the highest voxel, some with a value, some of all."""
    drawn = np.random.default_rng(7).integers(0, voxels.size, 100 * PLACES)
    with_value = drawn[voxels.ravel()[drawn] != 0][:PLACES]
    flat = np.concatenate([[int(voxels.argmax())], with_value, drawn[:PLACES]])
    return np.column_stack(np.unravel_index(flat, voxels.shape))[:, ::-1]
