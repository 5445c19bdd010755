"""Faults in what the report, the dose and the maps say."""

import copy

from pydicom.dataset import Dataset

from tests.io.proof_faults import fault, groups, items, set_codes, set_numbers, set_units, swap

# the report


@fault("sr", "sr: unit of DCM:128533 of")
def milligray(ds):
    set_units(ds, "Gy", "mGy")


@fault("sr", "sr: unit of 99MRTAI:ACTIVITY of")
def kilobecquerel(ds):
    set_units(ds, "MBq", "kBq")


@fault("sr", "sr: DCM:121191 of")
def segment_numbers_swapped(ds):
    for item in items(ds, "121191"):
        image = item.ReferencedSOPSequence[0]
        image.ReferencedSegmentNumber = {1: 4, 4: 1}.get(image.ReferencedSegmentNumber, image.ReferencedSegmentNumber)


@fault("sr", "sr: DCM:121191 of")
def another_segmentation(ds):
    for item in items(ds, "121191"):
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3.999"


@fault("sr", "sr: DCM:128531 of")
def another_maximum(ds):
    set_numbers(ds, "7777", "128531")


@fault("sr", "sr: DCM:128532 of")
def another_minimum(ds):
    set_numbers(ds, "7777", "128532")


@fault("sr", "sr: DCM:128539 of")
def another_median(ds):
    set_numbers(ds, "7777", "128539")


@fault("sr", "sr: 99MRTAI:D90 of")
def another_d90(ds):
    set_numbers(ds, "7777", "D90")


@fault("sr", "sr: 99MRTAI:TIA > SCT:371886008 of")
def another_upper_uncertainty(ds):
    set_numbers(ds, "0.001", "371886008")


@fault("sr", "sr: 99MRTAI:TEFF > SCT:371885007 of")
def another_lower_uncertainty(ds):
    set_numbers(ds, "0.001", "371885007")


@fault("sr", "sr: DCM:128740 of")
def another_time(ds):
    set_numbers(ds, "1", "128740")


@fault("sr", "SCT:363698007 > SCT:272741003 of kidney_left is not")
def another_side(ds):
    set_codes(ds, "7771000", "24028007")


@fault("sr", "sr: 99MRTAI:VERDICT of")
def another_verdict(ds):
    set_codes(ds, "VERDICT_OK", "VERDICT_STOP")


@fault("sr", "sr: DCM:99 of liver_without_lesions is in excess")
def one_number_more(ds):
    more = copy.deepcopy(next(items(ds, "128533")))
    more.ConceptNameCodeSequence[0].CodeValue = "99"
    groups(ds)[0].ContentSequence.append(more)


@fault("sr", "is stated 2 times")
def a_second_group(ds):
    more = copy.deepcopy(groups(ds)[0])
    set_numbers(more, "999", "128533")
    groups(ds).insert(0, more)


@fault("sr", "sr: DCM:112040 of")
def another_tracking_uid(ds):
    next(items(ds, "112040")).UID = "1.2.3.999"


@fault("sr", "sr: CompletionFlag")
def partial(ds):
    ds.CompletionFlag = "PARTIAL"


@fault("sr", "sr: PreliminaryFlag")
def final(ds):
    ds.PreliminaryFlag = "FINAL"


@fault("sr", "sr: 16 references are missing")
def evidence_of_one_scan(ds):
    del ds.PertinentOtherEvidenceSequence


# the dose


@fault("rtdose", "in the histogram of")
def histograms_swapped(ds):
    first, second = (ds.DVHSequence[n].DVHReferencedROISequence[0] for n in (0, 3))
    swap(first, second, "ReferencedROINumber")


@fault("rtdose", "rtdose: largest difference of a dose in the histogram of")
def histograms_scaled(ds):
    for item in ds.DVHSequence:
        item.DVHDoseScaling = "2"


@fault("rtdose", "rtdose: DVHMeanDose of")
def another_mean_dose(ds):
    ds.DVHSequence[2].DVHMeanDose = "999"


@fault("rtdose", "rtdose: the set of histograms by region")
def no_histograms(ds):
    del ds.DVHSequence, ds.ReferencedStructureSetSequence


@fault("rtdose", "rtdose: DoseUnits")
def relative(ds):
    ds.DoseUnits = "RELATIVE"


@fault("rtdose", "rtdose: DoseType")
def effective(ds):
    ds.DoseType = "EFFECTIVE"


@fault("rtdose_bed", "rtdose_bed: DoseType")
def physical(ds):
    ds.DoseType = "PHYSICAL"


@fault("rtdose", "rtdose: the plan that it refers to")
def the_source_as_plan(ds):
    ds.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = ds.SourceImageSequence[0].ReferencedSOPInstanceUID


@fault("rtdose", "rtdose: GridFrameOffsetVector is not even")
def offsets_uneven(ds):
    offsets = [float(x) for x in ds.GridFrameOffsetVector]
    ds.GridFrameOffsetVector = offsets[:5] + [x + 20 for x in offsets[5:]]


@fault("rtdose", "rtdose: GridFrameOffsetVector is not even")
def last_offsets_swapped(ds):
    offsets = [float(x) for x in ds.GridFrameOffsetVector]
    ds.GridFrameOffsetVector = [*offsets[:-2], offsets[-1], offsets[-2]]


@fault("rtdose", "rtdose: GridFrameOffsetVector is not even")
def offsets_reversed(ds):
    ds.GridFrameOffsetVector = [-float(x) for x in ds.GridFrameOffsetVector]


@fault("rtdose", "rtdose: the images that it derives from")
def not_derived(ds):
    del ds.SourceImageSequence


@fault("rtdose", "rtdose: DoseComment")
def another_rounding(ds):
    ds.DoseComment = "exact"


@fault("rtdose_bed", "rtdose_bed: absence of histograms")
def histograms_of_another_dose(ds):
    ds.DVHSequence = [Dataset()]


# parametric maps


@fault("pmap_dose", "pmap_dose: the frames are not evenly stacked")
def frames_swapped(ds):
    first, second = (ds.PerFrameFunctionalGroupsSequence[n].PlanePositionSequence[0] for n in (5, 6))
    swap(first, second, "ImagePositionPatient")


@fault("pmap_dose", "pmap_dose: the frames are not evenly stacked")
def later_frames_moved(ds):
    for item in ds.PerFrameFunctionalGroupsSequence[6:]:
        place = item.PlanePositionSequence[0]
        place.ImagePositionPatient = [float(place.ImagePositionPatient[0]) + 50, *place.ImagePositionPatient[1:]]


@fault("pmap_dose", "pmap_dose: the order of the frames")
def frames_in_another_order(ds):
    first, second = (ds.PerFrameFunctionalGroupsSequence[n].FrameContentSequence[0] for n in (5, 6))
    swap(first, second, "DimensionIndexValues")


@fault("pmap_dose", "pmap_dose: SliceThickness")
def thicker(ds):
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = "8"


@fault("pmap_dose", "pmap_dose: unit or quantity")
def a_map_of_milligray(ds):
    ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = "mGy"


@fault("pmap_tia", "pmap_tia: unit or quantity")
def activity_as_dose(ds):
    set_codes(ds, "TIA", "128513")


@fault("pmap_dose_rate_2", "pmap_dose_rate_2: 32 references are missing")
def a_map_from_nowhere(ds):
    del ds.ReferencedSeriesSequence, ds.StudiesContainingOtherReferencedInstancesSequence, ds.SourceImageSequence
    del ds.SharedFunctionalGroupsSequence[0].DerivationImageSequence


@fault("pmap_tia", "pmap_tia: the images that its frames derive from")
def frames_from_nowhere(ds):
    del ds.SharedFunctionalGroupsSequence[0].DerivationImageSequence


@fault("pmap_tia", "pmap_tia: ContentDescription")
def called_a_dose(ds):
    ds.ContentDescription = "Absorbed dose"
