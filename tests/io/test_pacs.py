"""Sending, to real peers: Orthanc by C-STORE and STOW-RS, DCMTK's storescp, and a peer of our own that misbehaves."""

import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from mrtai.io.pacs import send
from mrtai.io.pacs_store import StoreLink
from mrtai.io.targets import Target, Tls
from mrtai.values.refusal import DosimetryError
from tests.io import dicom_maker as maker
from tests.io.orthanc import free_port, orthanc, program


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "objects"
    folder.mkdir()
    for n, header in enumerate(maker.ct_series(maker.GIVEN_AT, np.full((6, 5, 6), 7, np.int16))):
        header.save_as(folder / f"object_{n}.dcm", enforce_file_format=True)
    return sorted(folder.glob("*.dcm"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def by_store(server, **changes):
    values = {"name": "pacs", "protocol": "c-store", "host": "127.0.0.1", "port": server.dicom_port, "ae_title": "ORTHANC"}
    values |= {"listen_port": server.listen_port, "timeout_s": 15.0}
    return Target(**(values | changes))


def require_same(server, files):
    for path in files:
        sent = pydicom.dcmread(path)
        back = pydicom.dcmread(pydicom.filebase.DicomBytesIO(server.stored(sent.SOPInstanceUID)))
        assert back.PixelData == sent.PixelData
        assert back == sent


def test_orthanc_stores_and_commits_by_c_store(archive, files, tmp_path):
    outcome = send(files, by_store(archive, commitment=True), tmp_path / "sent.json")
    assert [one.state for one in outcome] == ["stored"] * 6
    assert all(one.committed for one in outcome)
    require_same(archive, files)


def test_orthanc_refuses_commitment_of_what_it_lacks(archive, files):
    lacking = SimpleNamespace(sop_class=maker.CT_CLASS, uid="1.2.3.999", path=files[0])
    assert StoreLink(by_store(archive), [lacking]).commitment([lacking]) == {"1.2.3.999": False}


def test_orthanc_stores_by_stow(archive, files, tmp_path):
    target = Target("web", "stow-rs", url=f"{archive.url}/dicom-web")
    assert all(one.state == "stored" for one in send(files, target, tmp_path / "sent.json"))
    require_same(archive, files)


def test_dcmtk_takes_what_we_send(files, tmp_path):
    port, received = free_port(), tmp_path / "received"
    received.mkdir()
    with subprocess.Popen([program("storescp"), "-od", str(received), str(port)]) as peer:
        try:
            send(files, Target("dcmtk", "c-store", "127.0.0.1", port, "DCMTK", attempts=6), tmp_path / "sent.json")
        finally:
            peer.terminate()
    assert len(list(received.iterdir())) == 6


class Peer:
    """A storage provider that counts what arrives, and breaks the link or answers as told."""

    def __init__(self, port, break_after=None, status=0x0000, tls=None, poison=None, wait_s=0.0, contexts=None):
        self.arrived, self.break_after, self.status, self.poison, self.wait_s = [], break_after, status, poison, wait_s
        entity = AE("PEER")
        entity.supported_contexts = contexts or [*AllStoragePresentationContexts, build_context(StudyRootQueryRetrieveInformationModelFind)]
        handlers = [(evt.EVT_C_STORE, self.store), (evt.EVT_C_FIND, self.find)]
        self.server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)

    def store(self, event):
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid == self.poison or (self.break_after is not None and len(self.arrived) >= self.break_after):
            event.assoc.abort()
            return 0xA700
        time.sleep(self.wait_s)
        self.arrived.append(uid)
        return self.status

    def find(self, event):
        event.assoc.abort()  # an archive that answers no question
        yield 0xC000, None

    def stop(self):
        self.server.shutdown()


def to_peer(port, **changes):
    return Target("peer", "c-store", "127.0.0.1", port, "PEER", **({"attempts": 2, "timeout_s": 5.0} | changes))


def test_a_peer_that_dies_in_the_middle_gets_the_rest_and_nothing_twice(files, tmp_path):
    port, journal = free_port(), tmp_path / "sent.json"
    dying = Peer(port, break_after=3)
    with pytest.raises(DosimetryError, match="3 of 6 stored") as refused:
        send(files, to_peer(port), journal)
    assert refused.value.code == "SEND_INCOMPLETE"
    dying.stop()
    again = Peer(port)
    try:
        assert all(one.state == "stored" for one in send(files, to_peer(port), journal))
        send(files, to_peer(port), journal)  # nothing is left to send
    finally:
        again.stop()
    assert len(dying.arrived) == 3 and len(again.arrived) == 3
    assert len({*dying.arrived, *again.arrived}) == 6


def test_what_arrived_without_an_answer_is_asked_for_and_not_sent_again(archive, files, tmp_path):
    journal = tmp_path / "sent.json"
    send(files, by_store(archive), journal)
    # as a sender leaves it that died between storing and the answer
    journal.write_text(journal.read_text().replace('"state": "stored"', '"state": "sending"'))
    outcome = send(files, by_store(archive), journal)
    assert {one.reason for one in outcome} == {"found at the target"}


def test_refusals_are_told_by_object_and_not_tried_again(files, tmp_path):
    port = free_port()
    peer = Peer(port, status=0xA900)
    try:
        with pytest.raises(DosimetryError, match=r"0 of 6 stored; object_0.dcm: failed \(status 0xA900\)"):
            send(files, to_peer(port), tmp_path / "sent.json")
    finally:
        peer.stop()
    assert len(peer.arrived) == 6


def test_a_warning_counts_as_stored(files, tmp_path):
    port = free_port()
    peer = Peer(port, status=0xB000)
    try:
        assert all(one.state == "stored" for one in send(files, to_peer(port), tmp_path / "sent.json"))
    finally:
        peer.stop()


def test_one_uid_with_another_content_is_refused(files, tmp_path):
    port, journal = free_port(), tmp_path / "sent.json"
    peer = Peer(port)
    try:
        send(files, to_peer(port), journal)
        changed = pydicom.dcmread(files[0])
        changed.RescaleSlope = "2"
        changed.save_as(files[0])
        with pytest.raises(DosimetryError, match="same UID") as refused:
            send(files, to_peer(port), journal)
    finally:
        peer.stop()
    assert refused.value.code == "UID_REUSED"


def certificate(folder, name):
    """Return key and self-signed certificate for 127.0.0.1."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run([program("openssl"), *words, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return key, cert


def test_tls_verifies_the_peer(files, tmp_path):
    import ssl

    key, cert = certificate(tmp_path, "peer")
    _, other = certificate(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    port = free_port()
    peer = Peer(port, tls=context)
    try:
        with pytest.raises(DosimetryError, match="0 of 6 stored"):
            send(files, to_peer(port, tls=Tls(ca=other), attempts=1), tmp_path / "no.json")
        assert not peer.arrived
        send(files, to_peer(port, tls=Tls(ca=cert)), tmp_path / "sent.json")
    finally:
        peer.stop()
    assert len(peer.arrived) == 6


def test_the_journal_names_nobody(files, tmp_path):
    port, journal = free_port(), tmp_path / "sent.json"
    peer = Peer(port)
    try:
        send(files, to_peer(port), journal)
    finally:
        peer.stop()
    assert not any(word in journal.read_text() for word in ("Doe", "Jane", maker.PATIENT_ID, "19700101"))


def uid_of(path):
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_an_object_that_always_breaks_the_link_keeps_no_other_back(files, tmp_path):
    port, journal = free_port(), tmp_path / "sent.json"
    peer = Peer(port, poison=uid_of(files[1]))
    try:
        for _ in range(2):
            with pytest.raises(DosimetryError, match=r"5 of 6 stored; object_1\.dcm: sending"):
                send(files, to_peer(port, timeout_s=2.0), journal)
        assert sorted(peer.arrived) == sorted(uid_of(path) for path in files if path != files[1])
        # the question whether it arrived is answered by nobody, and it goes once its fault is gone
        peer.poison = None
        send(files, to_peer(port, timeout_s=2.0), journal)
    finally:
        peer.stop()
    assert len(peer.arrived) == len(set(peer.arrived)) == 6


def test_of_two_senders_at_once_one_sends_and_one_is_told(files, tmp_path):
    port, journal = free_port(), tmp_path / "sent.json"
    peer = Peer(port, wait_s=0.3)
    first = threading.Thread(target=send, args=(files, to_peer(port), journal))
    try:
        first.start()
        while not peer.arrived:
            time.sleep(0.01)
        with pytest.raises(DosimetryError, match="another process") as refused:
            send(files, to_peer(port), journal)
        first.join()
        send(files, to_peer(port), journal)  # the lock is gone with its holder
    finally:
        first.join()
        peer.stop()
    assert refused.value.code == "SEND_BUSY"
    assert len(peer.arrived) == len(set(peer.arrived)) == 6


def test_a_journal_that_was_cut_off_is_refused_with_a_way_out(files, tmp_path):
    for text in ('{"peer": {"tr', "[]", '{"peer": 1}'):
        (tmp_path / "sent.json").write_text(text)
        with pytest.raises(DosimetryError, match="move it away") as refused:
            send(files, to_peer(free_port()), tmp_path / "sent.json")
        assert refused.value.code == "JOURNAL_UNREADABLE"


def test_a_port_in_use_stops_the_commitment_not_the_sending(files, tmp_path):
    port, journal = free_port(), tmp_path / "sent.json"
    peer = Peer(port)
    try:
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen(1)
            listen = taken.getsockname()[1]
            with pytest.raises(DosimetryError, match=f"port {listen}") as refused:
                send(files, to_peer(port, commitment=True, listen_port=listen, timeout_s=1.0), journal)
        send(files, to_peer(port), journal)
    finally:
        peer.stop()
    assert refused.value.code == "LISTEN_PORT"
    assert len(peer.arrived) == 6


def test_the_same_content_made_at_another_time_is_the_same_object(files, tmp_path):
    port, journal = free_port(), tmp_path / "sent.json"
    peer = Peer(port)
    try:
        send(files, to_peer(port), journal)
        again = pydicom.dcmread(files[0])
        again.SeriesDate, again.SeriesTime, again.InstanceCreationDate = "20301231", "010203", "20301231"
        again.save_as(files[0])
        assert all(one.state == "stored" for one in send(files, to_peer(port), journal))
    finally:
        peer.stop()
    assert len(peer.arrived) == 6


def test_another_archive_of_the_same_name_has_nothing_yet(files, tmp_path):
    journal, peers = tmp_path / "sent.json", []
    for _ in range(2):
        port = free_port()
        peers.append(Peer(port))
        try:
            send(files, to_peer(port), journal)
        finally:
            peers[-1].stop()
    assert [len(peer.arrived) for peer in peers] == [6, 6]


def test_a_peer_that_takes_none_of_our_classes_is_told_from_one_that_is_away(files, tmp_path):
    port = free_port()
    peer = Peer(port, contexts=[build_context("1.2.840.10008.1.1")])
    try:
        with pytest.raises(DosimetryError, match="takes none of the classes"):
            send(files, to_peer(port, attempts=1), tmp_path / "sent.json")
    finally:
        peer.stop()
    with pytest.raises(DosimetryError, match="cannot be reached"):
        send(files, to_peer(port, attempts=1), tmp_path / "sent.json")


@contextmanager
def web_archive(answer):
    """An HTTP server that answers a POST as told by its body; it knows no search."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(body)
            status, kind, content = answer(body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Target("web", "stow-rs", url=f"http://127.0.0.1:{server.server_port}/dicom-web", attempts=2, timeout_s=5.0), asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_web_archive_that_fails_on_one_object_gets_the_others(files, tmp_path):
    poison = uid_of(files[2]).encode()
    with web_archive(lambda body: (500 if poison in body else 200, "text/plain", b"")) as (target, asked):
        with pytest.raises(DosimetryError, match=r"5 of 6 stored; object_2.dcm: sending \(HTTP status 500\)"):
            send(files, target, tmp_path / "sent.json")
        assert len([body for body in asked if poison not in body]) == 5


def test_a_web_archives_odd_answers_are_no_crash(files, tmp_path):
    nameless = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}'
    said = r"0 of 6 stored; object_0\.dcm: failed \(failure reason 0x0110"
    with web_archive(lambda _: (200, "application/dicom+json", nameless)) as (target, _), pytest.raises(DosimetryError, match=said):
        send(files, target, tmp_path / "nameless.json")
    json, xml = "application/dicom+json", "application/xml"
    for n, answer in enumerate(((200, json, b"<html>"), (200, json, b"[]"), (200, xml, b"{"))):
        with web_archive(lambda _, answer=answer: answer) as (target, _), pytest.raises(DosimetryError, match="0 of 6 stored"):
            send(files, target, tmp_path / f"odd{n}.json")
