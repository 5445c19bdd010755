"""Random numbers that depend on the seed and the history alone, so that threads and devices see the same histories.

Each history owns one 64-bit state: xorshift64* (Vigna 2016), started from SplitMix64 of seed and history.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def started(seed: int, history: int) -> np.uint64:
    """Return the state of a history's stream."""
    z = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(history) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x2545F4914F6CDD1D)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return z | np.uint64(1)


@njit(cache=True)
def uniform(states, i):
    """Return a number in (0, 1) and advance ``states[i]``."""
    x = states[i]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    states[i] = x
    return (np.float64((x * np.uint64(2685821657736338717)) >> np.uint64(11)) + 0.5) * 1.1102230246251565e-16
