"""``mrtai validate`` against DICOM exports of another program."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from scipy import ndimage

from mrtai.cli import main
from mrtai.io.compared_exports import read_exports
from mrtai.io.results import results
from mrtai.values.refusal import DosimetryError
from tests.io import dicom_maker as maker
from tests.io.case_maker import ct_on
from tests.io.sample_report import sample_report
from tests.io.test_validate_maps import compared, write_case

RTDOSE_CLASS = "1.2.840.10008.5.1.4.1.1.481.2"
FRAME = "1.2.3.4.77"


pytestmark = pytest.mark.usefixtures("key")


@pytest.fixture(scope="module")
def report():
    return sample_report()


@pytest.fixture(scope="module")
def pseudonym(report):
    return results(report)["patient"]["pseudonym"]


def rtdose(image, patient, *, frame=FRAME, descending=False, **changes):
    """An RT Dose of 32 bits in axial planes, from the feet up or from the head down."""
    header = maker.blank(RTDOSE_CLASS, "RTDOSE", maker.start_of(24), frame=frame, patient=patient)
    grid = image.grid
    scaling = float(image.voxels.max()) / (2**32 - 1)
    stored = np.rint(image.voxels.astype(np.float64) / scaling).astype(np.uint32)
    step, planes = float(grid.spacing_mm[2]), grid.shape[0]
    first = grid.origin_mm + (grid.direction[:, 2] * step * (planes - 1) if descending else 0)
    header.DoseUnits, header.DoseType, header.DoseSummationType, header.DoseGridScaling = "GY", "PHYSICAL", "PLAN", f"{scaling:.12g}"
    header.ImagePositionPatient = [f"{x:.6f}" for x in first]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [float(grid.spacing_mm[1]), float(grid.spacing_mm[0])]
    header.GridFrameOffsetVector = [float(n * step) * (-1 if descending else 1) for n in range(planes)]
    header.Rows, header.Columns, header.NumberOfFrames = grid.shape[1], grid.shape[2], planes
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 32, 32, 31, 0
    header.PixelData = (stored[::-1] if descending else stored).tobytes()
    for name, value in changes.items():
        setattr(header, name, value)
    return header


def segmentation(labels, patient, frame=FRAME):
    ct = ct_on(labels.grid, 24, frame)
    for header in ct:
        header.PatientID = patient
    return maker.seg(ct, {name: (labels.mask(name), None) for name in labels.names.values()})


def save(folder, *objects):
    folder.mkdir(parents=True)
    for n, one in enumerate(objects):
        one.save_as(folder / f"{n}.dcm", enforce_file_format=True)
    return folder


def test_an_export_of_the_same_contours_and_dose_agrees_wholly(tmp_path, report, pseudonym):
    case = write_case(tmp_path / "case", report)
    export = save(tmp_path / "export", segmentation(report.contours, pseudonym), rtdose(report.dose.total, pseudonym, descending=True))
    found = compared(case, export)
    assert {"kidney_left", "kidneys", "liver", "tumour_total"} <= {one["region"] for one in found["maps"]["regions"]}
    # the sample's liver is the parenchyma alone; of an export it is the union with the lesions in it, as in every case of ours
    for one in (one for one in found["maps"]["regions"] if one["region"] != "liver"):
        assert one["contour"]["dice"] == 1.0 and one["contour"]["volume_ratio"] == pytest.approx(1.0, abs=1e-6)
        assert all(gamma["passed"] == gamma["points"] for gamma in one["gamma"])
        assert one["dvh"]["automatic"] == pytest.approx(one["dvh"]["manual"], rel=1e-6)
    assert found["manual"][0]["source"] == "DICOM"
    told = [pair["attribution"] for pair in found["pairs"] if pair["attribution"] and pair["region"] != "liver"]
    assert {one["by"] for one in told} == {"maps"}
    assert all(abs(part["ln_ratio"]) < 1e-6 for one in told for part in one["contributions"])


def test_larger_contours_of_an_export_are_the_contour_step(tmp_path, report, pseudonym):
    case, labels = write_case(tmp_path / "case", report), report.contours
    grown = ndimage.binary_dilation(labels.mask("spleen"))
    ct = ct_on(labels.grid, 24, FRAME)
    for header in ct:
        header.PatientID = pseudonym
    drawn = maker.seg(ct, {"Spleen": (grown, None), "Boost volume": (labels.mask("liver"), None)})
    export = save(tmp_path / "export", drawn, rtdose(report.dose.total, pseudonym))
    found = compared(case, export)
    (pair,) = [pair for pair in found["pairs"] if pair["region"] == "spleen"]
    contour, rest = pair["attribution"]["contributions"]
    assert contour["steps"] == ["contour"] and contour["ln_ratio"] > 0.02 and rest["ln_ratio"] == pytest.approx(0.0, abs=1e-6)
    # a name that nobody knows is listed, and stops nothing
    assert any(one["side"] == "manual" and one["region"] == "Boost volume" for one in found["unmatched"])


def test_polygons_without_their_image_are_filled_on_a_grid_of_their_own(tmp_path, report, pseudonym):
    turns = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    rings = [np.column_stack([20 * np.cos(turns) + 5, 20 * np.sin(turns) - 8, np.full(turns.size, z)]) for z in np.arange(-12, 13, 3.0)]
    image = report.dose.total
    anchor = Dataset()
    anchor.FrameOfReferenceUID, anchor.SeriesInstanceUID = FRAME, generate_uid()
    structures = maker.rtstruct([anchor], {"Lesion 1": rings})
    structures.PatientID = pseudonym
    (cycle,) = read_exports(save(tmp_path / "export", structures, rtdose(image, pseudonym)), "manual", {pseudonym: [2]})
    assert (cycle.patient, cycle.cycle) == (pseudonym, 2)
    # nine planes of 3 mm: a cylinder of 27 mm; filled with pixels of 1.5 mm
    assert cycle.regions["lesion_1"].volume_ml == pytest.approx(np.pi * 2.0**2 * 2.7, rel=0.01)


def test_cycles_in_folders_of_their_own_are_told_apart(tmp_path, report, pseudonym):
    for number in (1, 3):
        save(tmp_path / f"cycle_{number}", segmentation(report.contours, pseudonym), rtdose(report.dose.total, pseudonym))
    assert [one.cycle for one in read_exports(tmp_path, "manual", {})] == [1, 3]


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        (lambda r, p: (segmentation(r.contours, p), rtdose(r.dose.total, p, DoseUnits="RELATIVE")), "the dose is relative"),
        (lambda r, p: (segmentation(r.contours, p), rtdose(r.dose.total, p, DoseType="EFFECTIVE")), "not one dose map in a cycle"),
        (lambda r, p: (rtdose(r.dose.total, p),), "not one set of contours in a cycle"),
        (lambda r, p: (segmentation(r.contours, p), *(rtdose(r.dose.total, p) for _ in range(2))), "not one dose map in a cycle"),
        (lambda r, p: (segmentation(r.contours, p), rtdose(r.dose.total, p, frame="1.9")), "different frames of reference"),
        (
            lambda r, p: (segmentation(r.contours, p), rtdose(r.dose.total, p, GridFrameOffsetVector=[0.0, 1.0])),
            "no usable GridFrameOffsetVector",
        ),
    ],
)
def test_an_export_that_cannot_be_read_is_refused_in_one_line(tmp_path, report, pseudonym, objects, says):
    export = save(tmp_path / "export", *objects(report, pseudonym))
    with pytest.raises(DosimetryError) as refused:
        read_exports(export, "manual", {})
    told = str(refused.value)
    assert says in told and len(told.splitlines()) == 1 and pseudonym not in told


def test_a_folder_without_cases_or_dicom_is_refused(tmp_path, report, capsys):
    case = write_case(tmp_path / "case", report)
    (tmp_path / "empty").mkdir()
    assert main(["validate", str(case), str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert "neither cases of ours nor DICOM" in capsys.readouterr().err
