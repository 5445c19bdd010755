"""What the commands of a site refuse before they look at anything."""

import pytest

from tests.workflows.department import department


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with department(tmp_path_factory.mktemp("commands") / "site") as made:
        yield made


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("submit", "{folder}", "--labels", "labels.nii.gz"), "--labels: this option is not used here"),
        (("submit", "P-0123456789abcdef-2026-03-02-Lu-177", "--identity-checked"), "--identity-checked: this option is not used here"),
        (("cohort", "--set", "mono", "--margin", "0.1"), "--margin: this option is not used here; found no --against"),
        (("cohort", "--set", "mono", "--regions", "names.toml"), "--regions: this option is not used here"),
        (("cohort", "--set", "../mono"), "--set: not a name for a result set"),
        (("cohort", "--set", "mono"), "cohort: Prefect's server does not answer"),
        (("sign", "P-0123456789abcdef-2026-03-02-Lu-177", "--by", " "), "argument --by: a text in one line is needed"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(site, tmp_path, words, says):
    told = site.run(*(word.format(folder=tmp_path) for word in words), status=2)
    assert says in told and len(told.splitlines()) == 1
