"""Structured report: every number of the results, coded, after TID 1500 (Comprehensive 3D SR)."""

from collections.abc import Iterator
from typing import Any, Final

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.uid import Comprehensive3DSRStorage

import mrtai
from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import codes
from mrtai.io.dicom_write.header import MANUFACTURER, derived_uid, describe, finish, nameless
from mrtai.io.dicom_write.references import images_of_all_scans
from mrtai.io.dicom_write.seg import tracking_uid
from mrtai.io.read_case import Case, Json

DIGITS: Final = 6
"""Significant digits of a number: far below any uncertainty, and short enough for a decimal string."""

NUMBERS: Final = (
    (("volume_ml",), codes.VOLUME, codes.MILLILITRE, None),
    (("mass_g",), codes.MASS, codes.GRAM, None),
    (("kinetics", "effective_half_life_h"), codes.EFFECTIVE_HALF_LIFE, codes.HOUR, ("kinetics", "effective_half_life_sd_h")),
    (("tia_mbq_h",), codes.TIA, codes.MEGABECQUEREL_HOUR, ("tia_sd_mbq_h",)),
    (("tiac_h",), codes.TIAC, codes.HOUR, None),
    (("absorbed_dose_gy", "mean"), codes.MEAN_ABSORBED_DOSE, codes.GRAY, ("absorbed_dose_gy", "mean_sd")),
    (("absorbed_dose_gy", "min"), codes.MINIMUM_ABSORBED_DOSE, codes.GRAY, None),
    (("absorbed_dose_gy", "max"), codes.MAXIMUM_ABSORBED_DOSE, codes.GRAY, None),
    (("absorbed_dose_gy", "d50"), codes.MEDIAN_ABSORBED_DOSE, codes.GRAY, None),
    (("absorbed_dose_gy", "d90"), codes.D90, codes.GRAY, None),
    (("radiobiology", "bed_gy"), codes.BED, codes.GRAY, None),
    (("radiobiology", "eqd2_gy"), codes.EQD2, codes.GRAY, None),
)
"""What is reported of a region: where it stands in results.json, its concept and unit, and where its standard uncertainty stands."""


def structured_report(case: Case, source: Source, segments: Dataset, numbers: dict[str, int], dose: Dataset) -> Dataset:
    """Return the report: one group a region with its numbers, one a region and scan with its activity at that time.

    Args:
        case: whose numbers these are.
        source: headers of the scans.
        segments: the segmentation.
        numbers: the segment number of each drawn region; sums of regions have no segment.
        dose: the RT Dose that the numbers were measured in.
    """
    rows = case.results["regions"]
    groups = [group for row in rows for group in _groups(case, source, row, segments, numbers)]
    report = sr.MeasurementReport(
        observation_context=_observer(),
        procedure_reported=sr.CodedConcept("440252007", "SCT", "Administration of radiopharmaceutical"),
        imaging_measurements=groups,
        title=sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
    )
    evidence = (*images_of_all_scans(source), segments, dose)
    ds: Dataset = sr.Comprehensive3DSR(
        evidence=[nameless(one) for one in evidence],
        content=report,
        series_instance_uid="0",
        series_number=9205,
        sop_instance_uid="0",
        instance_number=1,
        manufacturer="mrtai",
        is_complete=not case.results["provisional"],
        is_final=case.is_signed,
        record_evidence=True,
    )
    describe(ds, source, modality="SR", number=9205, description=f"Dosimetry {case.title}", made_at=case.written_at)
    ds.CodingSchemeIdentificationSequence = [codes.coding_scheme()]
    return finish(ds, Comprehensive3DSRStorage)


def _observer() -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", MANUFACTURER), name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=f"mrtai {mrtai.__version__}"
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(observer_type=dictionary.DCM.Device, observer_identifying_attributes=device)
    )


def _groups(case: Case, source: Source, row: Json, segments: Dataset, numbers: dict[str, int]) -> Iterator[Any]:
    measured = [one for one in (_measurement(row, *entry) for entry in NUMBERS) if one is not None]
    if not measured:
        return
    segment = _segment(source, segments, numbers.get(row["name"]))
    words = [sr.QualitativeEvaluation(name=codes.VERDICT, value=codes.verdict(row["verdict"]))]
    if row["kinetics"]["model"]:
        words.append(sr.QualitativeEvaluation(name=codes.MODEL, value=codes.model(row["kinetics"]["model"])))
    yield _group(case, row, segment, measured, words, None)
    points = row["time_activity"]
    for n, (t_h, mbq, sd_mbq) in enumerate(zip(points["time_h"], points["activity_mbq"], points["activity_sd_mbq"], strict=True), start=1):
        one = sr.Measurement(
            name=codes.ACTIVITY, value=_short(mbq), unit=codes.MEGABECQUEREL, properties=_uncertainty(sd_mbq, codes.MEGABECQUEREL)
        )
        when = sr.TimePointContext(
            time_point=f"{t_h:.4g} h after administration",
            time_point_order=n,
            temporal_offset_from_event=sr.LongitudinalTemporalOffsetFromEvent(
                value=_short(t_h), unit=codes.HOUR, event_type=codes.ADMINISTRATION
            ),
        )
        yield _group(case, row, segment, [one], [], when)


def _group(
    case: Case, row: Json, segment: sr.ReferencedSegment | None, measured: list[Any], words: list[Any], when: sr.TimePointContext | None
) -> Any:
    """Return a measurement group of a region at one time or of all; of a drawn one with its segment, of a sum without."""
    _, kind, side = codes.category_and_type(row["name"], row["kind"])
    common: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(uid=tracking_uid(case, row), identifier=str(row["name"])),
        "time_point_context": when,
        "finding_type": codes.LESION if row["kind"] == "lesion" else kind,
        "algorithm_id": sr.AlgorithmIdentification(name=f"mrtai {case.results['engines']['dose']}", version=mrtai.__version__),
        "measurements": measured,
        "qualitative_evaluations": words or None,
    }
    if side is not None:
        common["finding_sites"] = [sr.FindingSite(anatomic_location=kind, laterality=side)]
    if segment is None:
        return sr.MeasurementsAndQualitativeEvaluations(**common)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common)


def _segment(source: Source, segments: Dataset, number: int | None) -> sr.ReferencedSegment | None:
    if number is None:
        return None
    image = (source.home.ct or source.home.spect)[0]
    return sr.ReferencedSegment(
        sop_class_uid=segments.SOPClassUID,
        sop_instance_uid=segments.SOPInstanceUID,
        segment_number=number,
        source_images=[sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)],
    )


def _measurement(row: Json, at: tuple[str, ...], name: Any, unit: Any, sd_at: tuple[str, ...] | None) -> Any:
    """Return one coded number with its standard uncertainty; None where the results have none: a missing number is not written as 0."""
    value = _value(row, at)
    if value is None:
        return None
    return sr.Measurement(name=name, value=_short(value), unit=unit, properties=_uncertainty(_value(row, sd_at) if sd_at else None, unit))


def _value(row: Json, at: tuple[str, ...]) -> float | None:
    found: Any = row
    for key in at:
        found = found[key]
    return None if found is None else float(found)


def _uncertainty(sd: float | None, unit: Any) -> Any:
    """Return the standard uncertainty above and below, in the unit of the number; the library alone would write it without one."""
    if sd is None:
        return None
    properties = sr.MeasurementProperties(upper_measurement_uncertainty=_short(sd), lower_measurement_uncertainty=_short(sd))
    for item in properties:
        item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence = [unit]
    return properties


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
