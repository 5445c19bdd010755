"""References from an object of ours to what it was made from, complete and sorted by study and series."""

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom.dataset import Dataset

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import codes

SOURCE_IMAGE: Final = codes.dcm("121322", "Source image for image processing operation")
SEGMENTED: Final = codes.dcm("113076", "Segmentation")
DERIVED: Final = codes.dcm("113041", "Pixel by pixel mathematical operation")


def reference_to(ds: Dataset) -> Dataset:
    """Return an item that names an object by class and instance."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return item


def series_references(headers: Iterable[Dataset]) -> list[Dataset]:
    """Return items of a Referenced Series Sequence, one a series, with every instance."""
    by_series: dict[str, Dataset] = {}
    for header in headers:
        series = by_series.setdefault(header.SeriesInstanceUID, Dataset())
        series.SeriesInstanceUID = header.SeriesInstanceUID
        series.ReferencedInstanceSequence = [*series.get("ReferencedInstanceSequence", []), reference_to(header)]
    return list(by_series.values())


def images_of_all_scans(source: Source) -> list[Dataset]:
    """Return the headers of SPECT and CT of every scan, those of the home scan first."""
    scans = (source.home, *(scan for scan in source.scans if scan is not source.home))
    return [header for scan in scans for header in (*scan.spect, *scan.ct)]


def derive_from(ds: Dataset, images: Sequence[Dataset], *others: Dataset) -> None:
    """Write which images an object was made from (General Reference module), and these and ``others`` in the Common Instance Reference."""
    ds.SourceImageSequence = [reference_to(image) for image in images]
    refer_to(ds, [*images, *others])


def refer_to(ds: Dataset, headers: Sequence[Dataset]) -> None:
    """Write the Common Instance Reference module: objects of the object's own study, and those of other studies apart."""
    own = str(ds.StudyInstanceUID)
    here = [header for header in headers if header.StudyInstanceUID == own]
    if here:
        ds.ReferencedSeriesSequence = series_references(here)
    elsewhere = sorted({str(header.StudyInstanceUID) for header in headers} - {own})
    if elsewhere:
        ds.StudiesContainingOtherReferencedInstancesSequence = [
            _study(uid, [header for header in headers if header.StudyInstanceUID == uid]) for uid in elsewhere
        ]


def _study(uid: str, headers: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.ReferencedSeriesSequence = uid, series_references(headers)
    return item


def derivation(images: Sequence[Dataset], how: Dataset, *, in_place: bool) -> Dataset:
    """Return an item of a Derivation Image Sequence.

    Args:
        images: items that name the source images.
        how: coded derivation.
        in_place: True where a pixel lies on the source's pixel of the same row and column.
    """
    for image in images:
        image.PurposeOfReferenceCodeSequence = [SOURCE_IMAGE]
        image.SpatialLocationsPreserved = "YES" if in_place else "NO"
    item = Dataset()
    item.SourceImageSequence, item.DerivationCodeSequence = list(images), [how]
    return item
