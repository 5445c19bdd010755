"""A DICOM server whose peers can stall, trickle, lie about lengths or stop in a TLS handshake without holding more than their own place."""

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from socketserver import BaseServer
from typing import Any, Final, cast

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from mrtai.values.refusal import DosimetryError
from mrtai.values.site import TlsServer

LARGEST_PDU_BYTES: Final = 2**17
# a request for an association lists every class and syntax of its sender
MOST_PDU_BYTES: Final = 2**20
# of one object, or of several that a sender pushes without waiting for the answers
MOST_UNANSWERED_BYTES: Final = 2**32
CHUNK_BYTES: Final = 2**16
POLL_S: Final = 0.05
ABORT_S: Final = 2.0

# its messages at lower levels hold what is received, and its standard handlers prepare them even where nobody listens
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
_config.LOG_HANDLER_LEVEL = "none"
logger = logging.getLogger(__name__)


class BoundedSocket(AssociationSocket):
    """The socket of one association: a unit of the protocol must come within the time allowed, and must not be larger than any can be."""

    def __init__(self, association: Association, client: socket.socket, idle_s: float) -> None:
        super().__init__(association, client_socket=client)
        self.idle_s = idle_s
        self.unanswered_bytes = 0

    def answering(self) -> None:
        """Count anew, unless the sender has sent more than it is being answered for."""
        if self.assoc.dimse.msg_queue.empty():
            self.unanswered_bytes = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next bytes, fewer where the peer has gone."""
        self.unanswered_bytes += nr_bytes
        if nr_bytes > MOST_PDU_BYTES or self.unanswered_bytes > MOST_UNANSWERED_BYTES:
            raise OSError("more than a sender may send")
        _acknowledge_at_once(cast(socket.socket, self.socket))
        content, until = bytearray(), time.monotonic() + self.idle_s
        while len(content) < nr_bytes:
            if time.monotonic() > until:
                raise TimeoutError
            part = cast(socket.socket, self.socket).recv(min(CHUNK_BYTES, nr_bytes - len(content)))
            if not part:
                break
            content += part
        return content


class _Handler(RequestHandler):
    """Gives each association a bounded socket."""

    server: "DicomServer"

    def _create_association(self) -> Association:
        association = super()._create_association()
        # the plain socket set there has announced the connection, and ours announces it again
        association.dul.event_queue.get_nowait()
        association.dul.socket = BoundedSocket(association, cast(socket.socket, self.request), self.server.idle_s)
        return association


class DicomServer(ThreadedAssociationServer):
    """Listens on a thread of its own; a TLS handshake is done on the connection's thread, so that it keeps nobody waiting."""

    request_queue_size = 64
    daemon_threads = True

    def __init__(self, *args: Any, idle_s: float, **kwargs: Any) -> None:
        self.idle_s = idle_s
        super().__init__(*args, **kwargs, request_handler=_Handler)  # type: ignore[misc]
        self.bind(evt.EVT_CONN_CLOSE, _let_go)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": POLL_S}, name="receiver", daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection that cannot block for ever."""
        client, address = cast(socket.socket, self.socket).accept()
        client.settimeout(self.idle_s)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.ssl_context is not None:
            client = self.ssl_context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        return client, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, then start the association."""
        if isinstance(request, ssl.SSLSocket):
            request.do_handshake()
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection failed, without what it sent."""
        logger.warning("a connection failed before it became an association")

    def stop(self, grace_s: float) -> None:
        """Accept nothing more, let what is under way finish within the time, and break off the rest."""
        BaseServer.shutdown(self)
        self.server_close()
        _wait(lambda: not any(association.is_established for association in self.active_associations), grace_s)
        rest = self.active_associations
        for association in rest:
            threading.Thread(target=association.abort, daemon=True).start()
        _wait(lambda: not self.active_associations, ABORT_S)
        for association in self.active_associations:
            cast(AssociationSocket, association.dul.socket)._shutdown_socket()
        if rest:
            logger.warning("%d connections were broken off at the stop", len(rest))


def start_server(
    entity: AE, address: tuple[str, int], handlers: list[Any], tls: TlsServer | None = None, *, idle_s: float = 60.0
) -> DicomServer:
    """Return a server that listens.

    Raises:
        DosimetryError: the port cannot be had, or a certificate cannot be read.
    """
    context = None if tls is None else server_context(tls)
    entity.maximum_pdu_size = LARGEST_PDU_BYTES
    try:
        server = entity.make_server(address, ssl_context=context, evt_handlers=handlers, server_class=DicomServer, idle_s=idle_s)
    except OSError as fault:
        found = os.strerror(fault.errno) if fault.errno else type(fault).__name__
        raise DosimetryError(
            "the receiver cannot listen", where=f"port {address[1]}", found=found, remedy="free the port or choose another", code="PORT"
        ) from fault
    return cast(DicomServer, server)


def server_context(tls: TlsServer) -> ssl.SSLContext:
    """Return a context of TLS 1.2 or later that asks for a client's certificate where an authority is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.ca is not None:
            context.load_verify_locations(cafile=tls.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as fault:
        raise DosimetryError(
            "a certificate of the receiver cannot be read",
            where="[receive.tls]",
            found=type(fault).__name__,
            remedy="check certificate, key and ca",
            code="TLS",
        ) from fault
    return context


def bounded(event: evt.Event) -> BoundedSocket:
    """Return the socket of an event's association."""
    return cast(BoundedSocket, event.assoc.dul.socket)


def _let_go(event: evt.Event) -> None:
    """Free the place of a peer that went before it asked for anything, as those do that only watch whether a port is open."""
    if event.assoc.requestor.primitive is None:
        # its thread waits here for the request
        event.assoc.dul.to_user_queue.put(None)  # type: ignore[arg-type]


def _acknowledge_at_once(client: socket.socket) -> None:
    """Not after 40 ms: a sender that puts command and data into two packets waits for this between them, once an instance."""
    if hasattr(socket, "TCP_QUICKACK"):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _wait(done: Callable[[], bool], limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while not done() and time.monotonic() < until:
        time.sleep(POLL_S)
