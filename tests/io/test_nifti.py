"""NIfTI at the door: what is written comes back, in the right place and unit."""

import json

import nibabel as nib
import numpy as np
import pytest

from mrtai.io.nifti import read_image, read_labels, write_image, write_labels
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError

SHAPE = (4, 5, 6)


def oblique_grid():
    angle = np.radians(20.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    tilt = np.array([[1.0, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    return Grid(SHAPE, np.array([1.5, 2.5, 4.0]), np.array([-31.0, 12.0, 700.0]), turn @ tilt)


def numbers(dtype=np.float32):
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


@pytest.mark.parametrize(
    ("quantity", "voxels"),
    [
        (Quantity.ACTIVITY_CONCENTRATION, numbers() * 1.37),
        (Quantity.HOUNSFIELD, numbers(np.int16) - 1024),
        (Quantity.ABSORBED_DOSE, numbers() * 0.01),
        (Quantity.TIME_INTEGRATED_ACTIVITY, numbers() * 1e9),
    ],
)
def test_an_image_comes_back_as_it_went(tmp_path, quantity, voxels):
    write_image(tmp_path / "map.nii.gz", Image(voxels, quantity, oblique_grid()))
    back = read_image(tmp_path / "map.nii.gz", quantity)
    assert back.voxels.dtype == voxels.dtype
    assert np.array_equal(back.voxels, voxels)
    # the header keeps the affine in float32: 700 mm to within 6e-5
    assert back.grid.same_as(oblique_grid(), tolerance_mm=1e-3)


def test_density_is_gram_per_millilitre_on_disk_and_kg_per_millilitre_inside(tmp_path):
    water = Image(np.full(SHAPE, 1e-3, np.float32), Quantity.DENSITY, oblique_grid())
    write_image(tmp_path / "rho.nii.gz", water)
    assert np.asarray(nib.load(tmp_path / "rho.nii.gz").dataobj) == pytest.approx(1.0, rel=1e-6)
    assert read_image(tmp_path / "rho.nii.gz", Quantity.DENSITY).voxels == pytest.approx(1e-3, rel=1e-6)


def test_the_same_image_gives_the_same_bytes(tmp_path):
    image = Image(numbers(), Quantity.ABSORBED_DOSE, oblique_grid())
    write_image(tmp_path / "a.nii.gz", image)
    write_image(tmp_path / "b.nii.gz", image)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_a_voxel_keeps_its_place_whatever_the_axis_order(tmp_path, flips, order):
    affine = np.zeros((4, 4))
    for axis, (world, sign, spacing) in enumerate(zip(order, flips, (2.0, 3.0, 5.0), strict=True)):
        affine[world, axis] = sign * spacing
    affine[:, 3] = (10.0, -20.0, 30.0, 1.0)
    data = np.zeros((6, 5, 4), np.float32)
    data[4, 3, 1] = 7.0
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "map.nii.gz")
    image = read_image(tmp_path / "map.nii.gz", Quantity.ABSORBED_DOSE)
    k, j, i = np.argwhere(image.voxels == 7.0)[0]
    ras = affine @ (4, 3, 1, 1)
    lps = image.grid.affine @ (i, j, k, 1)
    assert lps[:3] == pytest.approx(ras[:3] * (-1, -1, 1), abs=1e-6)


def sheared(tmp_path):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[1, 2] = 0.3
    nib.save(nib.Nifti1Image(numbers().T, affine), tmp_path / "bad.nii.gz")


def with_nan(tmp_path):
    voxels = numbers().T
    voxels[1, 1, 1] = np.nan
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "bad.nii.gz")


def truncated(tmp_path):
    write_image(tmp_path / "bad.nii.gz", Image(numbers(), Quantity.ABSORBED_DOSE, oblique_grid()))
    whole = (tmp_path / "bad.nii.gz").read_bytes()
    (tmp_path / "bad.nii.gz").write_bytes(whole[: len(whole) // 2])


def huge(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((20000, 20000, 20000))
    header.set_data_dtype(np.float32)
    header.set_sform(np.eye(4), code=1)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    import gzip

    (tmp_path / "bad.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1000)))


def placeless(tmp_path):
    image = nib.Nifti1Image(numbers().T, None)
    nib.save(image, tmp_path / "bad.nii.gz")


def text(tmp_path):
    (tmp_path / "bad.nii.gz").write_text("hello")


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (sheared, "GANTRY_TILT", "bad.nii.gz: the volume's axes are not perpendicular.* 8.5. degrees"),
        (with_nan, "NOT_FINITE", "1 NaN or infinite voxels"),
        (truncated, "NOT_NIFTI", "not a readable NIfTI image"),
        (huge, "SIZE_BEYOND_DATA", "declares more voxels than the file can hold; found 32000000000000 bytes"),
        (placeless, "NO_GEOMETRY", "sform_code 0, qform_code 0"),
        (text, "NOT_NIFTI", "give a complete .nii or .nii.gz file"),
    ],
)
def test_a_bad_image_is_refused_by_name(tmp_path, make, code, message):
    make(tmp_path)
    with pytest.raises(DosimetryError, match=message) as refusal:
        read_image(tmp_path / "bad.nii.gz", Quantity.ABSORBED_DOSE)
    assert refusal.value.code == code


def some_labels():
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1], voxels[2] = 1, 5
    return Labels(voxels, {1: "liver", 5: "kidney_left"}, oblique_grid())


def test_labels_come_back_with_their_names(tmp_path):
    write_labels(tmp_path / "organs.nii.gz", some_labels())
    back = read_labels(tmp_path / "organs.nii.gz")
    assert dict(back.names) == {1: "liver", 5: "kidney_left"}
    assert np.array_equal(back.voxels, some_labels().voxels)
    assert json.loads((tmp_path / "organs.json").read_text()) == {"1": "liver", "5": "kidney_left"}


def test_the_names_beside_the_map_win_over_those_of_the_folder(tmp_path):
    write_labels(tmp_path / "organs.nii.gz", some_labels())
    (tmp_path / "labels.json").write_text('{"1": "spleen", "5": "stomach"}')
    assert read_labels(tmp_path / "organs.nii.gz").names[1] == "liver"
    (tmp_path / "organs.json").unlink()
    assert read_labels(tmp_path / "organs.nii.gz").names[1] == "spleen"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{"1": "liver"}', "no name for \\[5\\]; name them in organs.json"),
        ('{"1": "liver", "5": "liver"}', "must differ"),
        ('{"1": "Liver", "5": "liver"}', "must differ; found 2 labels with 1 names"),
        ("[1]", "label names cannot be read"),
        ("{", "label names cannot be read"),
        ('{"1": "liver", "5": null}', "label names must be texts that are not empty; found none for label 5"),
        ('{"1": "liver", "5": ["spleen"]}', "label names must be texts"),
        ('{"1": "liver", "5": {"name": "spleen"}}', "label names must be texts"),
        ('{"1": "liver", "5": "  "}', "label names must be texts that are not empty"),
        ('{"0": "air", "1": "liver", "5": "spleen"}', "label values must be whole numbers from 1, each once; found the key '0'"),
        ('{"1.0": "liver", "5": "spleen"}', "label values must be whole numbers from 1, each once; found the key '1.0'"),
        ('{"liver": 1, "5": "spleen"}', "label values must be whole numbers from 1, each once; found the key 'liver'"),
        ('{"1": "liver", "1": "spleen", "5": "stomach"}', "label values must be whole numbers from 1, each once; found the key '1'"),
        (None, "neither organs.json nor labels.json"),
    ],
)
def test_labels_without_a_name_are_refused(tmp_path, table, message):
    write_labels(tmp_path / "organs.nii.gz", some_labels())
    (tmp_path / "organs.json").unlink()
    if table is not None:
        (tmp_path / "organs.json").write_text(table)
    with pytest.raises(DosimetryError, match=message) as refusal:
        read_labels(tmp_path / "organs.nii.gz")
    assert refusal.value.code == "LABELS_WITHOUT_NAME"


def names_of(tmp_path, first, second):
    write_labels(tmp_path / "organs.nii.gz", some_labels())
    (tmp_path / "organs.json").write_text(json.dumps({"1": first, "5": second}))
    return read_labels(tmp_path / "organs.nii.gz")


@pytest.mark.parametrize("name", ["tumour_total", "Tumour total", "liver_without_lesions"])
def test_a_name_that_reports_use_themselves_is_refused(tmp_path, name):
    with pytest.raises(DosimetryError, match=f"organs.json: a region's name is reserved.*found '{name}'; rename the region") as refusal:
        names_of(tmp_path, "spleen", name)
    assert refusal.value.code == "RESERVED_REGION_NAME"


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (("Lesion 1", "Left Kidney"), ("lesion_1", "kidney_left")),
        (("GTV boost", "Kidney Right"), ("lesion_1", "kidney_right")),
        (("Met A", "lesion_7"), ("lesion_1", "lesion_2")),
        (("lesion_3", "lesion_2"), ("lesion_3", "lesion_2")),
        (("Kidneys", "lungs"), ("kidneys", "lungs")),
        (("VERTEBRAE L4", "Ring 3"), ("vertebrae_L4", "Ring 3")),
    ],
)
def test_names_follow_the_rules_of_seg_and_rtstruct(tmp_path, written, named):
    labels = names_of(tmp_path, *written)
    assert (labels.names[1], labels.names[5]) == named
    changed = {value: old for value, old, new in zip((1, 5), written, named, strict=True) if old != new}
    assert dict(labels.source_names) == changed


def test_a_probability_map_is_not_a_label_map(tmp_path):
    write_image(tmp_path / "p.nii.gz", Image(numbers() / 7, Quantity.ABSORBED_DOSE, oblique_grid()))
    with pytest.raises(DosimetryError, match="whole numbers"):
        read_labels(tmp_path / "p.nii.gz")


def test_real_cts_are_read_upright(real_data):
    image = read_image(real_data("ct/ts_torso_3mm") / "ct.nii.gz", Quantity.HOUNSFIELD)
    labels = read_labels(real_data("ct/ts_torso_3mm") / "labels.nii.gz")
    assert labels.grid.same_as(image.grid)
    index = {name: np.argwhere(labels.mask(name)).mean(axis=0) for name in ("liver", "spleen", "urinary_bladder")}
    place = {name: labels.grid.affine @ (*centre[::-1], 1) for name, centre in index.items()}
    # LPS: the spleen lies to the left of the liver, the bladder below both
    assert place["spleen"][0] > place["liver"][0] + 50
    assert place["urinary_bladder"][2] < place["liver"][2] - 100
