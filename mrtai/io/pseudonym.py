"""Identity stays outside: a keyed pseudonym that the same hospital key always gives again."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from mrtai.io.toml_file import read_toml, text
from mrtai.values.refusal import DosimetryError

CONFIG_CODE = "CONFIG_FILE"
KEY_BYTES = 32
PSEUDONYM_DIGITS = 16


def load_key(path: Path | None = None) -> bytes:
    """Return the pseudonym's key, from the first place that names one.

    The places: ``path``, ``MRTAI_KEY_FILE``, ``pseudonym_key`` in ``mrtai.toml``, and ``~/.config/mrtai/key``, made once with mode
    0600. ``mrtai.toml`` is the file that ``MRTAI_CONFIG`` names, else the one in the current folder, where there is one.

    Raises:
        DosimetryError: a named file is missing or no TOML, or the key is too short to keep a secret.
    """
    named = path or _of_environment("MRTAI_KEY_FILE") or _configured()
    file = named or Path.home() / ".config" / "mrtai" / "key"
    if named is None:
        _make_once(file)
    if not file.is_file():
        raise DosimetryError(
            "the pseudonym's key is missing", where=file.name, found="no file", remedy="create it with 32 random bytes", code="KEY_MISSING"
        )
    key = file.read_bytes()
    if len(key) < KEY_BYTES // 2:
        raise DosimetryError(
            "the pseudonym's key is too short",
            where=file.name,
            found=f"{len(key)} bytes",
            remedy=f"use {KEY_BYTES} random bytes",
            code="KEY_TOO_SHORT",
        )
    return key


def pseudonym(patient_id: str, issuer: str, key: bytes) -> str:
    """Return ``P-`` and 16 hexadecimal digits: HMAC-SHA256 of issuer and patient ID; refuses an empty ID."""
    if not patient_id.strip():
        raise DosimetryError(
            "no patient ID (0010,0020)",
            where="study",
            found="an empty value",
            remedy="give the scans a patient ID, a trial number will do",
            code="PATIENT_MISSING",
        )
    # the unit separator cannot stand in an ID, so no two pairs share one message
    message = f"{issuer.strip()}\x1f{patient_id.strip()}".encode()
    return f"P-{hmac.new(key, message, hashlib.sha256).hexdigest()[:PSEUDONYM_DIGITS]}"


def _of_environment(name: str) -> Path | None:
    return Path(os.environ[name]) if os.environ.get(name) else None


def _configured() -> Path | None:
    """Return the key's file that ``mrtai.toml`` names, relative to the folder of ``mrtai.toml``; its other keys are not for us."""
    named = _of_environment("MRTAI_CONFIG")
    config = named or Path("mrtai.toml")
    if named is None and not config.is_file():
        return None
    table, _ = read_toml(config, CONFIG_CODE)
    file = text(table, "pseudonym_key", where=config.name, code=CONFIG_CODE)
    return None if file is None else config.parent / Path(file).expanduser()


def _make_once(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        return
    fresh = file.with_name(f".key.{secrets.token_hex(8)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
        # a link fails where another process was first, so all processes use one key
        os.link(fresh, file)
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)
