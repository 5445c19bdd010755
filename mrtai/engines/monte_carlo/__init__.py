"""Monte Carlo: photons and electrons followed one by one, the same compiled physics on CPU and GPU."""

from mrtai.engines.monte_carlo.engine import MonteCarlo

__all__ = ["MonteCarlo"]
