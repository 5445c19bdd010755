"""The report as it reads: every content item of every group, none more and none less, each number with its unit."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from pydicom.dataset import Dataset

import mrtai
from mrtai.io.proof_codes import meant_codes
from mrtai.io.proof_seg import meant_tracking_uid
from mrtai.io.proof_values import WRITTEN_NUMBER, Proof, Subject, code, words
from mrtai.io.read_case import Json
from mrtai.io.region_names import own_code

UPPER, LOWER = "SCT:371886008", "SCT:371885007"
REGION, ORDER, MEASUREMENTS, GROUP = "DCM:112039", "DCM:126073", "DCM:126010", "DCM:125007"
ONCE: Final = 0
"""The group of a region that belongs to no single scan."""

NUMBERS: Final = (
    ("SCT:118565006", "mL", ("volume_ml",), None),
    ("99MRTAI:MASS", "g", ("mass_g",), None),
    ("99MRTAI:TEFF", "h", ("kinetics", "effective_half_life_h"), ("kinetics", "effective_half_life_sd_h")),
    ("99MRTAI:TIA", "MBq.h", ("tia_mbq_h",), ("tia_sd_mbq_h",)),
    ("99MRTAI:TIAC", "h", ("tiac_h",), None),
    ("DCM:128533", "Gy", ("absorbed_dose_gy", "mean"), ("absorbed_dose_gy", "mean_sd")),
    ("DCM:128532", "Gy", ("absorbed_dose_gy", "min"), None),
    ("DCM:128531", "Gy", ("absorbed_dose_gy", "max"), None),
    ("DCM:128539", "Gy", ("absorbed_dose_gy", "d50"), None),
    ("99MRTAI:D90", "Gy", ("absorbed_dose_gy", "d90"), None),
    ("99MRTAI:BED", "Gy", ("radiobiology", "bed_gy"), None),
    ("99MRTAI:EQD2", "Gy", ("radiobiology", "eqd2_gy"), None),
)
"""Concept, UCUM unit, and where number and standard uncertainty stand in results.json."""

Key = tuple[str, int, str]
"""Region, order of the scan, and the concepts from the group down to the item."""

Number = tuple[float, str]
Statements = dict[Key, Any]


def check_sr(proof: Proof, subject: Subject) -> None:
    """Compare what the report states with the results."""
    _flags(proof, subject)
    stated = list(_stated(subject.ds))
    found: Statements = dict(stated)
    for (region, scan, path), count in Counter(key for key, _ in stated).items():
        if count > 1:
            proof.faults.append(f"sr: {_name(region, scan, path)} is stated {count} times")
    meant: Statements = {key: value for row in subject.case.results["regions"] for key, value in _meant(subject, row)}
    proof.faults += [f"sr: {_name(*key)} is missing" for key in sorted(set(meant) - set(found))]
    proof.faults += [f"sr: {_name(*key)} is in excess" for key in sorted(set(found) - set(meant))]
    for key in sorted(set(meant) & set(found)):
        _compare(proof, _name(*key), found[key], meant[key])


def _compare(proof: Proof, what: str, found: Any, meant: Any) -> None:
    if not (isinstance(found, tuple) and isinstance(meant, tuple) and isinstance(found[0], float)):
        proof.same("sr", what, found, meant)
        return
    proof.same("sr", f"unit of {what}", found[1], meant[1])
    proof.near("sr", what, found[0], meant[0], meant[1], WRITTEN_NUMBER * abs(meant[0]))


def _name(region: str, scan: int, path: str) -> str:
    return f"{path} of {region}{f' at scan {scan}' if scan else ''}"


def _flags(proof: Proof, subject: Subject) -> None:
    ds, case = subject.ds, subject.case
    meant = {
        "CompletionFlag": "PARTIAL" if case.results["provisional"] else "COMPLETE",
        "PreliminaryFlag": "FINAL" if case.is_signed else "PRELIMINARY",
        "VerificationFlag": "UNVERIFIED",
    }
    for name, value in meant.items():
        proof.same("sr", name, words(ds.get(name)), value)
    proof.same("sr", "title", code(ds.get("ConceptNameCodeSequence")), "DCM:126000")
    procedures = [code(item.ConceptCodeSequence) for item in ds.ContentSequence if code(item.ConceptNameCodeSequence) == "DCM:121058"]
    proof.same("sr", "procedure", procedures, ["SCT:440252007"])
    containers = [code(item.ConceptNameCodeSequence) for item in ds.ContentSequence if item.ValueType == "CONTAINER"]
    proof.same("sr", "containers", containers, [MEASUREMENTS])


def _stated(ds: Dataset) -> Iterator[tuple[Key, Any]]:
    for container in ds.ContentSequence:
        if code(container.ConceptNameCodeSequence) != MEASUREMENTS:
            continue
        for group in container.ContentSequence:
            items = group.get("ContentSequence", [])
            region = next((str(item.TextValue) for item in items if code(item.ConceptNameCodeSequence) == REGION), "no region")
            orders = (item.MeasuredValueSequence[0].NumericValue for item in items if code(item.ConceptNameCodeSequence) == ORDER)
            scan = round(float(next(orders, ONCE)))
            yield (region, scan, GROUP), code(group.ConceptNameCodeSequence)
            for path, value in _below(items, ""):
                yield (region, scan, path), value


def _below(items: Any, above: str) -> Iterator[tuple[str, Any]]:
    for item in items:
        path = above + code(item.ConceptNameCodeSequence)
        yield path, _value(item)
        yield from _below(item.get("ContentSequence", []), f"{path} > ")


def _value(item: Dataset) -> Any:
    if item.ValueType == "NUM":
        measured = item.MeasuredValueSequence[0]
        return float(measured.NumericValue), code(measured.MeasurementUnitsCodeSequence)
    if item.ValueType == "CODE":
        return code(item.ConceptCodeSequence)
    if item.ValueType == "IMAGE":
        image = item.ReferencedSOPSequence[0]
        return str(image.ReferencedSOPInstanceUID), image.get("ReferencedSegmentNumber")
    return words(item.get("TextValue", item.get("UID")))


def _meant(subject: Subject, row: Json) -> Iterator[tuple[Key, Any]]:
    """Yield every statement that the report is meant to make of a region."""
    numbers = list(_meant_numbers(row))
    if not numbers:
        return
    name, points = str(row["name"]), row["time_activity"]
    verdict = f"VERDICT_{row['verdict']}".upper()
    once = [*numbers, ("99MRTAI:VERDICT", f"99MRTAI:{verdict}")]
    if row["kinetics"]["model"]:
        once.append(("99MRTAI:KINETICS", f"99MRTAI:{own_code('MODEL_' + row['kinetics']['model'])}"))
    yield from (((name, ONCE, path), value) for path, value in (*_meant_of_group(subject, row), *once))
    rows = zip(points["time_h"], points["activity_mbq"], points["activity_sd_mbq"], strict=True)
    for scan, (t_h, mbq, sd_mbq) in enumerate(rows, start=1):
        when = [
            ("UMLS:C2348792", f"{t_h:.4g} h after administration"),
            (ORDER, (float(scan), "UCUM:1")),
            ("DCM:128740", (float(t_h), "UCUM:h")),
            ("DCM:128740 > DCM:128741", "99MRTAI:ADMINISTRATION"),
        ]
        activity = _with_uncertainty("99MRTAI:ACTIVITY", "MBq", float(mbq), sd_mbq)
        yield from (((name, scan, path), value) for path, value in (*_meant_of_group(subject, row), *when, *activity))


def _meant_of_group(subject: Subject, row: Json) -> Iterator[tuple[str, Any]]:
    """Yield what every group of a region states: whose numbers these are, what it is, by which program, and its segment."""
    _, kind, side = meant_codes(row)
    yield GROUP, GROUP
    yield REGION, str(row["name"])
    yield "DCM:112040", meant_tracking_uid(subject.case, row)
    yield "DCM:121071", kind
    if side:
        yield "SCT:363698007", kind
        yield "SCT:363698007 > SCT:272741003", side
    yield "DCM:111001", f"mrtai {subject.case.results['engines']['dose']}"
    yield "DCM:111003", mrtai.__version__
    numbers = {one["name"]: number for number, one in enumerate(subject.segment_rows, start=1)}
    if row["name"] in numbers:
        yield "DCM:121191", (str(subject.headers["seg"].SOPInstanceUID), numbers[row["name"]])
        yield "DCM:121233", (str(subject.drawn_on[0].SOPInstanceUID), None)


def _meant_numbers(row: Json) -> Iterator[tuple[str, Any]]:
    for concept, unit, at, sd_at in NUMBERS:
        value = _in_results(row, at)
        if value is not None:
            yield from _with_uncertainty(concept, unit, value, _in_results(row, sd_at) if sd_at else None)


def _with_uncertainty(concept: str, unit: str, value: float, sd: float | None) -> Iterator[tuple[str, Number]]:
    yield concept, (float(value), f"UCUM:{unit}")
    if sd is not None:
        for bound in (UPPER, LOWER):
            yield f"{concept} > {bound}", (float(sd), f"UCUM:{unit}")


def _in_results(row: Json, at: tuple[str, ...]) -> float | None:
    found: Any = row
    for key in at:
        found = found[key]
    return None if found is None else float(found)
