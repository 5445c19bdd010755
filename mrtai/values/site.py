"""A site's configuration: where things live, how scans come in, which of them are dosimetry scans, and where results go."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MODALITIES: Final = ("PT", "NM")


@dataclass(frozen=True, slots=True)
class TlsServer:
    """Certificate and key of our server; with ``ca`` a client must show a certificate which that authority signed."""

    certificate: Path
    key: Path
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Receive:
    """The DICOM receiver.

    Attributes:
        allowed_ae_titles: callers that may send; empty lets every caller in.
        most_associations: at one time; further callers are refused and try again.
        least_free_gb: of disk; below it nothing more is accepted.
    """

    ae_title: str = "MRTAI"
    host: str = "0.0.0.0"
    port: int = 11113
    allowed_ae_titles: tuple[str, ...] = ()
    most_associations: int = 8
    least_free_gb: float = 5.0
    tls: TlsServer | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """A DICOMweb archive that is asked every ``every_s`` for studies of the last ``days``; secrets stay in their files."""

    name: str
    url: str
    every_s: float = 300.0
    days: int = 2
    modalities: tuple[str, ...] = MODALITIES
    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Which studies are dosimetry scans, and what is done with them.

    Attributes:
        modalities: one of them must hold the activity.
        descriptions: shell patterns of which one must fit the description of the study or of a series, without regard to case; empty
            fits all.
        nuclide: of the header; None fits any.
        agents: shell patterns of the radiopharmaceutical; empty fits all.
        protocol: name of a shipped protocol, or path of a TOML file.
        calibrations: folder of the cameras' calibration files.
        target: where released results go.
    """

    name: str
    protocol: str
    modalities: tuple[str, ...] = MODALITIES
    descriptions: tuple[str, ...] = ()
    nuclide: str | None = None
    agents: tuple[str, ...] = ()
    calibrations: Path | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Notify:
    """Where a case that needs a person is told of: a webhook that takes JSON."""

    url: str


@dataclass(frozen=True, slots=True)
class Site:
    """A validated ``mrtai.toml``.

    Attributes:
        root: folder of everything the site keeps: received instances, cycles, ledger, Prefect's home.
        database: SQLAlchemy URL of the ledger; it may carry a password and is not shown.
        quiet_s: a study counts as complete when nothing of it has come for so long.
        watch: folders whose files are taken in as if they had been sent.
        attempts: of one case at the same inputs before it counts as failed.
        parallel: cases that one worker works on at one time.
        gpu_slots: cases that may use the GPU at one time.
        server_port: of Prefect's server on this machine, where ``serve`` starts one.
    """

    root: Path
    database: str = field(repr=False)
    receive: Receive
    quiet_s: float = 60.0
    watch: tuple[Path, ...] = ()
    polls: tuple[Poll, ...] = ()
    rules: tuple[Rule, ...] = ()
    device: str = "cpu"
    threads: int = 1
    attempts: int = 5
    parallel: int = 1
    gpu_slots: int = 1
    server_port: int = 4200
    notify: Notify | None = None

    @property
    def received(self) -> Path:
        """Folder of instances as they came in, one folder a study."""
        return self.root / "received"

    @property
    def cycles(self) -> Path:
        """Folder of cycles: each a ``CycleFolder``, with its frozen inputs, what a person attached, kept stages and its ``case``."""
        return self.root / "cycles"
