"""What ends kopf's watching for good, made into what it takes as a hiccup.

kopf asks again after most failures, but ends altogether after a 401 or 404 on a watch, an error inside a stream that is
no 410, or half a line of JSON; each of these comes and goes by itself (a token that is being renewed, a CRD that is
being reinstalled, an API server that dies in the middle of a line). A middleware of the session that kopf uses answers
with what it handles well: a broken connection (asked again from where it was) or ``410`` inside the stream (a new list
and a new watch). Everything else passes through untouched.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import msgspec

logger = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds before a stream that failed is begun anew, because kopf itself would not wait."""
_PASSING: Final = frozenset({401, 403, 404})
_ERROR: Final = b'{"type":"ERROR"'
_GONE: Final = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"begin anew"}}\n'


async def calm(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """An aiohttp client middleware for sessions that only kopf uses."""
    response = await handler(request)
    watching = request.url.query.get("watch") == "true"
    if response.status in _PASSING:
        logger.info("watching: the API server answered %d; asked again", response.status)
        response.release()
        raise aiohttp.ClientConnectionError(f"the API server answered {response.status}")
    if response.status == 410:
        response.release()
        if not watching:
            # The snapshot of a list in pages is lost. Not asked again for the same page: the list begins anew.
            await asyncio.sleep(PAUSE)
            raise aiohttp.ClientPayloadError("the list's snapshot is lost")
        response.status = 200
        _replace(response, _Said(response.content))
    elif watching and response.status == 200:
        _replace(response, _Lines(response.content))
    return response


def _replace(response: aiohttp.ClientResponse, content: Any) -> None:
    response.content = content


class _Wrapped:
    """A response's content, but for how it is iterated over; aiohttp itself asks and tells it other things."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


class _Said(_Wrapped):
    """A stream that says "gone" and ends."""

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        await asyncio.sleep(PAUSE)
        yield _GONE


class _Lines(_Wrapped):
    """Whole lines only, and no error but 410."""

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            end = chunk.rfind(b"\n") + 1
            if not end:
                rest += chunk
                continue
            lines, rest = rest + chunk[:end], chunk[end:]
            if _ERROR in lines:
                for line in lines.splitlines(keepends=True):
                    if line.startswith(_ERROR) and _code(line) != 410:
                        logger.warning("watching: an error in the stream (%s); begun anew", _code(line))
                        await asyncio.sleep(PAUSE)
                        yield _GONE
                        return
                    yield line
            else:
                yield lines
        if rest:
            await asyncio.sleep(PAUSE)
            raise aiohttp.ClientPayloadError("the stream was cut off in the middle of a line")


def _code(line: bytes) -> int | None:
    try:
        code = msgspec.json.decode(line)["object"]["code"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return None
    return code if isinstance(code, int) else None
