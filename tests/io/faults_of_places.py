"""Faults in where regions lie and what they are, in registrations, and in what every object says."""

import copy

import numpy as np
from pydicom.dataset import Dataset

from tests.io.proof_faults import fault, rotated, swap

# outlines


@fault("rtstruct", "rtstruct: region 1 is not named liver_without_lesions")
def names_swapped(ds):
    swap(ds.StructureSetROISequence[0], ds.StructureSetROISequence[3], "ROIName")


@fault("rtstruct", "rtstruct: share of places inside liver_without_lesions")
def turned_about_its_centre(ds):
    # same volume and centroid, another place
    roi = ds.ROIContourSequence[0]
    every = np.concatenate([np.array(one.ContourData, float).reshape(-1, 3) for one in roi.ContourSequence])
    middle = (every.min(axis=0) + every.max(axis=0)) / 2
    for one in roi.ContourSequence:
        one.ContourData = [f"{x:.4f}" for x in (2 * middle - np.array(one.ContourData, float).reshape(-1, 3)).ravel()]


@fault("rtstruct", "rtstruct: FrameOfReferenceUID")
def in_another_space(ds):
    for item in ds.StructureSetROISequence:
        item.ReferencedFrameOfReferenceUID = "1.2.3.4.2"
    ds.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3.4.2"


@fault("rtstruct", "rtstruct: type or side of kidney_left")
def observed_on_another_side(ds):
    item = next(one for one in ds.RTROIObservationsSequence if one.ROIObservationLabel == "kidney_left")
    item.RTROIIdentificationCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "24028007"


@fault("rtstruct", "rtstruct: observation of")
def observations_swapped(ds):
    swap(ds.RTROIObservationsSequence[0], ds.RTROIObservationsSequence[3], "ReferencedROINumber")


@fault("rtstruct", "rtstruct: type or side of spleen")
def observed_as_another_organ(ds):
    item = next(one for one in ds.RTROIObservationsSequence if one.ROIObservationLabel == "spleen")
    item.RTROIIdentificationCodeSequence[0].CodeValue = "10200004"


@fault("rtstruct", "rtstruct: outlines that name another slice")
def outlines_on_the_next_slice(ds):
    rotated([c.ContourImageSequence[0] for roi in ds.ROIContourSequence for c in roi.ContourSequence if "ContourImageSequence" in c])


@fault("rtstruct", "rtstruct: outlines that are not closed")
def outlines_open(ds):
    ds.ROIContourSequence[2].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"


@fault("rtstruct", "rtstruct: ApprovalStatus")
def structures_approved(ds):
    ds.ApprovalStatus = "APPROVED"


@fault("rtstruct", "rtstruct: the list of references by study and series")
def listed_in_part(ds):
    series = ds.ReferencedSeriesSequence[0]
    series.ReferencedInstanceSequence = series.ReferencedInstanceSequence[:1]


@fault("rtstruct", "rtstruct: the series that it was drawn on")
def drawn_on_one_slice(ds):
    series = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    series.ContourImageSequence = series.ContourImageSequence[:1]


@fault("rtstruct", "rtstruct: StructureSetName")
def another_set_name(ds):
    ds.StructureSetName = "Regions of somebody"


# segments


@fault("seg", "seg: type or side of liver_without_lesions")
def types_swapped(ds):
    swap(ds.SegmentSequence[0], ds.SegmentSequence[3], "SegmentedPropertyTypeCodeSequence")


@fault("seg", "seg: type or side of kidney_left")
def segment_on_another_side(ds):
    item = next(one for one in ds.SegmentSequence if one.SegmentLabel == "kidney_left")
    item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "24028007"


@fault("seg", "seg: tracking of liver_without_lesions")
def tracking_swapped(ds):
    swap(ds.SegmentSequence[0], ds.SegmentSequence[3], "TrackingUID")


@fault("seg", "seg: share of liver_without_lesions's voxels found inside")
def frames_of_another_segment(ds):
    for item in ds.PerFrameFunctionalGroupsSequence:
        segment = item.SegmentIdentificationSequence[0]
        segment.ReferencedSegmentNumber = {1: 4, 4: 1}.get(segment.ReferencedSegmentNumber, segment.ReferencedSegmentNumber)


@fault("seg", "seg: segment 1 is not named liver_without_lesions")
def labels_swapped(ds):
    swap(ds.SegmentSequence[0], ds.SegmentSequence[3], "SegmentLabel")


@fault("seg", "seg: SliceThickness")
def slices_thicker(ds):
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = "8"


@fault("seg", "seg: frames that name another slice")
def slices_forgotten(ds):
    for item in ds.PerFrameFunctionalGroupsSequence:
        item.DerivationImageSequence = []


@fault("seg", "seg: frames that name another slice")
def on_the_next_slice(ds):
    rotated([one.DerivationImageSequence[0].SourceImageSequence[0] for one in ds.PerFrameFunctionalGroupsSequence])


@fault("seg", "seg: algorithm of")
def another_version(ds):
    ds.SegmentSequence[1].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion = "9.9"


@fault("seg", "seg: algorithm of")
def drawn_by_hand(ds):
    ds.SegmentSequence[1].SegmentAlgorithmType = "SEMIAUTOMATIC"


# registration


@fault("reg_2", "reg_2: where it puts the corners")
def home_moved(ds):
    matrix = ds.RegistrationSequence[0].MatrixRegistrationSequence[0].MatrixSequence[0]
    matrix.FrameOfReferenceTransformationMatrix = [1, 0, 0, 50, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


@fault("reg_2", "reg_2: frames of reference")
def no_home(ds):
    ds.RegistrationSequence = ds.RegistrationSequence[1:]


@fault("reg_2", "reg_2: matrices of a frame of reference")
def a_second_matrix(ds):
    matrices = ds.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence
    matrices.append(copy.deepcopy(matrices[0]))


@fault("reg_2", "reg_2: images of a frame of reference")
def images_swapped(ds):
    swap(*ds.RegistrationSequence, "ReferencedImageSequence")


@fault("reg_2", "reg_2: images of a frame of reference")
def images_dropped(ds):
    for item in ds.RegistrationSequence:
        item.ReferencedImageSequence = item.ReferencedImageSequence[:1]


# every object


@fault("rtdose", "rtdose: TimezoneOffsetFromUTC")
def another_zone(ds):
    ds.TimezoneOffsetFromUTC = "-0500"


@fault("pmap_tia", "pmap_tia: SeriesDate and SeriesTime")
def another_day(ds):
    ds.SeriesDate = "19990101"


@fault("rtstruct", "rtstruct: StructureSetDate and StructureSetTime")
def drawn_another_day(ds):
    ds.StructureSetDate = "19990101"


@fault("sr", "sr: ContentDate and ContentTime")
def told_at_another_time(ds):
    ds.ContentTime = "010101"


@fault("rtdose", "rtdose: PatientWeight is not that of the source")
def another_weight(ds):
    ds.PatientWeight = "12"


@fault("seg", "seg: SeriesDescription")
def another_description(ds):
    ds.SeriesDescription = "Regions Y-90 SIRT, cycle 7"


@fault("pdf", "pdf: Modality")
def another_modality(ds):
    ds.Modality = "OT"


@fault("pdf", "pdf: private elements")
def a_private_element(ds):
    ds.private_block(0x0099, "SOMEBODY", create=True).add_new(1, "LO", "something")


@fault("rtplan", "rtplan: RTPlanDescription")
def another_activity(ds):
    ds.RTPlanDescription = "1.0 MBq Y-90"


@fault("rtplan", "rtplan: ApprovalStatus")
def approved(ds):
    ds.ApprovalStatus, ds.ReviewDate, ds.ReviewTime, ds.ReviewerName = "APPROVED", "20260101", "000000", "X"


@fault("rtplan", "rtplan: number of beams")
def a_beam(ds):
    ds.FractionGroupSequence[0].NumberOfBeams = 1


@fault("pdf", "pdf: DocumentTitle")
def another_title(ds):
    ds.DocumentTitle = "Dosimetry report of somebody"


@fault("pdf", "pdf: not the report's bytes")
def another_report(ds):
    ds.EncapsulatedDocument = b"%PDF-1.4\n%another\n%%EOF"


@fault("rtplan", "rtplan: cannot be read to the end")
def without_fractions(ds):
    ds.FractionGroupSequence = [Dataset()]
