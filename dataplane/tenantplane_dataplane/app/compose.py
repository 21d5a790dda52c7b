"""``build_app``: the parts of one worker, wired.

``build_app`` makes an ASGI application with a lifespan: at start it reads the directory and follows it, at the end it
flushes usage and closes connections. It opens no port and starts no process; ``serve`` does. Role ``gateway`` never
imports the assistants' part, so that the hot path can run without LangGraph and FastAPI.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Literal, get_args

from tenantplane_api.runtime.platform import Platform
from tenantplane_dataplane.config.store import ConfigStore
from tenantplane_dataplane.gateway.app import Route, RouterApp, health_routes, openai_routes
from tenantplane_dataplane.gateway.gate import Gate
from tenantplane_dataplane.gateway.passthrough import PassThrough
from tenantplane_dataplane.gateway.responder import Responder, Responders
from tenantplane_dataplane.gateway.routes import OpenAIRoutes
from tenantplane_dataplane.metering.recorder import JsonLinesSink, Recorder, Sink
from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.observability.metrics import CONTENT_TYPE, Metrics
from tenantplane_dataplane.policy.limiter import Limiter, LocalLimiter
from tenantplane_dataplane.upstream.engine import Engine, HttpEngine
from tenantplane_dataplane.wire import asgi

Role = Literal["gateway", "assistants", "all"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
_FLUSH_SECONDS: Final = 10.0
_log = get_logger("app")


class DataPlane:
    """One worker. An ASGI application (``http`` and ``lifespan``); ``internal`` is the one for the internal port."""

    def __init__(
        self,
        platform: Platform,
        config_dir: Path,
        *,
        role: Role = "all",
        require_synced: bool = False,
        sink: Sink | None = None,
        limiter: Limiter | None = None,
        engine: Engine | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.platform = platform
        self.role = role
        self.metrics = metrics or Metrics()
        self.store = ConfigStore(config_dir, metrics=self.metrics, require_synced=require_synced)
        self._sink = sink
        self._limiter = limiter or LocalLimiter()
        self._given_engine = engine
        self._tasks: list[asyncio.Task[None]] = []
        self._gate: Gate | None = None
        self._public: RouterApp | None = None
        self._internal: RouterApp | None = None
        self._engine: Engine | None = None
        self._recorder: Recorder | None = None
        self._close_api: list[asgi.ASGIApp] = []
        self._assistants: object | None = None

    @property
    def ready(self) -> bool:
        """True when requests can be judged."""
        return self._gate is not None and self._gate.ready

    async def start(self) -> None:
        """Read the configuration and make all parts; must run in the event loop that serves.

        Raises:
            ConfigDirectoryError: the directory must not be trusted.
        """
        self.store.load()
        self._recorder = Recorder(self._sink or JsonLinesSink(_stdout()), self.metrics)
        self._recorder.start()
        self._engine = self._given_engine or HttpEngine(
            self.platform.dataplane.upstream, self.platform.shared.external_hosts, self.metrics
        )
        gate = self._gate = Gate(
            platform=self.platform,
            store=self.store,
            limiter=self._limiter,
            engine=self._engine,
            recorder=self._recorder,
            metrics=self.metrics,
        )
        kinds: dict[str, Responder] = {"External": PassThrough(self._engine)}
        routes: list[Route] = []
        if self.role != "gateway":
            from tenantplane_dataplane.api.compose import AssistantApi

            assistants = AssistantApi(gate)
            kinds.update(assistants.responders())
            routes += assistants.routes()
            self._assistants = assistants
        health = health_routes(gate)
        routes += openai_routes(OpenAIRoutes(Responders(kinds)))
        self._public = RouterApp(gate, [*health, *routes])
        self._internal = RouterApp(gate, [*health, _metrics_route(self.metrics)])
        self._tasks.append(asyncio.create_task(self.store.run(), name="config"))
        _log.info("started", extra={"fields": {"role": self.role, "tenants": len(self.store.current.tenants)}})

    def drain(self) -> None:
        """Tell load balancers to go elsewhere; requests in flight go on."""
        if self._gate is not None:
            self._gate.draining = True

    async def stop(self) -> None:
        """Close what ``start`` opened; returns when queued usage is written or its time is over. Idempotent."""
        self.drain()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self._assistants is not None:
            from tenantplane_dataplane.api.compose import AssistantApi

            assert isinstance(self._assistants, AssistantApi)
            self._assistants.close()
            self._assistants = None
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.close()
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            if not await asyncio.to_thread(recorder.close, _FLUSH_SECONDS):
                _log.error("usage events were still queued at the end", extra={"fields": {}})

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """The public port."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        assert self._public is not None, "the lifespan has started"
        await self._public(scope, receive, send)

    async def internal(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """The internal port: health and ``/metrics``; has no lifespan of its own."""
        assert self._internal is not None, "the lifespan has started"
        await self._internal(scope, receive, send)

    async def _lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:  # noqa: BLE001 - ASGI wants the failure as a message
            _log.exception("start failed", extra={"fields": {}}, exc_info=error)
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


def build_app(
    platform: Platform, config_dir: Path, *, role: Role = "all", require_synced: bool = False, sink: Sink | None = None
) -> DataPlane:
    """One worker as an ASGI application with a lifespan.

    Args:
        config_dir: private directory (0700) of ``t.<tenant>.json`` and ``m.<namespace>.<name>.json``.
        role: ``gateway`` serves ``/v1`` with engines only; ``assistants`` and ``all`` also assistants and ``/chat``.
        require_synced: not ready before ``.synced`` is in the directory (whoever fills it writes it last).
        sink: where usage events go; default JSON lines on stdout.
    """
    return DataPlane(platform, config_dir, role=role, require_synced=require_synced, sink=sink)


def _metrics_route(metrics: Metrics) -> Route:
    from tenantplane_dataplane.gateway.exchange import Exchange

    async def handler(exchange: Exchange) -> None:
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        await asgi.send_response(
            exchange.send, status=200, body=metrics.render(), headers=headers, request_id=exchange.request_id
        )

    return Route("/metrics", {"GET": handler})


def _stdout() -> BinaryIO:
    return sys.stdout.buffer
