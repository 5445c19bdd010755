"""What the lesion network learns from, the loop that teaches it, and the bundle that comes out."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch

from mrtai.engines.lesion_input import LESION_CONTRACT, body_level, lesion_input
from mrtai.engines.lesion_network import probability
from mrtai.io.bundles import verified
from mrtai.io.nifti import write_image, write_labels
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from training.lesions import train as loop
from training.lesions.data import (
    Scan,
    case_scans,
    folds,
    held_out_groups,
    real_volume,
    real_volumes,
    require_apart,
    simulated_volume,
)
from training.lesions.evaluate import counted, drawn
from training.lesions.export import BODIES, SARCOMAS, caution, write
from training.lesions.model import LesionNet, drawing_from
from training.lesions.patches import OUTSIDE, batch
from training.lesions.simulated import lump, scan
from training.start import begun_from

TINY = loop.Settings(steps=4, batch=2, edge=16, coarser=1, channels=(4, 8, 8), seed=3)
GRID = Grid.axial((20, 24, 22), (4.8, 4.8, 3.0))


@pytest.fixture(scope="module")
def volume():
    return simulated_volume(0, "pet")


def patient(name="P-1", seed=0):
    uptake = np.random.default_rng(seed).uniform(0.5, 1.5, GRID.shape).astype(np.float32)
    lesion = np.zeros(GRID.shape, dtype=np.float32)
    lesion[8:13, 9:14, 8:13] = 1
    return Scan(name, "case", (uptake + 9 * lesion, GRID), (lesion, GRID), None)


def state(path):
    return torch.load(path, weights_only=True)


def test_a_seed_gives_the_same_scan_and_another_seed_another(volume):
    again, other = simulated_volume(0, "pet"), simulated_volume(2, "pet")
    assert torch.equal(volume.image, again.image)
    assert torch.equal(volume.lesion, again.lesion)
    assert volume.image.shape != other.image.shape or not torch.equal(volume.image, other.image)


def test_a_simulated_lesion_has_the_volume_asked_for():
    share, uptake = lump(np.random.default_rng(1), 20.0)
    # one piece is kept of an irregular shape, so a little may be missing
    assert share.sum() * 4.0**3 / 1000 == pytest.approx(20.0, rel=0.1)
    assert uptake.shape == share.shape


def test_lesions_of_a_scan_lie_where_they_are_hot(volume):
    made = scan(0, "pet", wider=True)
    assert made.lesions
    for number, lesion in enumerate(made.lesions, start=1):
        assert (made.lesion == number).sum() * made.grid.voxel_ml == pytest.approx(lesion.volume_ml, rel=0.3)
    assert np.array_equal(made.lesion > 0, volume.lesion.numpy())


def test_patches_depend_on_the_key_alone(volume):
    one, two = (batch([], [volume], size=2, edge=16, key=(7, 5)) for _ in range(2))
    other = batch([], [volume], size=2, edge=16, key=(7, 6))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])


def test_beyond_an_image_a_patch_says_that_nothing_is_there():
    image, lesion = batch([real_volume(patient(), 0)], [], size=4, edge=64, key=(1, 1))
    # another body level leaves zero uptake as it is, and a mirror a corner a corner
    assert np.allclose(image[:, :, 0, 0, 0], OUTSIDE, atol=1e-6)
    assert lesion.any()


def test_folds_share_no_patient_and_miss_none():
    names = [f"P-{n}" for n in range(34)] * 2
    groups = folds(names)
    assert sorted(name for group in groups for name in group) == sorted(set(names))
    for k, held_out in enumerate(groups):
        require_apart([name for j, group in enumerate(groups) if j != k for name in group], held_out)


def test_a_patient_in_training_and_test_is_refused_without_naming_it():
    with pytest.raises(ValueError, match="share 1 of their patients") as refusal:
        require_apart(["P-secret", "P-2"], ["P-secret"])
    assert "secret" not in str(refusal.value)


def test_the_held_out_patient_is_not_learned_from(tmp_path, monkeypatch):
    seen = {}

    def spied(folder, real, made, settings, start=None):
        seen[folder.name] = [volume.patient for volume in real]
        return folder

    monkeypatch.setattr(loop, "train", spied)
    monkeypatch.setattr(loop, "real_volumes", partial(real_volumes, copies=1))
    real = [replace(patient(f"P-{n}", n), source="sts") for n in range(5)]
    # reviewed cases of a department must not move the sarcomas to other folds than those they are measured in
    loop.all_trained(loop.Plan(tmp_path, seeds=range(0)), [patient("P-case"), *real], with_folds=True)
    held_out = [group[0] for group in held_out_groups(real)]
    assert sorted([*held_out, "P-case"]) == sorted(seen["final"]) and len(seen["final"]) == 6
    for number, name in enumerate(held_out, start=1):
        assert sorted([*seen[f"fold-{number}"], name]) == sorted(seen["final"])
    assert seen["base"] == seen["base-more"] == seen["base-longer"] == []


def test_runs_share_the_time_until_the_deadline(monkeypatch):
    monkeypatch.setattr(loop.time, "time", lambda: 1000.0)
    plan = loop.Plan(loop.Path("work"), deadline_s=1100.0)
    assert plan.settings("base", TINY).seconds == pytest.approx(100 * loop.SHARES["base"] / sum(loop.SHARES.values()))
    # the last one may use all that is left
    assert plan.settings("fold-5", TINY).seconds == pytest.approx(100.0)


@pytest.mark.slow
def test_a_training_out_of_time_stops_with_what_it_has(tmp_path, volume):
    weights = loop.train(tmp_path / "short", [], [volume], replace(TINY, steps=10**6, seconds=0.5))
    events = [json.loads(line) for line in (tmp_path / "short" / "log.jsonl").read_text().splitlines()]
    assert weights.exists()
    assert 0 < events[-1]["step"] < 10**4


@pytest.mark.slow
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path, volume, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    whole = loop.train(tmp_path / "whole", [], [volume], TINY)
    genuine = loop.batch

    def killed(*args, key, **rest):
        if key[1] == 3:
            raise KeyboardInterrupt
        return genuine(*args, key=key, **rest)

    monkeypatch.setattr(loop, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.train(tmp_path / "killed", [], [volume], TINY)
    monkeypatch.setattr(loop, "batch", genuine)
    resumed = loop.train(tmp_path / "killed", [], [volume], TINY)
    for name, value in state(whole).items():
        assert torch.equal(value, state(resumed)[name]), name
    events = [json.loads(line) for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "start"] == [0, 2]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, volume):
    folder = tmp_path_factory.mktemp("exported")
    weights = loop.train(folder / "final", [], [volume], TINY)
    return write(weights, folder / "lesions", {}, TINY.channels), verified(folder / "lesions")


def test_a_finished_network_becomes_a_bundle_that_is_verified(exported):
    parity, bundle = exported
    assert parity.largest_difference <= 1e-3
    assert bundle.contract == LESION_CONTRACT
    assert dict(bundle.classes) == {1: "lesion"}


def test_an_exported_network_can_be_gone_on_from(exported, volume):
    images = [batch([], [volume], size=2, edge=32, key=(5, number))[0] for number in range(3)]
    file, network = exported[1].weights, LesionNet(TINY.channels)
    begun_from(file, network, images)
    session = onnxruntime.InferenceSession(file)
    answer = session.run(None, {session.get_inputs()[0].name: images[0][:1].numpy()})[0]
    with torch.no_grad():
        assert np.allclose(network.eval()(images[0][:1]).numpy(), answer, atol=1e-4)
        # a norm has statistics again: those of what it sees in these images
        seen = []
        network.fine[1].adn.N.register_forward_pre_hook(lambda norm, values: seen.append(values[0]))
        network(torch.cat(images))
    assert torch.allclose(seen[0].mean((0, 2, 3, 4)), network.fine[1].adn.N.running_mean, atol=1e-4)
    assert torch.allclose(seen[0].var((0, 2, 3, 4)), network.fine[1].adn.N.running_var, rtol=1e-3)


def test_an_exported_network_draws_from_the_chosen_share_on():
    torch.manual_seed(3)
    network, image = LesionNet(TINY.channels).eval(), torch.randn(1, 5, 16, 16, 16)
    with torch.no_grad():
        before = torch.softmax(network(image), dim=1)[:, 1]
        share = float(before.quantile(0.8))
        after = torch.softmax(drawing_from(share, network)(image), dim=1)[:, 1]
        again = torch.softmax(drawing_from(1 - share, network)(image), dim=1)[:, 1]
    # the voxels at the edge itself may round to either side
    assert (after >= 0.5).float().mean() == pytest.approx(0.2, abs=0.01)
    assert ((before >= share) != (after >= 0.5)).sum() <= 2
    assert torch.allclose(before, again, atol=1e-6)


def test_weights_of_another_network_are_refused(exported, volume):
    images = [batch([], [volume], size=1, edge=32, key=(5, 0))[0]]
    for network in (LesionNet((4, 8, 16)), LesionNet((4, 8, 8, 8))):
        with pytest.raises(ValueError, match="holds no weights of this network"):
            begun_from(exported[1].weights, network, images)


@pytest.mark.slow
def test_a_department_goes_on_from_exported_weights(tmp_path, exported, volume, monkeypatch):
    monkeypatch.setattr(loop, "FURTHER", TINY)
    monkeypatch.setattr(loop, "simulated_volumes", lambda seeds, work: [volume])
    monkeypatch.setattr(loop, "real_volumes", partial(real_volumes, copies=1))
    weights = loop.trained_further(loop.Plan(tmp_path), [patient()], exported[1].weights)
    events = [json.loads(line) for line in (tmp_path / "final" / "log.jsonl").read_text().splitlines()]
    assert weights == tmp_path / "final" / "weights.pt" and events[0]["data"].keys() == {"pet", "case"}


def test_a_mirrored_patient_has_mirrored_lesions(exported):
    uptake = np.random.default_rng(2).uniform(0.5, 5.0, (24, 30, 28)).astype(np.float32)
    # centres on multiples of 4 mm, so that the lattice is the image's own grid
    image = Image(uptake, Quantity.ACTIVITY_CONCENTRATION, Grid.axial(uptake.shape, (4.0, 4.0, 4.0), np.zeros(3)))
    nothing = Labels(np.zeros(uptake.shape, dtype=np.uint8), {}, image.grid)
    one, other = (
        probability(replace(image, voxels=voxels), None, nothing, exported[1], device="cpu", threads=1)
        for voxels in (uptake, np.ascontiguousarray(uptake[..., ::-1]))
    )
    assert one.std() > 0
    assert np.allclose(one, other[..., ::-1], atol=1e-6)


def test_signed_cases_are_learned_from_and_drafts_are_not(tmp_path):
    made = patient()
    for number, verdict in enumerate(("signed", "draft", "released")):
        images = tmp_path / f"case-{number}" / "images"
        images.mkdir(parents=True)
        said = {"state": verdict, "patient": {"pseudonym": f"P-{number}"}}
        (images.parent / "results.json").write_text(json.dumps(said))
        for index in (1, 2):
            write_image(images / f"spect_{index}.nii.gz", Image(made.uptake[0], Quantity.ACTIVITY_CONCENTRATION, GRID))
        write_labels(images / "labels.nii.gz", Labels(made.lesion[0].astype(np.uint8) * 3, {3: "lesion_1"}, GRID))
    scans = case_scans(tmp_path)
    assert [(one.patient, one.source) for one in scans] == [("P-0", "case")] * 2 + [("P-2", "case")] * 2
    assert np.array_equal(scans[0].lesion[0] > 0, made.lesion[0] > 0)


def test_a_turned_copy_keeps_the_lesion_where_it_is_hot():
    copy = real_volume(replace(patient()), 3)
    log_uptake = copy.image[0].float()
    assert copy.lesion.any()
    assert log_uptake[copy.lesion].mean() > log_uptake[~copy.lesion].mean() + 0.5


def test_the_input_knows_no_unit():
    made = patient()
    one, _ = lesion_input(*made.uptake, None, LESION_CONTRACT)
    other, _ = lesion_input(made.uptake[0] * 1e6, GRID, None, LESION_CONTRACT)
    assert np.allclose(one, other, atol=1e-5)


def test_the_body_level_ignores_air_and_hot_organs():
    rng = np.random.default_rng(5)
    air, body, hot = rng.uniform(0, 0.1, 60_000), rng.lognormal(0, 0.2, 30_000), np.full(2000, 80.0)
    assert body_level(np.concatenate([air, body, hot])) == pytest.approx(1.0, rel=0.05)


def test_an_image_without_uptake_is_refused():
    with pytest.raises(DosimetryError, match="no voxel above zero"):
        lesion_input(np.zeros(GRID.shape, dtype=np.float32), GRID, None, LESION_CONTRACT)


def test_what_lies_mostly_in_a_kidney_is_no_lesion():
    made = patient()
    everything = lambda image: np.stack([image[0] < 1, image[0] >= 1]).astype(np.float32)  # noqa: E731
    kidney = Labels((made.lesion[0] > 0).astype(np.uint8), {1: "kidney_left"}, GRID)
    assert drawn(everything, made.uptake)[0].any()
    assert not drawn(everything, made.uptake, organs=kidney)[0].any()


def test_a_piece_that_touches_no_lesion_is_a_false_positive():
    numbers, mask = np.zeros((9, 9, 9), dtype=int), np.zeros((9, 9, 9), dtype=bool)
    numbers[1:4, 1:4, 1:4], numbers[6:8, 6:8, 6:8] = 1, 2
    mask[1:3, 1:4, 1:4] = mask[1:3, 6:8, 6:8] = True
    outcome = counted(mask, numbers, [(5.0, 5.0), (1.0, 9.0)], 1.0)
    assert [lesion.found for lesion in outcome.lesions] == [True, False]
    assert outcome.false_ml == (8.0,)


def evaluation(network="0.780", threshold="0.667", found="37 of 40 (92.5%)", wrong="0.90 (worst 3)"):
    sarcomas = [{"method": "network, whole crop", "median": network}, {"method": "SUV 2.2 (SUV, whole crop)", "median": threshold}]
    row = {"found, > 5 mL at ≥ 5": found, "false positives a patient": wrong}
    return {
        SARCOMAS: sarcomas,
        BODIES: [{"images": name, **row} for name in ("PET, organs drawn", "SPECT, organs drawn", "PET, no organs")],
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"network": "0.690", "threshold": "0.300"}, "median Dice on sarcomas 0.69 (aim 0.70)"),
        ({"threshold": "0.700"}, "+0.08 to the best fixed threshold (aim +0.10)"),
        ({"found": "35 of 40 (87.5%)"}, "SPECT, organs drawn: 88% of lesions found (aim 90%)"),
        ({"wrong": "1.25 (worst 5)"}, "PET, organs drawn: 1.2 false positives a patient (aim 1)"),
    ],
)
def test_a_network_that_misses_an_aim_says_so(changed, words):
    told = caution(evaluation(**changed))
    assert words in told
    assert (told == "") is (words == "")


def test_a_network_without_folds_says_what_was_not_measured():
    figures = evaluation(wrong="1.25 (worst 5)")
    del figures[SARCOMAS]
    told = caution(figures)
    assert told.startswith("This version of lesions was not measured on real patients it never saw. ")
    assert "PET, organs drawn: 1.2 false positives a patient (aim 1)" in told


def test_statistics_keep_what_half_precision_cannot_hold(volume):
    network = loop.LesionNet(TINY.channels)
    deep = next(part for part in network.coarse.modules() if isinstance(part, torch.nn.BatchNorm3d))
    deep.running_var.fill_(1e7)
    kept = loop._rounded(network)
    name = next(name for name in kept if name.endswith("running_var"))
    assert kept[name].max() == 1e7
    loop.measure_statistics(network, [], [volume], TINY, batches=2)
    assert deep.running_var.max() < 1e3


def test_a_network_that_was_not_measured_says_so():
    assert "not measured" in caution({})
