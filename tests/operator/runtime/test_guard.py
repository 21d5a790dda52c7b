"""Nothing is written that the guard does not allow: over a real HTTP server, which counts what arrives."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.operator.runtime.test_api import config_map

from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.errors import NotLeading, Unavailable
from tenantplane_operator.runtime.kubeconfig import Connection
from tenantplane_operator.runtime.resources import ObjectKey

KEY = ObjectKey("ConfigMap", "a", "b")


class Server:
    """Answers everything; ``hold`` keeps answers back."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.two = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request.method)
        if len(self.seen) == 2:
            self.two.set()
        await self.go.wait()
        return web.json_response(config_map("b", ns="a") | {"kind": "ConfigMap"})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, KubeApi]]:
    """A server, and a client of it with one connection."""
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with KubeApi(Connection(f"http://127.0.0.1:{runner.addresses[0][1]}", None, lambda: None), limit=1) as api:
        yield made, api
    made.go.set()
    await runner.cleanup()


class Allowed:
    """A guard that allows ``times`` questions."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise NotLeading("no")


async def writes(api: KubeApi) -> None:
    """Every way to write; each must be refused."""
    for attempt in (
        api.apply(config_map("b"), manager="m"),
        api.create(config_map("b")),
        api.merge_patch(KEY, {"data": {}}, manager="m"),
        api.delete(KEY),
        api.request("replace", "PUT", "/api/v1/namespaces/a/configmaps/b", body=config_map("b")),
    ):
        with pytest.raises(NotLeading):
            await attempt


async def test_a_follower_reads_and_writes_nothing(server: tuple[Server, KubeApi]) -> None:
    seen, api = server
    api.guard = Allowed(0)
    await writes(api)
    assert seen.seen == []
    await api.get(KEY)
    await api.apply(config_map("b"), manager="m", dry_run=True)
    async with api.sibling(limit=1) as lease:
        await lease.request("lease", "PUT", "/apis/coordination.k8s.io/v1/x", body={})
    assert seen.seen == ["GET", "PATCH", "PUT"]


async def test_what_changed_while_waiting_for_a_connection_counts(server: tuple[Server, KubeApi]) -> None:
    seen, api = server
    # The first question is asked before the connection, the second after it.
    for _ in range(2):
        api.guard = Allowed(1)
        with pytest.raises(NotLeading):
            await api.apply(config_map("b"), manager="m")
        assert "PATCH" not in seen.seen
        await api.get(KEY)
    # The connection was given back each time, or the only one would be lost.
    api.guard = Allowed(2)
    await api.apply(config_map("b"), manager="m")
    assert seen.seen == ["GET", "GET", "PATCH"]


async def test_writes_in_flight_are_broken_off_and_reads_are_not(server: tuple[Server, KubeApi]) -> None:
    seen, _ = server
    api = server[1].sibling(limit=4)
    seen.go.clear()
    writing = asyncio.create_task(api.apply(config_map("b"), manager="m"))
    reading = asyncio.create_task(api.get(KEY))
    await asyncio.wait_for(seen.two.wait(), 10)
    api.stop_writes()
    with pytest.raises(Unavailable):
        await writing
    assert not reading.done()
    seen.go.set()
    await reading
    await api.close()
