"""Adding energy to a voxel, on either device.

On the CPU every thread has a row of its own; on a GPU all add to row 0 atomically.
"""

from numba import cuda
from numba.core.target_extension import current_target
from numba.extending import overload


def score(tally, i, voxel, energy):
    """Add ``energy`` [MeV] to ``tally[i, voxel]``."""
    tally[i, voxel] += energy


# one overload for both: numba's own CUDA target and the package numba-cuda look for overloads by target in different places
@overload(score)
def _score(tally, i, voxel, energy):
    def add(tally, i, voxel, energy):
        tally[i, voxel] += energy

    def add_atomically(tally, i, voxel, energy):
        cuda.atomic.add(tally, (0, voxel), energy)  # type: ignore[attr-defined]

    return add_atomically if current_target() == "cuda" else add
