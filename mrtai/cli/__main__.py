"""``python -m mrtai.cli``: the same as ``mrtai``."""

import sys

from mrtai.cli import main

sys.exit(main())
