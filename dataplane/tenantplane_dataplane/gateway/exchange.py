"""One request and its answer: what handlers share, and what is counted at the end.

Handlers answer through an ``Exchange`` only, so that status, bytes and time to first byte are known whatever happens.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.config.compiled import CompiledTenant
from tenantplane_dataplane.config.snapshot import Snapshot
from tenantplane_dataplane.metering.usage import Draft
from tenantplane_dataplane.policy.limiter import Grant
from tenantplane_dataplane.wire import asgi

if TYPE_CHECKING:
    from tenantplane_dataplane.gateway.gate import Gate


class Exchange:
    """A request being served. ``tenant`` and ``snapshot`` are set by ``Gate.authenticate``."""

    def __init__(
        self,
        gate: "Gate",
        scope: asgi.Scope,
        receive: asgi.Receive,
        send: asgi.Send,
        *,
        route: str,
        request_id: str,
        accepted: float,
    ) -> None:
        self.gate: Final = gate
        self.scope: Final = scope
        self.receive: Final = receive
        self.wire: Final = asgi.wire_of(scope)
        self.request_id: Final = request_id
        self.draft: Final = Draft(request_id=request_id, route=route, accepted=accepted)
        self.started = False
        self.finished = False
        self.metered = False
        """True once a usage event is owed: from authentication on, on routes that use models."""
        self.grant: Grant | None = None
        self.limit_headers: asgi.Headers = []
        self._tenant: CompiledTenant | None = None
        self._snapshot: Snapshot | None = None
        self._send = send
        self._clock_start: Final = time.perf_counter()

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The request's headers, names in lower case."""
        headers: Sequence[tuple[bytes, bytes]] = self.scope["headers"]
        return headers

    @property
    def tenant(self) -> CompiledTenant:
        """The caller's tenant; raises where nobody was authenticated, so that no code path can forget it."""
        if self._tenant is None:
            raise RuntimeError("no tenant: the request was not authenticated")
        return self._tenant

    @property
    def snapshot(self) -> Snapshot:
        """The documents this request is judged by, from authentication to the end."""
        if self._snapshot is None:
            raise RuntimeError("no snapshot: the request was not authenticated")
        return self._snapshot

    def bind(self, tenant: CompiledTenant, snapshot: Snapshot) -> None:
        """Set the tenant, once."""
        assert self._tenant is None, "a request has one tenant"
        self._tenant, self._snapshot = tenant, snapshot

    @property
    def seconds(self) -> float:
        """Time since the request was accepted."""
        return time.perf_counter() - self._clock_start

    async def read_body(self) -> bytes:
        """The request's body, within the platform's limits."""
        body = await asgi.read_body(self.scope, self.receive, limit=self.gate.body_bytes)
        self.draft.bytes_in = len(body)
        return body

    async def send(self, message: asgi.Message) -> None:
        """ASGI ``send`` that keeps account."""
        if message["type"] == "http.response.start":
            self.started = True
            self.draft.status = message["status"]
        else:
            body = message.get("body", b"")
            if body:
                if not self.draft.bytes_out:
                    self.draft.ttft_ms = round(self.seconds * 1000)
                self.draft.bytes_out += len(body)
            if not message.get("more_body", False):
                self.finished = True
        await self._send(message)

    async def respond_json(self, content: object, *, headers: asgi.Headers | None = None) -> None:
        """200 with a JSON body."""
        extra = [*self.limit_headers, *(headers or [])]
        await asgi.send_json(self.send, content, request_id=self.request_id, headers=extra)

    async def respond_bytes(self, body: bytes, *, headers: asgi.Headers | None = None) -> None:
        """200 with a JSON body that is encoded already."""
        extra = [asgi.JSON_TYPE, *self.limit_headers, *(headers or [])]
        await asgi.send_response(self.send, status=200, body=body, headers=extra, request_id=self.request_id)

    async def start_stream(self) -> None:
        """200 and the head of an event stream."""
        headers = [*asgi.standard_headers(self.request_id), asgi.SSE_TYPE, *self.limit_headers]
        # Proxies must pass events on as they come.
        headers.append((b"x-accel-buffering", b"no"))
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})

    async def stream_piece(self, piece: bytes) -> None:
        """A piece of a started stream."""
        await self.send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end_stream(self, last: bytes = b"") -> None:
        """The end of a started stream."""
        await self.send({"type": "http.response.body", "body": last, "more_body": False})

    async def refuse(self, refusal: asgi.Refusal) -> None:
        """Answer with an error; in a started stream, with an error event, which OpenAI's SDKs raise."""
        self.draft.code = str(refusal.code)
        if self.finished:
            return
        if not self.started:
            known = {name for name, _ in refusal.headers}
            refusal.headers = (*refusal.headers, *(item for item in self.limit_headers if item[0] not in known))
            await asgi.send_refusal(self.send, refusal, request_id=self.request_id)
        else:
            await self.end_stream(asgi.sse(asgi.refusal_body(refusal, self.request_id)))

    def fields(self) -> dict[str, Any]:
        """What a log line about this request may say."""
        return {"request_id": self.request_id, "route": self.draft.route, "tenant": self.draft.tenant}


def not_ready(message: str | None = None) -> asgi.Refusal:
    """503 ``not_ready``, worth a retry."""
    return asgi.Refusal(ErrorCode.NOT_READY, message=message, headers=[(b"retry-after", b"1")])
