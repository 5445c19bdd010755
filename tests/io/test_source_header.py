"""Odd headers of a source: what may go over does, what says whose it is goes over whole or stops the export plainly."""

import hashlib
import warnings

import numpy as np
import pydicom
import pytest

from mrtai.io.dicom_source import read_source
from mrtai.io.dicom_tree import read_tree
from mrtai.io.dicom_write import Choices, write_objects
from mrtai.io.proof import prove
from mrtai.io.pseudonym import pseudonym
from mrtai.io.source_header import stated, zone_of
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from tests.io import dicom_maker as maker
from tests.io.case_maker import grid_of, made_case, made_source, standard_labels


def header(**values):
    ds = pydicom.Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in values.items():
            setattr(ds, name, value)
    return ds


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("+0100", "+0100"), ("+01:00", "+0100"), ("+01", "+0100"), ("Z", "+0000"), ("UTC", "+0000"), ("-0330", "-0330"),
        ("+0545 ", "+0545"),
        ("-0000", "+0000"), ("0100", ""), ("+2500", ""), ("-1230", ""), ("CET", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_zone_is_understood_or_left_out(text, zone):
    assert zone_of(header(TimezoneOffsetFromUTC=text)) == zone


@pytest.mark.parametrize(
    ("name", "value", "goes_over"),
    [
        ("PatientSex", "U", ""),
        ("PatientSex", "F", "F"),
        ("StudyDescription", "x" * 80, "x" * 64),
        ("StudyDescription", ["A", "B"], "A B"),
        ("StudyID", "1" * 21, ""),
        ("AccessionNumber", "1" * 21, ""),
        ("StudyDate", "2026.03.02", "20260302"),
        ("StudyDate", "spring", ""),
        ("PatientBirthDate", "1970.01.31", "19700131"),
        ("PatientWeight", "71.500000000000000000", "71.5"),
        ("PatientWeight", "heavy", ""),
        ("PatientAge", "45", ""),
        ("PatientName", "あ" * 30 + "^" + "い" * 30, "あ" * 30 + "^" + "い" * 30),
    ],
)
def test_a_remark_is_shortened_or_left_out(name, value, goes_over):
    ds = header()
    element = pydicom.DataElement(pydicom.datadict.tag_for_keyword(name), "UN", b"")
    element.VR, element._value = (
        pydicom.datadict.dictionary_VR(name),
        pydicom.multival.MultiValue(str, value) if isinstance(value, list) else value,
    )
    ds.add(element)
    assert stated(ds, name) == goes_over


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientName", "あ" * 40 + "^" + "い" * 40),
        ("PatientID", "SECRET" * 20),
        ("PatientBirthDate", "1970SECRET"),
        ("PatientName", "SE\nCRET"),
    ],
)
def test_what_says_whose_it_is_is_never_altered(name, value, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = made_source(**{name: value}, SpecificCharacterSet="ISO_IR 192")
    with pytest.raises(DosimetryError, match=f"source header, element {name}") as refused:
        write_objects(made_case(standard_labels(grid_of())), source, tmp_path, Choices())
    assert "SECRET" not in str(refused.value) and refused.value.code == "SOURCE_HEADER"


def test_objects_of_an_odd_header_are_proven(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = made_source(
            PatientSex="U", StudyDescription="x" * 80, StudyID="1" * 20, TimezoneOffsetFromUTC="+01:00", StudyDate="2026.03.02"
        )
    for scan in source.scans:
        for image in scan.ct:
            del image.FrameOfReferenceUID  # the SPECT's stands for it
            image.StudyInstanceUID = "1.2.3.4.5.99"
    case = made_case(standard_labels(grid_of()))
    files = write_objects(case, source, tmp_path, Choices())
    prove(files, case, source, Choices())
    ds = pydicom.dcmread(tmp_path / "seg.dcm")
    assert ds.TimezoneOffsetFromUTC == "+0100" and ds.PatientSex == "" and ds.StudyDate == "20260302"
    # the CT lies in a study of its own
    assert "ReferencedSeriesSequence" not in ds
    assert [one.StudyInstanceUID for one in ds.StudiesContainingOtherReferencedInstancesSequence] == ["1.2.3.4.5.99"]


def test_a_ct_in_another_space_than_its_spect_is_refused(tmp_path):
    spect, ct = maker.pt_series(maker.start_of(24)), maker.ct_series(maker.start_of(24), frame="1.2.3.77")
    tree = read_tree(maker.save(tmp_path, spect, ct))
    pt = next(series for series in tree if series.modality == "PT")
    ordered = [pt, *(series for series in tree if series is not pt)]
    results = {
        "patient": {"pseudonym": pseudonym(maker.PATIENT_ID, "", maker.KEY)},
        "scans": [{"series_uid_sha256": hashlib.sha256(pt.uid.encode()).hexdigest()}],
    }
    manifest = {"inputs": [{"name": one.uid, "sha256": one.sha256} for series in ordered for one in series.instances]}
    with pytest.raises(DosimetryError) as refused:
        read_source(tmp_path, results, manifest, maker.KEY)
    assert refused.value.code == "FRAME_OF_REFERENCE"


def test_a_volume_of_one_slice_is_refused(tmp_path):
    labels = Labels(np.pad(np.ones((1, 4, 4), np.uint8), ((0, 0), (2, 2), (2, 2))), {1: "liver"}, grid_of(shape=(1, 8, 8)))
    with pytest.raises(DosimetryError) as refused:
        write_objects(made_case(labels), made_source(), tmp_path, Choices())
    assert refused.value.code == "ONE_SLICE" and not list(tmp_path.iterdir())


def test_dose_below_zero_is_zero_in_rt_dose_and_itself_in_the_map(tmp_path):
    labels = standard_labels(grid_of())
    voxels = np.indices(labels.grid.shape).sum(axis=0).astype(np.float32)
    voxels[0, 0, 1:4] = -0.5
    case, source = made_case(labels, dose=Image(voxels, Quantity.ABSORBED_DOSE, labels.grid)), made_source()
    prove(write_objects(case, source, tmp_path, Choices()), case, source, Choices())
    stored = np.frombuffer(pydicom.dcmread(tmp_path / "rtdose.dcm").PixelData, "<u4").reshape(voxels.shape)
    assert (stored[0, 0, 1:4] == 0).all()
    floats = np.frombuffer(pydicom.dcmread(tmp_path / "pmap_dose.dcm").FloatPixelData, "<f4")
    assert (floats == -0.5).sum() == 3
