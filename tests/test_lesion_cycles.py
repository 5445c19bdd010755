"""Two cycles of one patient by ``mrtai run``: lesions are one by place, in the results, in their sums, and in a replay."""

import json
import shutil

import numpy as np
import pytest

from mrtai.cli import main
from mrtai.io.nifti import write_image, write_labels
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

GRID = Grid.axial((16, 16, 18), (6.0, 6.0, 6.0))
PROTOCOL = """nuclide = "Lu-177"
agent = "DOTATATE"
expected_scans = 2
kinetics = "mono"
dose_engine = "local"
activity_sd_relative = 0.05
typical_administered_mbq = 7400.0
"""
NODE, BONE, LIVER = np.s_[3:6, 4:7, 4:7], np.s_[9:12, 9:12, 10:13], np.s_[10:13, 4:7, 10:13]


pytestmark = pytest.mark.usefixtures("key")


def study(folder, month, **lesions):
    """Write a study of two scans whose lesions are boxes, by name."""
    _, y, x = np.indices(GRID.shape)
    inside = ((y - 7.5) / 7.5) ** 2 + ((x - 8.5) / 8.5) ** 2 < 1
    voxels = np.zeros(GRID.shape, np.uint8)
    for value, box in enumerate(lesions.values(), start=1):
        voxels[box] = value
    write_labels(folder / "labels.nii.gz", Labels(voxels, dict(enumerate(lesions, start=1)), GRID))
    given = f"2026-{month:02d}-02T09:30:00+00:00"
    lines = ["administered_mbq = 7400.0", f'administered_at = "{given}"', 'nuclide = "Lu-177"', 'agent = "DOTATATE"']
    for day in (3, 6):
        activity = (2e3 * inside + 5e5 * (voxels > 0)) * 0.5 ** (24 * (day - 2) / 50)
        write_image(folder / f"spect{day}.nii.gz", Image(activity.astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID))
        write_image(folder / f"ct{day}.nii.gz", Image(np.where(inside, 40, -1000).astype(np.int16), Quantity.HOUNSFIELD, GRID))
        scan = [f'spect = "spect{day}.nii.gz"', f'ct = "ct{day}.nii.gz"', f'started_at = "2026-{month:02d}-{day:02d}T09:30:00+00:00"']
        lines += ["[[scan]]", *scan]
    (folder / "study.toml").write_text("\n".join(lines) + "\n")
    return folder


def run(folder, out, *options):
    words = ["run", str(folder), "--protocol", str(out.parent / "site.toml"), "--out", str(out), "--patient", "SECRET-1"]
    assert main([*words, "--labels", str(folder / "labels.nii.gz"), *map(str, options)]) == 0
    return out


@pytest.fixture(scope="module")
def two_cycles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cycles")
    (folder / "site.toml").write_text(PROTOCOL)
    first = run(study(folder / "study1", 3, lesion_1=NODE, lesion_2=BONE), folder / "case1")
    second = run(study(folder / "study2", 5, lesion_1=BONE, lesion_2=LIVER, lesion_3=NODE), folder / "case2", "--prior", first)
    return folder, first, second


def lesions(case):
    rows = json.loads((case / "results.json").read_text("utf-8"))["regions"]
    return {row["name"]: row for row in rows if row["kind"] == "lesion"}


def test_every_lesion_of_the_results_has_a_tracking_uid(two_cycles):
    uids = [row["tracking_uid"] for row in lesions(two_cycles[1]).values()]
    assert len(set(uids)) == 2
    assert all(uid.startswith("2.25.") for uid in uids)


def test_the_next_cycle_s_lesions_are_the_same_by_place_whatever_their_numbers(two_cycles):
    before, after = lesions(two_cycles[1]), lesions(two_cycles[2])
    assert after["lesion_1"]["tracking_uid"] == before["lesion_2"]["tracking_uid"]
    assert after["lesion_3"]["tracking_uid"] == before["lesion_1"]["tracking_uid"]
    assert after["lesion_2"]["tracking_uid"] not in {row["tracking_uid"] for row in before.values()}
    assert "LESION_NEW" in [flag["code"] for flag in after["lesion_2"]["flags"]]


def test_sums_over_cycles_are_of_the_same_lesion(two_cycles, tmp_path):
    _, first, second = two_cycles
    assert main(["cumulate", str(first), str(second), "--drafts", "--out", str(tmp_path / "sums")]) == 0
    rows = json.loads((tmp_path / "sums" / "cumulative.json").read_text("utf-8"))["regions"]
    cycles = {row["tracking_uid"]: len(row["cycles"]) for row in rows if row["kind"] == "lesion"}
    before, after = lesions(first), lesions(second)
    assert cycles == {
        before["lesion_1"]["tracking_uid"]: 2,
        before["lesion_2"]["tracking_uid"]: 2,
        after["lesion_2"]["tracking_uid"]: 1,
    }


def test_a_replay_finds_the_earlier_cycle_s_images_again_and_misses_one_that_changed(two_cycles, tmp_path, capsys):
    folder = shutil.copytree(two_cycles[0], tmp_path / "copy")
    again = ["replay", str(folder / "case2"), "--study", str(folder / "study2"), "--patient", "SECRET-1", "--with", str(folder)]
    assert main(again) == 0
    contours = (folder / "case1" / "images" / "contours.nii.gz").read_bytes()
    for path in folder.rglob("*.nii.gz"):
        if path.read_bytes() == contours:
            path.write_bytes(contours + b"0")
    capsys.readouterr()
    assert main([*again, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "INPUT_MISSING"
