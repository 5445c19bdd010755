"""Arrays along a network's axes: there and back, and to where the letters say."""

from itertools import permutations, product

import numpy as np
import pytest

from mrtai.physics.axes import lengths_back, turned, turned_back

EVERY = ["".join(letters) for order in permutations(("SI", "PA", "LR")) for letters in product(*order)]


def test_there_and_back_is_the_same_along_all_48_axes():
    array = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    assert len(EVERY) == 48
    for axes in EVERY:
        np.testing.assert_array_equal(turned_back(turned(array, axes), axes), array)
        assert lengths_back(turned(array, axes).shape[1:], axes) == (3, 4, 5)


def test_ras_begins_at_the_left_back_foot_and_leads_to_the_right_first():
    # LPS: the last x is leftmost, the last y hindmost, the first z lowest
    array = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    ras = turned(array, "RAS")
    assert ras.shape == (1, 4, 3, 2)
    assert ras[0, 0, 0, 0] == array[0, 0, 2, 3]
    assert ras[0, 1, 0, 0] == array[0, 0, 2, 2]
    assert ras[0, 0, 0, 1] == array[0, 1, 2, 3]


def test_ras_is_what_nibabel_makes_of_the_same_array():
    import nibabel

    zyx = np.random.default_rng(0).normal(size=(2, 3, 4))
    # in nibabel (x, y, z) of LPS, that is, of an affine that is negative along x and y
    ras = nibabel.as_closest_canonical(nibabel.Nifti1Image(zyx.T, np.diag([-1.0, -1.0, 1.0, 1.0])))
    np.testing.assert_array_equal(turned(zyx[None], "RAS")[0], ras.get_fdata())


@pytest.mark.parametrize("axes", ["", "SP", "SPP", "SPX", "SPLR", "spl"])
def test_letters_that_name_no_axes_are_refused(axes):
    with pytest.raises(ValueError, match="axes"):
        turned(np.zeros((1, 2, 2, 2)), axes)
