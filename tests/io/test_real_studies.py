"""Real scans: what their READMEs and headers say is what the door gives."""

import zipfile

import numpy as np
import pytest
from dicom_maker import KEY, PROTOCOL

from mrtai.io.dicom_tree import read_tree
from mrtai.io.dicom_volume import read_ct
from mrtai.io.study import read_study
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import Held
from tests.physics.shoelace import shoelace_area

STARTS = ("2018-11-15T13:06:28", "2018-11-16T13:05:32")
STORED_GBQ = (1.351, 0.996)


@pytest.fixture(scope="module")
def lutetium(real_data, tmp_path_factory):
    source = real_data("spect/umich_lu177_dotatate_nc")
    folder = tmp_path_factory.mktemp("lutetium")
    for n in (1, 2):
        zipfile.ZipFile(source / f"SCAN_00{n}.zip").extractall(folder / str(n))
    return folder


def decided(folder, word):
    toml = folder.parent / f"{word}.toml"
    toml.write_text("".join(f'[[scan]]\nstarted_at = "{start}"\ndecay_referred_to = "{word}"\n' for start in STARTS))
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY, study_toml=toml)


def in_view_gbq(point):
    return float(point.spect.voxels.sum(dtype=np.float64)) * point.spect.grid.voxel_ml / 1e9


def test_the_header_that_contradicts_itself_is_held(lutetium):
    with pytest.raises(Held, match=r"DecayCorrection .* is ADMIN") as held:
        read_study(lutetium, protocol=PROTOCOL, pseudonym_key=KEY)
    assert held.value.code == "DECAY_REFERENCE_CONFLICT"


def test_referred_to_the_scan_the_stored_sums_are_the_activities(lutetium):
    cycle = decided(lutetium, "scan")
    assert [in_view_gbq(point) for point in cycle.time_points] == pytest.approx(STORED_GBQ, rel=0.002)
    assert [point.t_h for point in cycle.time_points] == pytest.approx([3.741, 27.725], abs=0.001)
    assert cycle.administration.administered_bq == pytest.approx(7.2104e9, rel=1e-4)


def test_referred_to_the_administration_the_activities_have_decayed(lutetium):
    cycle = decided(lutetium, "administration")
    expected = [gbq * 2 ** (-point.t_h * 3600 / 574300) for gbq, point in zip(STORED_GBQ, cycle.time_points, strict=True)]
    assert [in_view_gbq(point) for point in cycle.time_points] == pytest.approx(expected, rel=0.002)


def test_lesion_volumes_are_those_of_the_polygons(lutetium):
    points = decided(lutetium, "scan").time_points
    structures = [one.instances[0].header for one in read_tree(lutetium) if one.modality == "RTSTRUCT"]
    for point in points:
        ml = [point.contours.mask(f"lesion_{n}").sum() * point.contours.grid.voxel_ml for n in (1, 2)]
        polygons = [polygon_ml(structure) for structure in structures]
        assert any(ml == pytest.approx(expected, rel=0.03) for expected in polygons)


def polygon_ml(structure):
    """Areas by the shoelace formula times the 1.95313 mm between slices; inner contours would count negative, there are none."""
    areas = []
    for roi in structure.ROIContourSequence:
        corners = [np.array([float(x) for x in c.ContourData]).reshape(-1, 3)[:, :2] for c in roi.ContourSequence]
        areas.append(sum(abs(shoelace_area(polygon)) for polygon in corners) * 1.95313 / 1000)
    return areas


def test_a_real_pet_with_a_time_of_day_alone_is_read_and_flagged(real_data, tmp_path):
    archive = next(real_data("pet/sts001_fdg_dicom").glob("*.zip"))
    zipfile.ZipFile(archive).extractall(tmp_path)
    fdg = Protocol("fdg", "0" * 64, "F-18", "FDG", 1, "auto", "convolution", 0.05)
    cycle = read_study(tmp_path, protocol=fdg, pseudonym_key=KEY)
    point = cycle.time_points[0]
    assert point.spect.grid.shape == (267, 128, 128)
    assert point.t_h == pytest.approx(45.18 / 60, abs=0.001)
    assert "ADMINISTRATION_DATE_ASSUMED" in {flag.code for flag in cycle.flags}
    # 389 MBq decayed for 45 min leaves 292 MBq; head and legs lie outside the view
    assert 0.1 < in_view_gbq(point) < 0.292


def test_a_real_ct_is_in_hounsfield_units(real_data):
    ct = read_ct(next(one for one in read_tree(real_data("ct/dcmqi_liver_3slices_dicom")) if one.modality == "CT"))
    assert ct.grid.shape == (3, 512, 512)
    assert ct.voxels.min() == -1024
    # the middle of the picture is abdomen: mostly soft tissue
    assert -100 < np.median(ct.voxels[:, 200:300, 200:300]) < 150
