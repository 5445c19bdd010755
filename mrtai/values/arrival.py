"""A study that came in, as far as it takes to decide what becomes of it."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ActivitySeries:
    """One SPECT or PET series of a study; None where its header is silent.

    ``descriptions`` are free text that may name the patient: they are compared with rules and stored nowhere.
    """

    modality: str
    nuclide: str | None
    agent: str | None
    started_at: datetime | None
    administered_at: datetime | None
    descriptions: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One received study without identity.

    Attributes:
        pseudonym: of patient ID and issuer.
        person: keyed digest of name and birth date, which tells one person under two IDs; None where these say too little.
        modalities: of all series, sorted.
        activity: its SPECT and PET series.
        instances: number of files; ``content_sha256`` the digest of them all.
    """

    pseudonym: str
    person: str | None
    modalities: tuple[str, ...]
    activity: tuple[ActivitySeries, ...]
    instances: int
    content_sha256: str
