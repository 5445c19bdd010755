"""Lesions drawn beside organs: by a network, or by classical rules by name, and with a PET before the therapy where there is one."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.lesion_pet import placed
from mrtai.engines.segmenters import LESION_METHODS
from mrtai.physics.lesion_labels import on_grid, with_lesions, without_lesions
from mrtai.physics.lesion_prior import MARGIN_MM, Searched, searched
from mrtai.physics.lesion_score import sure
from mrtai.physics.lesions import CLASSICAL, PET_FWHM_MM, Scene, Search, lesions, scene, split
from mrtai.physics.resample import averaged, largest_share
from mrtai.physics.tissue import body_from_activity, body_outline, density
from mrtai.physics.uptake import summed_uptake
from mrtai.values.bundle import Bundle
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.protocol import NO_SEGMENTER, SPECT_FWHM_MM
from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import is_lesion
from mrtai.values.report import Aligned
from mrtai.values.study import PriorPet


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One image in which lesions are looked for, with what belongs to it.

    Attributes:
        uptake: SPECT or PET.
        ct: in the same place, where there is one.
        body: outline of the patient on the uptake's grid; without, it is found on the CT, else on the uptake.
        agent: what is imaged, where known.
        fwhm_mm: resolution of the uptake.
    """

    uptake: Image
    ct: Image | None = None
    body: NDArray[np.bool_] | None = None
    agent: str = ""
    fwhm_mm: float = SPECT_FWHM_MM

    @property
    def outline(self) -> NDArray[np.bool_]:
        """The body on the uptake's grid."""
        if self.body is not None:
            return self.body
        if self.ct is None:
            return body_from_activity(self.uptake)
        return body_outline(averaged(density(self.ct), self.uptake.grid), self.uptake)


@dataclass(frozen=True, slots=True, eq=False)
class Drawer:
    """Draws lesions on one image at a time.

    Attributes:
        name: one of ``CLASSICAL``, else the name of the bundle.
        bundle: of a network, else None.
        device: where it runs; ``threads`` on the CPU.
    """

    name: str
    bundle: Bundle | None
    device: str
    threads: int

    def __post_init__(self) -> None:
        if self.name in CLASSICAL or self.bundle is not None:
            return
        raise DosimetryError(
            "no model of that name draws lesions",
            where="lesion segmenter",
            found=repr(self.name),
            remedy=f"choose {', '.join(LESION_METHODS)} or an installed bundle",
            code="UNKNOWN_MODEL",
        )

    @property
    def label(self) -> str:
        """What the report calls it."""
        return self.name if self.bundle is None else self.bundle.label

    def scene(self, look: Look, organs: Labels) -> Scene:
        """Return an image ready to be searched; what a network draws is parted and searched for again by the adaptive rule."""
        search = Search(self.name if self.name in CLASSICAL else "adaptive", look.fwhm_mm)
        on_uptake = largest_share(without_lesions(organs), look.uptake.grid)
        return scene(look.uptake, look.outline, on_uptake, look.agent, search)

    def __call__(self, seen: Scene, ct: Image | None, organs: Labels) -> NDArray[np.int32]:
        """Return lesions numbered from 1, head to foot, on the uptake's grid, ``(z, y, x)``."""
        if self.bundle is None:
            return lesions(seen)
        from mrtai.engines.lesion_network import probability

        score = probability(seen.uptake, ct, organs, self.bundle, device=self.device, threads=self.threads)
        return split(sure(score), seen)


def draw_lesions(
    name: str, aligned: Aligned, organs: Labels, *, bundle: Bundle | None = None, device: str = "cpu", threads: int = 1
) -> Labels:
    """Return the organs with ``lesion_1``, ``lesion_2``, … from head to foot, which win over the organ they lie in.

    A PET before the therapy, where the cycle has one, is registered to the reference scan and shows where to look.

    Args:
        name: ``threshold``, ``adaptive``, ``gradient``, ``none``, or the name of ``bundle``.
        aligned: the cycle on one grid.
        organs: contours in the reference scan's space on any grid; where they hold lesions, somebody drew those and they stay alone.
        bundle: the model of that name, where it is none of the classical ones.
        device: where a model runs.
        threads: of a model on the CPU.

    Raises:
        DosimetryError: a name that is neither classical nor a bundle's.
    """
    home = aligned.cycle.time_points[aligned.reference]
    look = Look(summed_uptake(aligned), home.ct, aligned.body, aligned.cycle.administration.agent)
    return draw_lesions_on(name, look, organs, prior=aligned.cycle.prior_pet, bundle=bundle, device=device, threads=threads)


def draw_lesions_on(
    name: str,
    look: Look,
    organs: Labels,
    *,
    prior: PriorPet | None = None,
    bundle: Bundle | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> Labels:
    """Return the organs with the lesions of one image, as ``draw_lesions`` does for a cycle."""
    if name == NO_SEGMENTER or any(is_lesion(one) for one in organs.names.values()):
        return organs
    drawer = Drawer(name, bundle, device, threads)
    seen = drawer.scene(look, organs)
    found = Searched(drawer(seen, look.ct, organs), {}, 0)
    case = () if _has_kidneys(organs) else (NO_ORGANS,)
    if prior is not None:
        found, told = _with_prior(found, seen, look, organs, prior, drawer)
        case = (*case, *told)
    labels = with_lesions(organs, found.numbers, look.uptake.grid, origin=drawer.label, flags=found.flags)
    labels = labels.with_flags({"": case} if case else {})
    return labels if bundle is None else labels.with_flags(_cautions(bundle, labels))


def _cautions(bundle: Bundle, labels: Labels) -> dict[str, tuple[Flag, ...]]:
    from mrtai.engines.onnx_segmenter import cautions

    return cautions(bundle, filter(is_lesion, labels.names.values()))


def _with_prior(
    own: Searched, seen: Scene, look: Look, organs: Labels, prior: PriorPet, drawer: Drawer
) -> tuple[Searched, tuple[Flag, ...]]:
    """Return the lesions with those that the PET adds, and what is to be said of the PET."""
    from mrtai.engines.align import RigidAligner  # SimpleITK

    there = placed(prior, look.uptake, look.ct, RigidAligner())
    view = Look(there.pet, there.ct, None, prior.agent or look.agent, PET_FWHM_MM)
    lesions_of_pet = drawer(drawer.scene(view, organs), view.ct, organs)
    carried = on_grid(lesions_of_pet, view.uptake.grid, look.uptake.grid)
    found = searched(carried, own.numbers, seen, margin_mm=MARGIN_MM + (there.alignment.residual_mm or 0.0))
    count = int(lesions_of_pet.max()) - int(np.unique(carried[carried > 0]).size) + found.out_of_view
    return found, (*there.flags, *((_out_of_view(count),) if count else ()))


NO_ORGANS: Final = Flag(
    "LESIONS_WITHOUT_ORGANS",
    Severity.REVIEW,
    "No kidneys are among the contours: physiological uptake may have been taken for lesions.",
    "Check each lesion, or give contours of the organs.",
)


def _out_of_view(count: int) -> Flag:
    text = f"{count} lesions of the PET before the therapy lie outside the SPECT's view, or where it shows no body, and have no dose."
    return Flag("PET_LESIONS_OUT_OF_VIEW", Severity.INFO, text, "None needed where the view was meant to be so.")


def _has_kidneys(organs: Labels) -> bool:
    return any(name.startswith("kidney_") for name in organs.names.values())
