"""Folders appear whole or not at all."""

import os

import pytest

from mrtai.io.atomic import ABANDONED_AFTER_S, whole_folder


def test_a_folder_takes_the_place_of_an_older_one_at_the_end(tmp_path):
    out = tmp_path / "case"
    for text in ("old", "new"):
        with whole_folder(out) as partial:
            (partial / "results.json").write_text(text)
            assert not out.exists() or (out / "results.json").read_text() == "old"
    assert (out / "results.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_a_failure_leaves_what_was_there(tmp_path):
    out = tmp_path / "case"
    with whole_folder(out) as partial:
        (partial / "results.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_folder(out) as partial:
        (partial / "results.json").write_text("half")
        raise KeyboardInterrupt
    assert (out / "results.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_killed_run_left_is_gone_a_day_later_and_what_is_under_way_stays(tmp_path):
    out, other = tmp_path / "case", tmp_path / ".case-2.partial-0a0a0a0a"
    left, running = tmp_path / ".case.partial-01234567", tmp_path / ".case.partial-89abcdef"
    for folder in (left, running, other):
        folder.mkdir()
        (folder / "ct.nii.gz").touch()
    for folder in (left, other):
        long_ago = folder.stat().st_mtime - ABANDONED_AFTER_S - 60
        os.utime(folder, (long_ago, long_ago))
    with whole_folder(out):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([out, running, other])
