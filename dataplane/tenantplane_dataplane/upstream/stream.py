"""Server-sent events of an engine, by network read.

``EventStream`` forwards what arrives in whole events and looks into an event only when it holds a usage object. Source
of the format: OpenAI's API reference, "Streaming": ``data: {json}`` events, the last one with usage has an empty
``choices`` list when ``stream_options.include_usage`` was asked for, and ``data: [DONE]`` ends the stream. Guarantees
that the caller gets the usage event only when it asked for it, and that at most one incomplete event is held back.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.upstream.answers import ModelRenamer
from tenantplane_dataplane.wire.asgi import Refusal

EVENT_MAX: Final = 4 * 1024 * 1024
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_ERROR: Final = re.compile(rb'^data:\s*\{\s*"error"\s*:', re.MULTILINE)


class EngineUsage(msgspec.Struct, frozen=True):
    """An engine's usage object, as far as it is used. Cached tokens are a subset of prompt tokens."""

    class Details(msgspec.Struct, frozen=True):
        """``prompt_tokens_details``."""

        cached_tokens: int | None = None

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: Details | None = None


class _Event(msgspec.Struct, frozen=True):
    usage: EngineUsage | None = None
    choices: list[msgspec.Raw] | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)
_USAGE_OBJECT: Final = msgspec.json.Decoder(EngineUsage)


def parse_usage(raw: bytes | msgspec.Raw | None) -> EngineUsage | None:
    """A usage object, or ``None`` when it is absent or not what the format says."""
    if raw is None:
        return None
    try:
        return _USAGE_OBJECT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class EventStream:
    """One streamed answer on its way to the client.

    After iteration: ``usage`` is the engine's last usage object or ``None``, ``events`` the number of data events
    forwarded (an estimate of output tokens where there is no usage), ``finished`` whether ``[DONE]`` was seen.
    """

    def __init__(self, source: AsyncGenerator[bytes], *, alias: str, include_usage: bool) -> None:
        self._source = source
        self._rename = ModelRenamer(alias)
        self._include_usage = include_usage
        self.usage: EngineUsage | None = None
        self.events = 0
        self.finished = False

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Whole events, as many as came with one read.

        Raises:
            Refusal: the engine breaks off, stalls, reports an error, or sends an event beyond ``EVENT_MAX`` bytes.
        """
        held = b""
        try:
            async with aclosing(self._source) as source:
                async for chunk in source:
                    data = held + chunk if held else chunk
                    end = _last_event_end(data)
                    held = data[end:]
                    if len(held) > EVENT_MAX:
                        raise Refusal(ErrorCode.UPSTREAM_ERROR)
                    if end:
                        piece = self._handle(data[:end])
                        if piece:
                            yield piece
        except Refusal:
            # After `[DONE]` the answer is whole, however the engine ends its connection.
            if not self.finished:
                raise
            return
        if held.strip():
            piece = self._handle(held + b"\n\n")
            if piece:
                yield piece
        if not self.finished:
            raise Refusal(ErrorCode.UPSTREAM_ERROR)

    def _handle(self, data: bytes) -> bytes:
        if _ERROR.search(data) is not None:
            # An engine reports a failure in mid-stream as an event; its text is not for the client.
            raise Refusal(ErrorCode.UPSTREAM_ERROR)
        if b"[DONE]" in data and re.search(rb"^data:\s*\[DONE\]", data, re.MULTILINE) is not None:
            self.finished = True
        if _USAGE.search(data) is not None:
            data = self._without_usage(data)
        self.events += data.count(b"data:")
        return self._rename(data)

    def _without_usage(self, data: bytes) -> bytes:
        """``data`` less the usage events that the caller did not ask for; looks only at events that hold one."""
        kept: list[bytes] = []
        done = 0
        for match in _USAGE.finditer(data):
            if match.start() < done:
                continue
            start = max(done, _last_event_end(data, match.start()))
            end = _next_event_end(data, match.end())
            kept.append(data[done:start])
            if self._keep(data[start:end]):
                kept.append(data[start:end])
            done = end
        return b"".join((*kept, data[done:]))

    def _keep(self, event: bytes) -> bool:
        try:
            parsed = _EVENT.decode(event_data(event))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return True
        if parsed.usage is None:
            return True
        self.usage = parsed.usage
        # Usage beside content (some engines do that) stays: dropping it would drop text.
        return bool(parsed.choices) or self._include_usage


def _last_event_end(data: bytes, before: int | None = None) -> int:
    """Offset after the last blank line (that ends ``before`` an offset): everything before it is whole events."""
    lf = data.rfind(b"\n\n", 0, before)
    crlf = data.rfind(b"\r\n\r\n", 0, before)
    return max(lf + 2 if lf >= 0 else 0, crlf + 4 if crlf >= 0 else 0)


def _next_event_end(data: bytes, after: int) -> int:
    """Offset after the first blank line that begins at or behind ``after``."""
    lf, crlf = data.find(b"\n\n", after), data.find(b"\r\n\r\n", after)
    return min(lf + 2 if lf >= 0 else len(data), crlf + 4 if crlf >= 0 else len(data))


def event_data(event: bytes) -> bytes:
    """The payload of one event: its ``data`` lines, joined."""
    return b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))


def split_events(data: bytes) -> list[bytes]:
    """Whole events, each with its terminating blank line."""
    return [part for part in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", data) if part]
