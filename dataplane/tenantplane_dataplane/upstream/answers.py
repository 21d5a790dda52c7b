"""What of an engine's answer a client may see.

An engine's own 401 must not look like the caller's, its 5xx texts hold stack traces and host names, and its served
model name is the platform's business. Guarantees: of an error only the statuses in ``PASSED`` keep their status and
message, the message without URLs and cut to ``MESSAGE_MAX`` characters; the ``model`` field carries the caller's
alias. Does not look into the generated text.
"""

import re
from typing import Any, Final

import msgspec

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.observability.logs import escape
from tenantplane_dataplane.wire.asgi import Refusal

ERROR_BODY_MAX: Final = 16 * 1024
RESPONSE_MAX: Final = 64 * 1024 * 1024
MESSAGE_MAX: Final = 1000
PASSED: Final = {
    400: ErrorCode.INVALID_REQUEST,
    413: ErrorCode.REQUEST_TOO_LARGE,
    422: ErrorCode.INVALID_REQUEST,
    429: ErrorCode.RATE_LIMIT_EXCEEDED,
}
"""Statuses of an engine that are about the request itself. Its 404 means that our own configuration is wrong."""

_HOSTS: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s'\"]+"  # URLs
    r"|\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]+)?\b"  # IPv4 addresses
    r"|\[?\b(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}\b\]?"  # IPv6 addresses
    r"|\b(?:[a-z0-9-]+\.)+(?:svc|local|internal|localdomain|com|net|org|io|dev|ai|cloud)\b(?:\.[a-z0-9-]+)*(?::[0-9]+)?",
    re.IGNORECASE,
)
_MODEL: Final = re.compile(rb'("model"\s*:\s*)"(?:[^"\\]|\\.)*"')
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def error_refusal(status: int, body: bytes, *, served_name: str, alias: str) -> Refusal:
    """The refusal that answers for an engine's error.

    Args:
        body: the engine's body, or as much of it as was read.
        served_name: the engine's name of the model, replaced by ``alias`` in the message.
    """
    code = PASSED.get(status)
    if code is None:
        return Refusal(ErrorCode.UPSTREAM_ERROR)
    headers = [(b"retry-after", b"1")] if status == 429 else []
    if status == 429:
        # Whose limit it is matters to whoever reads this: not the tenant's.
        message = "The model itself is over its limit: try again later."
        return Refusal(code, message=message, headers=headers)
    said = _message(body) if len(body) <= ERROR_BODY_MAX else None
    if said is None:
        return Refusal(code)
    return Refusal(code, message=escape(_HOSTS.sub("(hidden)", said.replace(served_name, alias)), limit=MESSAGE_MAX))


def _message(body: bytes) -> str | None:
    """The message of an OpenAI-shaped error (``{"error": {"message"}}``, or vLLM's older flat form)."""
    try:
        content: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(content, dict) and isinstance(content.get("error"), dict):
        content = content["error"]
    message = content.get("message") if isinstance(content, dict) else None
    return message if isinstance(message, str) and message else None


def rename_model(body: bytes, alias: str) -> tuple[bytes, dict[str, msgspec.Raw]]:
    """A complete JSON answer with ``model`` set to ``alias``, every other value as sent, and its top-level fields.

    Raises:
        Refusal: the engine's answer is no JSON object.
    """
    try:
        fields = _FIELDS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(ErrorCode.UPSTREAM_ERROR) from None
    if "model" in fields:
        fields["model"] = msgspec.Raw(msgspec.json.encode(alias))
    return msgspec.json.encode(fields), fields


class ModelRenamer:
    """Replaces the value of every ``"model"`` key in pieces of an event stream.

    Works on bytes without parsing: inside generated text a quote is escaped, so the pattern cannot match there. Pieces
    must hold whole events.
    """

    __slots__ = ("_replacement",)

    def __init__(self, alias: str) -> None:
        self._replacement = rb"\g<1>" + msgspec.json.encode(alias).replace(b"\\", rb"\\")

    def __call__(self, piece: bytes) -> bytes:
        return _MODEL.sub(self._replacement, piece)
