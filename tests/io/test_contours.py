"""Contours land where they were drawn, with the volume of their polygons and the contract's names."""

import numpy as np
import pytest
from dicom_maker import KEY, PROTOCOL, ct_series, numbers, pt_series, rtstruct, save, seg, start_of
from pydicom.sr.codedict import codes

from mrtai.io.dicom_contours import read_seg
from mrtai.io.dicom_tree import read_tree
from mrtai.io.region_names import SourceRegion, region_code, region_kind, region_names
from mrtai.io.study import read_study
from mrtai.values.refusal import DosimetryError

SHAPE = (6, 40, 50)  # the maker's voxels are 2 × 3 × 4 mm from (-5, -6, -7)


def circle(radius_mm, z, centre=(40.7, 51.1), points=200):
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([centre[0] + radius_mm * np.cos(angle), centre[1] + radius_mm * np.sin(angle), np.full(points, z)])


def plane(k):
    return -7.0 + 4.0 * k


def cylinder(radius_mm, **where):
    return [circle(radius_mm, plane(k), **where) for k in (1, 2, 3)]


def labels_of(folder, rois, *, spoil=None):
    spect = pt_series(start_of(24), numbers(shape=SHAPE))
    structure = rtstruct(spect, rois)
    if spoil:
        spoil(structure)
    save(folder, spect, structure)
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY).time_points[0]


def volume_ml(labels, name):
    return labels.mask(name).sum() * labels.grid.voxel_ml


def test_a_contours_volume_is_that_of_its_polygons(tmp_path):
    labels = labels_of(tmp_path, {"Liver": cylinder(25.0)}).contours
    # 65 voxels of rim are rounded up or down in each slice: 0.3 √65 voxels of 327, 0.7 %; alike in all three
    assert volume_ml(labels, "liver") == pytest.approx(np.pi * 25**2 * 12 / 1000, rel=0.015)
    assert np.unique(np.argwhere(labels.mask("liver"))[:, 0]).tolist() == [1, 2, 3]
    centre = np.argwhere(labels.mask("liver")).mean(axis=0)[::-1]
    # the centroid of a mask is good to a tenth of a voxel
    assert (labels.grid.affine @ (*centre, 1))[:3] == pytest.approx([40.7, 51.1, plane(2)], abs=0.3)


def test_a_hole_is_a_hole_and_two_islands_are_one_region(tmp_path):
    rois = {
        "Spleen": [circle(25.0, plane(2)), circle(10.0, plane(2))[::-1]],
        "Pancreas": [circle(8.0, plane(4), centre=(20.0, 20.0)), circle(8.0, plane(4), centre=(60.0, 80.0))],
    }
    labels = labels_of(tmp_path, rois).contours
    assert volume_ml(labels, "spleen") == pytest.approx(np.pi * (25**2 - 10**2) * 4 / 1000, rel=0.03)
    assert volume_ml(labels, "pancreas") == pytest.approx(2 * np.pi * 8**2 * 4 / 1000, rel=0.05)


def test_lesions_are_numbered_and_win_over_their_organ(tmp_path):
    rois = {"Tumour left lobe": cylinder(8.0), "liver": cylinder(25.0), "met 7": cylinder(5.0, centre=(55.0, 50.0))}
    point = labels_of(tmp_path, rois)
    labels = point.contours
    assert set(labels.names.values()) == {"lesion_1", "liver", "lesion_2"}
    assert volume_ml(labels, "lesion_1") == pytest.approx(np.pi * 8**2 * 12 / 1000, rel=0.06)
    assert set(labels.source_names.values()) == {"Tumour left lobe", "met 7"}
    assert labels.origin == "RTSTRUCT"
    whole = sum(volume_ml(labels, name) for name in ("liver", "lesion_1", "lesion_2"))
    assert whole == pytest.approx(np.pi * 25**2 * 12 / 1000, rel=0.015)


def test_an_unknown_name_is_kept_and_flagged(tmp_path):
    point = labels_of(tmp_path, {"Ring 3": cylinder(8.0)})
    assert list(point.contours.names.values()) == ["Ring 3"]
    assert [flag.code for flag in point.flags] == ["UNKNOWN_REGION_NAME"]


def test_a_contour_across_slices_is_refused(tmp_path):
    upright = circle(10.0, 0.0)[:, [0, 2, 1]] + (0, 50, -45)
    with pytest.raises(DosimetryError, match="a contour does not lie in the slices of its image"):
        labels_of(tmp_path, {"liver": [upright]})


@pytest.mark.parametrize("name", ["Tumour_total", "liver without lesions"])
def test_a_reserved_name_is_refused_in_a_structure_set(tmp_path, name):
    with pytest.raises(
        DosimetryError, match=f"RTSTRUCT series 7, instance .: a region's name is reserved.*found '{name}'; rename"
    ) as refusal:
        labels_of(tmp_path, {name: cylinder(8.0), "liver": cylinder(5.0)})
    assert refusal.value.code == "RESERVED_REGION_NAME"


def test_a_reserved_name_is_refused_in_a_seg_unless_its_code_says_what_it_is(tmp_path):
    spect, mask = pt_series(start_of(24), numbers(shape=SHAPE)), np.ones(SHAPE, bool)
    save(tmp_path / "coded", spect, seg(spect, {"body": (mask, codes.SCT.Liver)}))
    point = read_study(tmp_path / "coded", protocol=PROTOCOL, pseudonym_key=KEY).time_points[0]
    assert list(point.contours.names.values()) == ["liver"]
    save(tmp_path / "plain", spect, seg(spect, {"tumour_total": (mask, None)}))
    with pytest.raises(DosimetryError, match="a region's name is reserved") as refusal:
        read_study(tmp_path / "plain", protocol=PROTOCOL, pseudonym_key=KEY)
    assert refusal.value.code == "RESERVED_REGION_NAME"


def test_an_edited_seg_of_ours_comes_back_as_the_regions_it_was_made_of(tmp_path):
    """Ours holds the whole liver and its parenchyma, both with the liver's code; the sum is made again from what is drawn."""
    spect, whole, lesion = pt_series(start_of(24), numbers(shape=SHAPE)), np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    lesion[:1, :2, :2] = True
    drawn = {"liver": (whole, codes.SCT.Liver), "liver_without_lesions": (whole & ~lesion, codes.SCT.Liver), "lesion_1": (lesion, None)}
    save(tmp_path, spect, seg(spect, drawn))
    contours = read_study(tmp_path, protocol=PROTOCOL, pseudonym_key=KEY).time_points[0].contours
    assert sorted(contours.names.values()) == ["lesion_1", "liver"]
    assert np.array_equal(contours.mask("lesion_1"), lesion) and np.array_equal(contours.mask("liver"), whole & ~lesion)


def numberless(structure):
    del structure.ROIContourSequence[0].ReferencedROINumber


def ten_coordinates(structure):
    structure.ROIContourSequence[0].ContourSequence[0].ContourData = ["1"] * 10


def words(structure):
    structure.ROIContourSequence[0].ContourSequence[0].add_new("ContourData", "LO", ["left", "of", "it"])


def endless(structure):
    structure.ROIContourSequence[0].ContourSequence[0].ContourData = ["NaN"] * 9


def one_number_twice(structure):
    structure.StructureSetROISequence[1].ROINumber = 1


@pytest.mark.parametrize("spoil", [numberless, ten_coordinates, words, endless, one_number_twice])
def test_a_broken_structure_set_is_refused(tmp_path, spoil):
    with pytest.raises(
        DosimetryError, match=r"RTSTRUCT series 7, instance .: the structure set cannot be read; found a missing or"
    ) as refusal:
        labels_of(tmp_path, {"liver": cylinder(8.0), "spleen": cylinder(5.0)}, spoil=spoil)
    assert refusal.value.code == "RTSTRUCT_UNREADABLE"


def from_zero(structure):
    for items, tag in ((structure.StructureSetROISequence, "ROINumber"), (structure.ROIContourSequence, "ReferencedROINumber")):
        for number, item in enumerate(items):
            setattr(item, tag, number)


def test_a_region_numbered_zero_is_not_background(tmp_path):
    labels = labels_of(tmp_path, {"liver": cylinder(8.0), "spleen": cylinder(5.0, centre=(70.0, 80.0))}, spoil=from_zero).contours
    assert volume_ml(labels, "liver") == pytest.approx(np.pi * 8**2 * 12 / 1000, rel=0.06)
    assert set(labels.names.values()) == {"liver", "spleen"}


def test_lesions_that_are_numbered_already_keep_their_numbers(tmp_path):
    rois = {"lesion_3": cylinder(8.0), "lesion_1": cylinder(8.0, centre=(70.0, 80.0))}
    assert list(labels_of(tmp_path, rois).contours.names.values()) == ["lesion_3", "lesion_1"]


def test_two_regions_of_one_name_are_refused(tmp_path):
    with pytest.raises(DosimetryError, match="two contours of one name; found liver"):
        labels_of(tmp_path, {"Liver": cylinder(8.0), "liver": cylinder(5.0)})


def test_contours_belong_to_the_scan_they_were_drawn_on(tmp_path):
    first, second = pt_series(start_of(24), numbers(shape=SHAPE)), pt_series(start_of(96), numbers(shape=SHAPE), frame="1.2.9")
    stray = rtstruct(pt_series(start_of(48), frame="1.2.77"), {"spleen": cylinder(9.0)})
    save(tmp_path, first, second, rtstruct(second, {"liver": cylinder(9.0)}), stray)
    cycle = read_study(tmp_path, protocol=PROTOCOL, pseudonym_key=KEY)
    assert cycle.time_points[0].contours is None
    assert list(cycle.time_points[1].contours.names.values()) == ["liver"]
    assert [flag.code for flag in cycle.flags] == ["CONTOURS_UNATTACHED"]


def test_contours_drawn_on_a_twin_reconstruction_are_used(tmp_path):
    spect, twin = pt_series(start_of(24), numbers(shape=SHAPE)), pt_series(start_of(24), numbers(3, SHAPE), CorrectedImage=["DECY"])
    save(tmp_path, spect, twin, rtstruct(twin, {"liver": cylinder(9.0)}))
    point = read_study(tmp_path, protocol=PROTOCOL, pseudonym_key=KEY).time_points[0]
    assert list(point.contours.names.values()) == ["liver"]


def test_two_structure_sets_on_one_scan_are_a_question(tmp_path):
    spect = pt_series(start_of(24), numbers(shape=SHAPE))
    save(tmp_path, spect, rtstruct(spect, {"liver": cylinder(9.0)}), rtstruct(spect, {"spleen": cylinder(9.0)}))
    with pytest.raises(DosimetryError, match="several contour objects for one scan"):
        read_study(tmp_path, protocol=PROTOCOL, pseudonym_key=KEY)


@pytest.mark.parametrize("fractional", [False, True])
def test_a_seg_on_the_ct_comes_back_voxel_by_voxel(tmp_path, fractional):
    ct = ct_series(start_of(24), numbers(2, SHAPE).astype(np.int16))
    mask, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    mask[1:4, 10:20, 5:30], lesion[2:5, 12:15, 7:11] = True, True
    masks = {"my liver": (mask, codes.SCT.Liver), "Lesion A": (lesion, None)}
    if fractional:
        masks = {label: (np.where(drawn, 0.6, 0.4), code) for label, (drawn, code) in masks.items()}
    save(tmp_path, pt_series(start_of(24), numbers(shape=SHAPE)), ct, seg(ct, masks, fractional=fractional))
    labels = read_study(tmp_path, protocol=PROTOCOL, pseudonym_key=KEY).time_points[0].contours
    assert set(labels.names.values()) == {"liver", "lesion_1"}
    assert labels.origin == "SEG"
    for name, drawn in (("lesion_1", lesion), ("liver", mask & ~lesion)):
        place = np.argwhere(labels.mask(name))[:, ::-1] @ labels.grid.affine[:3, :3].T + labels.grid.origin_mm
        expected = np.argwhere(drawn)[:, ::-1] * (2.0, 3.0, 4.0) + (-5.0, -6.0, -7.0)
        assert sorted(map(tuple, place.round(3))) == sorted(map(tuple, expected))


def test_a_real_seg_keeps_its_voxels_and_its_place(real_data):
    folder = real_data("ct/dcmqi_liver_3slices_dicom")
    series = next(one for one in read_tree(folder) if one.modality == "SEG")
    labels = read_seg(series.instances[0]).labels
    assert labels.names == {1: "liver"}
    assert int(labels.mask("liver").sum()) == 107098
    assert labels.grid.origin_mm == pytest.approx([-235.2, -226.8, -128.69])


def test_codes_win_over_labels_and_sides_are_kept():
    sources = [SourceRegion(1, "Niere", "64033007", "left"), SourceRegion(2, "Kidney Right"), SourceRegion(3, "GTV boost", "10200004")]
    assert region_names(sources) == {1: "kidney_left", 2: "kidney_right", 3: "lesion_1"}
    assert region_code("kidney_left") == "SCT:18639004"
    assert region_code("lesion_1") is None
    assert [region_kind(name) for name in ("liver", "lesion_3", "kidneys", "body", "remainder", "Ring 3")] == [
        "organ",
        "lesion",
        "union",
        "body",
        "remainder",
        "other",
    ]
