"""Socket limits, with raw sockets against the real server: what uvicorn would let through."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.dataplane.harness import (
    Key,
    Running,
    dataplane,
    eventually,
    external_model,
    fake_engine,
    local_platform,
    new_key,
    tenant_document,
)

from tenantplane_api.runtime.platform import SocketLimits

LIMITS = SocketLimits(
    header_bytes=4096,
    headers=20,
    body_bytes=64 * 1024,
    header_seconds=0.3,
    body_seconds=0.4,
    idle_seconds=1.0,
    connections=8,
)
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]}).encode()


class Plane:
    def __init__(self, running: Running, key: Key) -> None:
        self.running = running
        self.key = key
        self.head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key.text}\r\n".encode()

    def refusals(self, reason: str) -> float:
        return float(self.running.app.metrics.socket_refusals.labels(reason)._value.get())


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    key = new_key()
    async with fake_engine() as (_, url), dataplane(tmp_path / "c", platform=local_platform(sockets=LIMITS)) as running:
        document = tenant_document("acme", keys=[key], models={"chat": "tenantplane-models/shared"})
        running.config.write(external_model("shared", url), document)
        await eventually(lambda: running.app.store.current.tenants)
        yield Plane(running, key)


class Answer:
    def __init__(self, data: bytes) -> None:
        self.data = data
        head, _, self.body = data.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1]) if head else 0
        self.headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
        }

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@contextlib.asynccontextmanager
async def connected(plane: Plane) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.running.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def to_end(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(10):
        return Answer(await reader.read(-1))


async def raw(plane: Plane, *pieces: bytes, pause: float = 0.0) -> Answer:
    """Send pieces, then read until the server closes."""
    async with connected(plane) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        return await to_end(reader)


async def test_a_normal_request_passes(plane: Plane) -> None:
    answer = await raw(plane, plane.head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    assert answer.status == 200


async def test_header_bytes(plane: Plane) -> None:
    answer = await raw(plane, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 5000 + b"\r\n\r\n")
    assert (answer.status, answer.code) == (431, "headers_too_large")
    assert answer.headers["x-request-id"].startswith("req_")
    assert "no-store" in answer.headers["cache-control"]


async def test_header_bytes_that_never_end_are_refused_while_they_come(plane: Plane) -> None:
    started = time.monotonic()
    pieces = [b"GET / HTTP/1.1\r\nX-Big: ", *[b"a" * 1024] * 6]
    answer = await raw(plane, *pieces, pause=0.01)
    assert answer.status == 431
    assert time.monotonic() - started < 10


async def test_a_long_request_line_counts(plane: Plane) -> None:
    assert (await raw(plane, b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")).status == 431


async def test_header_count(plane: Plane) -> None:
    lines = b"".join(b"X-%d: 1\r\n" % number for number in range(30))
    assert (await raw(plane, b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")).status == 431


async def test_the_second_request_of_a_connection_is_limited_too(plane: Plane) -> None:
    async with connected(plane) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(b"GET / HTTP/1.1\r\nX-Big: " + b"a" * 5000)
        assert (await to_end(reader)).status == 431


async def test_slow_headers(plane: Plane) -> None:
    answer = await raw(plane, b"GET / HTTP/1.1\r\n", *[b"X-A: 1\r\n"] * 6, pause=0.1)
    assert (answer.status, answer.code) == (408, "request_timeout")


async def test_empty_lines_do_not_keep_a_connection(plane: Plane) -> None:
    answer = await raw(plane, *[b"\r\n"] * 8, pause=0.1)
    assert answer.status == 408


async def test_body_over_its_content_length_limit_is_refused_before_it_is_read(plane: Plane) -> None:
    answer = await raw(plane, plane.head + b"Content-Length: 65537\r\n\r\n")
    assert (answer.status, answer.code) == (413, "request_too_large")


async def test_absurd_content_length(plane: Plane) -> None:
    answer = await raw(plane, plane.head + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n")
    assert answer.status in (400, 413)


async def test_chunked_body_over_the_limit_is_refused_as_it_arrives_and_metered(plane: Plane) -> None:
    chunk = b"2000\r\n" + b"a" * 0x2000 + b"\r\n"
    answer = await raw(plane, plane.head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 12)
    assert (answer.status, answer.code) == (413, "request_too_large")
    (event,) = await plane.running.events(1)
    assert (event.status, event.code, event.tenant) == (413, "request_too_large", "acme")


async def test_slow_body(plane: Plane) -> None:
    answer = await raw(plane, plane.head + b"Content-Length: 100\r\n\r\n", *[b"{"] * 8, pause=0.1)
    assert (answer.status, answer.code) == (408, "request_timeout")
    (event,) = await plane.running.events(1)
    assert event.code == "request_timeout"


async def test_body_of_a_refused_request_is_limited_too(plane: Plane) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with connected(plane) as (reader, writer):
        writer.write(head)
        await reader.readuntil(b"\r\n\r\n")
        chunk = b"2000\r\n" + b"a" * 0x2000 + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                writer.write(chunk)
                await writer.drain()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                await reader.read(-1)
    assert plane.refusals("body_too_large") == 1


async def test_idle_connections_are_closed(plane: Plane) -> None:
    async with connected(plane) as (reader, _):
        assert (await to_end(reader)).data == b""
    async with connected(plane) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await to_end(reader)).status == 200
    assert plane.refusals("idle") == 2


async def test_connections(plane: Plane) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(LIMITS.connections):
            await stack.enter_async_context(connected(plane))
        await eventually(lambda: plane.running.app.metrics.connections._value.get() >= LIMITS.connections)
        async with connected(plane) as (reader, _):
            answer = await to_end(reader)
        assert (answer.status, answer.code) == (503, "not_ready")
        assert answer.headers["retry-after"] == "1"
    await eventually(lambda: plane.running.app.metrics.connections._value.get() == 0)
    assert (await raw(plane, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"authorization: Bearer tp_other\r\nContent-Length: 0\r\n",
        b"X-Api-Key: a\r\nX-Api-Key: b\r\nContent-Length: 0\r\n",
        b"Bad Header: 1\r\nContent-Length: 0\r\n",
        b" Folded: 1\r\nContent-Length: 0\r\n",
    ],
)
async def test_ambiguous_heads_are_refused(plane: Plane, lines: bytes) -> None:
    answer = await raw(plane, plane.head + lines + b"\r\n0\r\n\r\n")
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert not plane.running.usage.events


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"NOPE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_what_is_no_http_is_refused_in_our_shape(plane: Plane, garbage: bytes) -> None:
    answer = await raw(plane, garbage)
    assert (answer.status, answer.code) == (400, "invalid_request")


async def test_a_client_that_stops_reading_is_cut(plane: Plane) -> None:
    plane.running.app.metrics.socket_refusals.labels("stalled_reader")
    loop = asyncio.get_running_loop()

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", plane.running.port))
    try:
        # Answers pile up unread: pipelined requests, never a byte read.
        request = b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 200
        deadline = loop.time() + 10
        while plane.refusals("stalled_reader") == 0 and loop.time() < deadline:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                sock.send(request)
            await asyncio.sleep(0.02)
        assert plane.refusals("stalled_reader") == 1
    finally:
        sock.close()


async def test_pipelined_requests_are_answered_in_order(plane: Plane) -> None:
    pair = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await raw(plane, pair)
    assert answer.status == 200
    assert b"route_not_found" in answer.data


async def test_expect_continue(plane: Plane) -> None:
    async with connected(plane) as (reader, writer):
        writer.write(
            plane.head + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await to_end(reader)).status == 200


async def test_an_offer_of_http2_is_ignored(plane: Plane) -> None:
    """As Java's HttpClient sends it; under plain uvicorn its body is lost and the request hangs."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    async with connected(plane) as (reader, writer):
        writer.write(plane.head + offer + b"Content-Length: %d\r\n\r\n" % len(BODY))
        await asyncio.sleep(0.05)
        writer.write(BODY)
        assert (await to_end(reader)).status == 200


async def test_an_upgrade_that_comes_in_pieces_is_refused(plane: Plane) -> None:
    pieces = (plane.head, b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Content-Length: 0\r\n\r\n")
    answer = await raw(plane, *pieces, pause=0.03)
    assert (answer.status, answer.code) == (400, "invalid_request")


async def test_connect_is_refused(plane: Plane) -> None:
    assert (await raw(plane, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")).status == 400
