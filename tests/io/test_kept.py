"""A value that is kept comes back bit by bit, or not at all."""

import json
import logging
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrtai.io.code_version import code_sha256, package_sha256
from mrtai.io.digest import Digests, digest
from mrtai.io.hashes import file_sha256
from mrtai.io.kept import Shelf
from mrtai.physics.resample import resampled
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from tests.io.sample_report import sample_report

NAME = "room-0123456789abcdef"
GRID = Grid.axial((12, 14, 16), (4.0, 4.0, 5.0))
VOXELS = np.random.default_rng(1).normal(size=GRID.shape).astype(np.float32)


def again(folder, value):
    Shelf(folder).keep(NAME, value)
    (found,) = Shelf(folder).kept(NAME)
    return found


def require_same(one, other):
    """Types, bits, and for arrays the order in which their elements lie."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype.str, one.shape, one.tobytes()) == (other.dtype.str, other.shape, other.tobytes())
        assert np.sum(one).tobytes() == np.sum(other).tobytes()
    elif is_dataclass(one):
        for field in fields(one):
            require_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict | MappingProxyType):
        assert list(one) == list(other)
        for key in one:
            require_same(one[key], other[key])
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            require_same(a, b)
    else:
        assert repr(one) == repr(other)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(10**30), 0.1, -0.0, float("nan"), float("-inf"), 5e-324, 1e22, "", "ü \ud800 \x00 \U0001f600", b"", b"\x80\x04",
        (), ((), ((),)), [1, [2.0]], {}, {"a": 1, 2: (3,)}, {(1, "x"): None}, MappingProxyType({1: "b", 0: "a"}), frozenset({"b"}),
        date(2026, 3, 2), datetime(2026, 3, 2, 9, 30, 0, 1), datetime(2026, 3, 2, tzinfo=UTC),
        datetime(2026, 3, 2, 9, tzinfo=timezone(timedelta(hours=-9, minutes=-30))), Quantity.DOSE_RATE, Severity.REVIEW,
        Flag("CODE", Severity.INFO, "text", "remedy"), GRID, np.float64(-0.0), np.float32(0.1), np.bool_(True), np.int64(7),
        np.array(3.5), np.zeros((0, 3)), np.array([np.nan, -0.0, np.inf]), np.ones(3, bool), np.arange(5, dtype=">u2"), np.array([1j]),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_small_values_come_back_as_they_were(tmp_path, value):
    require_same(again(tmp_path, value), value)


@pytest.mark.parametrize(
    "array",
    [
        VOXELS,
        VOXELS.T,
        np.asfortranarray(VOXELS),
        VOXELS[::-1, :, ::-1],
        VOXELS.transpose(1, 2, 0)[:, ::-1],
        VOXELS[1:-1, 2:, ::2],
        np.broadcast_to(VOXELS[:, :1], VOXELS.shape),
        VOXELS > 0,
        (VOXELS * 100).astype(np.int16),
    ],
    ids=lambda array: f"{array.dtype} {array.shape} {array.strides}",
)
def test_voxels_come_back_in_the_order_in_which_they_lay(tmp_path, array):
    found = again(tmp_path, array)
    require_same(found, array)
    # sums over other axes depend on the layout too
    assert found.strides == array.strides
    assert not found.flags.writeable


def test_a_whole_report_comes_back(tmp_path):
    report = sample_report()
    require_same(again(tmp_path, report), report)


def test_equal_voxels_are_stored_once_and_shared(tmp_path):
    image = Image(VOXELS, Quantity.HOUNSFIELD, GRID)
    moved = resampled(image, GRID).on(Grid.axial(GRID.shape, (1, 1, 1)))
    shelf = Shelf(tmp_path)
    shelf.keep("one-0000000000000000", (image, Image(VOXELS.copy(), Quantity.HOUNSFIELD, GRID)))
    shelf.keep("two-0000000000000000", {"moved": moved, "other": Image(VOXELS + 1, Quantity.HOUNSFIELD, GRID)})
    assert len(list((tmp_path / "arrays").iterdir())) == 2
    shelf = Shelf(tmp_path)
    ((a, b),), (two,) = shelf.kept("one-0000000000000000"), shelf.kept("two-0000000000000000")
    assert np.shares_memory(a.voxels, b.voxels) and np.shares_memory(a.voxels, two["moved"].voxels)
    with pytest.raises(ValueError, match="read-only"):
        a.voxels[0, 0, 0] = 1


@dataclass(frozen=True)
class Foreign:
    number: int = 1


@dataclass
class Changeable:
    number: int = 1


@pytest.mark.parametrize(
    "value",
    [Foreign(), Changeable(), object(), {1, 2}, np.array([object()]), Path("x"), lambda: 1, datetime(2026, 3, 2, tzinfo=ZoneInfo("UTC"))],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_ours_is_not_kept(tmp_path, value):
    with pytest.raises(TypeError):
        Shelf(tmp_path).keep(NAME, (1, value))
    assert Shelf(tmp_path).kept(NAME) is None
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("name", ["os:system", "pathlib:Path", "mrtai.values.image:np", "mrtai.values.grid:replace", "mrtai.io.kept:Shelf"])
def test_only_values_of_ours_are_made_from_what_is_read(tmp_path, name, caplog):
    Shelf(tmp_path).keep(NAME, Flag("CODE", Severity.INFO, "text", "remedy"))
    file = tmp_path / f"{NAME}.json"
    file.write_text(file.read_text().replace("mrtai.values.flag:Flag", name))
    with caplog.at_level(logging.WARNING):
        assert Shelf(tmp_path).kept(NAME) is None
    assert "is damaged" in caplog.text


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damaged_byte_gives_another_value(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kept")
    value = (Image(VOXELS, Quantity.HOUNSFIELD, GRID), Labels((VOXELS > 0).astype(np.uint8), {1: "liver"}, GRID, origin="x"), 0.25)
    Shelf(folder).keep(NAME, value)
    file = data.draw(st.sampled_from(sorted(folder.rglob("*.*"))))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    found = Shelf(folder).kept(NAME)
    assert found is None or digest(found[0]) == digest(value)


def test_others_are_discarded_with_what_only_they_need(tmp_path):
    shelf, other = Shelf(tmp_path), "other-0123456789abcdef"
    shelf.keep(NAME, (VOXELS, VOXELS + 1))
    shelf.keep(other, (VOXELS, VOXELS + 2))
    (tmp_path / "notes.json").write_text("a person's")
    (tmp_path / ".x.json.partial-1").write_text("{")
    shelf.discard_others([other])
    assert shelf.kept(NAME) is None and shelf.kept(other) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays", "notes.json", f"{other}.json"]
    assert len(list((tmp_path / "arrays").iterdir())) == 2
    Shelf(tmp_path / "absent").discard_others([])


def test_the_digest_tells_apart_what_differs():
    values = [
        None, False, 0, 0.0, -0.0, "", "0", b"", (), [], {}, MappingProxyType({}), frozenset(), (1, 2), (2, 1), ((1,), 2), (1, (2,)), "12",
        ("1", "2"), ("12",), {1: 2}, {2: 1}, np.float64(0), np.float32(0), np.zeros(1), np.zeros((1, 1)), np.zeros(1, ">f8"),
        np.zeros(1, int),
        Quantity.HOUNSFIELD, Severity.INFO, "info", date(2026, 3, 2), datetime(2026, 3, 2), datetime(2026, 3, 2, tzinfo=UTC), Foreign(),
        Foreign(2), Changeable(), Foreign, digest, partial(digest), partial(digest, 1), partial(digest, value=1),
        float("nan"), float("inf"),
    ]  # fmt: skip
    assert len({digest(value) for value in values}) == len(values)
    assert [digest(value) for value in values] == [digest(value) for value in values]
    assert digest(frozenset("abcdef")) == digest(frozenset("fedcba"))
    assert digest(VOXELS) == digest(np.asfortranarray(VOXELS)) == digest(VOXELS.copy())


@pytest.mark.parametrize("value", [object(), {1}, lambda: 1, [].append, np.array([object()]), iter(()), 1j], ids=lambda v: type(v).__name__)
def test_there_is_no_digest_of_what_is_not_known(value):
    with pytest.raises(TypeError, match=r"digest|told apart|array of"):
        digest((1, value))


def test_large_read_only_arrays_are_hashed_once_and_others_each_time(monkeypatch):
    digests, array = Digests(), np.zeros(1 << 17)
    first = digests.of(array)
    array[0] = 1
    assert digests.of(array) != first
    array.setflags(write=False)
    assert digests.of(array[:]) == digests.of(array) != digests.of(array[::-1][1:])


def test_a_path_is_its_content(tmp_path):
    folder, file = tmp_path / "a", tmp_path / "a" / "deep" / "scan.dcm"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"1")
    before = digest(folder)
    (folder / "truth").mkdir()
    (folder / "truth" / "labels.nii").write_bytes(b"2")
    (folder / ".hidden").write_bytes(b"2")
    assert digest(folder) == before == digest(folder.rename(tmp_path / "b"))
    moved = tmp_path / "b" / "deep" / "scan.dcm"
    moved.write_bytes(b"2")
    assert digest(tmp_path / "b") != before
    moved.write_bytes(b"1")
    moved.rename(moved.with_name("other.dcm"))
    assert digest(tmp_path / "b") != before
    assert len({digest(tmp_path / "absent"), digest(tmp_path / "b"), digest(tmp_path / "b" / "deep" / "other.dcm")}) == 3


def test_the_code_is_known_by_its_files(tmp_path):
    package = tmp_path / "package"
    (package / "data" / "__pycache__").mkdir(parents=True)
    (package / "code.py").write_text("x = 1")
    before = package_sha256(package)
    (package / "data" / "__pycache__" / "code.pyc").write_text("compiled")
    assert package_sha256(package) == before
    (package / "data" / "table.csv").write_text("1")
    with_table = package_sha256(package)
    (package / "code.py").write_text("x = 2")
    assert len({before, with_table, package_sha256(package)}) == 3
    assert code_sha256() == code_sha256() and len(code_sha256()) == 64


def test_kept_files_are_plain_json_and_npy(tmp_path):
    Shelf(tmp_path).keep(NAME, (VOXELS, GRID))
    document = json.loads((tmp_path / f"{NAME}.json").read_text())
    (file,) = (tmp_path / "arrays").iterdir()
    assert document["arrays"] == [file.stem] and document["schema"] == "mrtai.kept/1"
    assert np.array_equal(np.load(file, allow_pickle=False), VOXELS)
    assert len(file_sha256(file)) == len(document["sha256"]) == 64
