"""STOW-RS, with QIDO-RS to ask what has arrived."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from urllib3.exceptions import NewConnectionError

from mrtai.io.pacs_link import LinkLost, NoLink, ToSend
from mrtai.io.targets import Target

SERVER_FAULT = 500
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, SyntaxError)
"""What an answer that is no DICOM JSON or XML raises where it is taken apart (an XML parser's fault is a SyntaxError)."""


class StowLink:
    """One HTTP session with an archive; one request an object, so that each is acknowledged by itself."""

    def __init__(self, target: Target) -> None:
        self.session = requests.Session()
        if target.tls is not None and target.tls.ca is not None:
            self.session.verify = str(target.tls.ca)
        if target.tls is not None and target.tls.certificate is not None:
            self.session.cert = (str(target.tls.certificate), str(target.tls.key or target.tls.certificate))
        if target.token_file is not None:
            self.session.headers["Authorization"] = f"Bearer {_secret(target.token_file)}"
        elif target.user is not None and target.password_file is not None:
            self.session.auth = (target.user, _secret(target.password_file))
        self.client = DICOMwebClient(target.url, session=self.session, timeout=target.timeout_s)
        # trying again is the sender's, which asks first what has arrived
        self.client.set_http_retry_params(retry=False)

    def store(self, item: ToSend) -> str:
        """Send one object; return why it was refused, empty when it was stored."""
        try:
            answer = self.client.store_instances([pydicom.dcmread(item.path)])
        except requests.HTTPError as fault:
            status = fault.response.status_code if fault.response is not None else SERVER_FAULT
            if status >= SERVER_FAULT:
                raise LinkLost(f"HTTP status {status}") from fault
            return f"HTTP status {status}"
        except requests.RequestException as fault:
            raise _lost(fault) from fault
        except UNREADABLE as fault:
            raise LinkLost("an answer that cannot be read") from fault
        # a request holds one object: what failed is that one, named or not
        reasons = [one.get("FailureReason") or 0 for one in answer.get("FailedSOPSequence", [])]
        return f"failure reason 0x{reasons[0]:04X}" if reasons else ""

    def has(self, item: ToSend) -> bool:
        """Return True when the archive finds the object; False also where it cannot be searched."""
        try:
            return bool(self.client.search_for_instances(item.study_uid, item.series_uid, search_filters={"SOPInstanceUID": item.uid}))
        except (requests.HTTPError, *UNREADABLE):
            return False
        except requests.RequestException as fault:
            raise _lost(fault) from fault

    def commitment(self, items: Sequence[ToSend]) -> Mapping[str, bool]:
        """STOW-RS knows no commitment: its response is the acknowledgement."""
        return {item.uid: True for item in items}

    def close(self) -> None:
        """Close the session's connections."""
        self.session.close()


def _lost(fault: requests.RequestException) -> LinkLost:
    """Return the loss of a link; no link at all where not even a connection was made."""
    reason = getattr(fault.args[0], "reason", None) if fault.args else None
    never_made = isinstance(fault, requests.ConnectTimeout | requests.exceptions.SSLError) or isinstance(reason, NewConnectionError)
    return (NoLink if never_made else LinkLost)(type(fault).__name__)


def _secret(path: Path) -> str:
    return path.read_text("utf-8").strip()
