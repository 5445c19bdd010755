"""Polling a real archive over DICOMweb: everything of the last days once, unchanged, and the rest after a break."""

from datetime import date, timedelta
from pathlib import Path

import pydicom
import pytest
import requests
from instance_maker import PATIENT, ROOT, ct, encoded
from orthanc import orthanc
from pydicom.data import get_testdata_file

from mrtai.io import multipart
from mrtai.io.dicomweb_pull import pull
from mrtai.io.pacs_link import LinkLost
from mrtai.io.received import Received
from mrtai.values.site import Poll


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return Received(tmp_path)


@pytest.fixture(autouse=True)
def empty(archive):
    yield
    for one in requests.get(f"{archive.url}/studies", timeout=10).json():
        requests.delete(f"{archive.url}/studies/{one}", timeout=10)


def fill(archive, study, modality="CT", instances=3, days=0, size=16):
    files = {}
    for instance in range(1, instances + 1):
        dataset = ct(study=study, series=1 + instance % 2, instance=instance, size=size)
        dataset.Modality = modality
        dataset.StudyDate = f"{date.today() - timedelta(days=days):%Y%m%d}"
        files[str(dataset.SOPInstanceUID)] = encoded(dataset)
        requests.post(f"{archive.url}/instances", data=files[str(dataset.SOPInstanceUID)], timeout=10).raise_for_status()
    return files


def poll(archive, **settings):
    return Poll(name="archive", url=f"{archive.url}/dicom-web", **settings)


def test_what_is_new_comes_once_and_as_the_archive_keeps_it(archive, store, caplog):
    files = fill(archive, 1, "NM") | fill(archive, 2, "PT")
    fill(archive, 3, "CT")
    fill(archive, 4, "NM", days=30)
    first = pull(poll(archive), store)
    assert (first.studies, first.instances, first.unfinished) == (2, {"stored": 6}, 0)
    kept = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in store.folder.glob("*/*.dcm")}
    assert {uid: path.read_bytes() for uid, path in kept.items()} == files
    assert [(one.instances, one.expected) for one in store.studies()] == [(3, 3), (3, 3)]
    second = pull(poll(archive), store)
    assert (second.studies, second.instances, second.unfinished) == (2, {}, 0)
    assert not any(told in caplog.text for told in (PATIENT, ROOT))


def test_a_study_that_grew_gives_only_what_is_new(archive, store):
    fill(archive, 1, "NM", instances=2)
    pull(poll(archive), store)
    fill(archive, 1, "NM", instances=5)
    assert pull(poll(archive), store).instances == {"stored": 3}
    assert [(one.instances, one.expected) for one in store.studies()] == [(5, 5)]


def test_a_compressed_instance_comes_in_its_own_transfer_syntax(archive, store):
    content = Path(get_testdata_file("JPEG2000.dcm")).read_bytes()
    requests.post(f"{archive.url}/instances", data=content, timeout=10).raise_for_status()
    pull(poll(archive, modalities=("NM", "OT"), days=20000), store)
    (path,) = store.folder.glob("*/*.dcm")
    assert path.read_bytes() == content


def test_after_an_archive_that_went_away_the_rest_comes_at_the_next_look(tmp_path, store, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    folder, files = tmp_path / "archive", {}
    with orthanc(folder) as server:
        for study in (1, 2, 3, 4, 5):
            files |= fill(server, study, "NM", instances=4, size=1500)
        monkeypatch.setattr("mrtai.io.dicomweb_pull.only_part", _dying_after(server, 6))
        gone = pull(poll(server), store)
        assert gone.unfinished >= 4 and 0 < gone.instances["stored"] < len(files)
        with pytest.raises(LinkLost):
            pull(poll(server), store)
    monkeypatch.undo()
    assert "left for the next look" in caplog.text and not any(told in caplog.text for told in (PATIENT, ROOT))
    assert not list(store.partials.iterdir())
    with orthanc(folder) as server:
        rest = pull(poll(server), store)
        _gone(server)
    assert rest.unfinished == 0 and rest.instances == {"stored": len(files) - gone.instances["stored"]}
    assert sorted(path.read_bytes() for path in store.folder.glob("*/*.dcm")) == sorted(files.values())


def _dying_after(server, answers):
    """Read parts as ever, and kill the archive in the middle of one."""
    served = []

    def part(answer):
        served.append(answer)
        if len(served) == answers:
            _gone(server)
        yield from multipart.only_part(answer)

    return part


def test_an_instance_that_ends_before_its_part_does_is_not_stored(store):
    content = encoded(ct())
    answer = requests.Response()
    answer.status_code, answer.headers["Content-Type"] = 200, 'multipart/related; type="application/dicom"; boundary="xx"'
    whole = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xx--\r\n"
    for end, chunk in ((len(whole), 1), (len(whole), 7), (len(whole), 10**6), (len(whole) - 300, 7)):
        pieces = [whole[at : at + chunk] for at in range(0, end, chunk)]
        pieces[-1] = pieces[-1][: end - chunk * (len(pieces) - 1)]
        answer.iter_content = lambda _, pieces=pieces: iter(pieces)
        if end == len(whole):
            assert b"".join(multipart.only_part(answer)) == content
        else:
            with pytest.raises(multipart.Broken):
                store.take_pieces(multipart.only_part(answer))
    assert not list(store.folder.glob("*/*"))


def test_a_study_that_cannot_be_fetched_does_not_stop_the_others(tmp_path, store):
    folder = tmp_path / "archive"
    with orthanc(folder) as server:
        for study in (1, 2, 3):
            fill(server, study, "NM", instances=2)
        study = requests.get(f"{server.url}/studies", timeout=10).json()[0]
        # it answers queries from the first
        instance = requests.get(f"{server.url}/studies/{study}/instances", timeout=10).json()[1]["ID"]
        kept_as = requests.get(f"{server.url}/instances/{instance}/attachments/dicom/info", timeout=10).json()["Uuid"]
        _gone(server)
    (lost,) = (folder / "store").rglob(kept_as)
    content = lost.read_bytes()
    lost.unlink()
    with orthanc(folder) as server:
        told = pull(poll(server), store)
        assert (told.studies, told.unfinished) == (3, 1) and told.instances["stored"] >= 4
        lost.write_bytes(content)
        assert pull(poll(server), store).unfinished == 0
        _gone(server)
    assert [(one.instances, one.expected) for one in store.studies()] == [(2, 2)] * 3


def _gone(server):
    server.process.kill()
    server.process.wait()
