"""Who draws: contours that are given, else a model on the CT, then lesions beside its organs."""

from dataclasses import dataclass
from typing import Final

from mrtai.engines.given_labels import GivenLabels
from mrtai.physics.lesions import CLASSICAL
from mrtai.ports import Segmenter
from mrtai.values.bundle import Bundle
from mrtai.values.labels import Labels
from mrtai.values.protocol import NO_SEGMENTER
from mrtai.values.report import Aligned

LESION_METHODS: Final = (*CLASSICAL, NO_SEGMENTER)
"""Names that draw lesions without a model; any other is a bundle's."""


@dataclass(frozen=True, slots=True, eq=False)
class WithLesions:
    """Draws ``organs``, then lesions by the method of that name."""

    organs: Segmenter
    lesions: str
    bundle: Bundle | None
    device: str = "cpu"
    threads: int = 1

    def __call__(self, aligned: Aligned) -> Labels:
        """Return organs and lesions; see ``ports.Segmenter``."""
        from mrtai.engines.lesions import draw_lesions

        organs = self.organs(aligned)
        return draw_lesions(self.lesions, aligned, organs, bundle=self.bundle, device=self.device, threads=self.threads)


def organ_segmenter(bundle: Bundle | None, *, device: str = "cpu", threads: int = 1) -> Segmenter:
    """Return what draws organs with a model, and nothing but given contours without one."""
    if bundle is None:
        return GivenLabels()
    from mrtai.engines.onnx_segmenter import OnnxSegmenter

    return OnnxSegmenter(bundle, device, threads)
