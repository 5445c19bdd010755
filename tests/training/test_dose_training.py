"""What `dose-net` learns from, its loss, the loop that teaches it, and the bundle that comes out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mrtai.engines.dose_net_input import DOSE_NET_CONTRACT, answered
from mrtai.io.bundles import load_network, verified_model
from mrtai.values.bundle import Network
from training.dose_net.bodies import from_formulas, spect_grid
from training.dose_net.calibrate import held_out
from training.dose_net.data import HELD_OUT_SEED, Pair, conditions, path_of, read, shown_tia, write
from training.dose_net.export import to_onnx
from training.dose_net.export import write as export
from training.dose_net.model import DoseNet
from training.dose_net.scans import drawn, scanned, walked, world
from training.dose_net.train import AIR, Cases, Settings, begin, loss, train

CHANNELS = len(DOSE_NET_CONTRACT.channels)
TINY = Settings(steps=4, batch=2, channels=(4, 8, 8, 8), patch=(16, 16, 16))
COARSE_MM = 12.0


@pytest.fixture(scope="module")
def body():
    return from_formulas(np.random.default_rng(3), spect_grid(COARSE_MM))


def pair(seed, *, recovered=False):
    """Return a made-up pair: the truth is half of the base in one region and twice of it in the other."""
    rng = np.random.default_rng(seed)
    shape = (24, 20, 22)
    regions = np.full(shape, AIR, np.uint8)
    regions[4:20, 4:16, 4:18] = 0
    regions[8:12, 8:12, 8:12] = 1
    base = np.where(regions == AIR, 0, rng.lognormal(0, 0.2, shape)).astype(np.float16)
    truth = (base * np.where(regions == 1, 2.0, 0.5)).astype(np.float16)
    channels = rng.standard_normal((CHANNELS, *shape)).astype(np.float16)
    channels[0] = regions == 1
    return Pair(channels, base, truth, 0 * truth, regions, seed, 3.0, recovered)


@pytest.fixture
def work(tmp_path):
    for seed in (0, 1, HELD_OUT_SEED):
        write(pair(seed, recovered=seed == 1), path_of(tmp_path, seed, recovered=seed == 1))
    return tmp_path


def test_uptake_is_uneven_and_of_mean_one_in_every_region(body):
    for value in (0, *body.regions.names):
        inside = (body.regions.voxels == value) & body.body
        assert body.uptake[inside].mean(dtype=float) == pytest.approx(1, rel=1e-4)
    assert np.all(body.uptake[~body.body] == 0)
    assert sum(name.startswith("lesion_") for name in body.regions.names.values()) >= 3


def test_the_same_seed_is_the_same_patient_under_any_count_level(body):
    how = replace(conditions(np.random.default_rng(1)), times_h=(24.0, 96.0), contours="true")
    one, other = (scanned(np.random.default_rng(5), body, replace(how, count_level=level), world()) for level in (1.0, 1.0))
    assert np.array_equal(one.true_tia.voxels, other.true_tia.voxels)
    assert np.array_equal(one.aligned.spects[0].voxels, other.aligned.spects[0].voxels)
    tia, fits = walked(one, how, world())
    # noise and blur move activity about; most of the integral stays in the patient
    assert tia.voxels.sum(dtype=float) == pytest.approx(one.true_tia.voxels.sum(dtype=float), rel=0.15)
    assert fits.labels is one.contours


def test_recovery_gives_compact_regions_their_activity_back(body):
    how = replace(conditions(np.random.default_rng(1)), times_h=(24.0, 96.0), contours="true", count_level=30.0)
    case = scanned(np.random.default_rng(5), body, how, world())
    seen, recovered = (shown_tia(body, how, case, world(), recovered=given_back) for given_back in (False, True))
    large = [mask for mask in map(body.regions.mask, body.regions.names.values()) if mask.sum() >= 50]
    hottest = max(large, key=lambda mask: case.true_tia.voxels[mask].mean())
    true, without, given_back = (image.voxels[hottest].mean() for image in (case.true_tia, seen, recovered))
    assert without < 0.9 * true
    assert abs(given_back - true) < 0.5 * abs(without - true)


def test_rough_contours_miss_lesions_and_no_contours_tell_nothing(body):
    rng = np.random.default_rng(2)
    assert not drawn(rng, body, "none").voxels.any()
    rough = drawn(rng, body, "rough").voxels
    assert (rough != body.regions.voxels).any()
    assert np.mean((rough == body.regions.voxels)[body.body]) > 0.8


def test_the_loss_is_least_for_the_truth_and_its_error_map_for_the_true_error():
    one = pair(0)
    maps = torch.from_numpy(np.stack([one.base, one.truth, one.truth_sd])[None].astype(np.float32))
    regions = torch.from_numpy(one.regions[None])
    right = torch.zeros(1, 2, *one.base.shape)
    right[0, 0] = torch.from_numpy(np.log(np.where(one.regions == 1, 2.0, 0.5)))
    right[0, 1] = -3.0
    exact = loss(right, maps, regions)
    # half precision
    assert float(exact["voxel"]) < 1e-5
    assert float(exact["region"]) < 1e-4
    wrong = right.clone()
    wrong[0, 0] += 0.1
    assert float(loss(wrong, maps, regions)["region"]) > 0.05
    # off by a tenth everywhere: a sd of a tenth is likelier than one of a fifth or a twentieth
    likelihoods = []
    for log_sd in np.log([0.05, 0.1, 0.2]):
        told = wrong.clone()
        told[0, 1] = wrong[0, 0] + log_sd
        likelihoods.append(float(loss(told, maps, regions)["likelihood"]))
    assert min(likelihoods) == likelihoods[1]


def test_an_interrupted_training_goes_on_to_the_same_weights(work, monkeypatch):
    monkeypatch.setattr("training.dose_net.train.SAVE_EVERY", 2)
    whole = torch.load(train(work, TINY), weights_only=True)
    (work / "checkpoint.pt").unlink()
    batch = Cases.batch

    def killed(cases, step):
        if step == 3:
            raise KeyboardInterrupt
        return batch(cases, step)

    monkeypatch.setattr(Cases, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(work, TINY)
    monkeypatch.setattr(Cases, "batch", batch)
    again = torch.load(train(work, TINY), weights_only=True)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with pytest.raises(ValueError, match="other settings"):
        train(work, replace(TINY, seed=8))


def test_held_out_pairs_are_not_learned_from(work):
    assert list(Cases(work, TINY).cases) == ["0000000", "0000001-recovered"]
    assert read(work / f"{HELD_OUT_SEED:07d}.npz").level_gy == 3.0


def test_calibration_finds_the_factor_that_makes_the_error_map_honest():
    class Off(torch.nn.Module):
        def forward(self, image):
            shape = (len(image), 1, *image.shape[2:])
            noise = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
            inside = image[:, :1]
            change, sd = torch.log(0.5 + 1.5 * inside) + noise, torch.log(0.05 * (0.5 + 1.5 * inside))
            return torch.cat([change, sd, change, sd - np.log(2)], dim=1)

    # errors of a tenth where a twentieth is told, or half of that
    for recovered, factor in ((False, 2.0), (True, 4.0)):
        found = held_out(Off(), [pair(HELD_OUT_SEED, recovered=recovered)], "cpu")
        assert found["factor_68"] == pytest.approx(factor, rel=0.1)


def test_untrained_the_answer_is_the_base():
    answer = DoseNet((4, 8, 8, 8)).eval()(torch.randn(1, CHANNELS, 16, 16, 16)).detach().numpy()[0]
    for planes in (answer[:2], answer[2:]):
        dose, sd = answered(planes, np.full((16, 16, 16), 2.0, np.float32))
        assert dose == pytest.approx(np.full(dose.shape, 2.0))
        assert np.all(sd > 0)


def test_the_bundle_is_verified_says_its_ranges_and_holds_the_calibrated_weights(work, tmp_path):
    weights, shipped = train(work, TINY), load_network("dose-net", "dose")
    assert export(weights, tmp_path / "dose-net", {}, ranges=shipped.envelope, factors=(2.0, 3.0), channels=TINY.channels) < 1e-3
    model = verified_model(tmp_path / "dose-net")
    assert isinstance(model, Network)
    assert model.envelope == shipped.envelope
    assert "not measured" in model.caution


class First(DoseNet):
    """As 0.1.0 was: maps as scanned alone."""

    def forward(self, image):
        return super().forward(image)[:, :2]


def test_a_training_goes_on_from_an_exported_network(work, tmp_path, monkeypatch):
    torch.manual_seed(5)
    old, new = First(TINY.channels, 2).eval(), DoseNet(TINY.channels)
    torch.nn.init.normal_(old.head.weight)
    monkeypatch.setattr("training.dose_net.export.OUTPUTS", ("logs",))
    to_onnx(old, tmp_path / "old.onnx")
    cases = Cases(work, TINY)
    begin(new, tmp_path / "old.onnx", cases, TINY)
    image = cases.batch(1)[0][:, :-3].float()
    with torch.no_grad():
        before, after = old(image), new.eval()(image)
    assert torch.allclose(after[:, :2], before, atol=1e-4)
    # what it had no answer for yet is the base itself
    assert float(after[:, 2].abs().max()) == 0.0
    with pytest.raises(ValueError, match="no one network"):
        begin(new, load_network("dose-net", "dose").weights, cases, TINY)
