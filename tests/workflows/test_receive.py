"""The DICOM receiver under load and under the kill: nothing lost, nothing doubled, memory flat."""

import os
import signal
import socket
import struct
import threading
import time
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from instance_maker import BORN, NAME, PATIENT, ROOT, ct, encoded
from orthanc import free_port
from pydicom.uid import CTImageStorage
from pynetdicom.dimse_primitives import C_STORE
from senders import associate, receiving, send, send_all, serving, stored, storescu, wait_for

from mrtai.io.received import Received, key

INSTANCES, DUPLICATES, ASSOCIATIONS = 2000, 100, 4
# 1,000 instances of the second half hold 33 MB
MOST_GROWTH_MIB = 8


def rss_mib(process):
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture(scope="module")
def load():
    """2,000 objects of four studies by SOP instance UID."""
    made = {}
    for number in range(INSTANCES):
        dataset = ct(study=1 + number % 4, instance=1 + number, size=128)
        made[str(dataset.SOPInstanceUID)] = encoded(dataset)
    return made


def break_off(port):
    """Go away in the middle of a unit of the protocol."""
    association = associate(port)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, f"{ROOT}.9.9.9"
    content = encoded(ct(9, 9, 9))
    request.DataSet = BytesIO(content[content.index(b"\x08\x00\x16\x00") :])
    whole = association.dul.socket.socket
    association.dul.socket.send = lambda sent: whole.send(sent[: len(sent) // 2]) if len(sent) > 500 else whole.send(sent)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    time.sleep(0.2)
    whole.close()
    association.kill()


def garbage(port):
    for sent in (
        os.urandom(3000),
        b"\x04\x00" + struct.pack(">L", 2**32 - 1) + bytes(10000),
        b"\x01\x00" + struct.pack(">L", 400) + bytes(400),
    ):
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.sendall(sent)


def test_two_thousand_instances_from_four_senders_come_once_each_in_flat_memory(load, tmp_path):
    port, log, acknowledged = free_port(), tmp_path / "log", []
    shares = [list(load.values())[number::ASSOCIATIONS] for number in range(ASSOCIATIONS)]
    folders = []
    for number in (2, 3):
        folders.append(tmp_path / f"sender{number}")
        folders[-1].mkdir()
        for at, content in enumerate(shares[number] + shares[number - 2][: DUPLICATES // 4]):
            (folders[-1] / f"{at}").write_bytes(content)
    results = []
    with serving(tmp_path, port, log) as process:
        senders = [
            threading.Thread(target=send_all, args=(port, shares[n] + shares[n + 2][: DUPLICATES // 4], acknowledged)) for n in (0, 1)
        ]
        senders += [threading.Thread(target=lambda one=one: results.append(storescu(port, "+sd", one))) for one in folders]
        start = time.perf_counter()
        for sender in senders:
            sender.start()
        break_off(port)
        garbage(port)
        count = lambda: sum(1 for _ in (tmp_path / "data" / "received").glob("*/*.dcm"))  # noqa: E731
        wait_for(lambda: count() >= INSTANCES // 2, 120)
        half_mib = rss_mib(process)
        for sender in senders:
            sender.join()
        took_s, end_mib = time.perf_counter() - start, rss_mib(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    print(f"{(INSTANCES + DUPLICATES) / took_s:.0f} instances/s; {half_mib:.1f} MiB at half, {end_mib:.1f} MiB at the end")
    assert [one.returncode for one in results] == [0, 0]
    assert len(acknowledged) == INSTANCES // 2 + DUPLICATES // 2
    found = stored(tmp_path / "data")
    assert found.keys() == load.keys()
    assert all(pydicom.dcmread(found[uid]) == pydicom.dcmread(BytesIO(load[uid])) for uid in list(load)[::20])
    assert all(found[uid].read_bytes()[-32768:] == load[uid][-32768:] for uid in load)
    assert not list((tmp_path / "data" / "received").glob("*/.again")) and not list((tmp_path / "data" / "received" / ".partial").iterdir())
    assert end_mib - half_mib < MOST_GROWTH_MIB
    told = log.read_text()
    assert told.count("association released") >= ASSOCIATIONS and " known" in told and "broken off" in told
    assert not any(one in told for one in (NAME, "Prefect", PATIENT, BORN, ROOT))
    assert not any(one in str(path) for path in found.values() for one in (PATIENT, ROOT))


def test_after_a_kill_everything_acknowledged_is_there_and_the_rest_comes_by_sending_again(load, tmp_path):
    port, log, acknowledged = free_port(), tmp_path / "log", []
    contents = dict(list(load.items())[:150])
    for kill_after in (10, 40, 90):
        with serving(tmp_path, port, log) as process:
            sender = threading.Thread(target=send, args=(port, contents.values(), acknowledged))
            before = len(acknowledged)
            sender.start()
            wait_for(lambda: len(acknowledged) - before >= kill_after)  # noqa: B023
            process.kill()
            sender.join()
        assert stored(tmp_path / "data").keys() >= set(acknowledged)
    (tmp_path / "data" / "received" / ".partial" / "other.1.x").touch()
    with serving(tmp_path, port, log) as process:
        send(port, contents.values(), acknowledged)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    found = stored(tmp_path / "data")
    assert found.keys() == contents.keys()
    assert all(found[uid].read_bytes()[-32768:] == contents[uid][-32768:] for uid in contents)
    # what the killed ones left half-written is swept; what may be another machine's stays for an hour
    assert [path.name for path in (tmp_path / "data" / "received" / ".partial").iterdir()] == ["other.1.x"]


def test_a_stop_keeps_what_was_acknowledged_and_ends_in_time(tmp_path, load):
    acknowledged = []
    with receiving(tmp_path) as (port, _, server):
        sender = threading.Thread(target=send, args=(port, load.values(), acknowledged))
        sender.start()
        wait_for(lambda: len(acknowledged) > 50)
    sender.join()
    assert not server.active_associations and len(acknowledged) < INSTANCES
    assert stored(tmp_path).keys() >= set(acknowledged)
    assert key(f"{ROOT}.1") in {one.study for one in Received(tmp_path).studies()}
