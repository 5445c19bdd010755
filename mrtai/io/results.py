"""``results.json``: everything of a report that a program needs, in the units of the outside world.

The numbers are rounded to seven significant digits, which is far below any uncertainty and hides the last bits of float
arithmetic, so the same case gives the same bytes. No time of the run stands here; that is the manifest's.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator

from mrtai.physics.kinetics import with_integral
from mrtai.physics.radiobiology import eqd2_gy, rbe_weighted_gy
from mrtai.physics.region_uncertainty import effect_of, probability_off
from mrtai.physics.uncertainty import bed_slope
from mrtai.physics.verdict import verdict
from mrtai.units import BQ_PER_MBQ, BQ_S_PER_MBQ_H, GRAM_PER_KG, SECONDS_PER_HOUR
from mrtai.values.curve import Curve, Fit
from mrtai.values.dose import RADIATIONS
from mrtai.values.flag import Flag
from mrtai.values.marrow import MarrowDose
from mrtai.values.next_scan import NextScan
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import DoseStatistics, RegionDose, Report
from mrtai.values.study import TimePoint
from mrtai.values.uncertainty import BudgetTerm, Spread

SCHEMA = "mrtai.results/1"
SIGNIFICANT_DIGITS = 7
PERCENTILES = ("d98", "d90", "d70", "d50", "d10", "d2")
ROOMS = ("aligner", "segmenter", "kinetics", "dose", "check")
ADDED = ("lesion_segmenter",)
"""Named where a model drew, and only there."""

Json = dict[str, Any]

_NUMBERS_ON_LINES = re.compile(r'\[\n([^\[\]{}"]*?)\n\s*\]')


def results(report: Report) -> Json:
    """Return the content of ``results.json`` (MBq, MBq h, g, mL, Gy, h); what could not be computed is ``None``, never 0."""
    cycle = report.aligned.cycle
    given = cycle.administration
    case_flags = tuple(dict.fromkeys((*cycle.flags, *report.aligned.flags, *report.flags)))
    scans = [_scan(report, position) for position in range(len(cycle.time_points))]
    every_flag = [*case_flags, *_scan_flags(report), *(flag for region in report.regions for flag in region.flags)]
    every_flag += [flag for dose in report.marrow for flag in dose.flags]
    return {
        "schema": SCHEMA,
        "state": "draft",
        "provisional": report.provisional,
        "verdict": verdict(every_flag),
        "patient": {"pseudonym": cycle.pseudonym},
        "cycle": cycle.number,
        "administrations": [
            {
                "nuclide": given.nuclide,
                "agent": given.agent,
                "activity_mbq": scaled(given.administered_bq, BQ_PER_MBQ),
                "time": given.at.isoformat(),
            }
        ],
        "scans": scans,
        "regions": [_region(region, report) for region in report.regions],
        "engines": {room: report.engines.get(room, "none") for room in ROOMS + ADDED * ("lesion_segmenter" in report.engines)},
        "check": [
            {
                "region": check.region,
                "dose_gy": rounded(check.dose_gy),
                "dose_sd_gy": rounded(check.dose_sd_gy),
                "difference": rounded(check.difference),
            }
            for check in report.check
        ],
        "red_marrow": [_marrow(dose) for dose in report.marrow],
        "next_scan": proposal(report.next_scan),
        "cumulative": None,
        "flags": flag_list(case_flags),
    }


def read_results(folder: Path) -> Json:
    """Return the results of a CASE folder; raises ``DosimetryError`` where there are none."""
    try:
        document = json.loads((folder / "results.json").read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise DosimetryError(
            "no readable results", where=folder.name, found=type(fault).__name__, remedy="make the case again", code="NOT_A_CASE"
        ) from fault
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise DosimetryError(
            "no results of ours", where=folder.name, found="another schema", remedy="give a CASE folder", code="NOT_A_CASE"
        )
    return document


def results_sha256(document: Mapping[str, Any]) -> str:
    """Return the digest of results whatever their state: signing and releasing change the state and nothing else."""
    return hashlib.sha256(dumped({name: value for name, value in document.items() if name != "state"}).encode()).hexdigest()


def require_valid(document: Json, schema: str = "results.schema.json") -> Json:
    """Return ``document`` when it obeys the shipped JSON schema, else raise ``ValueError`` naming the first offence."""
    for error in _validator(schema).iter_errors(document):
        raise ValueError(f"{schema}: {error.json_path}: {error.message[:200]}")
    return document


def dumped(document: Json) -> str:
    """Return JSON text with one line per key and lists of numbers on one line; NaN and infinity raise ``ValueError``."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    return _NUMBERS_ON_LINES.sub(lambda match: "[" + " ".join(match[1].split()) + "]", text) + "\n"


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(files("mrtai.io").joinpath(schema).read_text("utf-8")))


def rounded(value: float | None) -> float | None:
    """Return seven significant digits of a finite number, else None."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.{SIGNIFICANT_DIGITS}g}")


def scaled(value: float | None, per_unit: float) -> float | None:
    """Return the value in units of ``per_unit``, rounded."""
    return None if value is None else rounded(value / per_unit)


def _column(values: Iterable[float], per_unit: float = 1.0) -> list[float | None]:
    return [scaled(float(value), per_unit) for value in values]


def _numbers(values: Mapping[str, float | str]) -> Json:
    return {name: value if isinstance(value, str) else rounded(float(value)) for name, value in values.items()}


def flag_list(flags: Iterable[Flag]) -> list[Json]:
    """Return flags as objects."""
    return [{"code": flag.code, "severity": flag.severity.value, "text": flag.text, "remedy": flag.remedy} for flag in flags]


def _scan_flags(report: Report) -> list[Flag]:
    pairs = zip(report.aligned.cycle.time_points, report.aligned.alignments, strict=True)
    return [flag for point, alignment in pairs for flag in (*point.flags, *alignment.flags)]


def _scan(report: Report, position: int) -> Json:
    point, alignment = report.aligned.cycle.time_points[position], report.aligned.alignments[position]
    return {
        "index": point.index,
        "time_h": rounded(point.t_h),
        "series_uid_sha256": point.series_uid_sha256,
        "duration_s": rounded(point.duration_s),
        "activity_in_view_mbq": scaled(_activity_in_view_bq(point), BQ_PER_MBQ),
        "decay_referred_to": point.decay_referred_to,
        "calibration": point.calibration,
        "dead_time_factor": rounded(point.dead_time_factor),
        "registration_residual_mm": rounded(alignment.residual_mm),
        "registration": {"moved": alignment.moved, "matrix": [[round(float(x), 9) for x in row] for row in alignment.transform]},
        "flags": flag_list((*point.flags, *alignment.flags)),
    }


def _activity_in_view_bq(point: TimePoint) -> float:
    return float(point.spect.voxels.sum(dtype=np.float64)) * point.spect.grid.voxel_ml


def _region(region: RegionDose, report: Report) -> Json:
    cycle, fit = report.aligned.cycle, region.fit
    tia_bq_s = fit.tia_bq_s if fit else None
    return {
        "name": region.name,
        "kind": region.kind,
        "members": list(region.members),
        "tracking_uid": region.tracking_uid,
        "code": region.code,
        "found_in_scans": list(region.found_in_scans),
        "verdict": verdict(region.flags),
        "volume_ml": rounded(region.volume_ml),
        "mass_g": None if region.mass_kg is None else rounded(region.mass_kg * GRAM_PER_KG),
        "recovery": rounded(region.recovery),
        "source_name": region.source_name,
        "time_activity": time_activity(fit.curve if fit else region.curve, region.common_relative_sd),
        "kinetics": kinetics(_with_whole_sd(region)),
        "tia_mbq_h": scaled(tia_bq_s, BQ_S_PER_MBQ_H),
        "tia_sd_mbq_h": scaled(_tia_sd_bq_s(region), BQ_S_PER_MBQ_H),
        "tiac_h": scaled(tia_bq_s, cycle.administration.administered_bq * SECONDS_PER_HOUR),
        "absorbed_dose_gy": {
            **absorbed_dose(region.dose, tuple(report.dose.by_nuclide) or (cycle.administration.nuclide,)),
            "without_recovery": rounded(region.without_recovery_gy),
            "with_recovery": rounded(region.with_recovery_gy),
            **_intervals(region.dose, region.spread),
            **_rbe_weighted(region.dose, report.protocol.rbe),
        },
        "radiobiology": _radiobiology(region),
        "uncertainty_budget": _budget(region.budget),
        "flags": flag_list(region.flags),
    }


def time_activity(curve: Curve | None, common_relative_sd: float = 0.0) -> Json:
    """Return the measured points; their uncertainty is the total, with what all scans have in common."""
    if curve is None:
        return {"time_h": [], "activity_mbq": [], "activity_sd_mbq": []}
    total_sd_bq = np.hypot(curve.activity_sd_bq, curve.activity_bq * common_relative_sd)
    return {
        "time_h": _column(curve.t_h),
        "activity_mbq": _column(curve.activity_bq, BQ_PER_MBQ),
        "activity_sd_mbq": _column(total_sd_bq, BQ_PER_MBQ),
    }


def kinetics(fit: Fit | None) -> Json:
    """Return the fitted model with its parameters, or all its keys empty."""
    return {
        "method": fit.method if fit else None,
        "model": fit.model if fit else None,
        "parameters": _numbers(fit.parameters) if fit else {},
        "covariance": [_column(row) for row in np.atleast_2d(fit.covariance)] if fit and fit.covariance.size else [],
        "weights": _numbers(fit.weights) if fit else {},
        "effective_half_life_h": rounded(fit.effective_half_life_h) if fit else None,
        "goodness": _numbers(fit.goodness) if fit else {},
        "fraction_before_first_scan": rounded(fit.fraction_before_first_scan) if fit else None,
        "fraction_after_last_scan": rounded(fit.fraction_after_last_scan) if fit else None,
        "reason": fit.reason if fit else None,
        "terms": [[scaled(float(a), BQ_PER_MBQ), rounded(float(rate))] for a, rate in fit.terms] if fit else [],
        "head": fit.head if fit else None,
        "tail": fit.tail if fit else None,
        "effective_half_life_sd_h": rounded(fit.effective_half_life_sd_h) if fit else None,
        "tia_68_mbq_h": _interval(fit.tia_68_bq_s if fit else None),
        "tia_95_mbq_h": _interval(fit.tia_95_bq_s if fit else None),
        "probability_off_20_percent": rounded(fit.probability_off) if fit else None,
    }


def _interval(ends_bq_s: tuple[float, float] | None) -> list[float | None] | None:
    return None if ends_bq_s is None else _column(ends_bq_s, BQ_S_PER_MBQ_H)


def proposal(found: NextScan | None) -> Json | None:
    """Return the next scan proposed, None where none is."""
    if found is None:
        return None
    return {
        "time_h": rounded(found.time_h),
        "regions": [
            {"name": name, "relative_sd_now": rounded(now), "relative_sd_then": rounded(found.relative_sd_then[name])}
            for name, now in found.relative_sd_now.items()
        ],
        "candidates": {"time_h": [rounded(t) for t, _ in found.candidates], "relative_sd": [rounded(sd) for _, sd in found.candidates]},
    }


def absorbed_dose(dose: DoseStatistics | None, nuclides: tuple[str, ...] = ()) -> Json:
    """Return the dose statistics [Gy]; ``by_nuclide`` is empty where the map does not say whose decays it holds."""
    by_nuclide = (dose.by_nuclide_gy or dict.fromkeys(nuclides, dose.mean_gy)) if dose else {}
    percentiles = {name: rounded(dose.percentiles_gy.get(name)) if dose else None for name in PERCENTILES}
    return {
        "mean": rounded(dose.mean_gy) if dose else None,
        "mean_sd": rounded(dose.mean_sd_gy) if dose else None,
        "voxel_sd": rounded(dose.voxel_sd_gy) if dose else None,
        "without_recovery": None,
        "with_recovery": None,
        **_intervals(None, None),
        "by_radiation": {kind: _part(dose, kind) for kind in RADIATIONS},
        "by_nuclide": {nuclide: rounded(by_nuclide.get(nuclide)) for nuclide in nuclides},
        **percentiles,
        "min": rounded(dose.min_gy) if dose else None,
        "max": rounded(dose.max_gy) if dose else None,
        "dvh": {
            "dose_gy": _column(dose.dvh.dose_gy) if dose else [],
            "volume_fraction": _column(dose.dvh.volume_fraction) if dose else [],
        },
    }


def _rbe_weighted(dose: DoseStatistics | None, rbe: Mapping[str, float]) -> Json:
    """Return the weighted mean beside the physical dose where the protocol sets factors, else no key at all."""
    if not rbe:
        return {}
    return {"rbe_weighted": {"rbe": _numbers(rbe), "mean_gy_rbe": rounded(rbe_weighted_gy(dose.by_radiation_gy, rbe)) if dose else None}}


def _part(dose: DoseStatistics | None, kind: str) -> float | None:
    if dose is None or not dose.by_radiation_gy:
        return None
    # an engine leaves out the alpha part only for a nuclide that emits none: that is a true zero, not a missing number
    return rounded(dose.by_radiation_gy.get(kind, 0.0 if kind == "alpha" else None))


def _with_whole_sd(region: RegionDose) -> Fit | None:
    """Return the fit whose intervals and chance of a large error hold all that enters Ã, as its standard uncertainty does."""
    if region.fit is None or region.tia_relative_sd is None or region.fit.tia_sd_bq_s is None:
        return region.fit
    return with_integral(region.fit, region.fit.tia_bq_s, region.tia_relative_sd * region.fit.tia_bq_s)


def _tia_sd_bq_s(region: RegionDose) -> float | None:
    """Return the total standard uncertainty of Ã [Bq s], where no budget could be made that of its curve and the calibration."""
    if region.fit is None or region.tia_relative_sd is None:
        return region.fit.tia_sd_bq_s if region.fit else None
    return region.tia_relative_sd * region.fit.tia_bq_s


def _intervals(dose: DoseStatistics | None, spread: Spread | None) -> Json:
    """Return the mean dose's intervals [Gy] and the chance of a large error, None each where no uncertainty is known."""
    if dose is None or spread is None:
        return {"mean_68": None, "mean_95": None, "probability_off_20_percent": None, "percentiles_relative_sd": None}
    return {
        "mean_68": _column(dose.mean_gy * end for end in spread.interval_68),
        "mean_95": _column(dose.mean_gy * end for end in spread.interval_95),
        "probability_off_20_percent": rounded(probability_off(spread)),
        # of what scales the whole map; what noise and blur do between the voxels of a region is not in it
        "percentiles_relative_sd": rounded(spread.relative_sd),
    }


def _bed_sd_gy(region: RegionDose) -> float | None:
    """Return the standard uncertainty of BED [Gy]: of a union to first order from its dose's."""
    effect = None if region.dose is None else effect_of(region.dose, region.biological)
    if region.biological is None or effect is None:
        return None
    if region.uncertainty is not None and region.uncertainty.bed is not None:
        return region.biological.bed_gy * region.uncertainty.bed.relative_sd
    return None if region.spread is None else region.biological.bed_gy * bed_slope(effect) * region.spread.relative_sd


def _radiobiology(region: RegionDose) -> Json:
    biological = region.biological
    parameters = biological.parameters if biological else None
    bed_sd_gy = _bed_sd_gy(region)
    return {
        "alpha_beta_gy": rounded(parameters.alpha_beta_gy) if parameters else None,
        "repair_half_life_h": rounded(parameters.repair_half_life_h) if parameters else None,
        "g": rounded(biological.g) if biological else None,
        "bed_gy": rounded(biological.bed_gy) if biological else None,
        "bed_sd_gy": rounded(bed_sd_gy),
        "eqd2_gy": rounded(biological.eqd2_gy) if biological else None,
        "eqd2_sd_gy": rounded(eqd2_gy(bed_sd_gy, biological.parameters.alpha_beta_gy)) if biological and bed_sd_gy is not None else None,
        "from": "mean dose" if biological else None,
    }


def _marrow(dose: MarrowDose) -> Json:
    return {
        "method": dose.method,
        "from": dose.text,
        "region": dose.region,
        "volume_ml": rounded(dose.volume_ml),
        "tia_mbq_h": scaled(dose.tia_bq_s, BQ_S_PER_MBQ_H),
        "absorbed_dose_gy": rounded(dose.absorbed_dose_gy),
        "absorbed_dose_sd_gy": rounded(dose.absorbed_dose_sd_gy),
        "rmblr": rounded(dose.rmblr),
        "haematocrit": rounded(dose.haematocrit),
        "flags": flag_list(dose.flags),
    }


def _budget(terms: Iterable[BudgetTerm]) -> list[Json]:
    return [{"term": term.term, "relative_sd": rounded(term.relative_sd), "share": rounded(term.share)} for term in terms]
