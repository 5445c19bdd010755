"""Bundles: read, verified, added from folder, zip and ONNX; what is spoiled or hostile is refused by name and leaves nothing."""

import hashlib
import json
import shutil
import stat
import subprocess
import sys
import zipfile

import pytest
import torch

from mrtai.engines.onnx_check import answer, require_numbers
from mrtai.io.add_bundle import add_bundle
from mrtai.io.bundles import installed, load_bundle, load_network, own_models, verified_model
from mrtai.values.bundle import Bundle, Channel
from mrtai.values.refusal import DosimetryError
from tests.engines.tiny_model import CLASSES, CONTRACT, write_bundle
from tests.io.bundle_maker import STRETCHED, WHOLE_BODY, foreign, inference, metadata, onnx_file, zipped


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("made") / "by-number")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return foreign(tmp_path_factory.mktemp("zoo") / "wholeBody_ct_segmentation")


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv("MRTAI_MODELS", str(folder))
    return folder


def copy(bundle, tmp_path, name=None):
    return shutil.copytree(bundle, tmp_path / "copies" / (name or bundle.name))


def edit(folder, change, name="metadata.json"):
    path = folder / "configs" / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder


def refused(path, match, models, code=None):
    """The bundle is refused, and nothing of it stays."""
    with pytest.raises(DosimetryError, match=match) as caught:
        add_bundle(path, answer)
    assert code is None or caught.value.code == code
    assert not models.exists() or list(models.iterdir()) == []
    return caught.value


def test_a_bundle_that_was_added_is_found_by_name_and_verified(ours, models):
    added = add_bundle(ours, answer)
    bundle = load_bundle("by-number")
    assert (added.replaced, bundle.label, bundle.task) == (None, "by-number@1.2.3", "organs")
    assert bundle.contract == CONTRACT
    assert dict(bundle.classes) == dict(enumerate(CLASSES[1:], start=1))
    assert bundle.weights.is_relative_to(models)
    assert (models / "by-number" / "docs" / "README.md").read_text().startswith("# by-number 1.2.3")
    assert [path.name for path in models.iterdir()] == ["by-number"]


def test_a_zip_an_onnx_and_a_folder_above_give_the_same_bundle(ours, tmp_path, models):
    digest = add_bundle(ours, answer).bundle.sha256
    archive = zipped(ours, tmp_path / "by-number_v1.2.3.zip")
    flat = zipped(ours, tmp_path / "flat-1.0.zip", root="")
    above = copy(ours, tmp_path).parent
    for path, name in ((archive, "by-number"), (flat, "flat"), (ours / "models" / "model.onnx", "by-number"), (above, "by-number")):
        added = add_bundle(path, answer)
        assert (added.bundle.name, added.bundle.sha256) == (name, digest)
    assert add_bundle(archive, answer, "other").bundle.name == "other"
    assert sorted(path.name for path in models.iterdir()) == ["by-number", "flat", "other"]


def test_adding_again_replaces_and_says_which_version_it_was(ours, tmp_path, models):
    add_bundle(ours, answer)
    newer = edit(copy(ours, tmp_path), lambda said: said.update(version="2.0"))
    added = add_bundle(newer, answer)
    assert (added.replaced, added.bundle.version, load_bundle("by-number").version) == ("1.2.3", "2.0", "2.0")


def test_a_refused_bundle_leaves_the_installed_one(ours, tmp_path, models):
    add_bundle(ours, answer)
    spoiled = copy(ours, tmp_path)
    (spoiled / "models" / "model.onnx").write_bytes(b"")
    with pytest.raises(DosimetryError, match="by-number"):
        add_bundle(spoiled, answer)
    assert load_bundle("by-number").version == "1.2.3"
    assert [path.name for path in models.iterdir()] == ["by-number"]


def test_an_altered_byte_of_the_weights_is_refused_by_name(ours, tmp_path, models):
    add_bundle(ours, answer)
    for where in (0, 200, -1):
        altered = copy(ours, tmp_path, f"altered{where}")
        weights = altered / "models" / "model.onnx"
        content = bytearray(weights.read_bytes())
        content[where] ^= 1
        weights.write_bytes(content)
        with pytest.raises(DosimetryError, match=f"model altered{where}: its weights are not those of its metadata"):
            add_bundle(altered, answer)
        (models / "by-number" / "models" / "model.onnx").write_bytes(content)
        with pytest.raises(DosimetryError, match="model by-number: model is not what it says; found SHA-256") as caught:
            load_bundle("by-number")
        assert caught.value.code == "SPOILED_MODEL"


def test_truncated_weights_are_refused_even_where_no_digest_was_published(theirs, tmp_path, models):
    size = (theirs / "models" / "model.onnx").stat().st_size
    for part in (0, 1, size // 2, size - 1):
        cut = copy(theirs, tmp_path, f"cut{part}")
        weights = cut / "models" / "model.onnx"
        weights.write_bytes(weights.read_bytes()[:part])
        refused(cut, f"model cut{part}: its ONNX", models, "BUNDLE_WEIGHTS")


def test_other_channels_than_the_metadata_say_are_refused(ours, theirs, tmp_path, models):
    fewer = copy(theirs, tmp_path, "fewer")
    onnx_file(fewer / "models" / "model.onnx", 104)
    refused(fewer, "gives 104 channels, its metadata say 105", models, "BUNDLE_WRONG_CHANNELS")
    more = copy(theirs, tmp_path, "more")
    onnx_file(more / "models" / "model.onnx", 105, 2)
    refused(more, "takes 2 channels, its metadata say 1", models, "BUNDLE_WRONG_CHANNELS")
    beyond = edit(copy(ours, tmp_path, "beyond"), lambda said: said["mrtai"]["classes"].update({"9": "spleen"}))
    refused(beyond, "gives 4 channels, its metadata say 10", models)
    miscounted = edit(
        copy(theirs, tmp_path, "miscounted"), lambda said: said["network_data_format"]["outputs"]["pred"].update(num_channels=104)
    )
    refused(miscounted, "num_channels 104, but channel_def names 105", models)


def test_the_model_zoos_classes_become_our_regions(theirs, models):
    bundle = add_bundle(theirs, answer).bundle
    assert len(WHOLE_BODY) == 105
    names = {name: bundle.classes.get(channel) for channel, name in enumerate(WHOLE_BODY)}
    assert names["background"] is None
    assert {names[name] for name in WHOLE_BODY if name.startswith("vertebrae") or name == "sacrum"} == {"spine"}
    assert {names[name] for name in WHOLE_BODY if name.startswith("lung") and name.endswith("left")} == {"lung_left"}
    assert sum(region == "lung_right" for region in bundle.classes.values()) == 3
    assert names["heart_atrium_left"] == "heart"
    kept = ("kidney_left", "liver", "urinary_bladder", "rib_left_12", "adrenal_gland_right", "face")
    assert {name: names[name] for name in kept} == {name: name for name in kept}
    assert bundle.task == "organs"


def test_the_input_of_a_foreign_bundle_is_read_from_its_transforms(theirs, models):
    contract = add_bundle(theirs, answer).bundle.contract
    (channel,) = contract.channels
    assert (contract.spacing_mm, contract.patch) == (1.5, (16, 16, 16))
    assert (channel.quantity, channel.low, channel.high, channel.outside) == ("HU", -1000.0, 500.0, -1000.0)
    # a_min becomes b_min, a_max b_max: 1500 HU over 3
    assert [(hu - channel.shift) / channel.scale for hu in (-1000, 500)] == pytest.approx([-1.0, 2.0])


def test_our_own_inference_configuration_says_what_our_contract_says(ours, tmp_path, models):
    foreign_alike = edit(copy(ours, tmp_path), lambda said: said.pop("mrtai"))
    bundle = add_bundle(foreign_alike, answer).bundle
    (read,), (channel,) = bundle.contract.channels, CONTRACT.channels
    assert (bundle.contract.spacing_mm, bundle.contract.patch, bundle.contract.axes) == (CONTRACT.spacing_mm, CONTRACT.patch, "SPL")
    assert isinstance(read, Channel)
    for hu in (channel.low, 0.0, channel.high):
        assert (hu - read.shift) / read.scale == pytest.approx((hu - channel.shift) / channel.scale)


def test_a_contract_that_a_site_wrote_wins_over_the_transforms(theirs, tmp_path, models):
    contract = {"channels": [{"quantity": "HU", "low": -200, "high": 300, "shift": 50, "scale": 250, "outside": -1000}]}
    contract |= {"spacing_mm": 2.0, "patch": [16, 16, 16]}
    own = edit(copy(theirs, tmp_path, "own"), lambda said: said.update(mrtai={"contract": contract}))
    (own / "configs" / "inference.json").unlink()
    bundle = add_bundle(own, answer).bundle
    assert (bundle.contract.spacing_mm, bundle.contract.channels[0].shift) == (2.0, 50.0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda told: told.pop("preprocessing"), "preprocessing is missing"),
        (lambda told: told.update(pixdim="$numpy.ones(3)"), r"Spacingd pixdim cannot be told without running code \('numpy.ones\(3\)'"),
        (lambda told: told.update(pixdim="@pixdim"), "Spacingd pixdim cannot be told without running code .*refers in circles"),
        (lambda told: told.update(pixdim="@nowhere"), "Spacingd pixdim cannot be told .*nowhere"),
        (lambda told: told.update(pixdim=[1.5, 1.5, 2.0]), "voxels are not cubic"),
        (lambda told: told.update(pixdim=[-1.0, -1.0, -1.0]), "spacing"),
        (lambda told: told["preprocessing"]["transforms"].pop(3), "no Orientationd"),
        (lambda told: told["preprocessing"]["transforms"].pop(5), "ScaleIntensityRanged alone is read"),
        (lambda told: told["preprocessing"]["transforms"].append({"_target_": "HistogramNormalized"}), "HistogramNormalize"),
        (lambda told: told["preprocessing"]["transforms"][3].update(axcodes="RAX"), "axes"),
        (lambda told: told["inferer"].pop("roi_size"), "roi_size is missing"),
        (lambda told: told["inferer"].update(roi_size=[16, 16]), "inference.json"),
        (lambda told: told["postprocessing"]["transforms"][0].update(sigmoid=True), "may overlap"),
    ],
)
def test_an_input_that_is_not_told_is_refused_with_the_key(theirs, tmp_path, models, change, match):
    assert refused(edit(copy(theirs, tmp_path, "untold"), change, "inference.json"), match, models).where == "model untold"


def test_a_network_that_wants_more_than_one_ct_is_refused_without_a_contract(tmp_path, models):
    said = metadata()
    said["network_data_format"]["inputs"]["image"].update(modality="MR", format="magnitude")
    refused(foreign(tmp_path / "mr", said=said), "1 channels of MR", models)


def test_the_model_zoos_axes_and_ranges_are_kept_in_the_contract(tmp_path, models):
    zoo = foreign(tmp_path / "zoo", told=inference("RAS", STRETCHED, window=(8, 16, 24)), fixed=False)
    contract = add_bundle(zoo, answer).bundle.contract
    (channel,) = contract.channels
    # the window is told along the network's own axes
    assert (contract.axes, contract.patch) == ("RAS", (24, 16, 8))
    assert channel.stretched
    # 0 … 1 becomes -1 … 1
    assert [(share - channel.shift) / channel.scale for share in (0.0, 1.0)] == [-1.0, 1.0]


def test_pickled_weights_are_refused_with_the_way_to_onnx(tmp_path, models):
    refusal = refused(foreign(tmp_path / "pickled", weights="model.pt"), "only ONNX is run, and nothing is unpickled", models)
    assert "from monai.bundle import onnx_export" in refusal.remedy
    for name in ("model.ts", "model.pt"):
        (tmp_path / name).write_bytes(b"PK\3\4")
        refused(tmp_path / name, "nothing is unpickled", models, "BUNDLE_NOT_ONNX")


@pytest.mark.slow
def test_the_way_to_onnx_that_a_refusal_names_works(tmp_path, models):
    """With MONAI's own exporter, which writes one window of fixed size."""
    told = inference(network_def={"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 105, "kernel_size": 3, "padding": 1})
    zoo = foreign(tmp_path / "zoo", told=told, weights="model.pt")
    torch.manual_seed(0)
    torch.save(torch.nn.Conv3d(1, 105, 3, padding=1).state_dict(), zoo / "models" / "model.pt")
    command = refused(zoo, "nothing is unpickled", models).remedy.partition(": ")[2].removeprefix("python")
    subprocess.run(f"{sys.executable}{command}", shell=True, cwd=zoo, check=True, capture_output=True)
    assert add_bundle(zoo, answer).bundle.weights.stat().st_size > 105 * 27 * 4


def test_an_onnx_alone_is_refused(theirs, tmp_path, models):
    alone = shutil.copy(theirs / "models" / "model.onnx", tmp_path / "alone.onnx")
    refused(tmp_path / "alone.onnx", "does not say what it needs", models)
    assert alone


def test_of_several_onnx_the_one_that_is_named_is_taken(theirs, tmp_path, models):
    both = copy(theirs, tmp_path)
    (both / "models" / "model.onnx").rename(both / "models" / "high.onnx")
    onnx_file(both / "models" / "low.onnx", 105)
    refused(both, "high.onnx, low.onnx", models)
    assert add_bundle(both / "models" / "low.onnx", answer).bundle.name == theirs.name


HOSTILE = ["../../evil.json", "/etc/evil.json", "a/../../evil.json", "C:\\evil.json", "..\\evil.json", "bundle/con:fig.json"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_zip_whose_names_lead_elsewhere_is_refused(theirs, tmp_path, models, name):
    archive = zipped(theirs, tmp_path / "evil.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(zipfile.ZipInfo(name), "{}")
    refused(archive, "leads out of its folder", models, "BUNDLE_ZIP")
    assert not list(tmp_path.rglob("evil.json"))


def test_a_zip_with_a_link_is_refused(theirs, tmp_path, models):
    archive = zipped(theirs, tmp_path / "linked.zip")
    link = zipfile.ZipInfo("wholeBody_ct_segmentation/docs/license.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    refused(archive, "link", models)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(theirs, tmp_path, models):
    archive = zipped(theirs, tmp_path / "bomb.zip")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened, opened.open("docs/huge.md", "w", force_zip64=True) as huge:
        for _ in range(80):
            huge.write(bytes(1 << 20))
    refused(archive, "far more than a model", models)


def test_one_name_twice_in_a_zip_is_refused(theirs, tmp_path, models):
    archive = zipped(theirs, tmp_path / "twice.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("wholeBody_ct_segmentation/configs/METADATA.json", "{}")
    refused(archive, "one name twice", models)


def test_a_damaged_zip_is_refused(theirs, tmp_path, models):
    content = zipped(theirs, tmp_path / "whole.zip").read_bytes()
    middle = len(content) // 2
    for number, spoiled in enumerate(
        (b"", content[:-30], content[:middle], b"no zip", content[:middle] + b"\0" * 64 + content[middle + 64 :])
    ):
        archive = tmp_path / f"spoiled{number}.zip"
        archive.write_bytes(spoiled)
        refused(archive, f"spoiled{number}.zip", models, "BUNDLE_ZIP")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xfe", b'{"mrtai": 3}', b'{"network_data_format": {"inputs": 1}}', b"null"]
)
def test_metadata_that_are_none_are_refused(theirs, tmp_path, models, content):
    spoiled = copy(theirs, tmp_path, "spoiled")
    (spoiled / "configs" / "metadata.json").write_bytes(content)
    assert refused(spoiled, "model spoiled", models).found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spacing_mm", 0),
        ("spacing_mm", "NaN"),
        ("patch", [16, 16]),
        ("patch", [16, 16, 0]),
        ("patch", [10**6] * 3),
        ("channels", []),
        ("channels", [{"quantity": "HU"}]),
        ("channels", [{"quantity": "HU", "low": 1, "high": 0, "shift": 0, "scale": 1, "outside": 0}]),
        ("channels", [{"quantity": "HU", "low": 0, "high": 1, "shift": 0, "scale": 0, "outside": 0}]),
        ("axes", "LLL"),
    ],
)
def test_a_contract_that_cannot_be_is_refused(ours, tmp_path, models, key, value):
    wrong = edit(copy(ours, tmp_path, "wrong"), lambda said: said["mrtai"]["contract"].update({key: value}))
    refused(wrong, "model wrong", models)


def test_names_that_no_model_may_have_are_refused(ours, tmp_path, models):
    for name in ("none", "threshold", ".hidden", "a/b", "", "x" * 65, "ü"):
        with pytest.raises(DosimetryError, match="no name for a model"):
            add_bundle(copy(ours, tmp_path, f"c{len(list((tmp_path).glob('copies/*')))}"), answer, name or " ")
    assert list(models.iterdir()) == []


def test_a_region_name_that_no_archive_could_hold_is_refused(ours, tmp_path, models):
    wrong = edit(copy(ours, tmp_path, "wrong"), lambda said: said["mrtai"]["classes"].update({"1": "li\\ver"}))
    refused(wrong, "DICOM label", models)


def test_an_unknown_model_is_refused_with_those_that_are_there(ours, models):
    add_bundle(ours, answer)
    with pytest.raises(DosimetryError, match=r"organ: unknown model; found installed: .*by-number") as caught:
        load_bundle("organ")
    assert caught.value.code == "UNKNOWN_MODEL"


def test_an_unfinished_addition_is_no_model(ours, models):
    shutil.copytree(ours, models / ".adding-x")
    assert ".adding-x" not in installed()
    assert own_models() == models


def test_a_folder_that_cannot_be_written_is_refused(ours, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MRTAI_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(DosimetryError, match="models cannot be written there"):
        add_bundle(ours, answer)


def test_every_shipped_model_is_what_it_says():
    from mrtai.io.add_bundle import read_classes, require_same_channels
    from mrtai.io.bundles import shipped_models

    for folder in sorted(path for path in shipped_models().glob("*") if path.is_dir()):
        model = verified_model(folder)
        if isinstance(model, Bundle):
            answered = answer(model.weights, model.contract, model.name)
            require_same_channels(model, len(read_classes(folder)), answered)
        else:
            require_numbers(model.weights, model.name)
        assert model.weights.stat().st_size <= 40e6
        assert (folder / "docs" / "README.md").is_file()


def test_a_model_that_draws_nothing_is_verified_and_refused_where_one_must_draw(tmp_path, models):
    folder = models / "numbers"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "models" / "model.onnx").write_bytes(b"weights")
    digest = hashlib.sha256((folder / "models" / "model.onnx").read_bytes()).hexdigest()
    said = {"version": "1.0", "mrtai": {"task": "kinetics", "sha256": digest, "envelope": {"time": [0.1, 8.0]}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(said))
    assert load_network("numbers", "kinetics").label == "numbers@1.0"
    with pytest.raises(
        DosimetryError, match="numbers: model is for something else; found its task is kinetics, organs or lesions is needed"
    ):
        load_bundle("numbers")
    with pytest.raises(DosimetryError, match="its task is kinetics, dose is needed"):
        load_network("numbers", "dose")
    refused(folder, "only models that draw are added; found its task is kinetics; copy its folder", tmp_path / "other")
    (folder / "models" / "model.onnx").write_bytes(b"other")
    with pytest.raises(DosimetryError, match="SHA-256 of its weights"):
        load_network("numbers", "kinetics")
