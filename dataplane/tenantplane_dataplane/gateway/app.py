"""The public ASGI application: a table of routes in front of the gate.

Exact paths only: what is not in the table is 404, whatever its spelling. Health routes answer without a credential and
say nothing about tenants.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.gateway.exchange import Exchange, not_ready
from tenantplane_dataplane.gateway.gate import Gate, Handler
from tenantplane_dataplane.gateway.routes import CHAT_COMPLETIONS_PATH, MODELS_PATH, OpenAIRoutes
from tenantplane_dataplane.wire import asgi
from tenantplane_dataplane.wire.asgi import Refusal

UNKNOWN_ROUTE: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Route:
    """One path and its handlers by method; ``name`` is its label in metrics and records."""

    path: str
    methods: dict[str, Handler]
    name: str = ""
    prefix: bool = False


def health_routes(gate: Gate) -> list[Route]:
    """``/healthz`` (the process answers) and ``/readyz`` (requests can be judged)."""

    async def healthz(exchange: Exchange) -> None:
        await exchange.respond_json({"status": "ok"})

    async def readyz(exchange: Exchange) -> None:
        if not gate.ready:
            raise not_ready()
        await exchange.respond_json({"status": "ready"})

    return [Route("/healthz", {"GET": healthz, "HEAD": healthz}), Route("/readyz", {"GET": readyz, "HEAD": readyz})]


def openai_routes(routes: OpenAIRoutes) -> list[Route]:
    """The OpenAI-compatible surface."""
    return [
        Route(CHAT_COMPLETIONS_PATH, {"POST": routes.chat_completions}),
        Route(MODELS_PATH, {"GET": routes.list_models}),
        Route(MODELS_PATH + "/", {"GET": routes.get_model}, name="/v1/models/{id}", prefix=True),
    ]


class RouterApp:
    """ASGI over a table of routes."""

    def __init__(self, gate: Gate, routes: Iterable[Route]) -> None:
        self._gate = gate
        table = list(routes)
        self._exact = {route.path: route for route in table if not route.prefix}
        self._prefixes = [route for route in table if route.prefix]

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Serve one ``http`` scope."""
        assert scope["type"] == "http", "only HTTP is served here"
        path: str = scope["path"]
        route = self._exact.get(path)
        if route is None:
            route = next((r for r in self._prefixes if path.startswith(r.path) and path != r.path), None)
        if route is None:
            await self._gate.run(_no_route, scope, receive, send, route=UNKNOWN_ROUTE)
            return
        handler = route.methods.get(scope["method"])
        name = route.name or route.path
        if handler is None:
            await self._gate.run(_wrong_method(route), scope, receive, send, route=name)
            return
        await self._gate.run(handler, scope, receive, send, route=name)


async def _no_route(exchange: Exchange) -> None:
    raise Refusal(ErrorCode.ROUTE_NOT_FOUND)


def _wrong_method(route: Route) -> Handler:
    async def handler(exchange: Exchange) -> None:
        allow = ", ".join(sorted(route.methods)).encode()
        raise Refusal(ErrorCode.METHOD_NOT_ALLOWED, headers=[(b"allow", allow)])

    return handler
