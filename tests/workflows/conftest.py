"""Makes the makers of DICOM objects and the senders importable by their names beside the tests."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "io")]
