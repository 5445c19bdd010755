"""The store of received instances: each once, whole or not at all, and named by nothing that tells who."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pydicom
import pytest
from instance_maker import BORN, NAME, PATIENT, ROOT, ct, encoded
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from mrtai.io.received import Outcome, Received, key
from mrtai.io.watched import Watched
from mrtai.values.refusal import DosimetryError

PARTIALS = ".partial"


@pytest.fixture
def store(tmp_path):
    return Received(tmp_path)


def names(store):
    """Every file of the store, relative to it."""
    return sorted(str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if path.is_file())


def test_an_instance_is_kept_byte_for_byte_under_names_that_tell_nothing(store):
    content = encoded(ct())
    taken = store.take(content)
    assert taken.outcome is Outcome.STORED and taken.path.read_bytes() == content
    assert names(store) == [f"{key(f'{ROOT}.1')}/{key(f'{ROOT}.1.1.1')}.dcm"]
    assert not any(told in names(store)[0] for told in (NAME, PATIENT, BORN, ROOT))


def test_the_same_instance_again_is_known(store):
    store.take(encoded(ct()))
    assert store.take(encoded(ct())).outcome is Outcome.KNOWN
    assert len(names(store)) == 1


def test_the_same_object_in_another_wrapper_is_known(store):
    dataset = ct()
    store.take(encoded(dataset))
    dataset.add_new(0x00080000, "UL", 1234)
    other = encoded(dataset, ImplicitVRLittleEndian).replace(b"PYDICOM", b"OTHERLY")
    assert other != encoded(ct())
    assert store.take(other).outcome is Outcome.KNOWN
    assert len(names(store)) == 1


@pytest.mark.parametrize("change", ["pixels", "header", "nested"])
def test_another_object_under_the_same_uid_is_kept_beside_the_first(store, change):
    first = store.take(encoded(ct()))
    before, other = first.path.read_bytes(), ct(seed=99 if change == "pixels" else None)
    if change == "header":
        other.SeriesDescription = "corrected"
    if change == "nested":
        other.ProcedureCodeSequence[0].CodeMeaning = "Something else"
    for _ in range(2):
        taken = store.take(encoded(other))
        assert taken.outcome is Outcome.DIFFERS and taken.path.read_bytes() == encoded(other)
    assert first.path.read_bytes() == before
    assert len(names(store)) == 2 and next(store.studies()).again and next(store.studies()).instances == 1


@pytest.mark.parametrize(
    "file", ["JPEG2000.dcm", "MR_small_RLE.dcm", "image_dfl.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "test-SR.dcm"]
)
def test_files_of_every_encoding_are_taken_and_known_again(store, file):
    content = Path(get_testdata_file(file)).read_bytes()
    taken = store.take(content)
    assert taken.path.read_bytes() == content
    assert store.take(content).outcome is Outcome.KNOWN


@pytest.mark.parametrize("file", ["CT_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "image_dfl.dcm", "MR_small_bigendian.dcm"])
def test_a_file_cut_short_is_refused_and_leaves_nothing(store, file):
    content = Path(get_testdata_file(file)).read_bytes()
    # 150 bytes from the end are pixels in each: the padding behind them may be missing
    for length in (len(content) * 3 // 10, len(content) * 7 // 10, len(content) - 150):
        with pytest.raises(DosimetryError, match="send it again"):
            store.take(content[:length])
    assert names(store) == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_an_object_without_a_uid_is_refused_without_naming_the_patient(store, keyword):
    dataset = ct()
    content = encoded(dataset)
    setattr(dataset, keyword, "")
    # the file's meta information says these two again, and a writer refuses to leave them out
    stream = _blanked(content, ct()[keyword].value) if keyword.startswith("SOP") else encoded(dataset)
    with pytest.raises(DosimetryError) as refusal:
        store.take(stream)
    assert refusal.value.code == "NO_UIDS" and keyword in str(refusal.value) and PATIENT not in str(refusal.value)
    assert names(store) == []


def _blanked(content, uid):
    at = content.rindex(uid.encode())
    return content[:at] + b"\0" * len(uid) + content[at + len(uid) :]


@pytest.mark.parametrize("garbage", [b"", b"\0" * 5000, b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + bytes(range(256)) * 40])
def test_garbage_is_refused(store, garbage):
    with pytest.raises(DosimetryError):
        store.take(garbage)
    assert names(store) == []


def test_an_instance_delivered_by_many_at_once_is_stored_once(store):
    content, outcomes, start = encoded(ct()), [], threading.Barrier(8)

    def deliver():
        start.wait()
        outcomes.append(store.take(content).outcome)

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.value for one in outcomes) == ["known"] * 7 + ["stored"]
    assert len(names(store)) == 1


def _die_while_taking(root):
    store = Received(root)

    def pieces():
        content = encoded(ct())
        yield content[:2000]
        os._exit(9)

    store.take_pieces(pieces())


def test_a_process_that_dies_leaves_a_partial_file_that_is_swept_and_no_instance(store, tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=_die_while_taking, args=(tmp_path,))
    worker.start()
    worker.join()
    assert worker.exitcode == 9 and len(names(store)) == 1 and names(store)[0].startswith(PARTIALS)
    assert list(store.studies()) == []
    assert store.sweep() == 1 and names(store) == []


def test_sweeping_leaves_what_a_living_process_writes_and_removes_what_an_hour_left(store):
    def pieces():
        yield encoded(ct())[:2000]
        assert store.sweep() == 0
        yield encoded(ct())[2000:]

    assert store.take_pieces(pieces()).outcome is Outcome.STORED
    old = store.partials / "elsewhere.1.x"
    old.write_bytes(b"")
    assert store.sweep() == 0
    os.utime(old, (time.time() - 3700, time.time() - 3700))
    assert store.sweep() == 1


def test_nothing_is_taken_when_the_disk_is_nearly_full(tmp_path):
    store = Received(tmp_path, least_free_gb=1e9)
    with pytest.raises(OSError, match="No space"):
        store.take(encoded(ct()))
    assert names(store) == []


def test_another_object_than_announced_is_refused(store):
    for announced in ({"instance": "1.2.3"}, {"sop_class": "1.2.3"}):
        with pytest.raises(DosimetryError) as refusal:
            store.take_pieces([encoded(ct())], **announced)
        assert refusal.value.code == "OTHER_OBJECT"
    assert names(store) == []


def test_studies_tell_how_many_came_and_when_and_how_many_are_expected(store):
    store.expect(f"{ROOT}.1", 3)
    assert list(store.studies()) == []
    for instance in (1, 2):
        store.take(encoded(ct(instance=instance)))
    store.take(encoded(ct(study=2)))
    found = {one.study: one for one in store.studies()}
    assert {one.instances for one in found.values()} == {1, 2} and store.count(f"{ROOT}.1") == 2
    one = found[key(f"{ROOT}.1")]
    assert one.expected == 3 and not one.again and found[key(f"{ROOT}.2")].expected is None
    # of the last instance that was put in place, which may be later than its writing
    assert one.last_ns >= max(path.stat().st_mtime_ns for path in (store.folder / one.study).glob("*.dcm"))
    assert one.last_ns == max(path.stat().st_mtime_ns for path in (store.folder / one.study, *(store.folder / one.study).glob("*.dcm")))


def test_a_look_at_a_settled_study_is_repeated_only_when_something_comes(store):
    path = store.take(encoded(ct())).path
    long_ago = time.time() - 100
    os.utime(path.parent, (long_ago, long_ago))
    first = next(store.studies())
    assert next(store.studies()) is first
    store.take(encoded(ct(instance=2)))
    assert next(store.studies()).instances == 2


def test_a_watched_folder_gives_what_has_come_to_rest_and_keeps_its_files(store, tmp_path):
    folder = tmp_path / "watch"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_bytes(encoded(ct()))
    (folder / "notes.txt").write_text("no scan")
    (folder / ".hidden").write_bytes(encoded(ct(instance=7)))
    watched = Watched(folder, store, still_s=0.2)
    assert watched.look() == {}
    growing = folder / "growing.dcm"
    growing.write_bytes(encoded(ct(instance=2))[:1500])
    time.sleep(0.25)
    with growing.open("ab") as stream:
        stream.write(encoded(ct(instance=2))[1500:])
    assert watched.look() == {"stored": 1, "left": 1}
    assert watched.look() == {}
    time.sleep(0.25)
    assert watched.look() == {"stored": 1}
    time.sleep(0.25)
    assert watched.look() == {} and store.count(f"{ROOT}.1") == 2
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [".hidden", "a", "growing.dcm", "notes.txt"]
    again = Watched(folder, store, still_s=0.0)
    assert again.look() == {"known": 2, "left": 1}


def test_a_file_that_cannot_be_stored_is_tried_again(tmp_path):
    store, folder = Received(tmp_path, least_free_gb=1e9), tmp_path / "watch"
    folder.mkdir()
    (folder / "a").write_bytes(encoded(ct()))
    watched = Watched(folder, store, still_s=0.0)
    assert watched.look() == {"failed": 1}
    store.least_free_gb = 0.0
    assert watched.look() == {"stored": 1}


def test_what_came_is_never_quoted_by_a_warning_or_a_refusal(tmp_path):
    uid = f"{ROOT}.1".encode()
    wrong = PATIENT.encode().ljust(len(uid), b"\0")
    at = encoded(ct()).index(uid, encoded(ct()).index(BORN.encode()))
    path = tmp_path / "odd.dcm"
    path.write_bytes(encoded(ct())[:at] + wrong + encoded(ct())[at + len(uid) :])
    code = "import sys; from pathlib import Path; from mrtai.io.received import Received\n"
    code += "Received(Path(sys.argv[1])).take_file(Path(sys.argv[2]))"
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(path)], capture_output=True, text=True, check=False)
    assert "StudyInstanceUID" in told.stderr and PATIENT not in told.stdout + told.stderr


def test_the_maker_of_these_objects_makes_readable_ones():
    read = pydicom.dcmread(pydicom.filebase.DicomBytesIO(encoded(ct())))
    assert isinstance(read, Dataset) and read.pixel_array.shape == (16, 16)
