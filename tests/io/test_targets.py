"""The site's list of archives: what is right is read, what is wrong or unsafe is refused by name."""

from importlib.resources import files

import pytest

from mrtai.io.targets import Tls, read_targets
from mrtai.values.refusal import DosimetryError


def test_the_example_is_read(monkeypatch):
    example = files("mrtai") / "data" / "examples" / "mrtai.toml"
    targets = read_targets(example)
    pacs = targets["pacs"]
    assert (pacs.host, pacs.port, pacs.ae_title, pacs.commitment) == ("pacs.example.org", 104, "ARCHIVE", True)
    assert (pacs.own_ae_title, pacs.listen_port) == ("MRTAI", 11112)
    assert pacs.tls == Tls(ca=example.parent / "hospital-ca.pem")
    assert targets["web"].token_file == example.parent / "pacs.token"
    monkeypatch.setenv("MRTAI_CONFIG", str(example))
    assert read_targets() == targets


C_STORE = 'name = "a"\nprotocol = "c-store"\nhost = "h"\nport = 104\nae_title = "A"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"[[target]]\n{C_STORE}retries = 3\n", "'retries'"),
        ('[[target]]\nname = "a"\nprotocol = "ftp"\n', "'ftp'"),
        ('[[target]]\nname = "a"\nprotocol = "c-store"\nhost = "h"\n', "no port, ae_title"),
        (f"[[target]]\n{C_STORE}[[target]]\n{C_STORE}", "two targets"),
        ('[[target]]\nname = "a"\nprotocol = "stow-rs"\nurl = "http://h/d"\ntoken_file = "t"\n', "unencrypted"),
        ('[[target]]\nname = "a"\nprotocol = "stow-rs"\nurl = "https://me:secret@h/d"\n', "credentials"),
        (f"[[target]]\n{C_STORE.replace('A', 'A TITLE THAT IS TOO LONG')}", "16"),
        (f"[[target]]\n{C_STORE.replace('104', '-7')}", "'port'.*-7"),
        (f"[[target]]\n{C_STORE}attempts = 0\n", "'attempts'.*0"),
        (f"[[target]]\n{C_STORE}timeout_s = -5\n", "'timeout_s'.*-5"),
        (f"[[target]]\n{C_STORE.replace('104', '99999')}", "'port' must be a port.*99999"),
        (f"[[target]]\n{C_STORE}attempts = 2.9\n", "'attempts' must be a whole number"),
        (f"[dicom]\nport = 1\n[[target]]\n{C_STORE}", "'port'"),
    ],
)
def test_what_is_wrong_is_refused(text, says, tmp_path):
    file = tmp_path / "mrtai.toml"
    file.write_text(text)
    with pytest.raises(DosimetryError, match=says) as refused:
        read_targets(file)
    assert "secret" not in str(refused.value).replace("a secret would", "")
