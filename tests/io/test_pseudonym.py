"""The key is made once, kept private, and gives the same pseudonym again."""

import stat

import pytest

from mrtai.io.pseudonym import load_key, pseudonym
from mrtai.values.refusal import DosimetryError

KEY = bytes(range(32))


def test_the_key_is_made_once_and_readable_by_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.delenv("MRTAI_KEY_FILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    first = load_key()
    file = tmp_path / ".config" / "mrtai" / "key"
    assert len(first) == 32
    assert load_key() == first == file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == ["key"]


def test_the_environment_names_another_key_which_must_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("MRTAI_KEY_FILE", str(tmp_path / "hospital.key"))
    with pytest.raises(DosimetryError, match="the pseudonym's key is missing"):
        load_key()
    (tmp_path / "hospital.key").write_bytes(KEY)
    assert load_key() == KEY
    (tmp_path / "hospital.key").write_bytes(b"short")
    with pytest.raises(DosimetryError, match="too short; found 5 bytes"):
        load_key()


def test_the_same_patient_of_another_issuer_is_another_person():
    assert pseudonym("4711", "A", KEY) == pseudonym(" 4711 ", "A", KEY)
    assert pseudonym("4711", "A", KEY) != pseudonym("4711", "B", KEY)
    assert pseudonym("4711", "A", KEY) != pseudonym("4711", "A", bytes(32))
    assert len(pseudonym("4711", "A", KEY)) == len("P-") + 16
