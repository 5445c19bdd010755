"""How activity comes and goes in a virtual patient: curves drawn from the population, with exact integrals."""

from collections.abc import Mapping, Sequence

import numpy as np

from mrtai.units import HOURS_PER_DAY, LN2, SECONDS_PER_HOUR
from mrtai.values.grid import Array
from mrtai.values.nuclide import Nuclide
from mrtai.values.virtual import AgentPriors, LesionPrior, TrueCurve

UPTAKE_HALF_TIME_H = (0.5, 1.2)
LARGEST_SHARE_IN_BODY = 0.95
"""Decay-corrected activity of all regions together never exceeds this share of what was given."""

UNION_WINDOW_H = (24.0, 168.0)
MONO, POPULATION = "mono", "population"


def activity_bq(curve: TrueCurve, t_h: Array | float) -> Array:
    """Return A(t) = Σ aᵢ exp(-λᵢ t) [Bq] at ``t_h`` hours after administration, same shape as ``t_h``."""
    activity: Array = sum((a * np.exp(-rate * np.asarray(t_h, dtype=np.float64)) for a, rate in curve.terms), start=np.zeros(np.shape(t_h)))
    return activity


def tia_bq_s(curve: TrueCurve) -> float:
    """Return Ã = Σ aᵢ/λᵢ [Bq s], the exact integral from administration to infinity."""
    return float(sum(a / rate for a, rate in curve.terms)) * SECONDS_PER_HOUR


def effective_half_life_h(curves: Sequence[TrueCurve], nuclide: Nuclide) -> float:
    """Return the half-life [h] of one curve, or of a union's summed curve.

    One curve has its terminal half-life, ln 2 over the slowest rate. A sum of curves is no longer one exponential: its
    half-life is fitted to the logarithm of the sum between 24 h and 168 h, hour by hour. Without activity it is the physical.
    """
    active = [curve for curve in curves if curve.terms]
    if not active:
        return nuclide.half_life_h
    if len(active) == 1:
        return LN2 / min(rate for _, rate in active[0].terms)
    t_h = np.arange(UNION_WINDOW_H[0], UNION_WINDOW_H[1] + 1)
    total = np.sum([activity_bq(curve, t_h) for curve in active], axis=0)
    slope = np.polyfit(t_h, np.log(total), 1)[0]
    return float(-LN2 / slope)


def drawn_curves(
    rng: np.random.Generator,
    priors: AgentPriors,
    *,
    volume_ml: Mapping[str, float],
    nuclide: Nuclide,
    administered_bq: float,
    kinetics: str,
) -> tuple[TrueCurve, ...]:
    """Return one curve per region of ``volume_ml`` (exclusive regions and ``remainder``), in its order.

    Shares at 24 h and biological half-lives are log-normal; lesions follow from their volume and their concentration relative to
    liver. ``mono`` is one exponential everywhere; ``population`` adds an uptake phase (amplitudes sum to zero) in organs and
    lesions. Effective rates are biological plus physical, so no half-life exceeds the physical one.

    Args:
        rng: draws the same numbers for either ``kinetics``.
        priors: the agent's population.
        volume_ml: by region name; lesions are named ``lesion_<n>``.
        nuclide: for the physical decay.
        administered_bq: activity given at time 0.
        kinetics: ``mono`` or ``population``.
    """
    if kinetics not in (MONO, POPULATION):
        raise ValueError(f"kinetics: {MONO!r} or {POPULATION!r} needed, got {kinetics!r}")
    share, biological_rate, uptake_rate = {}, {}, {}
    liver_per_ml = _log_normal(rng, priors.regions["liver"].share_at_24h, priors.regions["liver"].share_gsd) / volume_ml["liver"]
    for region, volume in volume_ml.items():
        # the same number of draws for every region keeps patients comparable between agents
        share_z, half_life_z, uptake_u = rng.normal(), rng.normal(), rng.uniform()
        prior = priors.lesions if region.startswith("lesion_") else priors.regions.get(region)
        if prior is None:
            continue
        if isinstance(prior, LesionPrior):
            ratio = np.clip(prior.liver_ratio * prior.liver_ratio_gsd**share_z, *prior.liver_ratio_bounds)
            share[region] = liver_per_ml * volume * float(ratio)
        else:
            share[region] = liver_per_ml * volume if region == "liver" else prior.share_at_24h * prior.share_gsd**share_z
        biological_rate[region] = LN2 / (prior.biological_half_life_h * prior.half_life_gsd**half_life_z)
        low, high = UPTAKE_HALF_TIME_H
        has_uptake = kinetics == POPULATION and priors.uptake and region != "remainder"
        uptake_rate[region] = LN2 / (low + (high - low) * uptake_u) if has_uptake else np.inf
    terms = {r: _retention(share[r] * administered_bq, biological_rate[r], uptake_rate[r]) for r in share}
    scale = min(1.0, LARGEST_SHARE_IN_BODY * administered_bq / _peak_bq(list(terms.values())))
    decay = nuclide.decay_per_h
    return tuple(TrueCurve(r, tuple((a * scale, rate + decay) for a, rate in terms.get(r, ()))) for r in volume_ml)


def _retention(at_24h_bq: float, biological_rate: float, uptake_rate: float) -> tuple[tuple[float, float], ...]:
    """Return the decay-corrected curve through its value at 24 h as (amplitude, rate) terms."""
    if not np.isfinite(uptake_rate):
        return ((at_24h_bq * float(np.exp(biological_rate * HOURS_PER_DAY)), biological_rate),)
    shape = float(np.exp(-biological_rate * HOURS_PER_DAY) - np.exp(-uptake_rate * HOURS_PER_DAY))
    return ((at_24h_bq / shape, biological_rate), (-at_24h_bq / shape, uptake_rate))


def _peak_bq(retentions: Sequence[tuple[tuple[float, float], ...]]) -> float:
    """Return the largest decay-corrected total of all regions over time."""
    t_h = np.concatenate([np.linspace(0, HOURS_PER_DAY, 241), np.arange(25.0, 200.0)])
    total = sum(a * np.exp(-rate * t_h) for terms in retentions for a, rate in terms)
    return float(np.max(total))


def _log_normal(rng: np.random.Generator, median: float, gsd: float) -> float:
    return float(median * gsd ** rng.normal())
