"""``mrtai.toml``: a site's configuration, checked key by key."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mrtai.io.ledger_link import engine_of
from mrtai.io.nuclide_names import nuclide_name
from mrtai.io.protocols import load_protocol
from mrtai.io.targets import LOCAL, LONGEST_AE_TITLE, read_targets
from mrtai.io.toml_file import number, port, positive, read_toml, require_keys, tables, text, whole
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import MODALITIES, Notify, Poll, Receive, Rule, Site, TlsServer

CODE: Final = "CONFIG_FILE"
TABLES: Final = {"pseudonym_key", "root", "database", "dicom", "target", "receive", "inbox", "poll", "rule", "work", "server", "notify"}

Table = Mapping[str, Any]


def config_path() -> Path:
    """Return the site's configuration file: the one that ``MRTAI_CONFIG`` names, else ``mrtai.toml`` in this folder."""
    return Path(os.environ.get("MRTAI_CONFIG") or "mrtai.toml").absolute()


def read_site(path: Path | None = None) -> Site:
    """Return the site that ``mrtai.toml`` describes; every path in it is relative to its folder.

    Raises:
        DosimetryError: no such file, an unknown or missing key, a value that cannot be, or a rule whose protocol or target is unknown.
    """
    file = (path or config_path()).absolute()
    table, _ = read_toml(file, CODE)
    require_keys(table, TABLES, where=file.name, code=CODE)
    read = _Reader(file)
    root = read.path(table, "root", file.name) or file.parent / "mrtai-data"
    inbox, work = (
        read.table(table, "inbox", {"quiet_s", "watch"}),
        read.table(table, "work", {"device", "threads", "attempts", "parallel", "gpu_slots"}),
    )
    site = Site(
        root=root,
        database=text(table, "database", where=file.name, code=CODE) or f"sqlite:///{root / 'ledger.db'}",
        receive=_receive(table, read),
        quiet_s=read.positive(inbox, "quiet_s", 60.0),
        watch=tuple(file.parent / Path(one).expanduser() for one in read.texts(inbox, "watch")),
        polls=tuple(_poll(entry, read) for entry in tables(table, "poll", file)),
        rules=tuple(_rule(entry, read) for entry in tables(table, "rule", file)),
        device=text(work, "device", where=file.name, code=CODE) or "cpu",
        threads=read.whole(work, "threads", 1),
        attempts=read.whole(work, "attempts", 5),
        parallel=read.whole(work, "parallel", 1),
        server_port=read.port(read.table(table, "server", {"port"}), "port", 4200),
        gpu_slots=read.whole(work, "gpu_slots", 1),
        notify=_notify(table, read),
    )
    _require_consistent(site, table, read)
    return site


class _Reader:
    """Reads values of one file, so that every refusal names it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def table(self, table: Table, key: str, known: set[str]) -> Table:
        """Return a sub-table with known keys, empty where absent."""
        found = table.get(key, {})
        if not isinstance(found, dict):
            raise self.wrong(f"'{key}' must be a table", repr(found), f"write [{key}]")
        require_keys(found, known, where=f"{self.file.name} [{key}]", code=CODE)
        return found

    def positive(self, table: Table, key: str, default: float) -> float:
        """Return a positive number."""
        return positive(table, key, default, where=self.file.name, code=CODE)

    def whole(self, table: Table, key: str, default: int) -> int:
        """Return a whole number from 1."""
        return whole(table, key, default, where=self.file.name, code=CODE)

    def port(self, table: Table, key: str, default: int) -> int:
        """Return a port."""
        return port(table, key, default, where=self.file.name, code=CODE)

    def texts(self, table: Table, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        found = table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(one, str) and one.strip() for one in found):
            raise self.wrong(f"'{key}' must be a list of texts", repr(found), f'write {key} = ["…"]')
        return tuple(found)

    def path(self, table: Table, key: str, where: str) -> Path | None:
        """Return a path, relative to the folder of the configuration."""
        value = text(table, key, where=where, code=CODE)
        return None if value is None else self.file.parent / Path(value).expanduser()

    def needed(self, table: Table, keys: tuple[str, ...], where: str) -> None:
        """Refuse a table in which one of the keys is missing."""
        missing = [key for key in keys if key not in table]
        if missing:
            raise self.wrong(f"{where} is incomplete", f"no {', '.join(missing)}", "add it")

    def wrong(self, what: str, found: str, remedy: str) -> DosimetryError:
        """Return the refusal of a value of this file."""
        return DosimetryError(what, where=self.file.name, found=found, remedy=remedy, code=CODE)


def _receive(table: Table, read: _Reader) -> Receive:
    keys = {"host", "port", "allowed_ae_titles", "most_associations", "least_free_gb", "tls"}
    entry, own = read.table(table, "receive", keys), read.table(table, "dicom", {"ae_title", "listen_port"})
    default = Receive()
    title = str(own.get("ae_title", default.ae_title)).strip()
    allowed = read.texts(entry, "allowed_ae_titles")
    for one in (title, *allowed):
        if not one or len(one) > LONGEST_AE_TITLE or not one.isascii():
            raise read.wrong("an AE title has 1 to 16 plain characters", repr(one), "correct it")
    free_gb = number(entry, "least_free_gb", where=read.file.name, code=CODE)
    return Receive(
        ae_title=title,
        host=text(entry, "host", where=read.file.name, code=CODE) or default.host,
        port=read.port(entry, "port", default.port),
        allowed_ae_titles=allowed,
        most_associations=read.whole(entry, "most_associations", default.most_associations),
        least_free_gb=default.least_free_gb if free_gb is None else free_gb,
        tls=_tls(entry, read),
    )


def _tls(entry: Table, read: _Reader) -> TlsServer | None:
    if "tls" not in entry:
        return None
    tls = read.table(entry, "tls", {"certificate", "key", "ca"})
    read.needed(tls, ("certificate", "key"), "[receive.tls]")
    certificate, key, ca = (read.path(tls, name, read.file.name) for name in ("certificate", "key", "ca"))
    return None if certificate is None or key is None else TlsServer(certificate, key, ca)


def _poll(entry: Table, read: _Reader) -> Poll:
    where = f"{read.file.name} [[poll]] {entry.get('name', '')}".strip()
    require_keys(
        entry, {"name", "url", "every_s", "days", "modalities", "token_file", "user", "password_file", "ca"}, where=where, code=CODE
    )
    read.needed(entry, ("name", "url"), "[[poll]]")
    try:
        url = urlsplit(str(entry["url"]))
    except ValueError as fault:
        raise read.wrong("a poll's url cannot be read", where, "write it as https://host:port/dicom-web") from fault
    if url.scheme not in ("http", "https") or url.username or url.password:
        raise read.wrong("a poll's url must be http(s) without credentials", where, "use token_file, or user and password_file")
    if url.scheme == "http" and {"token_file", "password_file"} & set(entry) and url.hostname not in LOCAL:
        raise read.wrong("a secret would travel unencrypted", where, "use https")
    return Poll(
        name=str(entry["name"]),
        url=str(entry["url"]).rstrip("/"),
        every_s=read.positive(entry, "every_s", 300.0),
        days=read.whole(entry, "days", 2),
        modalities=read.texts(entry, "modalities") or MODALITIES,
        token_file=read.path(entry, "token_file", where),
        user=text(entry, "user", where=where, code=CODE),
        password_file=read.path(entry, "password_file", where),
        ca=read.path(entry, "ca", where),
    )


def _rule(entry: Table, read: _Reader) -> Rule:
    where = f"{read.file.name} [[rule]] {entry.get('name', '')}".strip()
    keys = {"name", "protocol", "modalities", "descriptions", "nuclide", "agents", "calibrations", "target"}
    require_keys(entry, keys, where=where, code=CODE)
    read.needed(entry, ("name", "protocol"), "[[rule]]")
    stated = text(entry, "nuclide", where=where, code=CODE)
    nuclide = nuclide_name(stated) if stated else None
    if stated and nuclide is None:
        raise read.wrong("unknown nuclide", repr(stated), 'write it as "Lu-177"')
    protocol = str(entry["protocol"])
    return Rule(
        name=str(entry["name"]),
        protocol=str(read.file.parent / protocol) if protocol.endswith(".toml") else protocol,
        modalities=read.texts(entry, "modalities") or MODALITIES,
        descriptions=read.texts(entry, "descriptions"),
        nuclide=nuclide,
        agents=read.texts(entry, "agents"),
        calibrations=read.path(entry, "calibrations", where),
        target=text(entry, "target", where=where, code=CODE),
    )


def _notify(table: Table, read: _Reader) -> Notify | None:
    if "notify" not in table:
        return None
    entry = read.table(table, "notify", {"url"})
    read.needed(entry, ("url",), "[notify]")
    return Notify(str(entry["url"]))


def _require_consistent(site: Site, table: Table, read: _Reader) -> None:
    targets = read_targets(read.file)
    engine_of(site.database)
    names = [rule.name for rule in site.rules]
    if len(set(names)) < len(names):
        raise read.wrong("two rules of one name", ", ".join(names), "rename one of them")
    for rule in site.rules:
        protocol = load_protocol(rule.protocol)
        if rule.nuclide is not None and rule.nuclide != protocol.nuclide:
            raise read.wrong(
                f"rule '{rule.name}' and its protocol differ in nuclide", f"{rule.nuclide}, {protocol.nuclide}", "make them agree"
            )
        if rule.target is not None and rule.target not in targets:
            raise read.wrong(f"rule '{rule.name}' names no target", repr(rule.target), f"known: {', '.join(sorted(targets)) or 'none'}")
        if rule.calibrations is not None and not rule.calibrations.is_dir():
            raise read.wrong(f"rule '{rule.name}' names a folder that is not there", "calibrations", "make it")
    if site.device not in ("cpu", "cuda"):
        raise read.wrong("unknown device", repr(site.device), "write cpu or cuda")
    listen = read.port(read.table(table, "dicom", {"ae_title", "listen_port"}), "listen_port", 11112)
    if site.receive.port == listen:
        raise read.wrong("the receiver and the reports of storage commitment share a port", str(listen), "give [receive] another port")
