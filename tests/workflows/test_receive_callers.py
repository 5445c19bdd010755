"""Who may send to the DICOM receiver, what is refused, and that nobody holds it up."""

import socket
import subprocess
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from instance_maker import ROOT, ct, encoded
from orthanc import free_port, program
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage
from pynetdicom.dimse_primitives import C_STORE
from senders import associate, connects, receiving, storescu, wait_for

from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Receive, TlsServer
from workflows.receive import receiver


def test_dcmtk_gets_its_echo(tmp_path):
    with receiving(tmp_path) as (port, _, _):
        echo = [program("echoscu"), "-aec", "MRTAI", "127.0.0.1", str(port)]
        assert subprocess.run(echo, check=False).returncode == 0


@pytest.mark.parametrize(
    ("calling", "called", "enters"), [("SPECT1", "MRTAI", True), ("OTHER", "MRTAI", False), ("SPECT1", "ELSEWHERE", False)]
)
def test_only_allowed_titles_enter(tmp_path, calling, called, enters):
    with receiving(tmp_path, allowed_ae_titles=("SPECT1",)) as (port, _, _):
        association = associate(port, calling=calling, called=called)
        assert association.is_established is enters and association.is_rejected is not enters
        association.release()


def test_with_an_empty_list_every_caller_enters(tmp_path):
    with receiving(tmp_path) as (port, _, _):
        association = associate(port, calling="ANYONE")
        assert association.is_established
        association.release()


def test_more_callers_than_allowed_are_refused_until_one_leaves(tmp_path):
    with receiving(tmp_path, most_associations=2) as (port, _, server):
        first, second = associate(port), associate(port)
        assert associate(port).is_rejected
        first.release()
        wait_for(lambda: len(server.active_associations) == 1)
        third = associate(port)
        assert third.is_established
        second.release()
        third.release()


def test_a_sender_that_stalls_loses_its_place(tmp_path):
    with receiving(tmp_path, idle_s=0.5, most_associations=3) as (port, _, server):
        silent = socket.create_connection(("127.0.0.1", port))
        in_the_middle = associate(port)
        in_the_middle.dul.socket.socket.send(b"\x04\x00\x00\x00\x10\x00half")
        idle = associate(port)
        assert idle.is_established
        wait_for(lambda: not server.active_associations)
        again = associate(port)
        assert again.is_established
        again.release()
        silent.close()
        in_the_middle.abort()


def test_watching_the_port_takes_no_place(tmp_path):
    with receiving(tmp_path, most_associations=1, idle_s=30.0) as (port, _, server):
        for _ in range(5):
            assert connects(port)
        wait_for(lambda: not server.active_associations, 5)


def test_a_nearly_full_disk_refuses_and_keeps_nothing(tmp_path):
    with receiving(tmp_path, least_free_gb=1e9) as (port, store, _):
        association = associate(port)
        assert association.send_c_store(pydicom.dcmread(BytesIO(encoded(ct())))).Status == 0xA700
        association.release()
    assert not [path for path in store.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("command", "content", "status"),
    [
        ({}, b"", 0x0000),
        ({"AffectedSOPInstanceUID": "1.2.3"}, b"", 0xA900),
        ({"AffectedSOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, b"", 0xA900),
        ({}, bytes(range(256)) * 9, 0xC000),
    ],
)
def test_what_is_not_the_announced_object_is_refused(tmp_path, command, content, status):
    whole = encoded(ct())
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, ct().SOPInstanceUID
    for keyword, value in command.items():
        setattr(request, keyword, value)
    request.DataSet = BytesIO(content or whole[whole.index(b"\x08\x00\x16\x00UI") :])
    with receiving(tmp_path) as (port, store, _):
        association = associate(port, [(CTImageStorage, "1.2.840.10008.1.2.1"), ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1")])
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert answer.Status == status
        association.release()
    assert len([path for path in store.folder.rglob("*") if path.is_file()]) == (status == 0)


SYNTAXES = {
    "CT_small.dcm": "explicit little endian",
    "rtplan.dcm": "implicit little endian",
    "MR_small_bigendian.dcm": "explicit big endian",
    "image_dfl.dcm": "deflated",
    "MR_small_RLE.dcm": "RLE",
    "JPEG2000.dcm": "JPEG 2000",
    "MR_small_jp2klossless.dcm": "JPEG 2000 lossless",
    "MR_small_jpeg_ls_lossless.dcm": "JPEG-LS",
    "SC_rgb_jpeg_gdcm.dcm": "JPEG baseline",
    "JPGExtended.dcm": "JPEG extended",
    "liver_1frame.dcm": "SEG",
    "test-SR.dcm": "SR",
    "rtdose.dcm": "RTDOSE of several frames",
}


@pytest.mark.parametrize("file", SYNTAXES)
def test_objects_of_every_encoding_are_kept_as_they_were_sent(tmp_path, file):
    path = Path(get_testdata_file(file))
    sent = pydicom.dcmread(path)
    with receiving(tmp_path) as (port, store, _):
        association = associate(port, [(sent.SOPClassUID, sent.file_meta.TransferSyntaxUID)])
        assert association.send_c_store(sent).Status == 0
        association.release()
    (kept,) = store.folder.glob("*/*.dcm")
    received = pydicom.dcmread(kept)
    assert received.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert received == sent


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, the receiver's certificate, a sender's, and a stranger's that signed itself."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run([program("openssl"), *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("ca", "stranger"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for name in ("server", "sender"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "san",
            "-out",
            f"{name}.pem",
        )
    return folder


@pytest.mark.parametrize(
    ("asks", "shown", "enters"), [(False, None, True), (True, "sender", True), (True, None, False), (True, "stranger", False)]
)
def test_over_tls_only_a_known_certificate_enters_where_one_is_asked_for(tmp_path, certificates, asks, shown, enters):
    tls = TlsServer(certificates / "server.pem", certificates / "server.key", certificates / "ca.pem" if asks else None)
    identity = ["+tla"] if shown is None else ["+tls", str(certificates / f"{shown}.key"), str(certificates / f"{shown}.pem")]
    file = tmp_path / "one"
    file.write_bytes(encoded(ct()))
    with receiving(tmp_path, tls=tls) as (port, store, _):
        sent = storescu(port, *identity, "+cf", str(certificates / "ca.pem"), file)
        assert (sent.returncode == 0) is enters, sent.stderr
        assert store.count(f"{ROOT}.1") == int(enters)


def test_a_receiver_with_tls_takes_nothing_without_and_waits_for_nobodys_handshake(tmp_path, certificates):
    tls = TlsServer(certificates / "server.pem", certificates / "server.key")
    file = tmp_path / "one"
    file.write_bytes(encoded(ct()))
    with receiving(tmp_path, tls=tls, idle_s=20.0) as (port, store, _), socket.create_connection(("127.0.0.1", port)):
        assert storescu(port, "+tla", "+cf", str(certificates / "ca.pem"), file).returncode == 0
        assert storescu(port, file).returncode != 0
        assert store.count(f"{ROOT}.1") == 1


def test_a_port_in_use_and_a_missing_certificate_are_refused(tmp_path):
    with receiving(tmp_path) as (port, store, _):
        second = receiver(Receive(host="127.0.0.1", port=port), store)
        with pytest.raises(DosimetryError, match=f"port {port}"), second:
            pass
    settings = Receive(host="127.0.0.1", port=free_port(), tls=TlsServer(tmp_path / "no.pem", tmp_path / "no.key"))
    with pytest.raises(DosimetryError, match="certificate"), receiver(settings, store):
        pass
