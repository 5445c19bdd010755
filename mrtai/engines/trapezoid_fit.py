"""Points joined by straight lines, where no curve is to be assumed."""

import numpy as np

from mrtai.engines.exponential_fit import MOST_AFTER_LAST_SCAN
from mrtai.physics.integrate import HEAD_RULE, TAIL_RULE, tail_half_life_h, trapezoid_doubt_bq_h, trapezoid_weights_h
from mrtai.units import LN2, SECONDS_PER_HOUR
from mrtai.values.curve import Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.half_life import Known


def trapezoid(curve: Curve, known: Known, reason: str) -> Fit:
    """Return trapezoids with a constant head and a tail of the last two points' slope; the curve has a positive activity."""
    tail_h = tail_half_life_h(curve, known.half_life_h)
    weights = trapezoid_weights_h(curve.t_h, tail_h)
    tia = float(weights @ curve.activity_bq)
    stated = bool(np.all(curve.activity_sd_bq > 0))
    noise = float(np.linalg.norm(weights * curve.activity_sd_bq)) if stated else np.nan
    sd = float(np.hypot(noise, trapezoid_doubt_bq_h(curve, tail_h, known.half_life_h)))
    after = float(curve.activity_bq[-1]) * tail_h / LN2 / tia
    text = f"{after:.0%} of the integral lies after the last scan: it is extrapolated, not measured."
    extrapolated = Flag("EXTRAPOLATED", Severity.REVIEW, text, "Add a later scan.")
    return Fit(
        curve=curve,
        method="",
        model="trapezoid",
        parameters={"tail_half_life_h": tail_h},
        covariance=np.empty((0, 0)),
        terms=np.empty((0, 2)),
        tia_bq_s=tia * SECONDS_PER_HOUR,
        tia_sd_bq_s=sd * SECONDS_PER_HOUR if stated else None,
        effective_half_life_h=tail_h,
        fraction_before_first_scan=float(curve.t_h[0] * curve.activity_bq[0]) / tia,
        fraction_after_last_scan=after,
        reason=reason,
        flags=(extrapolated,) if after > MOST_AFTER_LAST_SCAN else (),
        head=HEAD_RULE,
        tail=TAIL_RULE,
    )
