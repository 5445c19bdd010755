"""One to four scans read by `curve-net`, a small network that learned from virtual populations with priors of every kind.

What goes in and comes out has no dimension: times are in typical lifetimes 1/(λ_phys + k₀) of the region's population, activities in the
largest of the curve, rates in λ_phys + k₀. So the integral is proportional to the activities whatever the weights are, and one network
does for every nuclide, agent and region of which a population is known. ``training/curve_net`` makes it.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mrtai.engines.exponential_fit import poor
from mrtai.engines.onnx_session import kept_session, unusable
from mrtai.engines.population_fit import FAR_FROM_PRIOR, late_enough, population, required_prior, whose
from mrtai.engines.single_scan import window_flags
from mrtai.physics.curves import activity_bq, integral_bq_h
from mrtai.physics.kinetics import with_integral
from mrtai.physics.population import NORMAL_WITHIN_ONE_SD, stated_sd_bq
from mrtai.physics.single_time import HALF_LIFE_WINDOW, OWN_HALF_LIFE_WINDOW
from mrtai.units import LN2, SECONDS_PER_HOUR
from mrtai.values.bundle import Network
from mrtai.values.curve import LARGE_ERROR, Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array
from mrtai.values.half_life import HalfLifePrior, Known
from mrtai.values.refusal import DosimetryError

NAME: Final = "curve-net"
TASK: Final = "kinetics"

SCANS: Final = 4
PRIOR: Final = 3
LEVELS: Final = (0.025, 0.16, 0.5, 0.84, 0.975)
VALUES: Final = 4 + len(LEVELS) + 1
"""Of an answer: amplitude and rate of two terms, ln(quantile / integral) at ``LEVELS``, standard uncertainty of ln biological rate."""

ENVELOPE: Final = {
    "physical_share": (0.02, 0.95),
    "population_log_sd": (0.05, 1.1),
    "median_log_sd": (0.0, 0.8),
    "time": (0.03, 8.0),
}
"""Ranges that training draws from: λ_phys/(λ_phys + k₀), spread of ln k between patients, doubt about its median, times in lifetimes."""

WORDS: Final = {
    "physical_share": "physical decay as a share of the usual fall",
    "population_log_sd": "spread of the population",
    "median_log_sd": "doubt about the population's median",
    "time": "time in usual lifetimes",
}

DRAWS: Final = 2001


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the network says of a curve, with its dimensions back.

    Attributes:
        terms: amplitudes [Bq] and rates [1/h], shape ``(2, 2)``, the slow one first.
        ln_quantiles: ln(quantile / integral) at ``LEVELS``, shape ``(5,)``.
        rate_log_sd: standard uncertainty of ln of the biological rate.
    """

    terms: Array
    ln_quantiles: Array
    rate_log_sd: float

    @property
    def tia_bq_h(self) -> float:
        """Ã [Bq h], the integral of the curve that is drawn."""
        return integral_bq_h(self.terms)

    def interval_bq_h(self, tail: int) -> tuple[float, float]:
        """Return the interval between a level and its counterpart, by the position of the lower one in ``LEVELS``."""
        low, high = np.exp(self.ln_quantiles[[tail, -1 - tail]]) * self.tia_bq_h
        return float(low), float(high)

    def error_bq_h(self) -> tuple[float, float]:
        """Return the error that 68 % of the truths stay below [Bq h], and the probability of one above ``LARGE_ERROR`` of the estimate.

        Between the stated quantiles the logarithm is taken as normal, beyond them too, with the last one's spread.
        """
        z, known = ndtri((np.arange(DRAWS) + 0.5) / DRAWS), ndtri(np.array(LEVELS))
        slopes = np.diff(self.ln_quantiles) / np.diff(known)
        piece = np.clip(np.searchsorted(known, z) - 1, 0, len(slopes) - 1)
        truth = np.exp(self.ln_quantiles[piece] + slopes[piece] * (z - known[piece]))
        off = np.abs(1.0 - truth)
        return float(np.quantile(off, NORMAL_WITHIN_ONE_SD)) * self.tia_bq_h, float(np.mean(off > LARGE_ERROR))


def neural(curve: Curve, known: Known, network: Network | None) -> Fit:
    """Return the network's reading of one region; outside of what it was trained on, the population's, with a flag.

    Raises:
        DosimetryError: no network, nothing is known of the region, or no scan lies late enough.
    """
    if network is None:
        remedy = f"install {NAME} (mrtai models list), or choose population"
        raise DosimetryError("no network for this method", where=curve.region, found="none given", remedy=remedy, code="UNKNOWN_MODEL")
    prior = required_prior(curve, known)
    used, early = late_enough(curve, prior)
    outside = foreign(used, prior, known.physical_per_h, network)
    if outside:
        text = f"{network.label} was not trained for {outside}; the population's reading stands instead."
        flag = Flag("OUTSIDE_TRAINING", Severity.INFO, text, "Choose population or auto for such scans.")
        fit = population(curve, known, f"instead of {network.label}")
        return replace(fit, flags=(flag, *fit.flags))
    return _described(
        curve, used, read(used, prior, known.physical_per_h, network), known, prior, early, f"{whose(prior)}, {network.label}"
    )


def foreign(curve: Curve, prior: HalfLifePrior, physical_per_h: float, network: Network) -> str:
    """Return in words what of a curve and its prior lies outside of what the network was trained on, empty where nothing does."""
    if curve.t_h.size > SCANS:
        return f"{curve.t_h.size} scans (at most {SCANS})"
    if len(prior.shape) > 1:
        return "a prior of several exponentials"
    typical_per_h = physical_per_h + prior.rate_per_h
    values = {
        "physical_share": [physical_per_h / typical_per_h],
        "population_log_sd": [prior.population_log_sd],
        "median_log_sd": [prior.median_log_sd],
        "time": (curve.t_h * typical_per_h).tolist(),
    }
    for name, (low, high) in network.envelope.items():
        worst = max(values[name], key=lambda value: max(low - value, value - high))
        if not low <= worst <= high:
            return f"{WORDS[name]} {worst:.3g} ({low:g} to {high:g})"
    return ""


def network_input(curve: Curve, prior: HalfLifePrior, physical_per_h: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scans ``(4, 3)`` and prior ``(3,)`` as the network wants them: without dimension, empty places zero.

    A scan is its time in typical lifetimes, its activity and that one's uncertainty, both in the largest activity of the curve.
    """
    typical_per_h = physical_per_h + prior.rate_per_h
    largest = float(curve.activity_bq.max())
    scans = np.zeros((SCANS, 3), dtype=np.float32)
    scans[: curve.t_h.size] = np.column_stack([curve.t_h * typical_per_h, curve.activity_bq / largest, stated_sd_bq(curve) / largest])
    known = [physical_per_h / typical_per_h, prior.population_log_sd, prior.median_log_sd]
    return scans, np.array(known, dtype=np.float32)


def read(curve: Curve, prior: HalfLifePrior, physical_per_h: float, network: Network) -> Reading:
    """Return what the network says of a curve with a positive activity.

    Raises:
        DosimetryError: the weights are not those of such a network.
    """
    scans, known = network_input(curve, prior, physical_per_h)
    answer = _answer(network, scans, known)
    unit = np.array([float(curve.activity_bq.max()), physical_per_h + prior.rate_per_h])
    terms = answer[:4].reshape(2, 2) * unit
    # rounding to single precision must not let a curve fall slower than physics does
    terms[:, 1] = np.maximum(terms[:, 1], physical_per_h)
    return Reading(terms, answer[4:-1], float(answer[-1]))


def _answer(network: Network, scans: NDArray[np.float32], prior: NDArray[np.float32]) -> Array:
    session = kept_session(network, "cpu", 1)
    try:
        (answers,) = session.run(None, {"scans": scans[None], "prior": prior[None]})
    except Exception as cause:  # ONNX Runtime's errors share no public base class
        raise unusable(network, type(cause).__name__) from cause
    answer = np.asarray(answers, dtype=np.float64).reshape(-1)
    if answer.size != VALUES or not np.isfinite(answer).all():
        raise unusable(network, f"an answer of {answer.size} values, not all of them finite numbers")
    return answer


def _described(
    curve: Curve, used: Curve, reading: Reading, known: Known, prior: HalfLifePrior, flags: tuple[Flag, ...], reason: str
) -> Fit:
    terms, tia = reading.terms, reading.tia_bq_h
    off = (used.activity_bq - activity_bq(terms, used.t_h)) / stated_sd_bq(used)
    chi_square = float(off @ off)
    unlikely, widened = poor("neural", chi_square, used.t_h.size - 1)
    intervals = [tuple(end * SECONDS_PER_HOUR for end in reading.interval_bq_h(tail)) for tail in (1, 0)]
    error, probability = reading.error_bq_h()
    half_life_h = float(LN2 / terms[:, 1].min())
    biological = float(terms[:, 1].min()) - known.physical_per_h
    typical_h = prior.half_life_h(known.physical_per_h)
    window = OWN_HALF_LIFE_WINDOW if prior.cycles else HALF_LIFE_WINDOW
    alone = window_flags(float(used.t_h[0]), typical_h, window) if used.t_h.size == 1 else ()
    fit = Fit(
        curve=curve,
        method="",
        model="neural",
        parameters=_parameters(terms, prior, typical_h),
        covariance=np.empty((0, 0)),
        terms=terms,
        tia_bq_s=tia * SECONDS_PER_HOUR,
        tia_sd_bq_s=error * SECONDS_PER_HOUR,
        effective_half_life_h=half_life_h,
        fraction_before_first_scan=integral_bq_h(terms, 0.0, float(used.t_h[0])) / tia,
        fraction_after_last_scan=integral_bq_h(terms, float(used.t_h[-1])) / tia,
        reason=reason,
        goodness={"chi_square": chi_square, "degrees_of_freedom": float(used.t_h.size - 1)},
        flags=(*flags, *unlikely, *_far(biological, prior), *alone),
        head="the network's curve back to the administration",
        tail="the network's curve to infinity, never slower than physical decay",
        # dT = T² λ_bio / ln 2 · d ln k
        effective_half_life_sd_h=half_life_h**2 / LN2 * biological * reading.rate_log_sd * widened,
        tia_68_bq_s=(intervals[0][0], intervals[0][1]),
        tia_95_bq_s=(intervals[1][0], intervals[1][1]),
        probability_off=probability,
    )
    return fit if widened == 1.0 else with_integral(fit, fit.tia_bq_s, widened * error * SECONDS_PER_HOUR)


def _parameters(terms: Array, prior: HalfLifePrior, typical_h: float) -> dict[str, float | str]:
    return {
        "amplitude_bq": float(terms[0, 0]),
        "effective_half_life_h": float(LN2 / terms[0, 1]),
        "second_amplitude_bq": float(terms[1, 0]),
        "second_half_life_h": float(LN2 / terms[1, 1]),
        "prior_half_life_h": typical_h,
        "prior_log_sd_of_biological_rate": prior.log_sd,
        "prior_source": prior.source,
    }


def _far(rate_per_h: float, prior: HalfLifePrior) -> tuple[Flag, ...]:
    deviation: Any = np.log(max(rate_per_h, 1e-3 * prior.rate_per_h) / prior.rate_per_h) / prior.log_sd
    if abs(deviation) <= FAR_FROM_PRIOR:
        return ()
    text = f"The half-life lies {abs(deviation):.1f} standard deviations from what was known beforehand."
    remedy = "Check that times are hours, contour and agent; then fit the scans alone (mono)."
    return (Flag("HALF_LIFE_UNUSUAL", Severity.REVIEW, text, remedy),)
