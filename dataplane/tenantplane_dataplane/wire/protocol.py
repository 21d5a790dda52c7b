"""uvicorn's HTTP/1.1 protocol with the limits that it lacks.

uvicorn with httptools takes headers of any size and number, waits for slow senders for ever and keeps stalled clients
(measured: 300 kB of headers, 5,000 of them). Here every connection obeys ``Platform.dataplane.sockets``:

- request line and headers: bytes and count (431), seconds until complete (408);
- body: bytes (413; a ``Content-Length`` above the limit before a byte is read), seconds until complete (408);
- idle between requests, and a client that stops reading its answer: closed;
- connections open at once: the next one gets 503 and is closed;
- ambiguous requests (``Content-Length`` with ``Transfer-Encoding``, repeated ``Authorization``): 400.

Errors have OpenAI's shape. Guarantees that memory per connection is bounded by header bytes plus uvicorn's read-ahead.
Does not limit requests per second or per address: policy does that.
"""

import asyncio
import re
from asyncio import TimerHandle, Transport
from typing import Any, ClassVar, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tenantplane_api.runtime.errors import ERRORS, ErrorCode, error_body
from tenantplane_api.runtime.platform import SocketLimits
from tenantplane_api.runtime.records import new_request_id
from tenantplane_dataplane.observability.metrics import Metrics
from tenantplane_dataplane.wire.asgi import EXTENSION, Wire

_ONCE: Final = frozenset({b"authorization", b"x-api-key", b"content-length", b"transfer-encoding", b"content-type"})
_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 1 << 20
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_CODES: Final = {
    "headers_too_large": ErrorCode.HEADERS_TOO_LARGE,
    "headers_slow": ErrorCode.REQUEST_TIMEOUT,
    "body_too_large": ErrorCode.REQUEST_TOO_LARGE,
    "body_slow": ErrorCode.REQUEST_TIMEOUT,
    "too_many_connections": ErrorCode.NOT_READY,
    "ambiguous": ErrorCode.INVALID_REQUEST,
    "malformed": ErrorCode.INVALID_REQUEST,
}


class LimitedProtocol(HttpToolsProtocol):
    """One client connection. Use ``protocol_class`` to get a subclass with limits bound."""

    limits: ClassVar[SocketLimits]
    metrics: ClassVar[Metrics]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers = False
        self._heads_begun = 0
        self._header_bytes = 0
        self._body_bytes = 0
        self._body_open = False
        self._refused = False
        self._discarded = 0
        self._read_deadline: TimerHandle | None = None
        self._deadline_reason = ""
        self._write_deadline: TimerHandle | None = None
        self._wires: list[Wire] = []

    # Connection

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.metrics.connections.inc()
        if len(self.connections) > self.limits.connections:
            self._refuse("too_many_connections", message="Too many connections: try again in a moment.")
            return
        # uvicorn arms its idle timer only after a first answer.
        self._arm("idle", self.limits.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.metrics.connections.dec()
        self._disarm()
        self._unset_keepalive_if_required()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        super().connection_lost(exc)
        for wire in self._wires:
            wire.lost()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            # The answer is on its way; reading on (a little) keeps the kernel from resetting it away.
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.transport.abort()
            return
        idle = not (self._in_headers or self._body_open)
        if idle:
            data = _without_upgrade(data)
        self._heads_begun = 0
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        if self._in_headers:
            # A head may share a read with the end of the request before: then count from the next read.
            if self._heads_begun == 0 or (idle and self._heads_begun == 1):
                self._header_bytes += len(data)
            if self._header_bytes > self.limits.header_bytes:
                self._refuse("headers_too_large")
                return
            self._arm("headers_slow", self.limits.header_seconds)
        elif self._body_open:
            self._arm("body_slow", self.limits.body_seconds)
        elif self.cycle is None or self.cycle.response_complete:
            # Empty lines before a request are legal and never begin one: they must not keep a connection alive.
            self._arm("headers_slow", self.limits.header_seconds)
        else:
            self._disarm()

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._heads_begun += 1
        self._header_bytes = 0
        self._body_bytes = 0
        self._disarm()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._disarm()
        if self._refused:
            return
        total = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if total > self.limits.header_bytes or len(self.headers) > self.limits.headers:
            self._refuse("headers_too_large")
            return
        message = self._ambiguity()
        if message is not None:
            self._refuse("ambiguous", message=message)
            return
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        if length.isdigit() and int(length[:20]) > self.limits.body_bytes:
            self._refuse("body_too_large")
            return
        self._body_open = True
        wire = Wire()
        self._wires.append(wire)
        self.scope["extensions"] = {EXTENSION: wire}  # type: ignore[dict-item]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self.limits.body_bytes:
            self._break_body("body_too_large")
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_open = False
        self._disarm()
        if not self._refused:
            super().on_message_complete()

    def _ambiguity(self) -> str | None:
        """Why two parties could read this head differently, or ``None``."""
        seen: set[bytes] = set()
        for name, _ in self.headers:
            if name in _ONCE:
                if name in seen:
                    return f"The header {name.decode()} is there twice: send it once."
                seen.add(name)
        if b"content-length" in seen and b"transfer-encoding" in seen:
            return "Content-Length and Transfer-Encoding exclude each other: send one of them."
        if self.parser.should_upgrade():
            return "This endpoint speaks HTTP/1.1 only: send no Upgrade header and no CONNECT."
        return None

    # Deadlines

    def _arm(self, reason: str, seconds: float) -> None:
        """Start a deadline; one that already runs for the same reason is not put off by more data."""
        if self._read_deadline is not None:
            if self._deadline_reason == reason:
                return
            self._read_deadline.cancel()
        self._deadline_reason = reason
        self._read_deadline = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None

    def _late(self) -> None:
        self._read_deadline = None
        if self.transport.is_closing():
            return
        reason = self._deadline_reason
        if reason == "idle":
            self.metrics.socket_refusals.labels("idle").inc()
            self.transport.close()
        elif reason == "body_slow":
            self._break_body(reason)
        else:
            self._refuse(reason)

    def pause_writing(self) -> None:
        """A client that does not read its answer holds a slot and an engine: give it as long as an idle one."""
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(self.limits.idle_seconds, self._stalled)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def _stalled(self) -> None:
        self._write_deadline = None
        self.metrics.socket_refusals.labels("stalled_reader").inc()
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        self.metrics.socket_refusals.labels("idle").inc()
        super().timeout_keep_alive_handler()

    # Refusals

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what does not parse, in our shape."""
        if not self._refused:
            self._refuse("malformed", message="The request is not valid HTTP/1.1.")

    def _break_body(self, reason: str) -> None:
        """The running request's body broke a limit: the application answers, so that the request is accounted for."""
        cycle = self.cycle
        if cycle is None or cycle.response_started:
            self._refused = True
            self.metrics.socket_refusals.labels(reason).inc()
            if cycle is None or cycle.response_complete:
                self.transport.close()
            else:
                cycle.keep_alive = False
            return
        self.metrics.socket_refusals.labels(reason).inc()
        self._refused = True
        self._wires[-1].refusal = _CODES[reason]
        cycle.body = bytearray()
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        if self._wires:
            self._wires.pop(0)
        if self._refused:
            self._linger()
        else:
            super().on_response_complete()

    def _refuse(self, reason: str, *, message: str | None = None) -> None:
        """Answer at once, read the rest away for a moment, close."""
        self._refused = True
        self._disarm()
        self._unset_keepalive_if_required()
        self.metrics.socket_refusals.labels(reason).inc()
        if self.cycle is not None and not self.cycle.response_complete:
            # An answer before this one is still being written: nothing may be mixed into it.
            self.transport.close()
            return
        code = _CODES[reason]
        request_id = new_request_id()
        body = msgspec.json.encode(error_body(code, message=message, request_id=request_id))
        retry = b"retry-after: 1\r\n" if reason == "too_many_connections" else b""
        self.transport.write(
            STATUS_LINE[ERRORS[code].status]
            + b"content-type: application/json\r\ncache-control: private, no-store\r\nconnection: close\r\n"
            + retry
            + b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (request_id.encode(), len(body))
            + body
        )
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more comes, but read on: closing with unread data makes the kernel reset the connection,
        and the client may then never see the answer (RFC 9112, section 9.6)."""
        self.flow.resume_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self._close)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def eof_received(self) -> None:
        return None


def _without_upgrade(data: bytes) -> bytes:
    """A request's head without its ``Upgrade`` line, which a server may ignore (RFC 9110, section 7.8).

    Java's HttpClient sends ``Upgrade: h2c`` with every first request, body included; httptools would not parse that
    body. A head that does not come in one read keeps the line and is refused.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end or b"grade:" not in head.lower():
        return data
    return _UPGRADE.sub(b"", head) + end + rest


def protocol_class(limits: SocketLimits, metrics: Metrics) -> type[asyncio.Protocol]:
    """The protocol with its limits bound, for ``uvicorn.Config(http=...)``, which constructs it itself."""
    return type("TenantplaneProtocol", (LimitedProtocol,), {"limits": limits, "metrics": metrics})
