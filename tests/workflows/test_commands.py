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
    ],
)
def test_an_option_that_would_be_passed_over_is_refused(site, tmp_path, words, says):
    assert says in site.run(*(word.format(folder=tmp_path) for word in words), status=2)
