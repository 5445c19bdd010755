"""Encapsulated PDF: the report for the record."""

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write.header import describe, finish
from mrtai.io.dicom_write.references import images_of_all_scans, reference_to
from mrtai.io.read_case import Case


def encapsulated_pdf(case: Case, source: Source) -> Dataset:
    """Return the object that holds the report's PDF byte for byte, padded to an even length."""
    ds = Dataset()
    describe(ds, source, modality="DOC", number=9206, description=f"Report {case.title}", made_at=case.written_at)
    ds.ConversionType, ds.BurnedInAnnotation = "WSD", "NO"
    ds.AcquisitionDateTime = ""
    ds.DocumentTitle = f"Dosimetry report {case.title}"[:1024]
    ds.ConceptNameCodeSequence = []
    ds.SourceInstanceSequence = [reference_to(header) for header in images_of_all_scans(source)]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocument = case.pdf + b"\0" * (len(case.pdf) % 2)
    ds.EncapsulatedDocumentLength = len(case.pdf)
    return finish(ds, EncapsulatedPDFStorage)
