"""What the organ network learns from, and the loop that teaches it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrtai.engines.prepare import normalised
from training.export import to_onnx
from training.organs.anatomy import HIGH_MM, LOW_MM
from training.organs.batches import MIRRORED, Batches, Shelf, Torsos, as_seen
from training.organs.canvas import SPACING_MM
from training.organs.data import CONTRACT, Drawn, make_anatomy, read_anatomies, read_cases, read_contours, split
from training.organs.model import Borrowed, OrganNet, begun_from, weights_of
from training.organs.tissues import CLASSES, INDEX, LABEL_OF_TISSUE, UNKNOWN
from training.organs.train import Settings, Stage, loss, train

PATCH = (16, 32, 32)
STAGES = (Stage("coarse", (8, 8, 8), 4, 2, 6, 2e-3), Stage("fine", PATCH, 1, 1, 3, 1e-3))
SETTINGS = Settings(STAGES, channels=(4, 8, 8), seed=3)


@pytest.fixture(scope="module")
def anatomy():
    seed = next(seed for seed in range(20) if np.random.default_rng(seed).random() > 0.75)
    return make_anatomy(seed, [])


def volume_ml(labels, name):
    return float((labels == CLASSES.index(name)).sum()) * SPACING_MM**3 / 1000


def middle(labels, name):
    return np.argwhere(labels == CLASSES.index(name)).mean(axis=0)


def test_a_generated_torso_has_every_organ_at_its_place(anatomy):
    labels = LABEL_OF_TISSUE[anatomy]
    assert set(np.unique(labels).tolist()) == set(range(len(CLASSES)))
    # x runs to the left, y to the back, z to the head
    assert middle(labels, "kidney_left")[2] > middle(labels, "spine")[2] > middle(labels, "kidney_right")[2]
    assert middle(labels, "liver")[2] < middle(labels, "spleen")[2]
    assert middle(labels, "urinary_bladder")[0] < middle(labels, "kidney_left")[0] < middle(labels, "lung_left")[0]
    assert middle(labels, "aorta")[1] < middle(labels, "red_marrow")[1] < middle(labels, "spine")[1]


def test_a_generated_torso_has_plausible_sizes(anatomy):
    labels = LABEL_OF_TISSUE[anatomy]
    assert 700 < volume_ml(labels, "liver") < 3500
    assert 50 < volume_ml(labels, "spleen") < 600
    for side in ("left", "right"):
        assert 60 < volume_ml(labels, f"kidney_{side}") < 400
        assert 800 < volume_ml(labels, f"lung_{side}") < 5000
    assert 20_000 < (anatomy != INDEX["air"]).sum() * SPACING_MM**3 / 1000 < 160_000


def test_the_canvas_holds_the_arms_and_a_torso():
    assert HIGH_MM[0] - LOW_MM[0] >= 500
    assert HIGH_MM[2] - LOW_MM[2] >= 700


def test_a_batch_depends_on_seed_and_step_alone(anatomy):
    one, two = (Batches(Torsos.of([anatomy]), [], seed=5, batch=2, patch=PATCH) for _ in range(2))
    _ = two[0]
    for first, second in zip(one[7], two[7], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(one[7][0], one[8][0])
    assert not torch.equal(one[7][0][0], one[7][0][1])


def test_where_a_ct_ends_its_last_slice_goes_on_and_teaches_nothing(anatomy):
    """As ``prepare.around_body`` fills a window."""
    image, labels = Batches(Torsos.of([anatomy]), [], seed=2, batch=32, patch=(16, 24, 24), coarser=4)[0]
    unseen = (labels == UNKNOWN).all(dim=(2, 3))
    assert 0.05 < unseen.float().mean() < 0.5
    alike = (image[:, 0, 1:] == image[:, 0, :-1]).all(dim=(2, 3))
    cut = [(one, picture) for one, picture in zip(unseen, alike, strict=True) if picture[0] and not one.all()]
    assert len(cut) >= 5
    for one, picture in cut:
        lowest = int(torch.nonzero(~picture)[0])
        assert bool(one[:lowest].all())


def test_a_batch_holds_what_inference_would_be_given():
    """The same clipping and scaling as ``prepare.normalised``, which works on arrays."""
    hu = np.linspace(-2000, 3000, 27, dtype=np.float32).reshape(3, 3, 3)
    channel = CONTRACT.channels[0]
    assert np.array_equal(as_seen(torch.from_numpy(hu)).numpy(), normalised(hu, channel))


def test_interpolated_voxels_lie_on_a_plane_between_them():
    volume = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    shelf = Shelf.of([np.zeros((2, 2, 2), np.float32), volume], "cpu")
    at = torch.tensor([1.25, 2.5, 3.75]).view(1, 3, 1, 1, 1)
    assert shelf.between(np.array([1]), at, -1.0).item() == pytest.approx(1.25 * 30 + 2.5 * 6 + 3.75)
    assert shelf.at(np.array([1]), torch.tensor([9, 2, 3]).view(1, 3, 1, 1, 1), -1.0).item() == volume[3, 2, 3]
    assert shelf.at(np.array([1]), torch.tensor([1, 2, 6]).view(1, 3, 1, 1, 1), -1.0).item() == -1.0


def test_a_mirror_swaps_left_and_right_and_nothing_else():
    swapped = {name: CLASSES[MIRRORED[value]] for value, name in enumerate(CLASSES)}
    assert swapped.pop("kidney_left") == "kidney_right"
    assert swapped.pop("kidney_right") == "kidney_left"
    assert swapped.pop("lung_left") == "lung_right"
    assert swapped.pop("lung_right") == "lung_left"
    assert all(old == new for old, new in swapped.items())
    assert MIRRORED[UNKNOWN] == UNKNOWN


def test_a_mirrored_sample_keeps_the_left_kidney_on_the_left(anatomy):
    """Of many samples, mirrored ones among them, none has the left kidney right of the right one."""
    batches, both = Batches(Torsos.of([anatomy]), [], seed=1, batch=4, patch=(40, 48, 96)), 0
    for labels in np.concatenate([batches[step][1].numpy() for step in range(10)]):
        counts = np.bincount(labels.ravel(), minlength=len(CLASSES))
        if min(counts[CLASSES.index("kidney_left")], counts[CLASSES.index("kidney_right")]) > 300:
            both += 1
            assert middle(labels, "kidney_left")[2] > middle(labels, "kidney_right")[2]
    assert both >= 5


def test_unknown_voxels_teach_nothing():
    scores = torch.randn(1, len(CLASSES), 4, 4, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.full((1, 4, 4, 4), UNKNOWN)
    labels[:, :2] = 4
    loss(scores, labels).backward()
    assert torch.all(scores.grad[:, :, 2:] == 0)
    assert torch.any(scores.grad[:, :, :2] != 0)


def test_the_loss_is_least_for_the_truth():
    labels = torch.randint(0, len(CLASSES), (1, 6, 6, 6), generator=torch.Generator().manual_seed(2))
    sure = 20.0 * torch.nn.functional.one_hot(labels, len(CLASSES)).movedim(-1, 1).float()
    assert loss(sure, labels).item() < 1e-4
    assert loss(sure.roll(1, dims=1), labels).item() > 5


def test_a_training_that_was_cut_ends_like_one_that_was_not(anatomy, tmp_path, monkeypatch):
    import training.organs.train as module

    monkeypatch.setattr(module, "SAVE_EVERY", 3)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = torch.load(train(tmp_path / "a", [anatomy], [], SETTINGS), weights_only=True)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "loss", Cut(after=4))
        train(tmp_path / "b", [anatomy], [], SETTINGS)
    resumed = torch.load(train(tmp_path / "b", [anatomy], [], SETTINGS), weights_only=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 4, 5, 6, 1, 2, 3]


class Cut:
    def __init__(self, after):
        self.left = after

    def __call__(self, scores, labels):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return loss(scores, labels)


def test_a_training_that_was_given_minutes_ends_in_them(anatomy, tmp_path):
    settings = Settings((replace(STAGES[0], steps=10**6),), channels=(4, 8, 8), minutes=0.02)
    train(tmp_path, [anatomy], [], settings)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert 0 < len(rows) < 10**5
    assert (tmp_path / "weights.pt").exists()


def test_a_training_begins_from_an_exported_model(tmp_path):
    """All of it, the slopes too, which the exporter renames."""
    torch.manual_seed(1)
    old, new = OrganNet((4, 8, 8)), OrganNet((4, 8, 8))
    to_onnx(old.eval(), tmp_path / "old.onnx", np.zeros((1, 16, 16, 16), np.float32))
    assert begun_from(tmp_path / "old.onnx", new) == len(new.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(old.state_dict().values(), new.state_dict().values(), strict=True))
    to_onnx(torch.nn.Conv3d(1, 2, 3).eval(), tmp_path / "other.onnx", np.zeros((1, 16, 16, 16), np.float32))
    with pytest.raises(ValueError, match="no weights of this network"):
        begun_from(tmp_path / "other.onnx", new)


def test_parts_of_a_network_may_come_from_another_model(tmp_path):
    torch.manual_seed(2)
    old, new = OrganNet(), OrganNet()
    to_onnx(old.eval(), tmp_path / "old.onnx", np.zeros((1, 32, 32, 32), np.float32))
    torch.save(new.state_dict(), tmp_path / "weights.pt")
    both = weights_of(tmp_path, Borrowed(("middle", "fine"), tmp_path / "old.onnx")).state_dict()
    own = new.state_dict()
    for name, tensor in old.state_dict().items():
        assert torch.equal(both[name], own[name] if name.startswith("coarse") else tensor), name


def test_other_settings_do_not_go_on_from_a_checkpoint(anatomy, tmp_path):
    train(tmp_path, [anatomy], [], SETTINGS)
    with pytest.raises(ValueError, match="other settings"):
        train(tmp_path, [anatomy], [], replace(SETTINGS, seed=4))


def test_no_patient_is_on_both_sides_of_a_split():
    cases = [Drawn(f"P-{n % 7}", np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.uint8)) for n in range(30)]
    learnt, checked = split(cases, 0.3, seed=1)
    assert {c.name for c in learnt}.isdisjoint(c.name for c in checked)
    assert len(learnt) + len(checked) == 30
    assert checked


def test_shipped_contours_fit_their_ct():
    cases = read_contours()
    assert any(case.name == "crlm_1004" for case in cases)
    for case in cases:
        assert case.hu.shape == case.labels.shape
        assert set(np.unique(case.labels).tolist()) <= {*range(len(CLASSES)), UNKNOWN}


def test_a_work_folder_without_anatomies_says_how_to_make_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"training\.organs\.data --work"):
        read_anatomies(tmp_path)


def test_only_signed_cases_teach(tmp_path):
    for state in ("draft", "signed"):
        write_case(tmp_path / state, state)
    cases = read_cases(tmp_path)
    assert [case.name for case in cases] == ["P-signed"]
    labels = cases[0].labels
    assert (labels == CLASSES.index("liver")).sum() > 0
    # outside the drawn regions and in regions of another vocabulary nobody said what lies there
    assert set(np.unique(labels).tolist()) == {CLASSES.index("liver"), UNKNOWN}


def write_case(folder: Path, state: str):
    from mrtai.io.nifti import write_image, write_labels
    from mrtai.values.grid import Grid
    from mrtai.values.image import Image, Quantity
    from mrtai.values.labels import Labels

    grid = Grid.axial((12, 12, 12), (3.0, 3.0, 3.0))
    (folder / "images").mkdir(parents=True)
    voxels = np.zeros(grid.shape, np.uint8)
    voxels[3:6], voxels[8:9] = 1, 2
    write_image(folder / "images" / "ct.nii.gz", Image(np.full(grid.shape, 50, np.int16), Quantity.HOUNSFIELD, grid))
    write_labels(folder / "images" / "contours.nii.gz", Labels(voxels, {1: "liver", 2: "lesion_1"}, grid))
    results = {"state": state, "patient": {"pseudonym": f"P-{state}"}}
    (folder / "results.json").write_text(json.dumps(results))
