"""Raw ASGI: types, headers, reading a body, writing answers in OpenAI's shape.

Guarantees that every answer written through here carries ``x-request-id`` and ``Cache-Control: private, no-store``,
and that an error is the body of ``tenantplane_api.runtime.errors``. Does not parse bodies and knows no route.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from tenantplane_api.runtime.errors import ERRORS, ErrorCode, error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

EXTENSION: Final = "tenantplane.wire"
"""Key of the ``Wire`` object in ``scope["extensions"]``; absent under a server that is not ours."""

JSON_TYPE: Final = (b"content-type", b"application/json")
SSE_TYPE: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_NO_STORE: Final = (b"cache-control", b"private, no-store")


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """Raise to answer a request with an error of the catalogue.

    Args:
        code: decides status, type and default message.
        message: replaces the default; must not name another tenant, an upstream host or a file.
        param: the field of the request that is wrong.
        headers: extra response headers, such as ``retry-after``.
    """

    def __init__(
        self,
        code: ErrorCode,
        *,
        message: str | None = None,
        param: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(str(code))
        self.code = code
        self.message = message
        self.param = param
        self.headers = tuple(headers)

    @property
    def status(self) -> int:
        """HTTP status of the code."""
        return ERRORS[self.code].status


class ClientDisconnected(Exception):  # noqa: N818 - an event, not a fault
    """Raised where the caller went away: there is nobody to answer, but slots and usage must be settled."""


class Wire:
    """What the protocol and the application tell each other about one request.

    ``refusal`` is set by the protocol when the body broke a socket limit; ``on_disconnect`` is called once when the
    connection is lost while the request runs.
    """

    __slots__ = ("disconnected", "on_disconnect", "refusal")

    def __init__(self) -> None:
        self.refusal: ErrorCode | None = None
        self.disconnected = False
        self.on_disconnect: Callable[[], object] | None = None

    def lost(self) -> None:
        """Called by the protocol when the connection is gone."""
        self.disconnected = True
        callback, self.on_disconnect = self.on_disconnect, None
        if callback is not None:
            callback()


def wire_of(scope: Scope) -> Wire:
    """The request's ``Wire``; an inert one under a foreign server."""
    found = scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, Wire) else Wire()


@contextlib.contextmanager
def cancel_on_disconnect(wire: Wire) -> Iterator[None]:
    """Turn the loss of the client's connection into ``ClientDisconnected`` at the next await inside the block.

    Without it, a handler that waits for a slow engine learns of a lost client only when it next writes. The callback
    runs only while the task is suspended inside the block, so the cancellation cannot surface outside of it.
    """
    if wire.disconnected:
        raise ClientDisconnected
    task = asyncio.current_task()
    assert task is not None, "runs in a task"
    fired = False

    def gone() -> None:
        nonlocal fired
        fired = True
        task.cancel()

    wire.on_disconnect = gone
    try:
        yield
    except asyncio.CancelledError:
        # A cancellation from elsewhere (shutdown) must go on as one.
        if fired and task.uncancel() == 0:
            raise ClientDisconnected from None
        raise
    finally:
        wire.on_disconnect = None


def header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """First value of a lower-case header name."""
    for key, value in headers:
        if key == name:
            return value
    return None


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole body.

    Raises:
        Refusal: more than ``limit`` bytes, or the protocol's time for a body is over.
        ClientDisconnected: the caller went away before the end.
    """
    declared = header(scope["headers"], b"content-length")
    if declared is not None and declared.isdigit() and int(declared[:20]) > limit:
        raise Refusal(ErrorCode.REQUEST_TOO_LARGE, headers=[(b"connection", b"close")])
    wire = wire_of(scope)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if wire.refusal is not None:
            raise Refusal(wire.refusal)
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise Refusal(ErrorCode.REQUEST_TOO_LARGE, headers=[(b"connection", b"close")])
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def standard_headers(request_id: str) -> Headers:
    """What every answer carries: request id, no caching, no content sniffing."""
    return [(b"x-request-id", request_id.encode()), _NO_STORE, (b"x-content-type-options", b"nosniff")]


async def send_response(
    send: Send, *, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]], request_id: str
) -> None:
    """One complete answer."""
    all_headers = [*standard_headers(request_id), *headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_json(
    send: Send, content: object, *, request_id: str, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """``content`` (anything that msgspec encodes) as one JSON answer."""
    body = msgspec.json.encode(content)
    await send_response(send, status=status, body=body, headers=[JSON_TYPE, *headers], request_id=request_id)


def refusal_body(refusal: Refusal, request_id: str) -> dict[str, object]:
    """The JSON body of a refusal."""
    return error_body(refusal.code, message=refusal.message, param=refusal.param, request_id=request_id)


async def send_refusal(send: Send, refusal: Refusal, *, request_id: str) -> None:
    """A refusal as an answer; a 401 says how to authenticate (RFC 9110, 11.6.1)."""
    headers = list(refusal.headers)
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send_json(
        send, refusal_body(refusal, request_id), request_id=request_id, status=refusal.status, headers=headers
    )


def sse(content: object) -> bytes:
    """One server-sent event with a JSON payload."""
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
