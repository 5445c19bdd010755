"""The flow on a real Prefect server: the same voxels as the plain walk, and nothing of the patient in its database."""

import json
import sqlite3

import nibabel
import numpy as np
import pytest

from mrtai.cli import main

pytestmark = pytest.mark.xdist_group("prefect")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A Prefect home of its own, set before Prefect is imported in this process."""
    folder = tmp_path_factory.mktemp("prefect")
    patch = pytest.MonkeyPatch()
    key = folder / "key"
    key.write_bytes(b"k" * 32)
    patch.setenv("MRTAI_KEY_FILE", str(key))
    patch.setenv("PREFECT_HOME", str(folder / "home"))
    from workflows import settings

    settings.apply(folder / "home")
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def both(home):
    """The same study through the plain walk and through the flow."""
    from prefect.testing.utilities import prefect_test_harness

    study = home / "study"
    name = "Zaphod^Unlikely"
    assert main(["simulate", "--out", str(study), "--scanner", "ideal", "--times-h", "24,96", "--seed", "5", "--patient", name]) == 0
    labels = study / "truth" / "labels.nii.gz"
    assert main(["run", str(study), "--protocol", "lu177-dotatate", "--labels", str(labels), "--out", str(home / "plain")]) == 0
    with prefect_test_harness(server_startup_timeout=120):
        from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

        from workflows.dose_cycle import dose_cycle

        case = dose_cycle(study, "lu177-dotatate", home / "flow", labels=labels)
        refused = dose_cycle(study, "i131", home / "refused", labels=labels, return_state=True)
        url = PREFECT_API_DATABASE_CONNECTION_URL.value()
        dump = "\n".join(sqlite3.connect(url.split("///", 1)[1]).iterdump())
    return home / "plain", case, dump, refused


def test_the_flow_gives_the_voxels_of_the_plain_walk(both):
    plain, flow, _, _ = both
    assert (flow / "results.json").read_bytes() == (plain / "results.json").read_bytes()
    for name in ("dose", "tia", "labels", "spect_1", "spect_2"):
        ours, theirs = (np.asarray(nibabel.load(case / "images" / f"{name}.nii.gz").dataobj) for case in (plain, flow))
        assert np.array_equal(ours, theirs), name


def test_prefects_database_holds_the_dose_table_and_no_identity(both):
    _, flow, dump, _ = both
    results = json.loads((flow / "results.json").read_text())
    assert "dose-table" in dump and results["patient"]["pseudonym"] in dump
    assert "Zaphod" not in dump and "Unlikely" not in dump
    # three maps of 128 × 128 × 100 voxels would be megabytes
    assert len(dump) < 3_000_000


def test_a_refused_study_fails_once_with_its_line_and_leaves_nothing(both, home):
    *_, refused = both
    assert refused.is_failed()
    assert "I-131" in refused.message
    assert not (home / "refused").exists()
