"""A real Orthanc with DICOMweb on free ports of this machine, for as long as a test needs it."""

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

PLUGINS = "/usr/share/orthanc/plugins"


@dataclass
class Orthanc:
    dicom_port: int
    http_port: int
    listen_port: int
    process: subprocess.Popen

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http_port}"

    def instances(self):
        return requests.get(f"{self.url}/instances", timeout=10).json()

    def stored(self, uid):
        found = requests.post(f"{self.url}/tools/lookup", data=uid, timeout=10).json()
        where = [one["ID"] for one in found if one["Type"] == "Instance"]
        return None if not where else requests.get(f"{self.url}/instances/{where[0]}/file", timeout=60).content


def program(name, *places):
    found = shutil.which(name) or next((place for place in places if Path(place).exists()), None)
    if found is None:
        if os.environ.get("MRTAI_REQUIRE_PACKAGES") == "1":
            pytest.fail(f"{name} is needed here and not installed")
        pytest.skip(f"{name} is not installed")
    return found


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def orthanc(folder):
    binary = program("Orthanc", "/usr/sbin/Orthanc")
    dicom, http, listen = free_port(), free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [PLUGINS],
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "DicomModalities": {"mrtai": ["MRTAI", "127.0.0.1", listen]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "store").mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen([binary, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            server = Orthanc(dicom, http, listen, process)
            _wait(server)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if requests.get(f"{server.url}/system", timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise RuntimeError("Orthanc did not start")
