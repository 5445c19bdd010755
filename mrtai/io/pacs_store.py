"""C-STORE, with C-FIND to ask what has arrived and storage commitment to be told that it stays."""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from mrtai.io.pacs_link import LinkLost, NoLink, ToSend
from mrtai.io.targets import Target
from mrtai.values.refusal import DosimetryError

COMMITMENT_INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
REQUEST_COMMITMENT: Final = 1
SUCCESS: Final = 0x0000
PENDING: Final = frozenset({0xFF00, 0xFF01})
WARNINGS: Final = range(0xB000, 0xC000)
LARGE_PDU_BYTES: Final = 2**17

# its messages at lower levels hold what is sent
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


class StoreLink:
    """One association at a time with an archive, proposing only what is sent."""

    def __init__(self, target: Target, items: Sequence[ToSend]) -> None:
        self.target = target
        self.classes = sorted({item.sop_class for item in items})
        self.association: Association | None = None

    def store(self, item: ToSend) -> str:
        """Send one object; return why it was refused, empty when it was stored."""
        association = self._associated()
        try:
            status = association.send_c_store(item.path)
        except (ValueError, AttributeError) as fault:
            # no accepted presentation context: the archive does not take this class
            return f"the archive does not accept its class ({type(fault).__name__})"
        except RuntimeError as fault:
            raise LinkLost(type(fault).__name__) from fault
        if "Status" not in status:
            raise LinkLost("the connection broke while an object was sent")
        return "" if status.Status == SUCCESS or status.Status in WARNINGS else f"status 0x{status.Status:04X}"

    def has(self, item: ToSend) -> bool:
        """Return True when the archive answers a query at the image level with the object's UID."""
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID, query.SeriesInstanceUID, query.SOPInstanceUID = item.study_uid, item.series_uid, item.uid
        association = self._associated()
        if not _accepted(association, StudyRootQueryRetrieveInformationModelFind):
            return False
        for status, found in association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
            if not status:
                raise LinkLost("the connection broke during a query")
            if status.Status in PENDING and found is not None and found.get("SOPInstanceUID") == item.uid:
                return True
        return False

    def commitment(self, items: Sequence[ToSend]) -> Mapping[str, bool]:
        """Ask the archive to commit itself, wait for its report on this association or on our port, and return it by UID.

        Raises:
            DosimetryError: our port is taken and the report did not come on this association.
        """
        answers: dict[str, bool] = {}
        done = threading.Event()
        transaction = generate_uid(prefix=None)  # one a request: a late report of an earlier one is not this one's

        def reported(event: evt.Event) -> tuple[int, None]:
            report = event.event_information
            if report.get("TransactionUID") == transaction:
                answers.update({str(one.ReferencedSOPInstanceUID): True for one in report.get("ReferencedSOPSequence", [])})
                answers.update({str(one.ReferencedSOPInstanceUID): False for one in report.get("FailedSOPSequence", [])})
                done.set()
            return SUCCESS, None

        handlers = [(evt.EVT_N_EVENT_REPORT, reported)]
        server = self._listener(handlers)
        try:
            association = self._associate([StorageCommitmentPushModel], handlers)
            asked, _ = association.send_n_action(
                _request(items, transaction), REQUEST_COMMITMENT, StorageCommitmentPushModel, COMMITMENT_INSTANCE
            )
            if "Status" in asked and asked.Status == SUCCESS:
                done.wait(self.target.timeout_s)
            association.release()
        except (LinkLost, ValueError, RuntimeError):
            pass  # no report: what is not in the answers is stored and not committed
        finally:
            if server is not None:
                server.shutdown()
        if server is None and not done.is_set():
            raise self._port_taken()
        return answers

    def close(self) -> None:
        """Release the association."""
        if self.association is not None and self.association.is_established:
            self.association.release()
        self.association = None

    def _associated(self) -> Association:
        if self.association is None or not self.association.is_established:
            self.association = self._associate([*self.classes, StudyRootQueryRetrieveInformationModelFind], [])
        return self.association

    def _associate(self, classes: Sequence[str], handlers: list[Any]) -> Association:
        target = self.target
        entity = AE(target.own_ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = target.timeout_s
        for one in classes:
            entity.add_requested_context(one, ExplicitVRLittleEndian)
        tls = None if target.tls is None else (target.tls.context(), target.host)
        association = entity.associate(
            target.host, target.port, ae_title=target.ae_title, max_pdu=LARGE_PDU_BYTES, tls_args=tls, evt_handlers=handlers
        )
        if not association.is_established:
            raise NoLink(_why_not(association))
        return association

    def _listener(self, handlers: list[Any]) -> Any:
        """Return our own server, where archives report that answer on an association of their own; None where the port is taken."""
        entity = AE(self.target.own_ae_title)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        entity.add_supported_context("1.2.840.10008.1.1")
        try:
            return entity.start_server(("0.0.0.0", self.target.listen_port), block=False, evt_handlers=handlers)
        except OSError:
            return None

    def _port_taken(self) -> DosimetryError:
        return DosimetryError(
            "every object is stored, but no report of their commitment can arrive",
            where=f"target {self.target.name}",
            found=f"port {self.target.listen_port} in use by another program",
            remedy="end that program or set another listen_port under [dicom], and send again: nothing is stored twice",
            code="LISTEN_PORT",
        )


def _why_not(association: Association) -> str:
    if association.is_rejected:
        return "rejected by the archive"
    if association.rejected_contexts:
        return "the archive answers but takes none of the classes of these objects"
    return "the archive cannot be reached"


def _accepted(association: Association, sop_class: str) -> bool:
    return any(context.abstract_syntax == sop_class for context in association.accepted_contexts)


def _request(items: Sequence[ToSend], transaction: str) -> Dataset:
    request = Dataset()
    request.TransactionUID, request.ReferencedSOPSequence = transaction, []
    for item in items:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = item.sop_class, item.uid
        request.ReferencedSOPSequence.append(one)
    return request
