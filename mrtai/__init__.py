"""From the scans of a patient treated with a radiopharmaceutical to absorbed doses."""

__version__ = "0.1.0"

__all__ = ["__version__"]
