"""The DICOM receiver: C-STORE and C-ECHO; acknowledges only what is on disk, and logs counts, never contents."""

import logging
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Final, cast
from weakref import WeakKeyDictionary

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from mrtai.io.dicom_server import DicomServer, bounded, start_server
from mrtai.io.received import Received
from mrtai.io.received_header import NO_UIDS, NOT_DICOM, OTHER_OBJECT
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Receive, Site

SUCCESS, OUT_OF_RESOURCES, OTHER, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
STATUS: Final = {NOT_DICOM: NOT_UNDERSTOOD, NO_UIDS: NOT_UNDERSTOOD, OTHER_OBJECT: OTHER}
NO_SPACE: Final = "NO_SPACE"
PREAMBLE: Final = bytes(128) + b"DICM"
# an association is asked for within milliseconds of the connection
ASSOCIATE_S: Final = 10.0
IDLE_S: Final = 60.0
GRACE_S: Final = 10.0

logger = logging.getLogger(__name__)


@contextmanager
def receiver(settings: Receive, store: Received, *, idle_s: float = IDLE_S, grace_s: float = GRACE_S) -> Iterator[DicomServer]:
    """Receive into a store for as long as the context lasts.

    Args:
        settings: of the receiver.
        store: where instances go; it knows how much of its disk must stay free.
        idle_s: an association on which nothing comes for so long is broken off.
        grace_s: for associations under way at the end.
    """
    entity = _entity(settings, idle_s)
    ends = _Ends()
    handlers = [
        (evt.EVT_C_STORE, _stored, [store, ends]),
        (evt.EVT_RELEASED, ends.ended, ["released"]),
        (evt.EVT_ABORTED, ends.ended, ["broken off"]),
        (evt.EVT_REJECTED, ends.rejected),
    ]
    server = start_server(entity, (settings.host, settings.port), handlers, settings.tls, idle_s=idle_s)
    try:
        yield server
    finally:
        server.stop(grace_s)


def serve(site: Site) -> None:
    """Receive until SIGTERM or SIGINT."""
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    # what pydicom warns of may quote what came
    warnings.filterwarnings("ignore", module="pydicom")
    store = Received(site.root, site.receive.least_free_gb)
    swept = store.sweep()
    with receiver(site.receive, store):
        logger.info("receiver %s listens on port %d; %d partial files swept", site.receive.ae_title, site.receive.port, swept)
        done.wait()
        logger.info("receiver stops")


class _Ends:
    """What each association has brought, told when it ends."""

    def __init__(self) -> None:
        self.counts: WeakKeyDictionary[Association, Counter[str]] = WeakKeyDictionary()
        self.lock = threading.Lock()

    def count(self, association: Association, outcome: str) -> None:
        """Count one instance of an association."""
        with self.lock:
            self.counts.setdefault(association, Counter())[outcome] += 1

    def ended(self, event: evt.Event, how: str) -> None:
        """Tell what an association that ends has brought."""
        with self.lock:
            counts = self.counts.pop(event.assoc, Counter())
        told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
        logger.info("association %s: %s", how, told or "nothing sent")

    def rejected(self, event: evt.Event) -> None:
        """Tell of a caller that was not let in, by its address."""
        logger.warning("association from %s rejected: its AE titles are not allowed, or there are too many", event.assoc.requestor.address)


def _entity(settings: Receive, idle_s: float) -> AE:
    entity = AE(settings.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(settings.allowed_ae_titles)
    entity.maximum_associations = settings.most_associations
    entity.acse_timeout = min(ASSOCIATE_S, idle_s)
    entity.network_timeout = entity.dimse_timeout = idle_s
    entity.add_supported_context(Verification)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    return entity


def _stored(event: evt.Event, store: Received, ends: _Ends) -> int:
    """Take one instance in and return the status of its acknowledgement."""
    request = cast(C_STORE, event.request)
    bounded(event).answering()
    try:
        # the data set goes to disk from where it was received, without a copy
        pieces = (PREAMBLE, encode_file_meta(event.file_meta), cast(BytesIO, request.DataSet).getbuffer())
        taken = store.take_pieces(pieces, instance=str(request.AffectedSOPInstanceUID), sop_class=str(request.AffectedSOPClassUID))
    except DosimetryError as refusal:
        ends.count(event.assoc, f"refused {refusal.code}")
        return STATUS.get(refusal.code, NOT_UNDERSTOOD)
    except OSError:
        ends.count(event.assoc, f"refused {NO_SPACE}")
        return OUT_OF_RESOURCES
    ends.count(event.assoc, taken.outcome.value)
    return SUCCESS
