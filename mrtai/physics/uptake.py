"""One map of uptake from the scans of a cycle, in which lesions are looked for."""

import numpy as np

from mrtai.values.flag import Severity
from mrtai.values.image import Image
from mrtai.values.report import Aligned, Alignment


def summed_uptake(aligned: Aligned) -> Image:
    """Return the scans' activity added up, scaled to the reference scan [Bq/mL], where at least one scan sees.

    Noise decides for the sum: it holds the counts of all scans, each weighted as it counted, so its relative noise is below that of
    any one scan, and bowel that moves from scan to scan fades in it. Scans whose registration is doubtful would blur it and are left
    out; then what is left may be the reference scan alone.
    """
    used = [n for n, one in enumerate(aligned.alignments) if n == aligned.reference or trusted(one)]
    views = {n: aligned.in_view[n] if aligned.in_view else np.ones(aligned.body.shape, dtype=np.bool_) for n in used}
    common = aligned.body & np.all(list(views.values()), axis=0)
    inside = common if common.any() else aligned.body
    level = {n: float(aligned.spects[n].voxels[inside].mean(dtype=np.float64)) for n in used}
    home = aligned.spects[aligned.reference]
    used = [n for n in used if level[n] > 0]
    if len(used) < 2:
        return home
    total = np.sum([np.where(views[n], aligned.spects[n].voxels, 0.0) for n in used], axis=0)
    # where a scan does not see, the others stand for it
    weight = np.sum([np.where(views[n], np.float32(level[n]), 0.0) for n in used], axis=0)
    scaled = np.divide(total * level[aligned.reference], weight, out=np.zeros_like(total), where=weight > 0)
    return Image(scaled.astype(np.float32), home.quantity, home.grid)


def trusted(alignment: Alignment) -> bool:
    """Return True where nothing speaks against a scan's registration."""
    return all(flag.severity is Severity.INFO for flag in alignment.flags)
