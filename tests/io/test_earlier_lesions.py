"""Lesions of earlier CASE folders: contours, UIDs, images; and when their names mean the same lesion in every cycle."""

import json

import numpy as np
import pytest

from mrtai.io.earlier_cycles import EarlierCase
from mrtai.io.earlier_lesions import lesion_inputs, names_are_identities, read_earlier_lesions
from mrtai.io.nifti import write_image, write_labels
from mrtai.values.cumulative import CountedCycle, CycleRegion
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.uid import lesion_uid

GRID = Grid.axial((6, 7, 8), (4.0, 4.0, 4.0))


def case(folder, number, uids, *, ct=True):
    """Write what identity needs of a CASE folder and return it as read; ``uids`` are by lesion, None where it has none."""
    voxels, images = np.zeros(GRID.shape, np.uint8), folder / "images"
    voxels[0, 0, 0] = 1
    for value in range(2, len(uids) + 2):
        voxels[value, value, value] = value
    write_labels(images / "contours.nii.gz", Labels(voxels, {1: "liver", **dict(enumerate(uids, start=2))}, GRID))
    write_image(images / "spect_1.nii.gz", Image(np.ones(GRID.shape, np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID))
    if ct:
        write_image(images / "ct.nii.gz", Image(np.zeros(GRID.shape, np.int16), Quantity.HOUNSFIELD, GRID))
    rows = [{"name": name, "tracking_uid": uid} for name, uid in {"liver": None, **uids}.items()]
    document = {"cycle": number, "patient": {"pseudonym": "P-1"}, "scans": [{"series_uid_sha256": f"{number:064x}"}], "regions": rows}
    (folder / "results.json").write_text(json.dumps(document))
    regions = tuple(CycleRegion(name, "lesion" if uid or "lesion" in name else "organ", (), uid, False, {}) for name, uid in uids.items())
    counted = CountedCycle("P-1", number, "signed", False, "Lu-177", "DOTATATE", 7.4e9, None, frozenset(), regions)
    return EarlierCase(folder / "results.json", {}, counted=counted)


def test_lesions_are_read_with_their_uids_and_images(tmp_path):
    (found,) = read_earlier_lesions([case(tmp_path / "one", 1, {"lesion_1": "2.25.1", "lesion_2": "2.25.2"})])
    assert found.labels.tracking_uids == {"lesion_1": "2.25.1", "lesion_2": "2.25.2"}
    assert list(found.labels.names.values()) == ["lesion_1", "lesion_2"]
    assert sorted(np.unique(found.labels.voxels)) == [0, 2, 3]
    assert found.cycle == 1
    assert found.ct is not None and found.spect is not None


def test_a_case_from_before_uids_gets_those_that_its_dicom_objects_have(tmp_path):
    (found,) = read_earlier_lesions([case(tmp_path / "one", 1, {"lesion_1": None})])
    assert found.labels.tracking_uids == {"lesion_1": lesion_uid("P-1", "lesion_1", f"{1:064x}")}


def test_cases_without_lesions_or_images_have_none_and_are_no_inputs(tmp_path):
    plain = case(tmp_path / "one", 1, {})
    bare = case(tmp_path / "two", 2, {"lesion_1": "2.25.1"})
    (tmp_path / "two" / "images" / "contours.nii.gz").unlink()
    assert read_earlier_lesions([plain, bare]) == ()
    assert lesion_inputs([plain, bare]) == ()


@pytest.mark.parametrize(("ct", "count"), [(True, 4), (False, 3)])
def test_what_identity_was_told_by_is_an_input(tmp_path, ct, count):
    files = lesion_inputs([case(tmp_path / "none", 1, {}), case(tmp_path / "one", 2, {"lesion_1": "2.25.1"}, ct=ct)])
    assert len(files) == count
    assert files[0].name == "prior 2 contours.nii.gz"


def test_names_mean_the_same_only_where_every_case_agrees(tmp_path):
    one, two = case(tmp_path / "1", 1, {"lesion_1": "2.25.1"}), case(tmp_path / "2", 2, {"lesion_1": "2.25.1", "lesion_2": "2.25.2"})
    other = case(tmp_path / "3", 3, {"lesion_2": "2.25.1"})
    assert names_are_identities([one, two], read_earlier_lesions([one, two]))
    assert not names_are_identities([one, other], read_earlier_lesions([one, other]))
    assert not names_are_identities([one, two], read_earlier_lesions([two]))
