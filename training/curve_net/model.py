"""The network of `curve-net`: a Bayesian reading of the scans, then what a small network corrects of it.

Everything is dimensionless. Times are in typical lifetimes 1/(λ_phys + k₀) of the region's population, activities in the largest of the
scans, rates in λ_phys + k₀; φ = λ_phys/(λ_phys + k₀). The first part has no weights: what one exponential and the prior of ln k say
together, on a grid of k. The second is a perceptron that sees its outcome and the scans, and moves rate, shape, height and interval.

Whatever the weights are, the curve is a e^{-(φ+κ)x} (1 + b e^{-cx}) with κ > 0, b ≥ -1 and c > 0, its height is proportional to the
activities, and its integral after the last scan lies between none and that of physical decay alone.
"""

import math
from typing import Final

import torch

from mrtai.engines.curve_net import LEVELS, PRIOR, SCANS

HIDDEN: Final = 96
FIRST_REACH: Final = 6.0
"""Standard deviations of the prior that the first grid spans to either side."""

NODES: Final = 49
STAGES: Final = 3
"""Each grid lies around what the one before found, so that four good scans are resolved as well as one."""

LARGEST_CHANGE: Final = 2.0
"""Of ln κ against the Bayesian reading."""

LARGEST_SCALING: Final = 0.7
"""Of the logarithm of the height: scans that barely exceed their noise lie too high, since the others are refused."""

LARGEST_WIDENING: Final = 2.0
"""Of the logarithm of a step between quantiles."""

HALVINGS: Final = 18
"""Of the bracket in which a quantile of the Bayesian reading lies: from twelve standard deviations to a twenty-thousandth of one."""

LARGEST_SECOND: Final = 3.0
LN_FASTER: Final = (2.7, 2.3)
"""Of the second term: its largest amplitude over the first's, and middle and reach of ln c: from 1.5 to 150 times the usual fall."""

READINGS: Final = 7
STEEPEST: Final = 60.0
"""Lifetimes of a curve beyond which nothing is left and single precision ends."""

_OUTPUTS: Final = 9
_TINY: Final = 1e-6


class CurveNet(torch.nn.Module):
    """Scans ``(n, scans, 3)`` and prior ``(n, 3)`` in, answer ``(n, values)`` out; see ``mrtai.engines.curve_net``."""

    def __init__(self, hidden: int = HIDDEN) -> None:
        """Make a network that changes nothing of the Bayesian reading."""
        super().__init__()
        inputs = 4 * SCANS + READINGS + PRIOR
        self.body = torch.nn.Sequential(
            torch.nn.Linear(inputs, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, hidden),
            torch.nn.SiLU(),
        )
        self.head = torch.nn.Linear(hidden, _OUTPUTS)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        # logarithms of factors on the four steps between quantiles, by number of scans; set by the calibration after training
        self.widening: torch.Tensor
        self.register_buffer("widening", torch.zeros(SCANS, 4))

    def forward(self, scans: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """Return the answer as ``mrtai.engines.curve_net.VALUES`` describes it."""
        return self.corrected(scans, prior, bayesian(scans, prior))

    def corrected(self, scans: torch.Tensor, prior: torch.Tensor, reading: torch.Tensor) -> torch.Tensor:
        """Return the answer from the scans and their Bayesian ``reading``, which has no weights to learn."""
        out = self.head(self.body(_seen(scans, prior, reading)))
        rate = reading[:, 0] + LARGEST_CHANGE * torch.tanh(out[:, 0])
        kappa = torch.minimum(torch.exp(rate), STEEPEST / scans[:, 0, 0])
        # from -1 (nothing at the administration) over 0 (one exponential, for an output of 0) to the largest fast phase
        second = (1.0 + LARGEST_SECOND) * torch.sigmoid(out[:, 1] - math.log(LARGEST_SECOND)) - 1.0
        faster = torch.exp(LN_FASTER[0] + LN_FASTER[1] * torch.tanh(out[:, 2]))
        slow = prior[:, 0] + kappa
        second = torch.maximum(second, _least_second(scans, prior[:, 0], slow, faster))
        shape = _fallen(scans, slow) * (1.0 + second[:, None] * torch.exp(-faster[:, None] * scans[..., 0]))
        # where one integral belongs to two half-lives, the median integral is not that of the mean half-life
        median = reading[:, READINGS + LEVELS.index(0.5)] - reading[:, READINGS - 1]
        at_first = _amplitude(scans, shape) * torch.exp(median.clamp(-1.0, 1.0) + LARGEST_SCALING * torch.tanh(out[:, 3]))
        amplitude = at_first * torch.exp(slow * scans[:, 0, 0])
        terms = torch.stack([amplitude, slow, amplitude * second, slow + faster], dim=1)
        return torch.cat([terms, self._quantiles(out, reading, scans), reading[:, 1:2]], dim=1)  # (n, values)

    def _quantiles(self, out: torch.Tensor, reading: torch.Tensor, scans: torch.Tensor) -> torch.Tensor:
        """Return ln(quantile / integral) at ``LEVELS``, in this order whatever the weights, shape ``(n, 5)``."""
        count = (scans[..., 2] > 0).sum(dim=1)
        chosen = torch.nn.functional.one_hot(count - 1, SCANS).to(out.dtype)
        widened = LARGEST_WIDENING * torch.tanh(out[:, 5:9] / LARGEST_WIDENING) + chosen @ self.widening
        quantiles = reading[:, READINGS:]
        step = (quantiles[:, 1:] - quantiles[:, :-1]).clamp_min(_TINY) * torch.exp(widened)
        middle = reading[:, 3] * torch.tanh(out[:, 4])
        lower, upper = middle - step[:, 1], middle + step[:, 2]
        return torch.stack([lower - step[:, 0], lower, middle, upper, upper + step[:, 3]], dim=1)


def _least_second(scans: torch.Tensor, physical: torch.Tensor, slow: torch.Tensor, faster: torch.Tensor) -> torch.Tensor:
    """Return the b below which more would lie after the last scan than physical decay leaves there, ``(n,)``.

    1/s + bq/(s + c) ≤ (1 + bq)/φ with q = e^{-cx} at the last scan.
    """
    most = (1.0 / physical - 1.0 / slow) / (1.0 / physical - 1.0 / (slow + faster))
    return -most * torch.exp((faster * scans[..., 0].amax(dim=1)).clamp_max(STEEPEST))


def integral(answer: torch.Tensor) -> torch.Tensor:
    """Return Ã of answers ``(n, values)`` in largest activities times typical lifetimes, shape ``(n,)``."""
    return answer[:, 0] / answer[:, 1] + answer[:, 2] / answer[:, 3]


def bayesian(scans: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """Return what one exponential and the prior say together, ``(n, READINGS + 5)``.

    ln κ: mean, standard deviation; ln Ã less that of the prior's median: mean, standard deviation, skewness; ln(1 + χ²) and the same
    difference of ln Ã at the mean of ln κ; quantiles of that difference at ``LEVELS``. The amplitude is integrated out, flat in its
    logarithm.
    """
    spread = torch.sqrt(prior[:, 1] ** 2 + prior[:, 2] ** 2)
    middle = torch.log(1.0 - prior[:, 0])
    one = torch.ones_like(spread)
    typical = _ln_integral(scans, one)
    nodes = torch.linspace(-1.0, 1.0, NODES, dtype=scans.dtype, device=scans.device)
    centre, reach = torch.zeros_like(spread), torch.full_like(spread, FIRST_REACH)
    for stage in range(STAGES):
        z = centre[:, None] + reach[:, None] * nodes
        rate = middle[:, None] + spread[:, None] * z
        weight, ln_tia, variance = _posterior(scans, prior[:, :1] + torch.exp(rate), z)
        centre = (weight * z).sum(dim=1)
        sd = torch.sqrt((weight * (z - centre[:, None]) ** 2).sum(dim=1))
        if stage < STAGES - 1:
            # a posterior narrower than the grid's step must not fall between the next grid's nodes
            reach = 4.0 * sd + 2.0 * reach / (NODES - 1)
    mean = (weight * ln_tia).sum(dim=1)
    off = ln_tia - mean[:, None]
    total = (weight * (off**2 + variance)).sum(dim=1)
    skew = (weight * off**3).sum(dim=1) / (total + _TINY) ** 1.5
    rate = middle + spread * centre
    slow = prior[:, 0] + torch.exp(rate)
    chi_square = (_residuals(scans, _fallen(scans, slow)) ** 2).sum(dim=1)
    at_mean = _ln_integral(scans, slow)
    numbers = [rate, spread * sd, mean - typical, torch.sqrt(total), skew, torch.log1p(chi_square), at_mean - typical]
    # half a step of the grid smooths what would else be a staircase
    step = (ln_tia[:, 1:] - ln_tia[:, :-1]).abs()
    step = torch.cat([step, step[:, -1:]], dim=1)
    quantiles = _quantiles(weight, ln_tia, torch.sqrt(variance + (0.5 * step) ** 2), mean, torch.sqrt(total))
    return torch.cat([torch.stack(numbers, dim=1), quantiles - typical[:, None]], dim=1)


def _quantiles(weight: torch.Tensor, centre: torch.Tensor, sd: torch.Tensor, mean: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Return the quantiles at ``LEVELS`` of a sum of normal distributions ``(n, nodes)``, by halving a bracket; shape ``(n, 5)``."""
    levels = weight.new_tensor(LEVELS)
    low = (mean - 6.0 * total)[:, None].expand(-1, len(LEVELS))
    high = (mean + 6.0 * total)[:, None].expand(-1, len(LEVELS))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        z = (middle[:, :, None] - centre[:, None]) / sd[:, None]
        below = (weight[:, None] * (0.5 + 0.5 * torch.erf(0.70710678 * z))).sum(dim=2) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


def _ln_integral(scans: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Return ln Ã of one exponential of that rate through the scans, ``(n,)``."""
    return torch.log(_amplitude(scans, _fallen(scans, rate)).clamp_min(_TINY)) + rate * scans[:, 0, 0] - torch.log(rate)


def _posterior(scans: torch.Tensor, rate: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weight, ln Ã and relative variance of the amplitude at each rate ``(n, nodes)``."""
    since_first = scans[:, None, :, 0] - scans[:, None, :1, 0]
    shape = torch.exp(-(rate[..., None] * since_first).clamp(0.0, STEEPEST))  # (n, nodes, scans)
    certainty = _certainty(scans)[:, None]
    precision = (certainty * shape**2).sum(dim=2)
    amplitude = ((certainty * shape * scans[:, None, :, 1]).sum(dim=2) / precision).clamp_min(_TINY)
    misfit = (certainty * (scans[:, None, :, 1] - amplitude[..., None] * shape) ** 2).sum(dim=2)
    variance = (1.0 / (precision * amplitude**2)).clamp_max(1.0)
    weight = torch.softmax(-0.5 * misfit - 0.5 * z**2 + 0.5 * torch.log(variance), dim=1)
    return weight, torch.log(amplitude / rate) + rate * scans[:, :1, 0], variance


def _fallen(scans: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Return what is left at each scan of one exponential that is 1 at the first, ``(n, scans)``; empty places count as the first."""
    since_first = (scans[..., 0] - scans[:, :1, 0]).clamp_min(0.0)
    return torch.exp(-(rate[:, None] * since_first).clamp_max(STEEPEST))


def _certainty(scans: torch.Tensor) -> torch.Tensor:
    """Return 1/sd² of each scan, 0 where there is none, shape ``(n, scans)``."""
    there = (scans[..., 2] > 0).to(scans.dtype)
    return there / scans[..., 2].clamp_min(_TINY) ** 2


def _amplitude(scans: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """Return the height at which a shape ``(n, scans)`` passes the scans by least squares, ``(n,)``: proportional to their activities."""
    certainty = _certainty(scans)
    found: torch.Tensor = (certainty * shape * scans[..., 1]).sum(dim=1) / (certainty * shape**2).sum(dim=1)
    return found


def _residuals(scans: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """Return how many standard deviations each scan lies above the shape through all, ``(n, scans)``; 0 where there is none."""
    return torch.sqrt(_certainty(scans)) * (scans[..., 1] - _amplitude(scans, shape)[:, None] * shape)


def _seen(scans: torch.Tensor, prior: torch.Tensor, reading: torch.Tensor) -> torch.Tensor:
    """Return what the perceptron sees, ``(n, inputs)``: numbers of order one."""
    there = (scans[..., 2] > 0).to(scans.dtype)
    fitted = _fallen(scans, prior[:, 0] + torch.exp(reading[:, 0]))
    residual = 3.0 * torch.tanh(_residuals(scans, fitted) / 3.0)
    time = there * torch.log(scans[..., 0].clamp_min(1e-3))
    noise = there * (torch.log((scans[..., 2] / scans[..., 1].clamp_min(1e-3)).clamp(1e-3, 10.0)) / 3.0 + 1.0)
    known = torch.stack([2.0 * prior[:, 0] - 1.0, torch.log(prior[:, 1]) + 1.0, 2.0 * prior[:, 2] - 0.5], dim=1)
    told = torch.stack(
        [
            reading[:, 0] + 0.5,
            torch.log(reading[:, 1].clamp_min(_TINY)) / 2.0 + 1.0,
            reading[:, 2].clamp(-3.0, 3.0),
            torch.log(reading[:, 3]) + 2.0,
            reading[:, 4].clamp(-3.0, 3.0),
            reading[:, 5],
            (reading[:, 6] - reading[:, 2]).clamp(-3.0, 3.0),
        ],
        dim=1,
    )
    return torch.cat([there, time, noise, residual, told, known], dim=1)
