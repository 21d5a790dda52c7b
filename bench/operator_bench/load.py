"""The load: many Tenants created at once by a client of its own, and a watch that sees when each becomes Ready.

Guarantees that both sides of the comparison are created the same way and timed by one clock, from the first create
request. The client is bare aiohttp: it costs the processor 0.5 to 1 ms per request, as every client must.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp
import msgspec

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.kubeconfig import Connection

Object = dict[str, Any]
TENANTS_PATH = f"/apis/{names.API_VERSION}/{names.PLURAL_TENANTS}"
CREATORS = 8
_LINE_MAX = 1 << 22


class LoadError(RuntimeError):
    """Raise when the API server refuses what the benchmark is made of, or nothing becomes ready."""


def tenant(name: str) -> Object:
    """A Tenant without knowledge: people with access, a fence with something in it, one key."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_TENANT,
        "metadata": {"name": name},
        "spec": {
            "tenantID": f"{name}-0001",
            "displayName": f"Load {name}",
            "access": {"admins": [{"kind": "Group", "name": f"{name}-admins"}]},
            "network": {"egress": {"internet": True}},
            "limits": {"requests": {"perMinute": 600}},
        },
    }


class Client:
    """Bare requests over one bounded pool."""

    def __init__(self, connection: Connection, *, sockets: int = 32) -> None:
        self._connection = connection
        self._sockets = sockets
        self._session: aiohttp.ClientSession | None = None
        self.requests = 0

    async def __aenter__(self) -> "Client":
        connector = aiohttp.TCPConnector(limit=self._sockets, ssl=self._connection.tls or False)
        token = self._connection.token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> tuple[int, Object]:
        """One request (``body``: JSON as bytes, or what becomes it); status and answer."""
        assert self._session is not None
        self.requests += 1
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        async with self._session.request(method, self._connection.server + path, data=data, headers=headers) as answer:
            raw = await answer.read()
        return answer.status, msgspec.json.decode(raw)

    async def watch(self, path: str) -> AsyncIterator[Object]:
        """Events of a watch that starts with everything that is there; again when the stream ends."""
        assert self._session is not None
        url = f"{self._connection.server}{path}?watch=1"
        while True:
            timeout = aiohttp.ClientTimeout(total=None)
            async with self._session.get(url, timeout=timeout, read_bufsize=_LINE_MAX) as answer:
                async for line in answer.content:
                    yield msgspec.json.decode(line)


async def create_all(client: Client, tenants: Sequence[str], created: Callable[[Object], None]) -> None:
    """Create the Tenants, ``CREATORS`` at a time; ``created`` gets each as the server has it.

    Raises:
        LoadError: one was refused.
    """
    waiting = list(reversed(tenants))

    async def creator() -> None:
        while waiting:
            name = waiting.pop()
            for _ in range(20):
                status, answer = await client.send("POST", TENANTS_PATH, tenant(name))
                if status != 429:
                    break
                # Storage of a kind is still being set up.
                await asyncio.sleep(0.2)
            if status != 201:
                raise LoadError(f"Tenant {name}: {status} {answer.get('message')}")
            created(answer)

    async with asyncio.TaskGroup() as group:
        for _ in range(CREATORS):
            group.create_task(creator())


def _ready(obj: Object) -> bool:
    conditions = obj.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def until_ready(connection: Connection, tenants: Sequence[str], *, deadline: float) -> dict[str, float]:
    """Create all and wait for all; seconds from the first create to Ready, per Tenant.

    Raises:
        LoadError: not all were Ready within ``deadline`` seconds.
    """
    left = set(tenants)
    took: dict[str, float] = {}
    async with Client(connection) as client:
        started = time.perf_counter()

        async def look() -> None:
            async for event in client.watch(TENANTS_PATH):
                name = event["object"]["metadata"].get("name")
                if name in left and _ready(event["object"]):
                    left.discard(name)
                    took[name] = time.perf_counter() - started
                if not left:
                    return

        looking = asyncio.create_task(look())
        try:
            started = time.perf_counter()
            await create_all(client, tenants, lambda _: None)
            async with asyncio.timeout(deadline):
                await looking
        except TimeoutError:
            raise LoadError(f"{len(left)} of {len(tenants)} Tenants are not Ready after {deadline:.0f} s") from None
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
    return took
