"""List, then watch, for ever.

The list is paged (one answer with 10,000 Secrets of 6 kB is 80 MiB); the watch resumes where it broke off, with
bookmarks keeping its position fresh; when the server has forgotten that position (410), everything is listed again and
what is gone is pruned. Guarantees that only a complete list, every page answered with 200, ever removes anything: an
error, a forbidden or a missing API is never an empty list.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import aiohttp
import msgspec

from tenantplane_api.runtime import names
from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.watcher.credentials import Credentials, CredentialsError
from tenantplane_dataplane.watcher.mirror import Mirror

PAGE: Final = 500
_EVENT_MAX: Final = 8 * 1024 * 1024
_BACKOFF_FIRST: Final = 0.2
_BACKOFF_MAX: Final = 20.0
_LIST_SECONDS: Final = 60.0
# The server sends bookmarks about once a minute; silence for longer means that the connection is dead.
_SILENCE_SECONDS: Final = 150.0
_log = get_logger("watcher")


class Gone(Exception):  # noqa: N818 - HTTP's own name for it
    """The server no longer knows the position that was asked for: list again."""


class ApiError(Exception):
    """The server answered with an error; ``status`` is HTTP's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Reflector:
    """Keeps ``mirror`` equal to the runtime Secrets of ``namespace``."""

    def __init__(
        self, session: aiohttp.ClientSession, credentials: Credentials, namespace: str, mirror: Mirror
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._url = f"{credentials.server}/api/v1/namespaces/{namespace}/secrets"
        self._server_name = credentials.server_name
        self._mirror = mirror
        self._position: str | None = None
        self._pause = _BACKOFF_FIRST

    async def run(self) -> None:
        """Never returns; errors are logged and tried again with growing pauses."""
        while True:
            try:
                if self._position is None:
                    self._position = await self._list()
                    self._mirror.mark_synced()
                await self._watch()
                continue
            except Gone:
                _log.info("the position is too old: listing again", extra={"fields": {}})
                self._position = None
            except ApiError as error:
                if error.status == 401:
                    self._credentials.renew()
                _log.error("the API server refused", extra={"fields": {"status": error.status}})
            except (aiohttp.ClientError, OSError, TimeoutError, CredentialsError, ValueError, KeyError) as error:
                _log.warning("the API server cannot be reached", extra={"fields": {"error": type(error).__name__}})
            await asyncio.sleep(self._pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, hides nothing
            self._pause = min(_BACKOFF_MAX, self._pause * 2)

    async def _list(self) -> str:
        """Write everything, prune the rest; returns the position to watch from."""
        existing: set[str] = set()
        token = ""
        while True:
            query = {"fieldSelector": f"type={names.SECRET_TYPE_RUNTIME}", "limit": str(PAGE)}
            if token:
                query["continue"] = token
            page = await self._get(query)
            if page.get("kind") != "SecretList" or not isinstance(page.get("items"), list):
                raise ValueError("not a SecretList")
            for item in page["items"]:
                # Items of a list carry no type of their own kind, but a Secret's `type` field they do.
                name = self._mirror.put(item)
                if name is not None:
                    existing.add(name)
            token = page["metadata"].get("continue") or ""
            if not token:
                break
        pruned = self._mirror.prune(existing)
        _log.info("listed", extra={"fields": {"documents": len(existing), "pruned": pruned}})
        return str(page["metadata"]["resourceVersion"])

    async def _get(self, query: dict[str, str]) -> dict[str, Any]:
        async with (
            asyncio.timeout(_LIST_SECONDS),
            self._session.get(
                self._url, params=query, headers=self._credentials.headers(), server_hostname=self._server_name
            ) as answer,
        ):
            if answer.status == 410:
                raise Gone
            if answer.status != 200:
                raise ApiError(answer.status)
            return msgspec.json.decode(await answer.read(), type=dict[str, Any])

    async def _watch(self) -> None:
        """Follow changes until the server ends the watch, which it does every few minutes."""
        assert self._position is not None
        query = {
            "fieldSelector": f"type={names.SECRET_TYPE_RUNTIME}",
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._position,
            "timeoutSeconds": str(random.randint(240, 480)),  # noqa: S311 - spreads reconnects
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE_SECONDS)
        async with self._session.get(
            self._url,
            params=query,
            headers=self._credentials.headers(),
            server_hostname=self._server_name,
            timeout=timeout,
        ) as answer:
            if answer.status == 410:
                raise Gone
            if answer.status != 200:
                raise ApiError(answer.status)
            self._pause = _BACKOFF_FIRST
            async with aclosing(_lines(answer.content)) as lines:
                async for line in lines:
                    self._take(msgspec.json.decode(line, type=dict[str, Any]))

    def _take(self, event: dict[str, Any]) -> None:
        kind, content = event["type"], event["object"]
        if kind == "ERROR":
            code = content.get("code")
            raise Gone if code == 410 else ApiError(int(code or 500))
        if kind in ("ADDED", "MODIFIED"):
            self._mirror.put(content)
        elif kind == "DELETED":
            self._mirror.remove(str(content["metadata"]["name"]))
        self._position = str(content["metadata"]["resourceVersion"])


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """Lines of a stream; aiohttp's own iteration refuses lines beyond 64 KiB, and a document may have 512."""
    held = bytearray()
    async for chunk in content.iter_any():
        held += chunk
        while (end := held.find(b"\n")) >= 0:
            line = bytes(held[:end])
            del held[: end + 1]
            if line.strip():
                yield line
        if len(held) > _EVENT_MAX:
            raise ValueError("an event is too large")
