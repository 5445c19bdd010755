"""The picture of docs: ``python -m tests.io.viewer CT_FOLDER DOSE_OBJECT OUT.png X_MM Y_MM Z_MM`` (crosshair in RAS)."""

import sys
from pathlib import Path

from tests.io.viewer.browser import seen_in_browser

ct, dose, out, *crosshair = sys.argv[1:]
found = seen_in_browser(sorted(Path(ct).glob("*.dcm")), Path(dose), [float(value) for value in crosshair], chromium="chromium")
Path(out).write_bytes(found.png)
