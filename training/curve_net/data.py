"""Virtual patients of `curve-net`: a prior as an agent has one, a population that it more or less describes, a patient, his scans.

Every batch is a function of seed and step. The populations of ``benchmarks.kinetics`` are not among them: priors, schedules, noise and
how far a population lies from its prior are drawn, and three in ten curves are not one exponential.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.curve_net import ENVELOPE, SCANS
from mrtai.physics.curve_checks import LEAST_SIGNAL

Floats = NDArray[np.float32]
Shifts = tuple[tuple[float, float], ...]

SHIFTS: Final = ((0.45, 0.0), (0.4, 1.0), (0.15, 1.6))
"""Shares of the populations, and how wide their medians lie around the prior's, in the doubt that the prior states about it."""

SPREAD_FACTOR: Final = (0.8, 1.25)
"""Spread between patients over what the prior believes."""

STATED_OFF: Final = 0.1
"""Standard deviation of ln of a stated uncertainty over the true one, in half of the patients."""

UPTAKE_SHARE, WASHOUT_SHARE = 0.15, 0.15
"""Of the curves: those that begin at zero, and those with a fast phase."""

UPTAKE_LIFETIMES: Final = (10.0, 200.0)
WASHOUT_RATIO: Final = (2.0, 15.0)
WASHOUT_AMPLITUDE: Final = (0.03, 0.5)
"""How much faster uptake is than the typical lifetime, the fast phase than the slow one; the fast one's share of the slow one at time 0."""

FASTEST: Final = 50.0
"""Largest biological rate, in usual ones."""

NOISE: Final = (0.015, 0.2)
LEAST_SEEN: Final = 1e-3
"""Of the reference activity: below it the stated uncertainty does not fall further."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Patients: ``scans`` ``(n, scans, 3)``, ``prior`` ``(n, 3)``, true Ã and terminal effective rate ``(n,)``, as the network has them."""

    scans: Floats
    prior: Floats
    tia: Floats
    rate: Floats


def batch(count: int, key: tuple[int, int], shifts: Shifts = SHIFTS) -> Batch:
    """Return ``count`` patients whose scans show anything at all; the same for the same ``key`` (seed and step) and ``shifts``."""
    rng = np.random.default_rng(key)
    parts, found = [], 0
    while found < count:
        drawn = _drawn(rng, count, shifts)
        seen = drawn.scans[..., 1] >= LEAST_SIGNAL * drawn.scans[..., 2]
        kept = np.any(seen & (drawn.scans[..., 2] > 0), axis=1)
        parts.append([values[kept] for values in (drawn.scans, drawn.prior, drawn.tia, drawn.rate)])
        found += int(kept.sum())
    joined = [np.concatenate(values)[:count] for values in zip(*parts, strict=True)]
    return Batch(*joined)


def _drawn(rng: np.random.Generator, count: int, shifts: Shifts) -> Batch:
    prior = _priors(rng, count)
    kappa = _rates(rng, prior, shifts)
    terms = _curves(rng, prior[:, 0], kappa)
    times, there = _times(rng, count)
    activity = _activity(terms, times)
    noise = _log_uniform(rng, NOISE, count)[:, None]
    by_counts = rng.uniform(size=(count, 1)) < 0.5
    # noise that grows as counts fall, from that of a scan at some time of this very patient: so it does not tell the half-life
    reference = _activity(terms, _log_uniform(rng, (0.1, 2.0), count)[:, None])
    seen = activity + noise * np.where(by_counts, np.sqrt(reference * activity), activity) * rng.standard_normal(activity.shape)
    positive = np.maximum(seen, LEAST_SEEN * reference)
    off = np.exp(STATED_OFF * rng.standard_normal((count, 1)) * (rng.uniform(size=(count, 1)) < 0.5))
    stated = noise * off * np.where(by_counts, np.sqrt(reference * positive), positive)
    seen = np.where(there, np.maximum(seen, 0.0), 0.0)
    height = np.where(seen.max(axis=1) > 0, seen.max(axis=1), 1.0)
    scans = np.stack([np.where(there, times, 0.0), seen / height[:, None], np.where(there, stated, 0.0) / height[:, None]], axis=2)
    tia = (terms[..., 0] / terms[..., 1]).sum(axis=1) / height
    return Batch(*(values.astype(np.float32) for values in (scans, prior, tia, prior[:, 0] + kappa)))


def _priors(rng: np.random.Generator, count: int) -> NDArray[Any]:
    """Return physical share φ, spread between patients and doubt about the median, of ln k, ``(n, 3)``."""
    low, high = ENVELOPE["physical_share"]
    spread = _log_uniform(rng, ENVELOPE["population_log_sd"], count)
    doubt = rng.uniform(*ENVELOPE["median_log_sd"], count) * rng.uniform(size=count)
    return np.stack([rng.uniform(low, high, count), spread, doubt], axis=1)


def _rates(rng: np.random.Generator, prior: NDArray[Any], shifts: Shifts) -> NDArray[Any]:
    """Return biological rates κ ``(n,)``: log-normal, in half of the populations as effective half-lives up to the physical one."""
    count = len(prior)
    share, spread, doubt = prior.T
    wide = rng.choice([width for _, width in shifts], count, p=[part for part, _ in shifts])
    off = wide * doubt * rng.standard_normal(count) + spread * rng.uniform(*SPREAD_FACTOR, count) * rng.standard_normal(count)
    as_rate = (1.0 - share) * np.exp(off)
    # d ln T_eff = -(1 - φ) d ln k at the median
    as_half_life = np.exp((1.0 - share) * off) - share
    kappa = np.where(rng.uniform(size=count) < 0.5, as_rate, np.maximum(as_half_life, 0.0))
    limited: NDArray[Any] = np.minimum(kappa, FASTEST)
    return limited


def _curves(rng: np.random.Generator, share: NDArray[Any], kappa: NDArray[Any]) -> NDArray[Any]:
    """Return two terms (amplitude, rate) of each patient, ``(n, 2, 2)``; the slow one has amplitude 1."""
    count = len(kappa)
    kind = rng.uniform(size=count)
    uptake = _log_uniform(rng, UPTAKE_LIFETIMES, count)
    washout = kappa * (_log_uniform(rng, WASHOUT_RATIO, count) - 1.0) + 1e-3
    fast = np.where(kind < UPTAKE_SHARE, uptake, washout)
    second = _log_uniform(rng, WASHOUT_AMPLITUDE, count) * (kind < UPTAKE_SHARE + WASHOUT_SHARE)
    amplitude = np.where(kind < UPTAKE_SHARE, -1.0, second)
    slow = share + kappa
    return np.stack([np.stack([np.ones(count), slow], axis=1), np.stack([amplitude, slow + fast], axis=1)], axis=1)


def _times(rng: np.random.Generator, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return increasing times ``(n, scans)`` in typical lifetimes, and which of them there are."""
    low, high = ENVELOPE["time"]
    number = rng.choice(SCANS, count, p=(0.34, 0.24, 0.22, 0.2)) + 1
    first, early = _log_uniform(rng, (low, 0.6 * high), count), _log_uniform(rng, (0.1, 2.5), count)
    times = np.empty((count, SCANS))
    times[:, 0] = np.where(rng.uniform(size=count) < 0.5, first, early)
    for scan in range(1, SCANS):
        times[:, scan] = times[:, scan - 1] + _log_uniform(rng, (0.05, 2.5), count)
    there = np.arange(SCANS) < number[:, None]
    return np.where(there, np.minimum(times, high - 0.01 * (SCANS - np.arange(SCANS))), 1.0), there


def _activity(terms: NDArray[Any], times: NDArray[Any]) -> NDArray[Any]:
    """Return A ``(n, times)`` of ``terms`` ``(n, terms, 2)``."""
    activity = np.sum(terms[:, None, :, 0] * np.exp(-terms[:, None, :, 1] * times[..., None]), axis=2)
    least: NDArray[Any] = np.maximum(activity, 1e-12)
    return least


def _log_uniform(rng: np.random.Generator, ends: tuple[float, float], count: int) -> NDArray[Any]:
    drawn: NDArray[Any] = np.exp(rng.uniform(float(np.log(ends[0])), float(np.log(ends[1])), count))
    return drawn
