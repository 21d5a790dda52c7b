"""API keys: from request headers to a caller.

The checksum refuses garbage before anything is looked up; the look-up is by the SHA-256 of the whole text; a revoked
key is one that is no longer in any document. Guarantees that nothing in a request but the key decides the tenant, and
that no answer tells an unknown key from a revoked one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tenantplane_api.runtime.documents import KeyEntry
from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_api.runtime.keys import KEY_LENGTH, KeyFormatError, parse_key
from tenantplane_dataplane.config.compiled import TenantHandle
from tenantplane_dataplane.config.snapshot import Snapshot
from tenantplane_dataplane.wire.asgi import Refusal

_HEADER_MAX: Final = KEY_LENGTH + 64


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller: the tenant's document and the key that found it."""

    tenant: TenantHandle
    key: KeyEntry


def presented_key(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The one key text of a request, from ``Authorization: Bearer`` or ``x-api-key``.

    Raises:
        Refusal: there is none, two that differ, or something that is no key.
    """
    found: set[bytes] = set()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() != b"bearer":
                raise Refusal(ErrorCode.INVALID_API_KEY, message="Send the API key as `Authorization: Bearer tp_…`.")
            found.add(token.strip())
        elif name == b"x-api-key":
            found.add(value.strip())
    found.discard(b"")
    if not found:
        raise Refusal(ErrorCode.MISSING_CREDENTIALS)
    if len(found) > 1:
        raise Refusal(
            ErrorCode.INVALID_REQUEST,
            message="Authorization and x-api-key hold different keys: send one of them.",
            param="x-api-key",
        )
    value = found.pop()
    if len(value) > _HEADER_MAX or not value.isascii():
        raise Refusal(ErrorCode.INVALID_API_KEY)
    return value.decode("ascii")


def authenticate(headers: Sequence[tuple[bytes, bytes]], snapshot: Snapshot, *, now: float) -> Caller:
    """The caller that a request's headers prove.

    Args:
        now: unix seconds; a key is refused from its ``expires_at`` on.

    Raises:
        Refusal: 401, with the same code for unknown, revoked and malformed keys.
    """
    try:
        parsed = parse_key(presented_key(headers))
    except KeyFormatError:
        raise Refusal(ErrorCode.INVALID_API_KEY) from None
    found = snapshot.keys.get(parsed.digest)
    if found is None:
        raise Refusal(ErrorCode.INVALID_API_KEY)
    tenant, entry = found
    if entry.expires_at is not None and now >= entry.expires_at:
        raise Refusal(ErrorCode.API_KEY_EXPIRED)
    return Caller(tenant=tenant, key=entry)
