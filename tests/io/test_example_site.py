"""The commented example of mrtai.toml is a site, and shows every key that a site can have."""

import ast
import inspect
import shutil
import tomllib
from importlib.resources import files

import pytest

import mrtai.io.site as site_module
from mrtai.io.site import TABLES, read_site
from mrtai.io.targets import KEYS, read_targets
from mrtai.values.refusal import DosimetryError

EXAMPLE = files("mrtai") / "data" / "examples" / "mrtai.toml"
IN_TABLES = {"[dicom]": {"ae_title", "listen_port"}, "tls": {"ca", "certificate", "key"}}


def known_keys():
    """Return every key that the reader of sites looks for: the sets of texts in its source, with those of targets."""
    tree = ast.parse(inspect.getsource(site_module))
    sets = [node for node in ast.walk(tree) if isinstance(node, ast.Set)]
    in_source = {text.value for node in sets for text in node.elts if isinstance(text, ast.Constant) and isinstance(text.value, str)}
    return in_source.union(*KEYS.values(), *IN_TABLES.values())


def shown_keys(value):
    if isinstance(value, dict):
        return set(value).union(*map(shown_keys, value.values()))
    return set().union(*map(shown_keys, value)) if isinstance(value, list) else set()


@pytest.fixture
def example(tmp_path):
    shutil.copyfile(EXAMPLE, tmp_path / "mrtai.toml")
    (tmp_path / "calibrations").mkdir()
    return tmp_path / "mrtai.toml"


def test_the_example_is_a_site_where_its_folders_exist(example):
    site = read_site(example)
    assert [rule.name for rule in site.rules] == ["psma", "dotatate"]
    assert site.rules[0].calibrations == example.parent / "calibrations"
    assert [poll.name for poll in site.polls] == ["vna", "cloud"]
    assert site.receive.tls is not None
    assert set(read_targets(example)) == {"pacs", "web", "web2"}


def test_the_example_shows_every_key_that_a_site_can_have():
    known = known_keys()
    assert known >= TABLES | {"quiet_s", "descriptions", "gpu_slots", "least_free_gb", "password_file", "commitment"}
    assert shown_keys(tomllib.loads(EXAMPLE.read_text("utf-8"))) == known


def test_what_the_example_calls_default_is_the_default(tmp_path):
    plain = tmp_path / "mrtai.toml"
    plain.write_text("")
    site, told = read_site(plain), tomllib.loads(EXAMPLE.read_text("utf-8"))
    receive, work, poll = told["receive"], told["work"], told["poll"][0]
    assert [site.receive.host, site.receive.port, site.receive.most_associations, site.receive.least_free_gb] == [
        receive[key] for key in ("host", "port", "most_associations", "least_free_gb")
    ]
    assert {key: getattr(site, key) for key in work} == work
    assert [site.quiet_s, site.server_port, site.receive.ae_title] == [told["inbox"]["quiet_s"], told["server"]["port"], "MRTAI"]
    plain.write_text(f'[[poll]]\nname = "a"\nurl = "{poll["url"]}"\n')
    (polled,) = read_site(plain).polls
    assert (polled.every_s, polled.days, set(polled.modalities)) == (poll["every_s"], poll["days"], set(poll["modalities"]))


def test_a_misspelt_key_of_the_example_is_refused(example):
    example.write_text(example.read_text().replace("quiet_s", "quite_s"))
    with pytest.raises(DosimetryError, match="quite_s"):
        read_site(example)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('rule = ["x"]', "'rule' must be an array of tables"),
        ('poll = "x"', "'poll' must be an array of tables"),
        ('target = ["x"]', "'target' must be an array of tables"),
        ('dicom = "x"', "'dicom' must be a table"),
        ('dicom = {listen_port = "x"}', "'listen_port' must be a number"),
        ('[[poll]]\nname = "a"\nurl = "http://["', "a poll's url cannot be read"),
        ("[receive]\nport = 99999", "'port' must be a port"),
        ("[work]\nthreads = 0.5", "'threads' must be a whole number"),
        ('database = "bogus"', "no address of a ledger"),
    ],
)
def test_a_value_that_cannot_be_is_refused(tmp_path, line, says):
    file = tmp_path / "mrtai.toml"
    file.write_text(line + "\n")
    with pytest.raises(DosimetryError, match=says):
        read_site(file)
