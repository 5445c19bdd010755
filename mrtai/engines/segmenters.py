"""Who draws: contours that are given, else a model on the CT, then lesions beside its organs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mrtai.engines.given_labels import GivenLabels
from mrtai.physics.lesions import CLASSICAL
from mrtai.ports import Segmenter
from mrtai.values.bundle import Bundle
from mrtai.values.labels import Labels
from mrtai.values.protocol import NO_SEGMENTER, TOTAL_SEGMENTATOR
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


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What draws a run's regions.

    Attributes:
        names: engines as the report names them, ``segmenter`` and where one draws ``lesion_segmenter``.
        models: whose digests the manifest keeps.
        given: True where contours that somebody drew are taken as they are.
    """

    segmenter: Segmenter
    names: Mapping[str, str]
    models: tuple[Bundle, ...] = ()
    given: bool = False


def as_given(labels: Labels | None = None) -> Drawing:
    """Return what takes ``labels``, else the contours that came with the study."""
    return Drawing(GivenLabels(labels), {"segmenter": "given-labels"}, given=True)


def drawn_by(organs: Bundle | None, lesions: str, lesion_model: Bundle | None = None, *, device: str = "cpu", threads: int = 1) -> Drawing:
    """Return what draws organs with a bundle, without one with TotalSegmentator, and then ``lesions`` by rule or ``lesion_model``."""
    segmenter, name = _organs(organs, device, threads)
    models = tuple(model for model in (organs, lesion_model) if model is not None)
    if lesions == NO_SEGMENTER:
        return Drawing(segmenter, {"segmenter": name}, models)
    both = WithLesions(segmenter, lesions, lesion_model, device, threads)
    return Drawing(both, {"segmenter": name, "lesion_segmenter": lesion_model.label if lesion_model else lesions}, models)


def _organs(bundle: Bundle | None, device: str, threads: int) -> tuple[Segmenter, str]:
    if bundle is None:
        from mrtai.engines.total_segmentator import TotalSegmentator, library_version, require_library

        require_library()
        return TotalSegmentator(device, threads), f"{TOTAL_SEGMENTATOR}@{library_version()}"
    from mrtai.engines.onnx_segmenter import OnnxSegmenter

    return OnnxSegmenter(bundle, device, threads), bundle.label
