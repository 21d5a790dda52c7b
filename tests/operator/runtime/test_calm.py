"""What would end kopf's watching for good is turned into what it survives; over a real HTTP server."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from tenantplane_operator.runtime import calm as module
from tenantplane_operator.runtime.calm import calm

Ask = Callable[[str], Awaitable[bytes]]
OBJECT = b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n'
LONG = b'{"type":"ADDED","object":{"data":"' + b"x" * 300_000 + b'"}}\n'
QUOTED = b'{"type":"ADDED","object":{"data":"{\\"type\\":\\"ERROR\\""}}\n'


def error(code: int) -> bytes:
    return b'{"type":"ERROR","object":{"kind":"Status","code":%d}}\n' % code


STREAMS = {
    "whole": OBJECT + LONG + OBJECT,
    "half": OBJECT + OBJECT[:20],
    "gone": OBJECT + error(410) + OBJECT,
    "failed": OBJECT + error(500) + OBJECT,
    "odd": b'{"type":"ERROR","object":"what"}\n',
    "quoted": QUOTED + OBJECT,
}


@pytest.fixture
async def ask(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ask]:
    """Read a stream or status of a server through the middleware."""
    monkeypatch.setattr(module, "PAUSE", 0.01)

    async def handle(request: web.Request) -> web.StreamResponse:
        name = request.path.strip("/")
        if name.isdecimal():
            return web.json_response({"kind": "Status"}, status=int(name))
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(STREAMS[name]), 70_000):
            await response.write(STREAMS[name][start : start + 70_000])
        return response

    app = web.Application()
    app.router.add_get("/{name}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}", middlewares=(calm,)) as session:

        async def get(path: str) -> bytes:
            async with session.get(path) as response:
                assert response.status in (200, 429, 500)
                return b"".join([chunk async for chunk in response.content.iter_chunked(1 << 20)])

        yield get
    await runner.cleanup()


async def test_what_is_well_passes_untouched(ask: Ask) -> None:
    assert await ask("/whole?watch=true") == STREAMS["whole"]
    assert await ask("/quoted?watch=true") == STREAMS["quoted"]
    # An error that asks for a new list passes as it is; so does everything that kopf itself asks again after.
    assert (await ask("/gone?watch=true")).startswith(OBJECT + error(410))
    for status in (429, 500):
        assert json.loads(await ask(f"/{status}?watch=true")) == {"kind": "Status"}


async def test_half_a_line_is_a_broken_connection(ask: Ask) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask("/half?watch=true")
    # Nothing is changed where nobody watches.
    assert await ask("/half") == STREAMS["half"]


@pytest.mark.parametrize("name", ["failed", "odd", "410"])
async def test_every_other_end_of_a_watch_asks_for_a_new_list(ask: Ask, name: str) -> None:
    last = (await ask(f"/{name}?watch=true")).splitlines()[-1]
    assert json.loads(last)["object"]["code"] == 410


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_what_passes_by_itself_is_asked_again(ask: Ask, status: int) -> None:
    for path in (f"/{status}?watch=true", f"/{status}"):
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(path)


async def test_a_list_whose_snapshot_is_lost_begins_anew(ask: Ask) -> None:
    # A payload error is not asked again for the same page.
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask("/410?limit=5&continue=x")
