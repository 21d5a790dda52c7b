"""Records that the data plane writes about each request: the wire shape that billing and audit read later.

Request ids are UUIDv7 (RFC 9562, section 5.7) behind ``req_``: minted once when a request is accepted, sortable by
time, and the usage event's id, so that the same event written twice is one event.
"""

import os
import time
from typing import Final

import msgspec

USAGE_TYPE_PREFIX: Final = "dev.tenantplane.usage."
USAGE_SCHEMA: Final = "tenantplane.dev/usage/v1"


def new_request_id(*, now_ms: int | None = None) -> str:
    """``req_`` + 32 hexadecimal digits of a UUIDv7."""
    milliseconds = int(time.time() * 1000) if now_ms is None else now_ms
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"req_{value:032x}"


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finished or refused request. Never holds a prompt, an answer, a key, a header or a URL with a query.

    ``id`` is the request id, ``subject`` the tenantID, ``time`` and ``ended_at`` RFC 3339 in UTC. Token counts are
    integers and disjoint; ``measured`` says who counted: ``provider``, ``estimated`` or ``none``. Durations are whole
    milliseconds.
    """

    id: str
    type: str
    subject: str
    time: str
    tenant: str
    ended_at: str
    route: str
    status: int
    code: str = ""
    key_id: str = ""
    alias: str = ""
    assistant: str = ""
    model: str = ""
    engine: str = ""
    stream: bool = False
    measured: str = "none"
    input_uncached: int = 0
    cache_read: int = 0
    output_text: int = 0
    latency_ms: int = 0
    ttft_ms: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    citations: int = 0
