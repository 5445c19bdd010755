"""``validation.json``: a comparison in the units of the outside world."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

import mrtai
from mrtai.io.report_words import INTENDED_USE
from mrtai.io.results import Json, require_valid, rounded, scaled
from mrtai.io.validation_maps import maps_document, maps_words
from mrtai.io.validation_words import group_words, margin_words, sample_size_words, summary_words
from mrtai.units import BQ_PER_MBQ, BQ_S_PER_MBQ_H
from mrtai.values.validation import (
    Attribution,
    Coefficient,
    Compared,
    ComparedCycle,
    Comparison,
    Contribution,
    Equivalence,
    GroupAttribution,
    Interval,
    Limits,
    Line,
    RegionNumbers,
    RegionPair,
    Validation,
)

SCHEMA: Final = "mrtai.validation/1"
SCHEMA_FILE: Final = "validation.schema.json"
UNITS: Final[Mapping[Compared, tuple[str, float]]] = {
    Compared.DOSE: ("Gy", 1.0),
    Compared.TIA: ("MBq h", BQ_S_PER_MBQ_H),
    Compared.HALF_LIFE: ("h", 1.0),
    Compared.VOLUME: ("mL", 1.0),
    Compared.ACTIVITY: ("MBq", BQ_PER_MBQ),
}


def validation_document(found: Validation) -> Json:
    """Return the content of ``validation.json``; what could not be computed is None."""
    statistics = [_comparison(one) for one in found.comparisons]
    steps = [_group(one) for one in found.group_attributions]
    maps = maps_document(found.maps, found.pairs)
    document = {
        "schema": SCHEMA,
        "intended_use": INTENDED_USE,
        "version": mrtai.__version__,
        "margin": found.margin,
        "margin_source": margin_words(found.margin, found.margin_source),
        "summary": [*summary_words(statistics, len({(pair.patient, pair.cycle) for pair in found.pairs})), *maps_words({"maps": maps})],
        "sample_size": sample_size_words(len({pair.patient for pair in found.pairs})),
        "automatic": [_cycle(cycle) for cycle in found.auto],
        "manual": [_cycle(cycle) for cycle in found.manual],
        "statistics": statistics,
        "attribution": steps,
        "pairs": [_pair(pair, one) for pair, one in zip(found.pairs, found.attributions, strict=True)],
        "maps": maps,
        "not_recomputed": [{"patient": one.patient, "cycle": one.cycle, "why": one.why} for one in found.not_recomputed],
        "unmatched": [
            {"side": one.side, "patient": one.patient, "cycle": one.cycle, "region": one.region, "why": one.why} for one in found.unmatched
        ],
    }
    return require_valid(document, SCHEMA_FILE)


def _cycle(cycle: ComparedCycle) -> Json:
    return {"patient": cycle.patient, "cycle": cycle.cycle, **cycle.origin}


def _comparison(one: Comparison) -> Json:
    unit, per_unit = UNITS[one.quantity]
    return {
        "group": one.group,
        "quantity": one.quantity.value,
        "unit": unit,
        "patients": len(set(one.patients)),
        "points": int(one.auto.size),
        "scale": one.scale,
        "growth_p": rounded(one.growth_p),
        "difference": _limits(one.difference, per_unit),
        "ratio": None if one.ratio is None else {"points": one.ratio_points, **_ratio(one.ratio)},
        "concordance": _coefficient(one.concordance),
        "icc_2_1": _coefficient(one.icc_2_1),
        "icc_3_1": _coefficient(one.icc_3_1),
        "deming": _line(one.deming, per_unit),
        "passing_bablok": _line(one.passing_bablok, per_unit),
        "equivalence": _equivalence(one.equivalence),
    }


def _limits(limits: Limits, per_unit: float) -> Json:
    names = ("bias", "sd", "within_sd", "lower", "upper")
    found: dict[str, Any] = {name: scaled(getattr(limits, name), per_unit) for name in names}
    return found | {f"{name}_95": _interval(getattr(limits, f"{name}_95"), per_unit) for name in ("bias", "lower", "upper")}


def _ratio(limits: Limits) -> Json:
    """Return the limits on the ratio scale; standard deviations are of ln(auto/manual)."""
    return {
        "mean": _exp(limits.bias),
        "mean_95": _exp_interval(limits.bias_95),
        "lower": _exp(limits.lower),
        "lower_95": _exp_interval(limits.lower_95),
        "upper": _exp(limits.upper),
        "upper_95": _exp_interval(limits.upper_95),
        "ln_sd": rounded(limits.sd),
        "ln_within_sd": rounded(limits.within_sd),
    }


def _coefficient(found: Coefficient | None) -> Json | None:
    return None if found is None else {"value": rounded(found.value), "interval_95": _interval(found.interval_95)}


def _line(line: Line | None, per_unit: float) -> Json | None:
    if line is None:
        return None
    return {
        "slope": rounded(line.slope.value),
        "slope_95": _interval(line.slope.interval_95),
        "intercept": scaled(line.intercept.value, per_unit),
        "intercept_95": _interval(line.intercept.interval_95, per_unit),
    }


def _equivalence(found: Equivalence | None) -> Json | None:
    if found is None:
        return None
    return {"margin": found.margin, "ratio_90": _exp_interval(found.ln_ratio_90), "p": rounded(found.p), "shown": found.shown}


def _group(one: GroupAttribution) -> Json:
    found = {"group": one.group, "pairs": one.pairs, "of": one.of, **_attribution(one.mean)}
    return found | {"text": group_words(found)}


def _attribution(one: Attribution) -> Json:
    return {"total_ln_ratio": _ln(one.total_ln_ratio), "contributions": _contributions(one.contributions), "by": one.by}


def _contributions(parts: Iterable[Contribution]) -> list[Json]:
    return [{"steps": list(part.steps), "ln_ratio": _ln(part.ln_ratio)} for part in parts]


def _pair(pair: RegionPair, one: Attribution | None) -> Json:
    return {
        "patient": pair.patient,
        "cycle": pair.cycle,
        "region": pair.auto.name,
        "group": pair.group,
        "stands_alone": pair.stands_alone,
        "automatic": _numbers(pair.auto),
        "manual": _numbers(pair.manual),
        "activities": [[rounded(t_h), scaled(auto, BQ_PER_MBQ), scaled(manual, BQ_PER_MBQ)] for t_h, auto, manual in pair.activities_bq],
        "attribution": None if one is None else _attribution(one),
    }


def _numbers(numbers: RegionNumbers) -> Json:
    return {
        "absorbed_dose": rounded(numbers.absorbed_dose_gy),
        "tia": scaled(numbers.tia_bq_s, BQ_S_PER_MBQ_H),
        "effective_half_life": rounded(numbers.effective_half_life_h),
        "volume": rounded(numbers.volume_ml),
    }


def _ln(value: float) -> float:
    # twelve decimals keep the contributions adding up to the total
    return round(value, 12) + 0.0


def _interval(ends: Interval | None, per_unit: float = 1.0) -> list[float | None] | None:
    return None if ends is None else [scaled(end, per_unit) for end in ends]


def _exp(value: float | None) -> float | None:
    return None if value is None else rounded(float(np.exp(value)))


def _exp_interval(ends: Interval | None) -> list[float | None] | None:
    return None if ends is None else [_exp(end) for end in ends]
