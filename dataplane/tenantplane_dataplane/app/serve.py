"""``serve``: a data plane on two ports until it is told to stop.

Guarantees at the end: readiness turns false first, requests in flight get ``drainSeconds`` to finish, queued usage is
written, and the watcher process is gone when this returns. Signals belong to the caller: set ``stop``.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenantplane_api.runtime.platform import Platform
from tenantplane_dataplane.app.compose import Role, build_app
from tenantplane_dataplane.app.supervise import supervise
from tenantplane_dataplane.metering.recorder import Sink
from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.observability.metrics import Metrics
from tenantplane_dataplane.wire.server import EmbeddedServer, listen, make_server, wait_started

_log = get_logger("app")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a running data plane listens."""

    public: int
    internal: int


async def serve(
    platform: Platform,
    config_dir: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    internal_host: str = "127.0.0.1",
    internal_port: int = 8081,
    role: Role = "all",
    watcher: Sequence[str] | None = None,
    sink: Sink | None = None,
    stop: asyncio.Event,
    on_started: Callable[[Ports], object] | None = None,
) -> None:
    """Run one worker in this event loop until ``stop`` is set.

    Args:
        port, internal_port: 0 takes any free one; ``on_started`` says which.
        watcher: command of the process that fills ``config_dir``; ``None`` when somebody else does. With a watcher the
            worker is not ready before the first list is complete.
        sink: where usage events go; default JSON lines on stdout.

    Raises:
        OSError: a port cannot be had.
        ConfigDirectoryError: the directory must not be trusted.
    """
    app = build_app(platform, config_dir, role=role, require_synced=watcher is not None, sink=sink)
    with contextlib.ExitStack() as sockets:
        public_socket = sockets.enter_context(contextlib.closing(listen(host, port)))
        internal_socket = sockets.enter_context(contextlib.closing(listen(internal_host, internal_port)))
        ports = Ports(public_socket.getsockname()[1], internal_socket.getsockname()[1])
        limits, drain = platform.dataplane.sockets, platform.dataplane.drain_seconds
        public = make_server(app, limits=limits, metrics=app.metrics, drain_seconds=drain)
        # Its own allowance of connections and its own figures: a flooded public port must not blind who looks.
        internal = make_server(app.internal, limits=limits, metrics=Metrics(), drain_seconds=1.0)
        await app.start()
        running = [
            asyncio.create_task(public.serve(sockets=[public_socket]), name="public"),
            asyncio.create_task(internal.serve(sockets=[internal_socket]), name="internal"),
        ]
        background = [] if watcher is None else [asyncio.create_task(supervise(watcher, app.metrics), name="watcher")]
        try:
            for server, task in zip((public, internal), running, strict=True):
                await wait_started(server, task)
            _log.info("listening", extra={"fields": {"port": ports.public, "internal_port": ports.internal}})
            if on_started is not None:
                on_started(ports)
            await _until(stop, [*running, *background])
        finally:
            app.drain()
            await _end(public, running[0])
            for task in background:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await _end(internal, running[1])
            await app.stop()


async def _until(stop: asyncio.Event, tasks: list["asyncio.Task[None]"]) -> None:
    """Return when ``stop`` is set; raise when a part ends by itself."""
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for task in tasks:
        if task in done:
            task.result()
            raise RuntimeError(f"{task.get_name()} ended by itself")


async def _end(server: EmbeddedServer, task: "asyncio.Task[None]") -> None:
    server.stop()
    await task
