import csv
import hashlib
import json
from datetime import datetime, timedelta, timezone

import nibabel
import numpy as np
import pydicom
import pytest

from mrtai.io.nifti import read_image, read_labels
from mrtai.io.priors import agent_priors
from mrtai.io.protocols import load_protocol
from mrtai.io.simulated_study import write_study
from mrtai.io.study import read_study
from mrtai.io.tables import nuclide
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import Administration
from mrtai.values.virtual import TrueCurve, TrueRegion, VirtualPatient, VirtualScan

AT = datetime(2026, 3, 2, 9, 30, tzinfo=timezone(timedelta(hours=1)))
CT = Grid.axial((9, 12, 14), (3.0, 3.0, 3.0), (-20.1, 7.3, 100.7))
SPECT = Grid.axial((6, 8, 10), (4.8, 4.8, 4.8), (-21.0, 6.0, 101.0))


def small_patient(seed=1, name="Virtual^Patient"):
    """Return a patient of a few voxels whose second scan starts after midnight; the first SPECT slice is empty."""
    rng = np.random.default_rng(seed)
    labels = Labels(rng.integers(0, 3, CT.shape).astype(np.uint8), {1: "liver", 2: "lesion_1"}, CT)
    coarse = Labels(rng.integers(0, 3, SPECT.shape).astype(np.uint8), {1: "liver", 2: "lesion_1"}, SPECT)
    scans = []
    for t_h in (24.1, 86.75):
        spect = rng.gamma(2.0, 1e4, SPECT.shape).astype(np.float32)
        spect[0] = 0
        ct = Image(rng.integers(-1000, 1500, CT.shape).astype(np.int16), Quantity.HOUNSFIELD, CT)
        image = Image(spect, Quantity.ACTIVITY_CONCENTRATION, SPECT)
        scans.append(VirtualScan(AT + timedelta(hours=t_h), t_h, 1800.0, ct, image, image))
    return VirtualPatient(
        name=name,
        seed=seed,
        scanner="ideal",
        kinetics="mono",
        nuclide=nuclide("Lu-177"),
        administration=Administration("Lu-177", "DOTATATE", 7.4e9, AT),
        scans=tuple(scans),
        labels=labels,
        labels_spect=coarse,
        tia=Image(rng.gamma(2.0, 1e9, CT.shape).astype(np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, CT),
        regions=(TrueRegion("liver", 1500.0, 1.59, 3.6e13, 60.0, 4.2, 0.01),),
        curves=(TrueCurve("liver", ((1e8, 0.012),)), TrueCurve("remainder", ())),
    )


def digests(folder):
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("as_format", ["dicom", "nifti"])
def test_the_reader_finds_what_the_simulator_made(tmp_path, as_format):
    patient = small_patient()
    write_study(patient, tmp_path / "study", as_format=as_format)
    cycle = read_study(tmp_path / "study", protocol=load_protocol("lu177-dotatate"), pseudonym_key=b"k" * 32)
    assert cycle.administration == patient.administration
    for point, scan in zip(cycle.time_points, patient.scans, strict=True):
        assert point.t_h == pytest.approx(scan.t_h)
        assert point.decay_referred_to == "scan"
        assert point.spect.grid.same_as(SPECT)
        assert point.ct.grid.same_as(CT)
        assert np.array_equal(point.ct.voxels, scan.ct.voxels)
        # 16 bits a slice: half a step of the slice's maximum
        step = scan.spect.voxels.max() / 65535
        assert np.allclose(point.spect.voxels, scan.spect.voxels, rtol=1e-6, atol=0.51 * step)


@pytest.mark.parametrize("as_format", ["dicom", "nifti"])
def test_one_patient_is_the_same_bytes_and_another_is_not(tmp_path, as_format):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_study(small_patient(seed), tmp_path / folder, as_format=as_format)
    a, b, c = (digests(tmp_path / folder) for folder in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a != c


def test_headers_say_bq_per_ml_at_the_start_of_the_scan_in_wall_time(tmp_path):
    write_study(small_patient(name="Muster^Erika"), tmp_path / "study", as_format="dicom")
    d = pydicom.dcmread(tmp_path / "study" / "scan2" / "SPECT" / "0003.dcm")
    assert (d.Modality, d.Units, d.DecayCorrection, list(d.CorrectedImage)) == ("PT", "BQML", "START", ["DECY", "ATTN", "SCAT"])
    assert (d.AcquisitionDate, d.AcquisitionTime, d.TimezoneOffsetFromUTC) == ("20260306", "001500", "+0100")
    assert (d.SeriesDate, d.SeriesTime) == (d.AcquisitionDate, d.AcquisitionTime)
    assert d.PatientName == "Muster^Erika"
    drug = d.RadiopharmaceuticalInformationSequence[0]
    assert drug.RadiopharmaceuticalStartDateTime == "20260302093000+0100"
    assert float(drug.RadionuclideTotalDose) == 7.4e9
    assert float(drug.RadionuclideHalfLife) == pytest.approx(6.647 * 86400, rel=1e-6)
    assert drug.RadionuclideCodeSequence[0].CodeValue == "447553000"


def test_a_scan_shares_its_frame_of_reference_and_scans_do_not(tmp_path):
    write_study(small_patient(), tmp_path / "study", as_format="dicom")
    slices = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((tmp_path / "study").rglob("*.dcm"))]
    frames = {(d.StudyInstanceUID, d.FrameOfReferenceUID) for d in slices}
    assert len(frames) == 2
    assert len({study for study, _ in frames}) == len({frame for _, frame in frames}) == 2
    assert len({d.SeriesInstanceUID for d in slices}) == 4
    assert len({d.SOPInstanceUID for d in slices}) == len(slices) == 2 * (9 + 6)
    for d in slices:
        for value in (*d.ImagePositionPatient, *d.PixelSpacing, d.SliceLocation):
            assert len(str(value)) <= 16


def test_truth_stands_beside_the_study_in_the_contract_units(tmp_path):
    patient = small_patient()
    write_study(patient, tmp_path / "study", as_format="nifti")
    truth = tmp_path / "study" / "truth"
    with (truth / "regions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["region", "volume_ml", "mass_g", "tia_mbq_h", "effective_half_life_h", "absorbed_dose_gy", "absorbed_dose_sd_gy"]
    assert (float(row["mass_g"]), float(row["tia_mbq_h"])) == pytest.approx((1590.0, 1e4))
    assert np.array_equal(read_labels(truth / "labels.nii.gz").voxels, patient.labels.voxels)
    assert read_labels(truth / "labels_spect.nii.gz").grid.same_as(SPECT)
    assert np.array_equal(read_image(truth / "tia.nii.gz", Quantity.TIME_INTEGRATED_ACTIVITY).voxels, patient.tia.voxels)
    curves = json.loads((truth / "kinetics.json").read_text())["regions"]
    assert curves["liver_without_lesions"] == [{"amplitude_mbq": 100.0, "rate_per_h": 0.012}]
    assert (truth / "spect_2_noise_free.nii.gz").is_file()


def test_nifti_lies_in_ras(tmp_path):
    patient = small_patient()
    write_study(patient, tmp_path / "study", as_format="nifti")
    image = nibabel.load(tmp_path / "study" / "scan1" / "spect.nii.gz")
    assert image.shape == (10, 8, 6)
    assert image.affine[:3, 3] == pytest.approx((21.0, -6.0, 101.0))
    assert float(image.dataobj[4, 3, 2]) == pytest.approx(float(patient.scans[0].spect.voxels[2, 3, 4]))


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.txt").write_text("keep")
    with pytest.raises(DosimetryError, match="must be new or empty"):
        write_study(small_patient(), tmp_path / "study", as_format="nifti")
    assert [p.name for p in tmp_path.rglob("*")] == ["study", "mine.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(*args):
        raise OSError("disk full")

    monkeypatch.setattr("mrtai.io.simulated_study._write_truth", fails)
    with pytest.raises(OSError, match="disk full"):
        write_study(small_patient(), tmp_path / "study", as_format="dicom")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("agent", ["DOTATATE", "psma-617", "iodide", "microspheres"])
def test_every_shipped_number_names_its_source(agent):
    priors = agent_priors(agent)
    assert "liver" in priors.regions
    assert all(prior.source for prior in priors.regions.values())
    assert priors.lesions.source
