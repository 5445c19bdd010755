"""Sending, to real peers: Orthanc by C-STORE and STOW-RS, DCMTK's storescp, and a peer of our own that misbehaves."""

import subprocess
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt

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

    def __init__(self, port, break_after=None, status=0x0000, tls=None):
        self.arrived, self.break_after, self.status = [], break_after, status
        entity = AE("PEER")
        entity.supported_contexts = AllStoragePresentationContexts
        self.server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)], ssl_context=tls)

    def store(self, event):
        if self.break_after is not None and len(self.arrived) >= self.break_after:
            event.assoc.abort()
            return 0xA700
        self.arrived.append(str(event.request.AffectedSOPInstanceUID))
        return self.status

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
