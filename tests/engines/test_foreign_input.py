"""A network of other axes and of stretched values draws the same regions at the same place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mrtai.engines.onnx_segmenter import OnnxSegmenter, scores
from mrtai.engines.own_range import for_image
from mrtai.engines.prepare import prepared
from mrtai.io.bundles import verified
from mrtai.values.bundle import Channel, InputContract
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from tests.engines.tiny_model import CONTRACT, write_bundle

CLASSES = ("background", "body", "liver")
ZOO = Channel("HU", -32768.0, 32767.0, 0.5, 0.5, -1000.0, stretched=True)


class Sloped(torch.nn.Module):
    """Scores that differ along each axis in its own way: a turn or a mirror of the input or the answer shows."""

    def __init__(self):
        super().__init__()
        self.wide = torch.nn.Conv3d(1, 3, (3, 5, 7), padding=(1, 2, 3))

    def forward(self, image):
        return self.wide(image)


@pytest.fixture(scope="module")
def ct():
    grid = Grid((40, 36, 44), (3.0, 3.0, 3.0), (-66.0, -54.0, 300.0), np.eye(3))
    hu = np.full(grid.shape, -1000.0, np.float32)
    hu[:, 4:32, 4:40] = np.random.default_rng(0).normal(0, 60, (40, 28, 36))
    return Image(hu, Quantity.HOUNSFIELD, grid)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "AIR"])
def test_the_window_is_turned_to_the_networks_axes_and_its_answer_back(tmp_path, axes):
    from mrtai.physics.axes import turned, turned_back

    torch.manual_seed(0)
    network = Sloped()
    bundle = verified(write_bundle(tmp_path / "sloped", network, CLASSES, replace(CONTRACT, axes=axes)))
    image = np.random.default_rng(1).normal(size=(1, 32, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        direct = network(torch.from_numpy(turned(image, axes).copy()[None])).softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(scores(bundle, image), turned_back(direct, axes), atol=1e-5)
    assert np.abs(scores(bundle, image) - direct).max() > 0.01


def test_an_image_is_stretched_to_its_own_range(ct):
    contract = InputContract((ZOO,), 3.0, (32, 32, 32))
    settled = for_image(contract, [(ct.voxels, ct.grid)])
    (seen,), _ = prepared([(ct.voxels, ct.grid)], settled)
    assert (seen.min(), seen.max()) == pytest.approx((-1.0, 1.0), abs=1e-6)
    share = (ct.voxels - ct.voxels.min()) / (ct.voxels.max() - ct.voxels.min())
    np.testing.assert_allclose(seen, 2 * share - 1, atol=1e-5)
    assert for_image(settled, [(ct.voxels, ct.grid)]) == settled


def test_an_image_of_one_value_stays_finite(ct):
    flat = np.zeros_like(ct.voxels)
    settled = for_image(InputContract((ZOO,), 3.0, (32, 32, 32)), [(flat, ct.grid)])
    assert np.isfinite(prepared([(flat, ct.grid)], settled)[0]).all()


def test_a_stretched_model_draws_the_same_whatever_the_scanners_slope(tmp_path, ct):
    torch.manual_seed(0)
    bundle = verified(write_bundle(tmp_path / "zoo", Sloped(), CLASSES, InputContract((ZOO,), 3.0, (32, 32, 32), "RAS")))
    drawn = OnnxSegmenter(bundle).drawn(ct)
    assert set(drawn.names.values()) == {"body", "liver"}
    steeper = Image(1.2 * ct.voxels, Quantity.HOUNSFIELD, ct.grid)
    again = OnnxSegmenter(bundle).drawn(steeper)
    # the body is found by a CT number, so the box that the windows start from may move a little
    assert np.mean(drawn.voxels == again.voxels) > 0.99
