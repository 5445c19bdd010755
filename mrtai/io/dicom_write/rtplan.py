"""RT Plan: the administration, so that dose and DVH have the plan that DICOM makes them refer to.

RT Dose of summation type PLAN must name a plan. A reference to one that does not exist would dangle, so the administration is
written as a plan without beams: it can deliver nothing and stays unapproved.
"""

from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write.header import describe, finish
from mrtai.io.dicom_write.references import derive_from, images_of_all_scans, reference_to
from mrtai.io.read_case import Case


def rtplan(case: Case, source: Source, structures: Dataset) -> Dataset:
    """Return the plan: one fraction group without beams, label and description of what was given."""
    ds = Dataset()
    describe(ds, source, modality="RTPLAN", number=9201, description=f"Administration {case.title}", made_at=case.written_at)
    del ds.ContentDate, ds.ContentTime
    given = case.results["administrations"][0]
    ds.OperatorsName = ""
    ds.RTPlanLabel = f"CYCLE {case.results['cycle']}"[:16]
    ds.RTPlanDescription = f"{given['activity_mbq']:.1f} MBq {given['nuclide']} {given['agent']} at {given['time']}; no beams"
    ds.RTPlanDate, ds.RTPlanTime = ds.SeriesDate, ds.SeriesTime
    ds.RTPlanGeometry = "PATIENT"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = source.home.frame_of_reference, ""
    ds.ReferencedStructureSetSequence = [reference_to(structures)]
    derive_from(ds, images_of_all_scans(source), structures)
    group = Dataset()
    group.FractionGroupNumber, group.NumberOfFractionsPlanned = 1, 1
    group.NumberOfBeams = group.NumberOfBrachyApplicationSetups = 0
    ds.FractionGroupSequence = [group]
    ds.ApprovalStatus = "UNAPPROVED"
    return finish(ds, RTPlanStorage)
