"""The seam to engines: two methods, so that everything above can be tested without a network.

``HttpEngine`` speaks to one OpenAI-compatible endpoint per request over one shared pool. Guarantees: no redirect is
followed, no proxy or cookie is used, addresses are pinned (``pin``), only the headers listed here go out, and a
request is sent at most once: it is tried again only when the connection was refused before anything was sent. An
engine's URL, key and address reach neither a client nor a log.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_api.runtime.platform import ExternalHost, Upstream
from tenantplane_api.runtime.urls import UrlNotAllowedError
from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.observability.metrics import Metrics
from tenantplane_dataplane.upstream.pin import PinnedResolver, Pinner
from tenantplane_dataplane.wire.asgi import Refusal

FORWARDED_HEADERS: Final = frozenset({b"traceparent"})
"""Request headers of a caller that go to an engine; everything else stays here."""
_RETRY_SECONDS: Final = 0.1
_USER_AGENT: Final = "tenantplane"
_log = get_logger("upstream")


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One POST to an engine. ``base_url`` ends before ``path``; ``label`` names the model in logs."""

    base_url: str
    path: str
    body: bytes = field(repr=False)
    label: str
    request_id: str
    api_key: str | None = field(default=None, repr=False)
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


class EngineResponse(Protocol):
    """An engine's answer, its head received. Must be closed."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def content_type(self) -> str:
        """Media type in lower case, without parameters."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            Refusal: it breaks off, stalls, or is longer than ``limit`` bytes.
        """
        ...

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it arrives from the network.

        Raises:
            Refusal: it breaks off or stalls.
        """
        ...

    def close(self) -> None:
        """Give up what was not read; a fully read answer's connection goes back to the pool."""
        ...


class Engine(Protocol):
    """Whatever can answer a request like an OpenAI-compatible endpoint."""

    async def open(self, request: EngineRequest) -> EngineResponse:
        """Send a request and wait for the head of its answer.

        Raises:
            Refusal: ``upstream_unavailable``, ``upstream_timeout`` or ``upstream_error``.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class _HttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, *, read_seconds: float, metrics: Metrics) -> None:
        self._response = response
        self._read_seconds = read_seconds
        self._metrics = metrics

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def content_type(self) -> str:
        return self._response.content_type.lower()

    async def read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    self._metrics.upstream_requests.labels("too_large").inc()
                    raise Refusal(ErrorCode.UPSTREAM_ERROR)
                parts.append(chunk)
        return b"".join(parts)

    async def chunks(self) -> AsyncGenerator[bytes]:
        content = self._response.content
        try:
            while True:
                async with asyncio.timeout(self._read_seconds):
                    chunk = await content.readany()
                if not chunk:
                    return
                yield chunk
        except TimeoutError:
            self._metrics.upstream_requests.labels("read_timeout").inc()
            raise Refusal(ErrorCode.UPSTREAM_TIMEOUT) from None
        except (aiohttp.ClientError, OSError):
            self._metrics.upstream_requests.labels("broken_off").inc()
            raise Refusal(ErrorCode.UPSTREAM_ERROR) from None

    def close(self) -> None:
        # A connection with an unread rest cannot be used again.
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class HttpEngine:
    """``Engine`` over aiohttp. Construct inside a running event loop."""

    def __init__(self, limits: Upstream, rules: tuple[ExternalHost, ...], metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._pinner = Pinner(rules)
        connector = aiohttp.TCPConnector(
            resolver=PinnedResolver(self._pinner),
            limit=limits.connections,
            ttl_dns_cache=10,
            # Shorter than uvicorn's 5 s, which most engines run: whoever closes first must be us, because a request
            # sent into a connection that the engine is closing is lost and may not be sent twice.
            keepalive_timeout=4.0,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_seconds),
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", "Content-Type": "application/json"},
        )

    async def close(self) -> None:
        """See ``Engine``."""
        await self._session.close()

    async def open(self, request: EngineRequest) -> EngineResponse:
        """See ``Engine``."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._limits.first_byte_seconds):
                response = await self._send(request)
        except (UrlNotAllowedError, aiohttp.InvalidURL):
            raise self._failed(request, "not_allowed", ErrorCode.UPSTREAM_UNAVAILABLE) from None
        except aiohttp.ClientConnectorError:
            raise self._failed(request, "unreachable", ErrorCode.UPSTREAM_UNAVAILABLE) from None
        except aiohttp.ConnectionTimeoutError:
            raise self._failed(request, "connect_timeout", ErrorCode.UPSTREAM_UNAVAILABLE) from None
        except TimeoutError:
            raise self._failed(request, "first_byte_timeout", ErrorCode.UPSTREAM_TIMEOUT) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise self._failed(request, "broken_off", ErrorCode.UPSTREAM_ERROR) from None
        self._metrics.upstream_seconds.observe(time.perf_counter() - started)
        self._metrics.upstream_requests.labels(f"{response.status // 100}xx").inc()
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity" or 300 <= response.status < 400:
            response.close()
            raise self._failed(request, "unusable", ErrorCode.UPSTREAM_ERROR)
        return _HttpResponse(response, read_seconds=self._limits.read_seconds, metrics=self._metrics)

    async def _send(self, request: EngineRequest) -> aiohttp.ClientResponse:
        headers = {**request.headers, "X-Request-Id": request.request_id}
        headers["Accept"] = "text/event-stream" if request.stream else "application/json"
        if request.api_key is not None:
            headers["Authorization"] = f"Bearer {request.api_key}"
        url = request.base_url.rstrip("/") + request.path
        self._pinner.check_url(url)
        for attempt in (1, 2):
            try:
                return await self._session.post(url, data=request.body, headers=headers, allow_redirects=False)
            except aiohttp.ClientConnectorError as error:
                # Refused means that nothing was sent; an engine that is just restarting deserves one more try.
                if attempt == 2 or not isinstance(error.os_error, ConnectionRefusedError):
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
        raise AssertionError("the loop returns or raises")

    def _failed(self, request: EngineRequest, outcome: str, code: ErrorCode) -> Refusal:
        self._metrics.upstream_requests.labels(outcome).inc()
        fields = {"model": request.label, "outcome": outcome, "request_id": request.request_id}
        _log.warning("an engine did not answer", extra={"fields": fields})
        retry = [(b"retry-after", b"1")] if code is not ErrorCode.UPSTREAM_ERROR else []
        return Refusal(code, headers=retry)
