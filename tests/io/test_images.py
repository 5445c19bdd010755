"""An image by its path: NIfTI or the folder of one DICOM series, the same voxels in the same place."""

import numpy as np
import pytest

from mrtai.cli import main
from mrtai.io.images import read_image_or_series
from mrtai.io.nifti import read_image, write_image
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError
from tests.io import dicom_maker as maker


def test_a_series_of_slices_is_the_image_it_is_as_nifti(tmp_path):
    stored = maker.numbers()
    maker.save(tmp_path / "both", maker.pt_series(maker.start_of(24), stored), maker.ct_series(maker.start_of(24)))
    pet, ct = (read_image_or_series(tmp_path / "both", of) for of in (Quantity.ACTIVITY_CONCENTRATION, Quantity.HOUNSFIELD))
    assert np.array_equal(pet.voxels, stored.astype(np.float32) * 10)  # the maker's slope
    assert ct.grid.same_as(pet.grid)
    for name, image in (("pet", pet), ("ct", ct)):
        write_image(tmp_path / f"{name}.nii.gz", image)
        again = read_image_or_series(tmp_path / f"{name}.nii.gz", image.quantity)
        assert np.array_equal(again.voxels, read_image(tmp_path / f"{name}.nii.gz", image.quantity).voxels)
        assert again.grid.same_as(image.grid)


def test_several_series_none_and_counts_are_refused(tmp_path):
    maker.save(tmp_path / "two", maker.ct_series(maker.start_of(24)), maker.ct_series(maker.start_of(96)))
    scout = maker.ct_series(maker.start_of(24), image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    maker.save(tmp_path / "scout", scout, maker.ct_series(maker.start_of(24)))
    assert read_image_or_series(tmp_path / "scout", Quantity.HOUNSFIELD).grid.shape == maker.SHAPE
    maker.save(tmp_path / "counts", maker.nm_tomogram(maker.start_of(24)))
    (tmp_path / "none").mkdir()
    for folder, quantity, says in (
        ("two", Quantity.HOUNSFIELD, "not one series of CT; found 2"),
        ("none", Quantity.HOUNSFIELD, "not one series of CT; found 0"),
        ("counts", Quantity.ACTIVITY_CONCENTRATION, "the series is not in Bq/mL"),
    ):
        with pytest.raises(DosimetryError, match=says):
            read_image_or_series(tmp_path / folder, quantity)


def test_a_dose_takes_the_ct_as_dicom(tmp_path):
    maker.save(tmp_path / "ct", maker.ct_series(maker.start_of(24)))
    ct = read_image_or_series(tmp_path / "ct", Quantity.HOUNSFIELD)
    write_image(tmp_path / "ct.nii.gz", ct)
    write_image(tmp_path / "tia.nii.gz", Image(np.full(ct.grid.shape, 1e9, np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, ct.grid))
    for name in ("ct", "ct.nii.gz"):
        words = ["--tia", str(tmp_path / "tia.nii.gz"), "--ct", str(tmp_path / name), "--nuclide", "Y-90", "--engine", "local"]
        assert main(["dose", *words, "--out", str(tmp_path / f"{name}.dose.nii.gz")]) == 0
    one, other = (read_image(tmp_path / f"{name}.dose.nii.gz", Quantity.ABSORBED_DOSE).voxels for name in ("ct", "ct.nii.gz"))
    assert one.max() > 0 and np.array_equal(one, other)
