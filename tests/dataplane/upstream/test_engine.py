"""The engine seam: time limits, one retry, broken answers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.dataplane.harness import (
    Key,
    Running,
    dataplane,
    eventually,
    external_model,
    local_platform,
    new_key,
    tenant_document,
)

from tenantplane_api.runtime.platform import Upstream
from tenantplane_cli.fakeengine import FakeEngine, Fault, running

LIMITS = Upstream(connect_seconds=1.0, first_byte_seconds=0.4, read_seconds=0.4, connections=8)


@contextlib.asynccontextmanager
async def plane_for(tmp_path: Path, url: str) -> AsyncIterator[tuple[Running, Key]]:
    key = new_key()
    async with dataplane(tmp_path / "c", platform=local_platform(upstream=LIMITS)) as plane:
        plane.config.write(
            external_model("shared", url),
            tenant_document("acme", keys=[key], models={"chat": "tenantplane-models/shared"}),
        )
        await eventually(lambda: plane.app.store.current.tenants)
        yield plane, key


async def test_an_engine_that_hangs_before_the_head(tmp_path: Path) -> None:
    engine = FakeEngine(fault=Fault(hang=30))
    async with running(engine) as url, plane_for(tmp_path, url) as (plane, key):
        status, body, headers = await plane.chat(key, "chat")
        assert (status, body["error"]["code"], headers["retry-after"]) == (504, "upstream_timeout", "1")
        await eventually(lambda: engine.active == 0)


async def test_an_engine_that_stalls_in_a_stream(tmp_path: Path) -> None:
    engine = FakeEngine(fault=Fault(stall=30))
    async with running(engine) as url, plane_for(tmp_path, url) as (plane, key):
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "a b c"}]}
        headers = {"Authorization": f"Bearer {key.text}"}
        async with plane.session.post(f"{plane.url}/v1/chat/completions", json=body, headers=headers) as answer:
            text = await answer.text()
        assert "upstream_timeout" in text
        assert "[DONE]" not in text
        await eventually(lambda: engine.active == 0)


async def test_a_whole_answer_that_breaks_off(tmp_path: Path) -> None:
    async with running(FakeEngine(fault=Fault(drop_after=0))) as url, plane_for(tmp_path, url) as (plane, key):
        status, body, _ = await plane.chat(key, "chat")
        assert (status, body["error"]["code"]) == (502, "upstream_error")


async def test_a_refused_connection_is_tried_once_more(tmp_path: Path) -> None:
    """An engine that is just being restarted: the second try, 100 ms later, finds it."""
    probe = socket.create_server(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    engine = FakeEngine()
    async with plane_for(tmp_path, f"http://127.0.0.1:{port}/v1") as (plane, key):
        status, _, _ = await plane.chat(key, "chat")
        assert status == 502
        asked = asyncio.create_task(plane.chat(key, "chat"))
        async with running(engine, port=port):
            status, _, _ = await asked
            if status != 200:  # the listener came up after the second try: nothing was sent, so ask again
                assert not engine.requests
                status, _, _ = await plane.chat(key, "chat")
        assert status == 200
        assert len(engine.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 14\r\n\r\ndata: [DONE]\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"garbage\r\n\r\n",
        b"",
    ],
)
async def test_answers_that_are_none(tmp_path: Path, answer: bytes) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        sent += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, plane_for(tmp_path, f"http://127.0.0.1:{port}/v1") as (plane, key):
        status, body, _ = await plane.chat(key, "chat")
    assert (status, body["error"]["code"]) == (502, "upstream_error")
    assert sent == 1, "what may have been sent is never sent again"
