"""Refusals: one clear line of what, where, what was found and what to do."""


class DosimetryError(Exception):
    """The study cannot be dosed as it stands.

    Never carries a patient's name, birth date or identifier: messages are logged and stored.

    Attributes:
        code: stable upper-case name of the reason, for programs.
        what: what is wrong.
        where: file, series, region or setting concerned (never an identity).
        found: what was found there.
        remedy: what the caller can do about it.
    """

    def __init__(self, what: str, *, where: str, found: str, remedy: str, code: str = "REFUSED") -> None:
        super().__init__(what, where, found, remedy, code)
        self.what, self.where, self.found, self.remedy, self.code = what, where, found, remedy, code

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.what}; found {self.found}; {self.remedy}".split())


class Held(DosimetryError):
    """The case contradicts itself and waits for a person's decision (usually in ``study.toml``)."""
