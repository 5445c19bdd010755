"""Dose–volume histograms as RT Dose shows them: each by the number of its ROI, which the structure set names."""

from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from mrtai.io.proof_values import WRITTEN_NUMBER, Proof, Subject, words
from mrtai.io.read_case import Json

WORDS: Final = {"DVHType": "CUMULATIVE", "DoseUnits": "GY", "DoseType": "PHYSICAL", "DVHVolumeUnits": "CM3"}


def check_dvh(proof: Proof, subject: Subject) -> None:
    """Compare the histograms of all drawn regions with the results."""
    structures = subject.headers.get("rtstruct", Dataset())
    names = {int(item.ROINumber): str(item.ROIName) for item in structures.get("StructureSetROISequence", [])}
    rows = {row["name"][:64]: row for row in subject.case.drawn if row["absorbed_dose_gy"]["dvh"]["dose_gy"]}
    items = subject.ds.get("DVHSequence", [])
    regions = [[names.get(int(roi.ReferencedROINumber), "") for roi in item.DVHReferencedROISequence] for item in items]
    proof.same("rtdose", "the set of histograms by region", sorted(regions), sorted([name] for name in rows))
    sets = [str(item.ReferencedSOPInstanceUID) for item in subject.ds.get("ReferencedStructureSetSequence", [])]
    if rows:
        proof.same("rtdose", "the structure set of its histograms", sets, [words(structures.get("SOPInstanceUID"))])
    for region, item in zip(regions, items, strict=True):
        if region[0] in rows:
            _histogram(proof, region[0], item, rows[region[0]])


def _histogram(proof: Proof, region: str, item: Dataset, row: Json) -> None:
    for element, word in WORDS.items():
        proof.same("rtdose", f"{element} of {region}", words(item.get(element)), word)
    contribution = [words(roi.DVHROIContributionType) for roi in item.DVHReferencedROISequence]
    proof.same("rtdose", f"DVHROIContributionType of {region}", contribution, ["INCLUDED"])
    scaling, dose = float(item.DVHDoseScaling), row["absorbed_dose_gy"]
    edges_gy, fractions = np.array(dose["dvh"]["dose_gy"]), np.array(dose["dvh"]["volume_fraction"])
    pairs = np.array([float(x) for x in item.DVHData]).reshape(-1, 2)
    if int(item.DVHNumberOfBins) != len(pairs) or len(pairs) != len(edges_gy):
        proof.faults.append(f"rtdose: {len(pairs)} bins of {region} for {len(edges_gy)}")
        return
    largest_ml, largest_gy = float(row["volume_ml"]), max(float(edges_gy[-1]), float(np.finfo(np.float32).tiny))
    volumes = np.abs(pairs[:, 1] - fractions * row["volume_ml"]).max(initial=0.0)
    proof.near("rtdose", f"largest difference of a volume in the histogram of {region}", volumes, 0.0, "mL", WRITTEN_NUMBER * largest_ml)
    doses = np.abs(np.cumsum(pairs[:-1, 0]) * scaling - (edges_gy[1:] - edges_gy[0])).max(initial=0.0)
    proof.near("rtdose", f"largest difference of a dose in the histogram of {region}", doses, 0.0, "Gy", WRITTEN_NUMBER * largest_gy)
    for element, key in {"DVHMinimumDose": "min", "DVHMaximumDose": "max", "DVHMeanDose": "mean"}.items():
        meant = float(dose[key])
        proof.near("rtdose", f"{element} of {region}", float(item[element].value), meant, "Gy", WRITTEN_NUMBER * abs(meant))
