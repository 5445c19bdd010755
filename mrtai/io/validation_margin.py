"""What counts as equivalent in a comparison: as the command says, else as the protocol of the cases does."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from mrtai.io.protocols import load_protocol
from mrtai.values.protocol import EquivalenceMargin
from mrtai.values.refusal import DosimetryError
from mrtai.values.validation import ComparedCycle

ASKED: Final = "as asked for with --margin"


def equivalence_margin(asked: float | None, cycles: Iterable[ComparedCycle], protocols: Sequence[Path]) -> EquivalenceMargin:
    """Return the margin with its source; a protocol that is not at hand, by name and digest, leaves the default.

    Args:
        asked: what the command was given, None where nothing.
        cycles: the automatic side, which names its protocols.
        protocols: files of protocols that do not come with mrtai.

    Raises:
        DosimetryError: the cases' protocols have different margins.
    """
    if asked is not None:
        return EquivalenceMargin(asked, ASKED)
    found = {margin for name, digest in _named(cycles) if (margin := _margin(name, digest, protocols)) is not None}
    if len({one.margin for one in found}) > 1:
        raise DosimetryError(
            "the protocols of the cases have different margins of equivalence",
            where="automatic side",
            found=", ".join(f"{one.margin:g}" for one in sorted(found, key=lambda one: one.margin)),
            remedy="give one with --margin, or compare them apart",
            code="MARGIN_AMBIGUOUS",
        )
    return min(found, key=lambda one: one.source, default=EquivalenceMargin())


def _named(cycles: Iterable[ComparedCycle]) -> set[tuple[str, str]]:
    return {(cycle.origin.get("protocol", ""), cycle.origin.get("protocol_sha256", "")) for cycle in cycles}


def _margin(name: str, digest: str, protocols: Sequence[Path]) -> EquivalenceMargin | None:
    for place in (name, *map(str, protocols)):
        try:
            protocol = load_protocol(place)
        except DosimetryError:
            if place != name:
                raise
            continue
        if protocol.sha256 == digest:
            return protocol.equivalence
    return None
