"""Convolution: kernels of water made right for the patient's own matter."""

from mrtai.engines.convolution.engine import Convolution

__all__ = ["Convolution"]
