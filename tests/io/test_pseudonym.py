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


@pytest.fixture
def nothing_named(tmp_path, monkeypatch):
    monkeypatch.delenv("MRTAI_KEY_FILE", raising=False)
    monkeypatch.delenv("MRTAI_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hospital.key").write_bytes(KEY)
    return tmp_path


def test_mrtai_toml_in_the_current_folder_names_the_key(nothing_named):
    (nothing_named / "mrtai.toml").write_text('pseudonym_key = "hospital.key"\nsome_later_setting = 4\n')
    assert load_key() == KEY
    assert not (nothing_named / "home").exists()


def test_the_configuration_named_by_the_environment_wins_over_the_one_in_the_folder(nothing_named, monkeypatch):
    (nothing_named / "mrtai.toml").write_text('pseudonym_key = "missing.key"\n')
    (nothing_named / "site").mkdir()
    (nothing_named / "site" / "conf.toml").write_text('pseudonym_key = "../hospital.key"\n')
    monkeypatch.setenv("MRTAI_CONFIG", "site/conf.toml")
    assert load_key() == KEY


def test_the_key_of_the_environment_wins_over_the_configuration(nothing_named, monkeypatch):
    (nothing_named / "mrtai.toml").write_text('pseudonym_key = "hospital.key"\n')
    (nothing_named / "other.key").write_bytes(KEY[::-1])
    monkeypatch.setenv("MRTAI_KEY_FILE", "other.key")
    assert load_key() == KEY[::-1]


def test_a_configuration_without_a_key_leaves_the_users_own(nothing_named):
    (nothing_named / "mrtai.toml").write_text("some_later_setting = 4\n")
    assert load_key() == (nothing_named / "home" / ".config" / "mrtai" / "key").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('pseudonym_key = "missing.key"\n', "missing.key: the pseudonym's key is missing"),
        ("pseudonym_key = 4\n", "mrtai.toml: 'pseudonym_key' must be a text"),
        ("pseudonym_key\n", "mrtai.toml: not usable as TOML"),
    ],
)
def test_a_configuration_that_names_no_key_is_refused_and_none_is_made(nothing_named, content, message):
    (nothing_named / "mrtai.toml").write_text(content)
    with pytest.raises(DosimetryError, match=message):
        load_key()
    assert not (nothing_named / "home").exists()


def test_a_configuration_that_is_named_must_exist(nothing_named, monkeypatch):
    monkeypatch.setenv("MRTAI_CONFIG", "nowhere.toml")
    with pytest.raises(DosimetryError, match=r"nowhere\.toml: file not found"):
        load_key()


def test_the_same_patient_of_another_issuer_is_another_person():
    assert pseudonym("4711", "A", KEY) == pseudonym(" 4711 ", "A", KEY)
    assert pseudonym("4711", "A", KEY) != pseudonym("4711", "B", KEY)
    assert pseudonym("4711", "A", KEY) != pseudonym("4711", "A", bytes(32))
    assert len(pseudonym("4711", "A", KEY)) == len("P-") + 16
