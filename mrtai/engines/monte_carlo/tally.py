"""Adding energy to a voxel, on either device.

On the CPU every thread has a row of its own; on a GPU all add to row 0 atomically.
"""

from numba import cuda
from numba.extending import overload


def score(tally, i, voxel, energy):
    """Add ``energy`` [MeV] to ``tally[i, voxel]``."""
    tally[i, voxel] += energy


@overload(score, target="cpu")
def _on_cpu(tally, i, voxel, energy):
    def add(tally, i, voxel, energy):
        tally[i, voxel] += energy

    return add


if not hasattr(cuda, "simulator") and not getattr(cuda, "is_simulator", False):

    @overload(score, target="cuda")
    def _on_cuda(tally, i, voxel, energy):
        def add(tally, i, voxel, energy):
            cuda.atomic.add(tally, (0, voxel), energy)  # type: ignore[attr-defined]

        return add
