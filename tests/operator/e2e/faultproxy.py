"""A reverse proxy on loopback between an operator and its real API server, which answers wrongly where told to.

Plain HTTP towards the operator, TLS towards the API server; credentials pass through. Runs in a thread of its own, so
that tests stay synchronous. Faults are rules; without one everything passes through.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
import yaml
from aiohttp import web

from tenantplane_operator.runtime.kubeconfig import from_kubeconfig

Kind = Literal["answer", "reset", "hang"]
_HOP = frozenset({"transfer-encoding", "connection", "content-length", "content-encoding", "host", "keep-alive"})


@dataclass(frozen=True)
class Seen:
    """A request as a rule sees it."""

    method: str
    path: str
    watch: bool
    token: str


@dataclass
class Rule:
    """What happens to requests that match, for so many of them (``times`` 0: until it is removed)."""

    match: Callable[[Seen], bool]
    kind: Kind = "answer"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 0
    hits: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class _Stream:
    seen: Seen
    request: web.Request
    orders: "asyncio.Queue[str | bytes]" = field(default_factory=asyncio.Queue)


class FaultProxy:
    """Use as a context manager; ``kubeconfig`` leads through it."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._upstream = from_kubeconfig(kubeconfig)
        self._source = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        self._folder = folder
        self.rules: list[Rule] = []
        self.seen: list[Seen] = []
        self._streams: set[_Stream] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._do(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @staticmethod
    async def _end_tasks() -> None:
        # Watches that are still open outlast the server: a task that is destroyed while it waits is a warning in
        # whatever test comes next.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _do(self, body: Any) -> None:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(body, self._loop)
        done.result(20)

    @property
    def kubeconfig(self) -> Path:
        """The same user, through the proxy; the token lies in the file ``token`` beside it."""
        config = json.loads(json.dumps(self._source))
        for entry in config["clusters"]:
            entry["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        for entry in config["users"]:
            entry["user"] = {"tokenFile": "token"}
        self.token = self._upstream.token() or ""
        path = self._folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    @property
    def token(self) -> str:
        """What is in the token file."""
        return (self._folder / "token").read_text(encoding="utf-8")

    @token.setter
    def token(self, value: str) -> None:
        (self._folder / "token").write_text(value, encoding="utf-8")

    # Faults.

    def fault(self, match: Callable[[Seen], bool], kind: Kind = "answer", **how: Any) -> Rule:
        """Add a rule; the first that matches acts."""
        rule = Rule(match, kind, **how)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Everything works again; requests that hang are broken off."""
        over, self.rules[:] = list(self.rules), []
        for rule in over:
            self._loop.call_soon_threadsafe(rule.over.set)
        self.order("resume")

    def order(self, what: str | bytes, match: Callable[[Seen], bool] = lambda _: True) -> int:
        """Tell open watches that match to ``cut``, ``reset``, ``stall`` or ``resume``, or to say a line; how many."""
        streams = [stream for stream in self.watches() if match(stream.seen)]
        for stream in streams:
            self._loop.call_soon_threadsafe(stream.orders.put_nowait, what)
        return len(streams)

    def watches(self) -> list[_Stream]:
        """Watches that somebody still reads."""
        return [stream for stream in list(self._streams) if stream.request.transport is not None]

    # The proxy.

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._upstream.tls or False), auto_decompress=False
        )
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def _end(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        seen = Seen(request.method, request.path, request.query.get("watch") == "true", token)
        self.seen.append(seen)
        rule = next((rule for rule in self.rules if rule.match(seen)), None)
        if rule is not None:
            rule.hits += 1
            if rule.hits == rule.times:
                self.rules.remove(rule)
            if rule.kind == "answer":
                body = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "code": rule.status,
                    "message": "fault",
                }
                return web.json_response(body, status=rule.status, headers=rule.headers)
            if rule.kind == "hang":
                await rule.over.wait()
            return self._break(request)
        if "Bearer" in request.headers.get("Authorization", "") and token == self.token.strip():
            # A renewed token is one to the operator; the API server knows only the real one.
            token = self._upstream.token() or ""
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        headers["Authorization"] = f"Bearer {token}"
        url = self._upstream.server + request.path_qs
        body_bytes = await request.read()
        timeout = aiohttp.ClientTimeout(total=None)
        try:
            async with self._session.request(
                request.method, url, data=body_bytes or None, headers=headers, timeout=timeout
            ) as answer:
                passed = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP}
                response = web.StreamResponse(status=answer.status, headers=passed)
                await response.prepare(request)
                if seen.watch:
                    return await self._watch(request, response, answer, seen)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except aiohttp.ClientError:
            return self._break(request)

    async def _watch(
        self, request: web.Request, response: web.StreamResponse, answer: aiohttp.ClientResponse, seen: Seen
    ) -> web.StreamResponse:
        stream, stalled = _Stream(seen, request), False
        self._streams.add(stream)
        reading: asyncio.Future[bytes] = asyncio.ensure_future(answer.content.readany())
        order: asyncio.Future[str | bytes] = asyncio.ensure_future(stream.orders.get())
        try:
            while True:
                waited = {order} if stalled else {order, reading}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
                if order.done():
                    what, order = order.result(), asyncio.ensure_future(stream.orders.get())
                    if isinstance(what, bytes):
                        await response.write(what)
                    elif what == "cut":
                        # Half a line, and an end that looks like a regular one.
                        await response.write(b'{"type":"MODIFIED","object":{"kind":"Ten')
                        await response.write_eof()
                        return response
                    elif what == "reset":
                        return self._break(request)
                    else:
                        stalled = what == "stall"
                elif reading.done():
                    chunk = reading.result()
                    if not chunk:
                        await response.write_eof()
                        return response
                    await response.write(chunk)
                    reading = asyncio.ensure_future(answer.content.readany())
        finally:
            self._streams.discard(stream)
            reading.cancel()
            order.cancel()

    @staticmethod
    def _break(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
