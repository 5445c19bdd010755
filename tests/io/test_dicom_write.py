"""Every object written and proven on every way a volume can lie, and every planted fault found."""

import io
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import Choices, write_objects
from mrtai.io.dicom_write.header import finish
from mrtai.io.dicom_write.pdf import encapsulated_pdf
from mrtai.io.dicom_write.seg import tracking_uid
from mrtai.io.proof import prove
from mrtai.physics.polygon import inside_fraction
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from tests.io.case_maker import DIRECTIONS, grid_of, made_case, made_nm_source, made_source, standard_labels


@pytest.fixture(scope="module")
def source():
    return made_source()


@pytest.fixture(scope="module")
def standard(source, tmp_path_factory):
    """A case and its objects, which are proven."""
    case, folder = made_case(standard_labels(grid_of())), tmp_path_factory.mktemp("standard")
    require_proven(case, source, folder)
    return case, folder


def copied(standard, folder):
    """Return the case and copies of its objects."""
    case, original = standard
    return case, sorted(Path(shutil.copytree(original, folder / "objects")).glob("*.dcm"))


def written(case, source, folder, choices=None):
    folder.mkdir(exist_ok=True)
    return write_objects(case, source, folder, choices or Choices())


def require_proven(case, source, folder, choices=None):
    files = written(case, source, folder, choices)
    proof = prove(files, case, source, choices or Choices())
    assert len(proof.checks) > 40 and all(check.agrees for check in proof.checks)
    return {path.stem: path for path in files}


def dice_of_contours(path, case):
    """Return Dice by region of the outlines filled again on the grid; slices found by position alone."""
    ds, grid = pydicom.dcmread(path), case.contours.grid
    inverse = np.linalg.inv(grid.affine)
    found = {}
    for roi, row in zip(ds.ROIContourSequence, case.drawn, strict=True):
        by_slice = {}
        for contour in roi.ContourSequence:
            index = np.array(contour.ContourData, float).reshape(-1, 3) @ inverse[:3, :3].T + inverse[:3, 3]
            by_slice.setdefault(round(index[0, 2]), []).append(index[:, :2])
        filled = np.zeros(grid.shape, bool)
        for k, polygons in by_slice.items():
            filled[k] = inside_fraction(polygons, grid.shape[1:]) >= 0.5
        mask = case.mask(row)
        found[row["name"]] = 2 * (filled & mask).sum() / (filled.sum() + mask.sum())
    return found


def algorithms(path):
    """What each segment says drew it: kind, name, version and digest."""
    found = {}
    for item in pydicom.dcmread(path).SegmentSequence:
        said = item.get("SegmentationAlgorithmIdentificationSequence", [None])[0]
        words = said and (said.AlgorithmName, said.AlgorithmVersion, said.get("AlgorithmParameters"))
        found[item.SegmentLabel] = (item.SegmentAlgorithmType, words)
    return found


@pytest.mark.parametrize(
    ("engines", "organ", "lesion"),
    [
        ({"segmenter": "given-labels"}, ("MANUAL", None), ("MANUAL", None)),
        (
            {"segmenter": "organs-ct@1.2.0", "lesion_segmenter": "adaptive"},
            ("AUTOMATIC", ("organs-ct", "1.2.0", "sha256=" + "ab" * 32)),
            ("AUTOMATIC", ("adaptive", "0.1.0", None)),
        ),
        (
            {"segmenter": "organs-ct@1.2.0", "lesion_segmenter": "lesions@2.0.0"},
            ("AUTOMATIC", ("organs-ct", "1.2.0", "sha256=" + "ab" * 32)),
            ("AUTOMATIC", ("lesions", "2.0.0", "sha256=" + "cd" * 32)),
        ),
    ],
)
def test_every_segment_names_what_drew_it(engines, organ, lesion, source, tmp_path):
    case = made_case(standard_labels(grid_of()))
    case = replace(
        case,
        results=case.results | {"engines": engines | {"dose": "convolution"}},
        manifest=case.manifest | {"models": case.manifest["models"] | {"lesions@2.0.0": "cd" * 32}},
    )
    said = algorithms(require_proven(case, source, tmp_path)["seg"])
    assert said["liver_without_lesions"] == said["liver"] == organ
    assert {said[name] for name in said if name.startswith("lesion_")} == {lesion}


PROVEN_AT_ONCE = ("prone", "reversed slices", "oblique by 17 degrees")
"""Of the directions, all of which ``test_proof`` walks, those that are written with the validator's word each time."""


@pytest.mark.parametrize(
    "direction", [name if name in PROVEN_AT_ONCE else pytest.param(name, marks=pytest.mark.slow) for name in DIRECTIONS]
)
def test_every_orientation_is_proven(direction, source, tmp_path):
    case = made_case(standard_labels(grid_of(direction)))
    files = require_proven(case, source, tmp_path)
    # outlines run along voxel edges: nothing at all is lost, however small the region
    assert set(dice_of_contours(files["rtstruct"], case).values()) == {1.0}


@pytest.mark.parametrize("spacing_mm", [(2.0, 3.5, 4.0), (1.0, 1.0, 7.0), (4.41806, 4.41806, 4.41806)])
@pytest.mark.parametrize("choices", [Choices(), pytest.param(Choices(labelmap=True), marks=pytest.mark.slow)])
def test_every_spacing_and_kind_is_proven(spacing_mm, choices, source, tmp_path):
    require_proven(made_case(standard_labels(grid_of("oblique by 17 degrees", spacing_mm=spacing_mm))), source, tmp_path, choices)


def test_odd_frames_share_bytes_and_come_back(source, tmp_path):
    # 5 x 7 voxels a frame: bits of neighbouring frames share a byte
    grid = grid_of(shape=(9, 5, 7))
    voxels = (np.random.default_rng(3).random(grid.shape) * 4).astype(np.uint8)
    require_proven(made_case(Labels(voxels, {1: "liver", 2: "spleen", 3: "lesion_1"}, grid)), source, tmp_path)


@pytest.mark.slow
def test_sixty_regions_and_one_of_a_million_voxels(source, tmp_path):
    grid = grid_of(shape=(104, 104, 104), spacing_mm=(2.0, 2.0, 2.0))
    voxels = np.zeros(grid.shape, np.uint8)
    voxels[:100, :100, :100] = 1
    places = np.random.default_rng(1).integers(2, 98, (59, 3))
    for value, (k, j, i) in enumerate(places, start=2):
        voxels[k : k + 2, j : j + 3, i : i + 2] = value
    voxels[tuple(places.T)] = np.arange(2, 61)  # no region is covered whole by a later one
    names = {1: "liver"} | {n: f"lesion_{n - 1}" for n in range(2, 61)}
    require_proven(made_case(Labels(voxels, names, grid)), source, tmp_path)


@pytest.mark.parametrize(
    ("ct", "choices"),
    [
        (True, Choices(labelmap=True)),
        (False, Choices()),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in ((True, Choices()), (False, Choices(labelmap=True)))),
    ],
)
def test_a_tomogram_of_many_frames_is_a_source_like_any(ct, choices, tmp_path):
    # the maker's frames: 4 of 5 x 6 voxels from (-5, -6, -7) mm
    voxels = np.ones((4, 5, 6), np.uint8)
    voxels[:, :2] = 0
    voxels[1:3, 3, 1:5] = 2
    grid = grid_of(shape=voxels.shape, spacing_mm=(2.0, 3.0, 4.0), origin_mm=(-5.0, -6.0, -7.0))
    labels = Labels(voxels, {1: "liver", 2: "spleen"}, grid)
    files = require_proven(made_case(labels), made_nm_source(ct=ct), tmp_path, choices)
    for item in frames_of(files["seg"]):
        image = item.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.get("ReferencedFrameNumber") == (None if ct else 1 + (item.PlanePositionSequence[0].ImagePositionPatient[2] + 7) / 4)
    for contour in pydicom.dcmread(files["rtstruct"]).ROIContourSequence[0].ContourSequence:
        assert contour.ContourImageSequence[0].get("ReferencedFrameNumber") == (None if ct else 1 + (contour.ContourData[2] + 7) / 4)


def frames_of(path):
    return pydicom.dcmread(path).PerFrameFunctionalGroupsSequence


def referenced(path):
    return {element.value for element in pydicom.dcmread(path).iterall() if element.keyword == "ReferencedSOPInstanceUID"}


def test_every_object_names_all_images_that_it_was_made_from(source, tmp_path):
    files = {path.stem: path for path in written(made_case(standard_labels(grid_of())), source, tmp_path)}
    images = [{one.SOPInstanceUID for one in (*scan.spect, *scan.ct)} for scan in source.scans]
    for name in ("rtdose", "rtdose_bed", "rtplan", "pmap_dose", "pmap_tia", "pmap_dose_rate_2", "sr", "pdf", "reg_2"):
        assert referenced(files[name]) >= images[0] | images[1], name
    assert not referenced(files["pmap_dose_rate_1"]) & images[1]
    for name in set(files) - {"sr", "pdf"}:
        ds = pydicom.dcmread(files[name])
        own = {str(one) for one in ds.get("ReferencedSeriesSequence", [])}
        other = [one.StudyInstanceUID for one in ds.get("StudiesContainingOtherReferencedInstancesSequence", [])]
        assert own and "1.2.3.1" not in other, name
        assert other == ([] if name in ("seg", "rtstruct", "pmap_dose_rate_1") else ["1.2.3.2"]), name
    assert [one.StudyInstanceUID for one in pydicom.dcmread(files["sr"]).PertinentOtherEvidenceSequence] == ["1.2.3.2"]


def test_dose_on_the_grid_of_the_contours(source, tmp_path):
    labels = standard_labels(grid_of(shape=(24, 40, 48), spacing_mm=(1.5, 1.5, 2.0)))
    require_proven(made_case(labels, dose_grid=grid_of(shape=(12, 20, 24))), source, tmp_path, Choices(dose_on_ct=True))


def test_the_same_case_gives_the_same_files(source, tmp_path):
    case = made_case(standard_labels(grid_of()))
    first, second = written(case, source, tmp_path / "a"), written(case, source, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_another_content_has_another_uid(source, tmp_path):
    case = made_case(standard_labels(grid_of()))
    other = made_case(standard_labels(grid_of()))
    other.results["regions"][0]["mass_g"] *= 1.01
    uids = [
        {path.stem: pydicom.dcmread(path).SOPInstanceUID for path in written(c, source, tmp_path / n)}
        for c, n in ((case, "a"), (other, "b"))
    ]
    assert {name for name in uids[0] if uids[0][name] != uids[1][name]} == {"sr"}


def test_organs_keep_their_identity_over_cycles_and_lesions_over_scans():
    first, later_scan, next_cycle = (made_case(standard_labels(grid_of())) for _ in range(3))
    later_scan.results["scans"].append({"index": 3, "series_uid_sha256": "c" * 64})
    next_cycle.results["scans"][0]["series_uid_sha256"] = "d" * 64
    uids = [{row["name"]: tracking_uid(case, row) for row in case.drawn} for case in (first, later_scan, next_cycle)]
    assert uids[0] == uids[1]
    assert {name for name in uids[0] if uids[0][name] != uids[2][name]} == {"lesion_1", "lesion_2"}
    assert len(set(uids[0].values())) == len(uids[0])


@pytest.mark.parametrize(
    "name",
    [
        *("Yamada^Tarou=山田^太郎=やまだ^たろう", "X^Y^Z^Dr^Jr", "Buc^Jérôme"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("Doe^Jane", "Люкceмбypг^Анна", "Hong^Gildong=洪^吉洞=홍^길동")),
    ],
)
def test_names_in_any_script_survive_and_stay_inside(name, source, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    named = made_source(PatientName=name, SpecificCharacterSet="ISO_IR 192", PatientID="ID-ŁÓDŹ-7")
    case = made_case(standard_labels(grid_of()))
    files = require_proven(case, named, tmp_path)
    for path in files.values():
        ds = pydicom.dcmread(path)
        assert str(ds.PatientName) == name and ds.PatientID == "ID-ŁÓDŹ-7"
    said = caplog.text + "".join(capfd.readouterr()) + " ".join(path.name for path in tmp_path.iterdir())
    assert not any(part in said for part in (*re.split("[=^]", name), "ID-ŁÓDŹ-7") if len(part) > 2)
    # the source itself is left as it was
    assert str(named.home.spect[0].PatientName) == name


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 144", "Люксембург^Анна"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 100", "Buc^Jérôme"),
    ],
)
def test_names_survive_the_change_from_the_sources_characters(characters, name):
    source = made_source(PatientName=name, SpecificCharacterSet=characters)
    stored = io.BytesIO()
    pydicom.dcmwrite(stored, pydicom.Dataset(source.home.spect[0]), implicit_vr=False, little_endian=True)
    stored.seek(0)
    header = pydicom.dcmread(stored, force=True)
    read_back = Source((replace(source.home, spect=(header,)), *source.scans[1:]), 0)
    written_again = io.BytesIO()
    encapsulated_pdf(made_case(standard_labels(grid_of())), read_back).save_as(written_again, enforce_file_format=True)
    written_again.seek(0)
    assert str(pydicom.dcmread(written_again).PatientName) == name


def test_times_are_in_the_zone_of_the_source(source, tmp_path):
    for path in written(made_case(standard_labels(grid_of())), source, tmp_path):
        ds = pydicom.dcmread(path)
        assert ds.TimezoneOffsetFromUTC == "+0100"
        assert (ds.SeriesDate, ds.SeriesTime) == ("20260310", "130000")  # 12:00 UTC


def test_the_scaling_error_is_stated_and_holds(source, tmp_path):
    case = made_case(standard_labels(grid_of()))
    ds = pydicom.dcmread({p.stem: p for p in written(case, source, tmp_path)}["rtdose"])
    stated_gy = float(re.search(r"rounded by ([0-9.e+-]+) Gy", ds.DoseComment)[1])
    read_gy = np.frombuffer(ds.PixelData, "<u4").reshape(case.dose.voxels.shape) * float(ds.DoseGridScaling)
    assert np.abs(read_gy - case.dose.voxels).max() <= 1.05 * stated_gy  # stated to two digits


def spoiled(path, change, *, new_uid=True):
    ds = pydicom.dcmread(path)
    change(ds)
    if new_uid:
        finish(ds, ds.SOPClassUID)
    ds.save_as(path, enforce_file_format=True)


def mirrored(ds):
    stored = np.frombuffer(ds.PixelData, "<u4").reshape(ds.NumberOfFrames, ds.Rows, ds.Columns)
    ds.PixelData = np.ascontiguousarray(stored[:, :, ::-1]).tobytes()


def shifted(ds):
    for item in ds.PerFrameFunctionalGroupsSequence:
        place = item.PlanePositionSequence[0]
        place.ImagePositionPatient = [float(place.ImagePositionPatient[0]) + 3.0, *place.ImagePositionPatient[1:]]


def scaled(ds):
    ds.DoseGridScaling = f"{float(ds.DoseGridScaling) * 1.01:.10e}"[:16]


def other_patient(ds):
    ds.PatientID = "ANOTHER"


def other_study(ds):
    ds.StudyInstanceUID = "1.2.3.99"


def other_number(ds):
    found = [item for item in ds.ContentSequence if "ContentSequence" in item][-1]
    number = next(item for item in found.ContentSequence[0].ContentSequence if item.ValueType == "NUM")
    number.MeasuredValueSequence[0].NumericValue = "7"


def turned(ds):
    matrix = ds.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    values = np.array(matrix.FrameOfReferenceTransformationMatrix, float).reshape(4, 4)
    matrix.FrameOfReferenceTransformationMatrix = [f"{x:.9g}" for x in np.linalg.inv(values).ravel()]


def without_a_hole(ds):
    ds.ROIContourSequence[3].ContourSequence = ds.ROIContourSequence[3].ContourSequence[:-2]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("rtdose", mirrored, "rtdose: largest difference of a voxel"),
        ("seg", shifted, "seg: distance of the centroids"),
        ("rtdose", scaled, "rtdose: integral over the map"),
        ("pmap_tia", other_patient, "pmap_tia: PatientID is not that of the source"),
        ("sr", other_study, "sr: StudyInstanceUID is not that of the source"),
        ("sr", other_number, "sr: "),
        ("reg_2", turned, "reg_2: where it puts the corners"),
        ("rtstruct", without_a_hole, "rtstruct: volume of kidney_left"),
    ],
)
def test_a_planted_fault_is_caught(name, change, says, source, standard, tmp_path):
    case, files = copied(standard, tmp_path)
    spoiled(files[0].with_name(f"{name}.dcm"), change)
    with pytest.raises(DosimetryError) as refused:
        prove(files, case, source, Choices())
    assert refused.value.code == "PROOF_FAILED"
    assert says in str(refused.value)
    assert "ANOTHER" not in str(refused.value)


def test_a_stale_uid_is_caught(source, standard, tmp_path):
    case, files = copied(standard, tmp_path)

    def change(ds):
        ds.SeriesDescription = "another"

    spoiled(files[0].with_name("pdf.dcm"), change, new_uid=False)
    with pytest.raises(DosimetryError, match="pdf: the SOP instance UID is not that of the content"):
        prove(files, case, source, Choices())
