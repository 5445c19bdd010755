"""A PET before the therapy brought to the SPECT, so that its lesions show where to look."""

from dataclasses import dataclass

from mrtai.ports import Aligner
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image
from mrtai.values.report import Alignment
from mrtai.values.study import PriorPet


@dataclass(frozen=True, slots=True, eq=False)
class PlacedPet:
    """The PET (and its CT) moved into the SPECT's space by a rigid registration, of their CTs where both have one."""

    prior: PriorPet
    alignment: Alignment

    @property
    def pet(self) -> Image:
        """The PET in the SPECT's space."""
        return _moved(self.prior.pet, self.alignment)

    @property
    def ct(self) -> Image | None:
        """Its CT there."""
        return None if self.prior.ct is None else _moved(self.prior.ct, self.alignment)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What is doubtful about the registration."""
        doubts = [flag.text for flag in self.alignment.flags if flag.severity is not Severity.INFO]
        if not doubts:
            return ()
        text = f"The PET before the therapy may not lie on the SPECT: {' '.join(doubts)}"
        return (Flag("PET_REGISTRATION_DOUBTFUL", Severity.REVIEW, text, "Look at each lesion that only the PET shows."),)


def placed(prior: PriorPet, uptake: Image, ct: Image | None, aligner: Aligner) -> PlacedPet:
    """Return the PET in the space of ``uptake`` and its ``ct``."""
    if prior.ct is not None and ct is not None:
        return PlacedPet(prior, aligner(ct, prior.ct))
    return PlacedPet(prior, aligner(uptake, prior.pet))


def _moved(image: Image, alignment: Alignment) -> Image:
    return image.on(image.grid.moved(alignment.transform)) if alignment.moved else image
