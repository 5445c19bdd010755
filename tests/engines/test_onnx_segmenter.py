"""Windows over a scan, and back onto the CT's own grid however it lies in the file."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise, permutations, product

import numpy as np
import onnxruntime
import pytest
from scipy import ndimage

from mrtai.engines.onnx_segmenter import OnnxSegmenter, by_name, cleaned, scores, window_starts
from mrtai.engines.onnx_session import session_of
from mrtai.engines.prepare import STEP, around_body, labels_on, lattice, on_lattice, prepared
from mrtai.io.bundles import verified
from mrtai.physics.resample import index_map, resampled
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError
from tests.engines.tiny_model import CLASSES, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return verified(write_bundle(tmp_path_factory.mktemp("models") / "by-number"))


@pytest.fixture(scope="module")
def ct():
    """A body with one lung and one liver, off the middle, so that no mirror or turn looks like it."""
    grid = Grid((50, 60, 70), (2.0, 2.0, 2.5), (-70.0, -50.0, 300.0), np.eye(3))
    z, y, x = (n * s + o for n, s, o in zip(np.ogrid[:50, :60, :70], (2.5, 2, 2), (300, -50, -70), strict=True))
    hu = np.full(grid.shape, -1000.0, np.float32)
    hu[((x - 5) / 60) ** 2 + ((y - 8) / 50) ** 2 + 0 * z < 1] = -20
    hu[((x - 25) / 18) ** 2 + ((y - 12) / 15) ** 2 + ((z - 390) / 28) ** 2 < 1] = -150
    hu[((x + 20) / 22) ** 2 + ((y + 8) / 16) ** 2 + ((z - 340) / 20) ** 2 < 1] = 110
    return Image(hu, Quantity.HOUNSFIELD, grid)


def dice_in_world(labels, other, name):
    """Dice of a region in two drawings, each looked up at the voxel centres of the first."""
    mask = Image(other.mask(name).astype(np.float32), Quantity.DENSITY, other.grid)
    there = resampled(mask, labels.grid, order=0).voxels > 0.5
    here = labels.mask(name)
    return 2 * (here & there).sum() / (here.sum() + there.sum())


def require_same_place(labels, others, least_dice=0.95):
    """Both regions lie at the same place; of 30 mL a twentieth lies in voxels that an interpolation of the CT itself changes."""
    assert dice_in_world(labels, others, "liver") > least_dice
    middles = [centre_mm(drawing, "liver") for drawing in (labels, others)]
    assert np.linalg.norm(middles[0] - middles[1]) < 0.5


def centre_mm(labels, name):
    return labels.grid.affine[:3, :3] @ np.argwhere(labels.mask(name)).mean(axis=0)[::-1] + labels.grid.origin_mm


def turned(ct, axes, flips):
    """The same voxels in another order of array axes, each forwards or backwards."""
    voxels = np.transpose(ct.voxels, axes)
    affine = ct.grid.affine[:, [2 - axes[2], 2 - axes[1], 2 - axes[0], 3]].copy()
    for axis in range(3):
        if flips[axis]:
            voxels = np.flip(voxels, axis)
            column = 2 - axis
            affine[:3, 3] += affine[:3, column] * (voxels.shape[axis] - 1)
            affine[:3, column] *= -1
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    grid = Grid(voxels.shape, spacing, affine[:3, 3], affine[:3, :3] / spacing)
    return Image(np.ascontiguousarray(voxels), ct.quantity, grid)


def test_a_scan_is_drawn_where_its_numbers_say(bundle, ct):
    labels = OnnxSegmenter(bundle).drawn(ct)
    assert labels.names == {1: "body", 2: "lung_left", 3: "liver"}
    assert labels.origin == "by-number@1.2.3"
    for name, hounsfield in (("lung_left", -150), ("liver", 110)):
        truth = ct.voxels == hounsfield
        found = labels.mask(name)
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.93


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_every_order_of_axes_gives_the_same_regions(bundle, ct, axes):
    straight = OnnxSegmenter(bundle).drawn(ct)
    for flips in product((False, True), repeat=3):
        labels = OnnxSegmenter(bundle).drawn(turned(ct, axes, flips))
        assert all(dice_in_world(labels, straight, name) > 0.99 for name in ("lung_left", "liver"))


def test_a_turned_patient_gives_the_same_regions(bundle, ct):
    straight = OnnxSegmenter(bundle).drawn(ct)
    angle = np.deg2rad(17)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    oblique = Grid((44, 66, 74), (2.2, 2.2, 2.8), (-62.0, -68.0, 302.0), turn)
    labels = OnnxSegmenter(bundle).drawn(resampled(ct, oblique, order=1, outside=-1000.0))
    require_same_place(straight, labels)


def test_other_voxels_and_a_cut_scan_give_the_same_regions(bundle, ct):
    straight = OnnxSegmenter(bundle).drawn(ct)
    flat = Grid((25, 120, 140), (1.0, 1.0, 5.0), (-70.5, -50.5, 301.25), np.eye(3))
    labels = OnnxSegmenter(bundle).drawn(resampled(ct, flat, order=1, outside=-1000.0))
    require_same_place(straight, labels, least_dice=0.9)
    lower = Image(ct.voxels[:30].copy(), ct.quantity, replace(ct.grid, shape=(30, 60, 70)))
    cut = OnnxSegmenter(bundle).drawn(lower)
    assert np.mean(cut.mask("liver") == straight.mask("liver")[:30]) > 0.999


def test_the_lattice_lies_on_multiples_of_its_spacing(ct):
    grid = lattice(ct.grid, 3.0)
    assert np.allclose(grid.origin_mm / 3.0, np.rint(grid.origin_mm / 3.0))
    assert np.allclose(grid.direction, np.eye(3))
    low, high = ct.grid.corners_mm.min(axis=0), ct.grid.corners_mm.max(axis=0)
    assert np.all(grid.corners_mm.min(axis=0) <= low + 3) and np.all(grid.corners_mm.max(axis=0) >= high - 3)


def framed(ct, before, after):
    """The same CT with layers of air around it, numbers of voxels as ``(z, y, x)``."""
    voxels = np.pad(ct.voxels, list(zip(before, after, strict=True)), constant_values=-1000.0)
    origin = ct.grid.origin_mm - np.array(before[::-1]) * ct.grid.spacing_mm
    return Image(voxels, ct.quantity, Grid(voxels.shape, ct.grid.spacing_mm, origin, ct.grid.direction))


def patient():
    """A body with air around it but at head and feet, where the CT ends."""
    grid = Grid((50, 60, 70), (3.0, 3.0, 3.0), (-105.0, -90.0, 300.0), np.eye(3))
    hu = np.full(grid.shape, -1000.0, np.float32)
    hu[:, 12:48, 15:58] = np.random.default_rng(5).normal(0, 50, (50, 36, 43))
    return Image(hu, Quantity.HOUNSFIELD, grid)


def test_a_network_sees_the_patient_alike_however_much_air_is_around(bundle):
    """Windows of the same size, at the same places of the world, with the same content."""
    ct, seen = patient(), []
    for one in (ct, framed(ct, (0, 3, 3), (0, 9, 0)), framed(ct, (0, 12, 15), (0, 3, 21))):
        image, grid = around_body(*prepared([(one.voxels, one.grid)], bundle.contract), bundle.contract)
        assert image.shape[1:] == grid.shape and not np.any(np.array(grid.shape) % STEP)
        assert np.allclose(np.rint(grid.origin_mm / 3.0) % STEP, 0)
        seen.append((image, grid))
    for image, grid in seen[1:]:
        assert grid.same_as(seen[0][1])
        assert np.allclose(image, seen[0][0], atol=1e-5)


def test_a_ct_that_cuts_the_patient_goes_on_with_its_last_slices(bundle):
    """As far as a window reaches; beside the patient, air goes on."""
    ct = patient()
    image, grid = around_body(*prepared([(ct.voxels, ct.grid)], bundle.contract), bundle.contract)
    inside, _ = prepared([(ct.voxels, ct.grid)], bundle.contract)
    first = int(np.rint((ct.grid.origin_mm[2] - grid.origin_mm[2]) / 3.0))
    assert image.shape[1] >= bundle.contract.patch[0] and first > 0 and first + 50 < image.shape[1]
    assert np.all(image[0, :first] == image[0, first]) and np.all(image[0, first + 50 :] == image[0, first + 49])
    assert np.array_equal(np.sort(image[0, first], axis=None)[-36 * 43 :], np.sort(inside[0, 0, 12:48, 15:58], axis=None))


def test_windows_begin_on_steps_and_reach_the_end():
    for length, window in ((160, 96), (112, 80), (97, 96), (40, 96), (333, 128)):
        starts = window_starts(length, window)
        assert starts[0] == 0 and starts[-1] + window >= length
        assert all(start % STEP == 0 for start in starts[:-1])
        assert all(0 < after - before <= window - STEP for before, after in pairwise(starts))


@pytest.mark.parametrize("seed", range(6))
def test_labels_are_those_of_the_highest_score_everywhere(seed):
    """Also where only a part of the image is looked at for a class, and where a class lost its share to nobody."""
    rng = np.random.default_rng(seed)
    shares = np.exp(30 * ndimage.gaussian_filter(rng.normal(0, 1, (5, 14, 17, 12)), (0, 2, 2, 2))).astype(np.float32)
    shares /= shares.sum(axis=0)
    shares[2][shares[2] > 0.6] = 0
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if seed % 2 else np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    own = Grid.axial((14, 17, 12), (3.0, 3.0, 3.0))
    middle = own.affine[:3, :3] @ (np.array([12, 17, 14]) / 2) + own.origin_mm
    grid = Grid((37, 20, 25), (1.5, 2.2, 1.1), middle - turn @ np.array([18.0, 21.0, 20.0]), turn)
    matrix, offset = index_map(own, grid)
    everywhere = [ndimage.affine_transform(one, matrix, offset, output_shape=grid.shape, order=1, mode="nearest") for one in shares]
    found = labels_on(shares, own, grid)
    assert len(np.unique(found)) > 2
    assert np.array_equal(found, np.argmax(everywhere, axis=0))


def test_a_coarser_lattice_sees_averages():
    grid = Grid.axial((24, 24, 24), (1.0, 1.0, 1.0))
    noise = np.random.default_rng(1).normal(0, 100, grid.shape).astype(np.float32)
    on = on_lattice(noise, grid, lattice(grid, 4.0), 0.0)
    # 64 voxels each, interpolated once more: noise falls by the root of their number at least
    assert on.std() < 100 / 8 * 1.1


def test_beyond_the_image_lies_what_the_channel_says(bundle, ct):
    narrow = Image(np.full((40, 20, 20), 40.0, np.float32), Quantity.HOUNSFIELD, Grid.axial((40, 20, 20), (4.0, 4.0, 4.0)))
    image, grid = prepared([(narrow.voxels, narrow.grid)], bundle.contract)
    assert image.shape[1:] == grid.shape
    assert np.allclose(image, 0.04)


def test_windows_are_blended_without_seams(bundle):
    """Every voxel's answer depends on itself alone here, so any number of windows gives what one gives."""
    image = np.random.default_rng(2).uniform(-1, 1, (1, 50, 70, 33)).astype(np.float32)
    shares = scores(bundle, image)
    assert shares.shape == (len(CLASSES), 50, 70, 33)
    assert np.allclose(shares.sum(axis=0), 1, atol=1e-5)
    corner = scores(bundle, image[:, :32, :32, :32])
    assert np.allclose(shares[:, :32, :32, :32], corner, atol=1e-4)


def test_channels_of_one_region_are_added_up(bundle):
    lobes = replace(bundle, classes={1: "lung_left", 2: "lung_left", 3: "liver"})
    shares = np.zeros((4, 1, 1, 1), np.float32)
    shares[:, 0, 0, 0] = 0.1, 0.3, 0.35, 0.25
    joined, names = by_name(lobes, shares)
    assert names == {1: "lung_left", 2: "liver"}
    assert np.allclose(joined.ravel(), (0.1, 0.65, 0.25))


def test_crumbs_of_an_organ_are_removed_and_large_parts_stay():
    found = np.zeros((20, 20, 20), np.uint8)
    found[:, :, :] = 1
    found[2:10, 2:10, 2:10] = 3
    found[15, 15, 15] = 3
    found[12:18, 2:8, 2:6] = 3
    result = cleaned(found, {1: "body", 3: "liver"})
    assert result[15, 15, 15] == 1
    assert result[5, 5, 5] == 3
    assert result[14, 4, 4] == 3


def test_three_slices_are_refused(bundle, ct):
    thin = Image(ct.voxels[:3].copy(), ct.quantity, replace(ct.grid, shape=(3, 60, 70)))
    with pytest.raises(DosimetryError, match="too thin"):
        OnnxSegmenter(bundle).drawn(thin)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-1000, -1000, "no patient"), (0, 0, "no patient"), (0, 255, "not a CT"), (0, 40000, "not a CT|no patient")],
)
def test_what_is_no_ct_is_refused(bundle, ct, low, high, words):
    voxels = np.random.default_rng(3).uniform(low, high + 1e-3, ct.grid.shape).astype(np.float32)
    with pytest.raises(DosimetryError, match=words):
        OnnxSegmenter(bundle).drawn(Image(voxels, Quantity.HOUNSFIELD, ct.grid))


def test_a_pet_named_a_ct_is_refused(bundle, ct):
    """Mostly nothing, some tissue-like numbers, hot spots: no air below zero."""
    voxels = np.where(ct.voxels > -500, np.random.default_rng(4).gamma(2.0, 60.0, ct.grid.shape), 0.0)
    voxels[20:24, 20:24, 20:24] = 40_000
    with pytest.raises(DosimetryError, match="not a CT in Hounsfield units"):
        OnnxSegmenter(bundle).drawn(Image(voxels.astype(np.float32), Quantity.HOUNSFIELD, ct.grid))


def test_a_ct_without_its_intercept_is_refused(bundle, ct):
    with pytest.raises(DosimetryError, match="not a CT in Hounsfield units"):
        OnnxSegmenter(bundle).drawn(replace(ct, voxels=ct.voxels + 1024))


def test_a_model_of_other_channels_than_it_says_is_refused(bundle, ct):
    two = replace(bundle, contract=replace(bundle.contract, channels=bundle.contract.channels * 2))
    with pytest.raises(DosimetryError, match="takes 1 channels, its metadata say 2"):
        scores(two, np.zeros((2, 32, 32, 32), np.float32))
    more = replace(bundle, classes={**bundle.classes, 9: "spleen"})
    with pytest.raises(DosimetryError, match="metadata name channel 9"):
        scores(more, np.zeros((1, 32, 32, 32), np.float32))


def test_a_model_that_draws_something_else_draws_no_organs(bundle):
    with pytest.raises(DosimetryError, match="does not draw organs on a CT"):
        OnnxSegmenter(replace(bundle, task="lesions"))


def test_a_spoiled_file_is_refused(bundle, tmp_path):
    for name, content in (("cut", bundle.weights.read_bytes()[:200]), ("text", b"no network")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DosimetryError, match="model cannot be loaded"):
            scores(replace(bundle, weights=tmp_path / name), np.zeros((1, 32, 32, 32), np.float32))


def test_cases_side_by_side_share_one_session(bundle):
    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(lambda _: session_of(bundle, "cpu", 1), range(8)))
    assert len({id(session) for session in sessions}) == 1
    assert session_of(replace(bundle, sha256="another"), "cpu", 1) is not sessions[0]


def test_a_gpu_that_is_not_there_is_refused(bundle):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is one")
    with pytest.raises(DosimetryError, match="no GPU for segmentation"):
        scores(bundle, np.zeros((1, 32, 32, 32), np.float32), device="cuda")


def test_drawing_tells_how_far_it_is(bundle, ct):
    told = []
    OnnxSegmenter(bundle).drawn(ct, lambda what, done: told.append(done))
    assert told == sorted(told) and told[0] == 0 and 0.5 < told[-1] < 1


def test_organs_of_numbers_near_an_edge_are_doubted_more(bundle, ct):
    """What a small offset and noise turn over is told; what they do not touch is not."""
    doubtful = replace(ct, voxels=np.where(ct.voxels == 110, 58, ct.voxels).astype(np.float32))

    def doubts(image):
        return OnnxSegmenter(bundle).drawn(image).flags.get("liver", ())

    assert "ORGAN_DOUBT" in {flag.code for flag in doubts(doubtful)}
    assert "ORGAN_DOUBT" not in {flag.code for flag in doubts(ct)}


def test_a_map_of_something_else_is_refused(bundle, ct):
    with pytest.raises(ValueError, match="HOUNSFIELD"):
        OnnxSegmenter(bundle).drawn(replace(ct, quantity=Quantity.ACTIVITY_CONCENTRATION))
