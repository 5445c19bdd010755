"""Who draws: contours that are given, else a model on the CT, then lesions beside its organs."""

from dataclasses import dataclass
from typing import Final

from mrtai.engines.given_labels import GivenLabels
from mrtai.ports import Segmenter
from mrtai.values.bundle import Bundle
from mrtai.values.labels import Labels
from mrtai.values.protocol import NO_SEGMENTER
from mrtai.values.report import Aligned

TOTAL_SEGMENTATOR: Final = "total-segmentator"


@dataclass(frozen=True, slots=True, eq=False)
class WithLesions:
    """Draws ``organs``, then lesions by the method of that name."""

    organs: Segmenter
    lesions: str
    device: str = "cpu"
    threads: int = 1

    def __call__(self, aligned: Aligned) -> Labels:
        """Return organs and lesions; see ``ports.Segmenter``."""
        from mrtai.engines.lesions import draw_lesions

        return draw_lesions(self.lesions, aligned, self.organs(aligned), device=self.device, threads=self.threads)


def organ_segmenter(bundle: Bundle | None, *, device: str = "cpu", threads: int = 1) -> Segmenter:
    """Return what draws organs with a model, and nothing but given contours without one."""
    if bundle is None:
        return GivenLabels()
    from mrtai.engines.onnx_segmenter import OnnxSegmenter

    return OnnxSegmenter(bundle, device, threads)


def with_lesions(organs: Segmenter, lesions: str, *, device: str = "cpu", threads: int = 1) -> Segmenter:
    """Return the segmenter with lesions drawn beside its organs, or itself for ``none``."""
    return organs if lesions == NO_SEGMENTER else WithLesions(organs, lesions, device, threads)
