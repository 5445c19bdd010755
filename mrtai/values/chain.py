"""A nuclide with the progeny that decay after it."""

from dataclasses import dataclass
from typing import Final

from mrtai.values.nuclide import Nuclide

STAYS: Final = ("equilibrium", "none")


@dataclass(frozen=True, slots=True)
class Progeny:
    """Where progeny decay.

    Attributes:
        stay: ``equilibrium``: where the parent decays, as often as the branching fractions say; ``none``: progeny are left out.
        free_fraction: of all progeny decays, taken away from there and spread over the body evenly by mass, from 0 to 1.
    """

    stay: str = "equilibrium"
    free_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.stay not in STAYS:
            raise ValueError(f"progeny: stay must be one of {', '.join(STAYS)}, got {self.stay!r}")
        if not 0.0 <= self.free_fraction <= 1.0:
            raise ValueError(f"progeny: free_fraction must lie between 0 and 1, got {self.free_fraction}")


@dataclass(frozen=True, slots=True)
class Member:
    """One nuclide of a chain; ``decays`` counts its decays for each decay of the parent."""

    nuclide: Nuclide
    decays: float


@dataclass(frozen=True, slots=True)
class Chain:
    """A parent and its progeny.

    Attributes:
        members: parent first, with one decay; then the progeny in equilibrium with it.
        left_out: radioactive progeny that live longer than the parent, which are not followed further; ``decays`` is how many are made.
    """

    members: tuple[Member, ...]
    left_out: tuple[Member, ...] = ()

    @property
    def parent(self) -> Nuclide:
        """The nuclide that was administered."""
        return self.members[0].nuclide

    @property
    def progeny(self) -> tuple[Member, ...]:
        """The members after the parent."""
        return self.members[1:]

    @property
    def energy_mev(self) -> dict[str, float]:
        """Energy per decay of the parent [MeV] by radiation, progeny in equilibrium included."""
        return {
            "electron": sum(member.decays * member.nuclide.electron_mev_per_decay for member in self.members),
            "photon": sum(member.decays * member.nuclide.photon_mev_per_decay for member in self.members),
            "alpha": sum(member.decays * member.nuclide.alpha_mev_per_decay for member in self.members),
        }
