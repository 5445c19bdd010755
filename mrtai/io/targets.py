"""Where a site's objects go: the targets of ``mrtai.toml``."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mrtai.io.toml_file import port, positive, read_toml, require_keys, tables, text, whole
from mrtai.values.refusal import DosimetryError

CODE: Final = "CONFIG_FILE"
C_STORE, STOW_RS = "c-store", "stow-rs"
COMMON: Final = {"name", "protocol", "tls", "attempts", "timeout_s"}
KEYS: Final = {
    C_STORE: COMMON | {"host", "port", "ae_title", "commitment"},
    STOW_RS: COMMON | {"url", "token_file", "user", "password_file"},
}
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
LONGEST_AE_TITLE: Final = 16


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates of an encrypted connection: the authority that signs the peer, and our own certificate where it asks for one."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that verifies the peer."""
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True, slots=True)
class Target:
    """One archive: by C-STORE ``host``, ``port`` and ``ae_title``, by STOW-RS ``url``.

    ``own_ae_title`` and ``listen_port`` are ours: reports of storage commitment arrive there. Secrets stay in their files.
    """

    name: str
    protocol: str
    host: str = ""
    port: int = 0
    ae_title: str = ""
    commitment: bool = False
    url: str = ""
    tls: Tls | None = None
    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    attempts: int = 3
    timeout_s: float = 30.0
    own_ae_title: str = "MRTAI"
    listen_port: int = 11112


def read_targets(path: Path | None = None) -> dict[str, Target]:
    """Return the targets by name of ``mrtai.toml``: ``path``, else the file that ``MRTAI_CONFIG`` names, else the one in this folder.

    Raises:
        DosimetryError: no such file, an unknown key, a missing one, two targets of one name, or a secret that would travel unencrypted.
    """
    file = path or Path(os.environ.get("MRTAI_CONFIG") or "mrtai.toml")
    table, _ = read_toml(file, CODE)
    own = table.get("dicom", {})
    if not isinstance(own, dict):
        raise _wrong("'dicom' must be a table", file, repr(own), "write [dicom]")
    require_keys(own, {"ae_title", "listen_port"}, where=f"{file.name} [dicom]", code=CODE)
    targets: dict[str, Target] = {}
    for entry in tables(table, "target", file):
        target = _target(entry, own, file)
        if target.name in targets:
            raise _wrong("two targets of one name", file, target.name, "rename one of them")
        targets[target.name] = target
    return targets


def _target(entry: Mapping[str, Any], own: Mapping[str, Any], file: Path) -> Target:
    where = f"{file.name} [[target]] {entry.get('name', '')}".strip()
    name, protocol = text(entry, "name", where=where, code=CODE), text(entry, "protocol", where=where, code=CODE)
    if name is None or protocol not in KEYS:
        raise _wrong("a target needs name and protocol", file, repr(protocol), f"write name = … and protocol = one of {', '.join(KEYS)}")
    require_keys(entry, KEYS[protocol], where=where, code=CODE)
    needed = ("host", "port", "ae_title") if protocol == C_STORE else ("url",)
    missing = [key for key in needed if key not in entry]
    if missing:
        raise _wrong("a target is incomplete", file, f"no {', '.join(missing)} in '{name}'", "add it")
    target = Target(
        name=name,
        protocol=protocol,
        host=str(entry.get("host", "")),
        port=port(entry, "port", 0, where=where, code=CODE),
        ae_title=_ae_title(entry.get("ae_title", ""), file),
        commitment=bool(entry.get("commitment", False)),
        url=str(entry.get("url", "")).rstrip("/"),
        tls=_tls(entry.get("tls", False), file),
        token_file=_beside(entry, "token_file", file),
        user=text(entry, "user", where=where, code=CODE),
        password_file=_beside(entry, "password_file", file),
        attempts=whole(entry, "attempts", 3, where=where, code=CODE),
        timeout_s=positive(entry, "timeout_s", 30.0, where=where, code=CODE),
        own_ae_title=_ae_title(own.get("ae_title", "MRTAI"), file),
        listen_port=port(own, "listen_port", 11112, where=f"{file.name} [dicom]", code=CODE),
    )
    _require_safe(target, file)
    return target


def _tls(entry: object, file: Path) -> Tls | None:
    if isinstance(entry, bool):
        return Tls() if entry else None
    if not isinstance(entry, dict):
        raise _wrong("'tls' must be true, false or a table", file, repr(entry), "write tls = true or [target.tls]")
    require_keys(entry, {"ca", "certificate", "key"}, where=f"{file.name} [target.tls]", code=CODE)
    return Tls(*(_beside(entry, key, file) for key in ("ca", "certificate", "key")))


def _beside(entry: Mapping[str, Any], key: str, file: Path) -> Path | None:
    """Return a file named in the configuration, relative to the folder of the configuration."""
    value = text(entry, key, where=file.name, code=CODE)
    return None if value is None else file.parent / Path(value).expanduser()


def _require_safe(target: Target, file: Path) -> None:
    if target.protocol != STOW_RS:
        return
    address = urlsplit(target.url)
    if address.scheme not in ("http", "https") or address.username or address.password:
        raise _wrong(
            "a target's url must be http(s) without credentials", file, f"'{target.name}'", "use token_file or user and password_file"
        )
    secret = target.token_file or target.password_file
    if address.scheme == "http" and secret and address.hostname not in LOCAL:
        raise _wrong("a secret would travel unencrypted", file, f"http url of '{target.name}'", "use https")


def _ae_title(value: object, file: Path) -> str:
    title = str(value).strip()
    if len(title) > LONGEST_AE_TITLE or not title.isascii():
        raise _wrong("an AE title has at most 16 plain characters", file, repr(title), "shorten it")
    return title


def _wrong(what: str, file: Path, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where=file.name, found=found, remedy=remedy, code=CODE)
