"""Receivers to be tested, and senders to test them with."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from io import BytesIO

import pydicom
from orthanc import free_port, program
from pydicom.uid import CTImageStorage
from pynetdicom import AE

from mrtai.io.received import Received
from mrtai.values.site import Receive
from workflows.receive import receiver

SERVE = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.DEBUG)
from mrtai.io.site import read_site
from workflows.receive import serve
serve(read_site(Path(sys.argv[1])))
"""


LARGE_PDU = 2**17


@contextmanager
def receiving(root, **settings):
    """A receiver in this process."""
    idle_s = settings.pop("idle_s", 5.0)
    settings = Receive(host="127.0.0.1", port=free_port(), **{"least_free_gb": 0.0, **settings})
    store = Received(root, settings.least_free_gb)
    with receiver(settings, store, idle_s=idle_s, grace_s=0.2) as server:
        yield settings.port, store, server


@contextmanager
def serving(folder, port, log):
    """A receiver in a process of its own."""
    config = folder / "mrtai.toml"
    config.write_text(f'root = "data"\n[receive]\nhost = "127.0.0.1"\nport = {port}\nleast_free_gb = 0\n')
    with log.open("a") as stream:
        process = subprocess.Popen([sys.executable, "-c", SERVE, str(config)], stdout=stream, stderr=stream)
    try:
        wait_for(lambda: connects(port) or process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(done, limit_s=90):
    until = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def associate(port, contexts=((CTImageStorage, None),), called="MRTAI", calling="SENDER", **more):
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for sop_class, syntax in contexts:
        entity.add_requested_context(sop_class, syntax)
    return entity.associate("127.0.0.1", port, ae_title=called, max_pdu=LARGE_PDU, **more)


def send(port, contents, acknowledged):
    """Send until done or the peer goes; note what was acknowledged."""
    association = associate(port)
    for content in contents:
        dataset = pydicom.dcmread(BytesIO(content))
        try:
            status = association.send_c_store(dataset)
        except RuntimeError:
            return
        if "Status" not in status:
            return
        if status.Status == 0:
            acknowledged.append(dataset.SOPInstanceUID)
    association.release()


def send_all(port, contents, acknowledged, tries=5):
    """Send as a camera does: where an association breaks, what was not acknowledged goes over a new one."""
    left = list(contents)
    for _ in range(tries):
        mine = []
        send(port, left, mine)
        acknowledged += mine
        left = left[len(mine) :]
        if not left:
            return


def storescu(port, *arguments):
    return subprocess.run(
        [program("storescu"), "-aet", "SENDER", "-aec", "MRTAI", *arguments[:-1], "127.0.0.1", str(port), str(arguments[-1])],
        capture_output=True,
        text=True,
        check=False,
    )


def stored(root):
    """Data sets in the store by SOP instance UID, each found once."""
    paths = list((root / "received").glob("*/*.dcm"))
    found = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in paths}
    assert len(found) == len(paths)
    return found
