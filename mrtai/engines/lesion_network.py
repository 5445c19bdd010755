"""Where a network sees lesions: its scores, brought to the grid of the uptake."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.lesion_input import lesion_input
from mrtai.engines.onnx_segmenter import scores
from mrtai.engines.prepare import on_lattice
from mrtai.values.bundle import Bundle
from mrtai.values.image import Image
from mrtai.values.labels import Labels


def probability(uptake: Image, ct: Image | None, organs: Labels, bundle: Bundle, *, device: str, threads: int) -> NDArray[Any]:
    """Return the share of a lesion by voxel of the uptake, between 0 and 1, shape ``(z, y, x)``.

    It is the mean of what the network says of the patient and of its mirror image: left and right are alike to lesions.
    """
    map_of_ct = None if ct is None else (ct.voxels, ct.grid)
    image, lattice = lesion_input(uptake.voxels, uptake.grid, map_of_ct, bundle.contract, organs=organs)
    found = scores(bundle, image, device=device, threads=threads)
    found += scores(bundle, np.ascontiguousarray(image[..., ::-1]), device=device, threads=threads)[..., ::-1]
    # of several classes every one is a kind of lesion
    return on_lattice(np.asarray(found[1:].sum(axis=0) / 2), lattice, uptake.grid, 0.0)
