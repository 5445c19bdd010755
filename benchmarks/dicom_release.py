"""A large case as DICOM: written, proven and sent to a real Orthanc; time and memory.

The CT has 512 x 512 x 400 voxels with 30 regions; dose and activity are on a SPECT grid of 128 x 128 x 100, the RT Dose on the CT's grid.
Run as ``python -m benchmarks.dicom_release`` from the root of a checkout with its development packages and Debian's orthanc.
"""

import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from mrtai.io.dicom_write import Choices, write_objects
from mrtai.io.pacs import send
from mrtai.io.proof import prove
from mrtai.io.targets import Target
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from tests.io.case_maker import made_case, made_source
from tests.io.orthanc import orthanc

REGIONS = 30


def large_labels() -> Labels:
    """Return a liver of two litres, kidneys, and lesions down to some voxels, on the CT's grid."""
    grid = Grid.axial((400, 512, 512), (0.98, 0.98, 2.0))
    voxels = np.zeros(grid.shape, np.uint8)
    random = np.random.default_rng(1)
    for value in range(1, REGIONS + 1):
        axes = (45, 90, 80) if value == 1 else random.integers(4, 28, 3)
        centre = (220, 230, 170) if value == 1 else [int(random.integers(60, n - 60)) for n in grid.shape]
        box = tuple(slice(c - a, c + a + 1) for c, a in zip(centre, axes, strict=True))
        inside = sum((np.arange(-a, a + 1) / a).reshape([-1 if i == j else 1 for j in range(3)]) ** 2 for i, a in enumerate(axes)) <= 1
        voxels[box][inside] = value
    names = {1: "liver", 2: "kidney_left", 3: "kidney_right", 4: "spleen"} | {n: f"lesion_{n - 4}" for n in range(5, REGIONS + 1)}
    return Labels(voxels, names, grid)


class Watch(threading.Thread):
    """Follows the resident memory of this process [GB]; the child processes of the proof are counted by their own largest."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest_gb = 0.0

    def run(self) -> None:
        """Look ten times a second."""
        while True:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.largest_gb = max(self.largest_gb, pages * resource.getpagesize() / 1e9)
            time.sleep(0.1)


def main() -> int:
    """Print seconds and memory of each step."""
    labels = large_labels()
    spect = Grid.axial((100, 128, 128), (4.8, 4.8, 8.0))
    ramp = (np.indices(spect.shape).sum(axis=0) / 5).astype(np.float32)
    case = made_case(labels, dose=Image(ramp, Quantity.ABSORBED_DOSE, spect), dose_grid=spect)
    source, choices = made_source(), Choices(dose_on_ct=True)
    watch = Watch()
    watch.start()
    with tempfile.TemporaryDirectory() as folder, orthanc(Path(folder) / "server") as server:
        out = Path(folder) / "objects"
        out.mkdir()
        start = time.perf_counter()
        files = write_objects(case, source, out, choices)
        wrote = time.perf_counter()
        prove(files, case, source, choices)
        proved = time.perf_counter()
        target = Target("pacs", "c-store", "127.0.0.1", server.dicom_port, "ORTHANC", True, listen_port=server.listen_port, timeout_s=60)
        send(files, target, out / "sent.json")
        sent = time.perf_counter()
        size_mb = sum(path.stat().st_size for path in files) / 1e6
    children_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"{len(files)} objects, {size_mb:.0f} MB, {len(case.drawn)} regions")
    print(f"written {wrote - start:.0f} s, proven {proved - wrote:.0f} s, sent {sent - proved:.0f} s: {sent - start:.0f} s in all")
    print(f"largest memory {watch.largest_gb:.1f} GB, of one child process {children_gb:.1f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
