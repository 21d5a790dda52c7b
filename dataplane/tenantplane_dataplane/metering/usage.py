"""From a finished request to its usage event (``tenantplane_api.runtime.records``).

Token counts are disjoint: an engine's cached tokens are a subset of its prompt tokens and are taken out of them. Absent
usage is estimated and marked so, never zero. The estimate is 4 bytes of UTF-8 per token of the messages, and one token
per streamed event or 4 bytes of answer text: coarse, and good enough to notice that usage was not free.
"""

import time
from dataclasses import dataclass
from typing import Final

from tenantplane_api.runtime.records import USAGE_TYPE_PREFIX, UsageEvent

BYTES_PER_TOKEN: Final = 4


@dataclass(slots=True)
class Tokens:
    """What a request used, in tokens, and who counted: ``provider``, ``estimated`` or ``none``."""

    measured: str = "none"
    input_uncached: int = 0
    cache_read: int = 0
    output_text: int = 0


def provider_tokens(prompt: int, completion: int, cached: int) -> Tokens:
    """An engine's own count, made disjoint; nonsense (more cached than prompt, negative) is cut to what is possible."""
    prompt = max(0, prompt)
    cached = min(max(0, cached), prompt)
    return Tokens(
        measured="provider", input_uncached=prompt - cached, cache_read=cached, output_text=max(0, completion)
    )


def estimated_tokens(*, input_bytes: int, output_tokens: int) -> Tokens:
    """An estimate where the engine counted nothing."""
    return Tokens(
        measured="estimated",
        input_uncached=-(-input_bytes // BYTES_PER_TOKEN),
        output_text=output_tokens,
    )


@dataclass(slots=True)
class Draft:
    """What is known of a request so far; handlers fill it in, ``finish`` makes the event."""

    request_id: str
    route: str
    accepted: float
    op: str = "chat"
    tenant: str = ""
    tenant_id: str = ""
    key_id: str = ""
    alias: str = ""
    assistant: str = ""
    model: str = ""
    engine: str = ""
    stream: bool = False
    status: int = 0
    code: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    ttft_ms: int = 0
    citations: int = 0
    tokens: Tokens | None = None

    def finish(self, *, now: float) -> UsageEvent:
        """The event; ``now`` in unix seconds."""
        tokens = self.tokens or Tokens()
        return UsageEvent(
            id=self.request_id,
            type=USAGE_TYPE_PREFIX + self.op,
            subject=self.tenant_id,
            time=rfc3339(self.accepted),
            tenant=self.tenant,
            ended_at=rfc3339(now),
            route=self.route,
            status=self.status,
            code=self.code,
            key_id=self.key_id,
            alias=self.alias,
            assistant=self.assistant,
            model=self.model,
            engine=self.engine,
            stream=self.stream,
            measured=tokens.measured,
            input_uncached=tokens.input_uncached,
            cache_read=tokens.cache_read,
            output_text=tokens.output_text,
            latency_ms=max(0, round((now - self.accepted) * 1000)),
            ttft_ms=self.ttft_ms,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            citations=self.citations,
        )


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds."""
    whole = int(seconds)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{stamp}.{int((seconds - whole) * 1000):03d}Z"
