"""The one way in: authenticate, admit, account for. ``/v1`` and ``/chat`` use the same functions.

Order (architecture: "Order of a request"): authenticate → the tenant's document → suspended? → (handler reads the body
and resolves what is asked for) → rate and concurrency. Guarantees: a slot that was granted is given back whatever
happens; every request that was authenticated on a metered route leaves exactly one usage event; an unexpected error is
answered as ``internal_error`` without its text.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_api.runtime.names import TenantID
from tenantplane_api.runtime.platform import Platform
from tenantplane_api.runtime.records import new_request_id
from tenantplane_dataplane.config.compiled import ConfigInvalid
from tenantplane_dataplane.config.store import ConfigStore
from tenantplane_dataplane.gateway.exchange import Exchange, not_ready
from tenantplane_dataplane.metering.recorder import Recorder
from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.observability.metrics import Metrics
from tenantplane_dataplane.policy.authenticate import authenticate
from tenantplane_dataplane.policy.authorise import AliasTarget, AssistantTarget, Target
from tenantplane_dataplane.policy.limiter import Denial, Limiter
from tenantplane_dataplane.policy.limits import denial_refusal, descriptors, limit_headers
from tenantplane_dataplane.upstream.engine import Engine
from tenantplane_dataplane.wire import asgi
from tenantplane_dataplane.wire.asgi import ClientDisconnected, Refusal, cancel_on_disconnect

Handler = Callable[[Exchange], Awaitable[None]]

CLIENT_DISCONNECTED = "client_disconnected"
"""``code`` of a usage event whose caller went away; nobody ever reads it as an answer."""
_STATUS_DISCONNECTED = 499
_log = get_logger("gateway")


class Gate:
    """What every request of a process passes. ``clock`` gives unix seconds."""

    def __init__(
        self,
        *,
        platform: Platform,
        store: ConfigStore,
        limiter: Limiter,
        engine: Engine,
        recorder: Recorder,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.platform = platform
        self.store = store
        self.limiter = limiter
        self.engine = engine
        self.recorder = recorder
        self.metrics = metrics
        self.clock = clock
        self.body_bytes = platform.dataplane.sockets.body_bytes
        self.draining = False

    @property
    def ready(self) -> bool:
        """True when requests can be judged: documents are there and the process is not about to end."""
        return self.store.ready and not self.draining

    async def authenticate(self, exchange: Exchange, *, metered: bool = True) -> None:
        """Find the caller and its tenant.

        Raises:
            Refusal: 401, ``tenant_config_invalid``, ``tenant_suspended`` or ``not_ready``.
        """
        # Before the documents are there, every key would be "unknown": say what it is instead.
        if not self.store.ready:
            raise not_ready()
        if not self.recorder.accepting:
            raise not_ready("Requests cannot be accounted for right now: try again in a moment.")
        snapshot = self.store.current
        try:
            caller = authenticate(exchange.headers, snapshot, now=self.clock())
        except Refusal as refusal:
            self.metrics.auth_failures.labels(str(refusal.code)).inc()
            raise
        draft = exchange.draft
        draft.tenant, draft.tenant_id = caller.tenant.tenant, TenantID(caller.tenant.tenant_id)
        draft.key_id = caller.key.id
        exchange.metered = metered
        try:
            tenant = caller.tenant.compiled()
        except ConfigInvalid:
            raise Refusal(ErrorCode.TENANT_CONFIG_INVALID) from None
        if tenant.suspended:
            raise Refusal(ErrorCode.TENANT_SUSPENDED)
        exchange.bind(tenant, snapshot)

    async def admit(self, exchange: Exchange, target: Target | None) -> None:
        """Take the request's share of the tenant's limits; given back when the request ends.

        Raises:
            Refusal: 429 with ``Retry-After``.
        """
        self._describe(exchange, target)
        decision = await self.limiter.acquire(descriptors(exchange.tenant))
        if isinstance(decision, Denial):
            self.metrics.limit_refusals.labels(decision.kind).inc()
            raise denial_refusal(decision)
        exchange.grant = decision
        exchange.limit_headers = limit_headers(decision.standing)

    def _describe(self, exchange: Exchange, target: Target | None) -> None:
        draft = exchange.draft
        if isinstance(target, AssistantTarget):
            draft.op, draft.assistant = "assistant", target.assistant.name
            draft.engine = "Extractive"
            target = target.model
        if isinstance(target, AliasTarget):
            draft.alias, draft.model, draft.engine = target.alias, target.model.key, target.engine

    async def run(
        self, handler: Handler, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send, *, route: str
    ) -> None:
        """Serve one request with ``handler``; answers whatever it raises."""
        exchange = Exchange(self, scope, receive, send, route=route, request_id=new_request_id(), accepted=self.clock())
        self.metrics.in_flight.inc()
        try:
            with cancel_on_disconnect(exchange.wire):
                await handler(exchange)
        except ClientDisconnected:
            exchange.draft.code, exchange.draft.status = CLIENT_DISCONNECTED, _STATUS_DISCONNECTED
        except Refusal as refusal:
            await exchange.refuse(refusal)
        except asyncio.CancelledError:
            exchange.draft.code = str(ErrorCode.NOT_READY)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer without its text
            _log.exception("a request failed", extra={"fields": exchange.fields()}, exc_info=error)
            await exchange.refuse(Refusal(ErrorCode.INTERNAL_ERROR))
        finally:
            await self._settle(exchange)

    async def _settle(self, exchange: Exchange) -> None:
        if exchange.grant is not None:
            grant, exchange.grant = exchange.grant, None
            await self.limiter.release(grant)
        draft, metrics = exchange.draft, self.metrics
        metrics.in_flight.dec()
        metrics.requests.labels(draft.route, str(draft.status), draft.code).inc()
        metrics.request_seconds.labels(draft.route).observe(exchange.seconds)
        if draft.stream and draft.bytes_out:
            metrics.first_byte_seconds.labels(draft.route).observe(draft.ttft_ms / 1000)
        if draft.tokens is not None:
            tokens = draft.tokens
            metrics.tokens.labels("input", tokens.measured).inc(tokens.input_uncached + tokens.cache_read)
            metrics.tokens.labels("output", tokens.measured).inc(tokens.output_text)
        if exchange.metered:
            self.recorder.record(draft.finish(now=self.clock()))
