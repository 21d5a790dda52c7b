"""uvicorn, embedded: no signal handlers, no logging set-up, no proxy headers, our protocol.

Guarantees that ``serve_app`` listens before it reports a port and that it returns after in-flight requests ended or
the drain time is over. Who starts it decides when to stop.
"""

import asyncio
import contextlib
import math
import socket
from collections.abc import Generator

import uvicorn

from tenantplane_api.runtime.platform import SocketLimits
from tenantplane_dataplane.observability.metrics import Metrics
from tenantplane_dataplane.wire.asgi import ASGIApp
from tenantplane_dataplane.wire.protocol import protocol_class


class EmbeddedServer(uvicorn.Server):
    """A server among others in one process: signals belong to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def stop(self) -> None:
        """Stop listening and drain; ``serve`` then returns."""
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        OSError: the address cannot be taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def make_server(app: ASGIApp, *, limits: SocketLimits, metrics: Metrics, drain_seconds: float) -> EmbeddedServer:
    """A server for ``app`` under the given socket limits; start it with ``await server.serve(sockets=[...])``.

    Two ports share one application, so its lifespan is the caller's business.
    """
    config = uvicorn.Config(
        app,
        http=protocol_class(limits, metrics),
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=math.ceil(limits.idle_seconds),
        timeout_graceful_shutdown=math.ceil(drain_seconds),
    )
    return EmbeddedServer(config)


async def wait_started(server: EmbeddedServer, task: "asyncio.Task[None]") -> None:
    """Return when the server accepts connections.

    Raises:
        RuntimeError: it ended instead.
    """
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("the server ended while it started")
        await asyncio.sleep(0.005)
