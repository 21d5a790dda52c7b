"""The body of a chat completion: what must be known of it, and how it is rewritten.

Only the top level is taken apart; every value goes on byte for byte as it was sent. What is forwarded is written from
what was checked, so that no second parser can see another ``model`` than we did: a repeated ``model`` is refused, and
of any other repeated key only the one that was checked goes on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.wire.asgi import Refusal, header

_T = TypeVar("_T")
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MODEL_NAME_MAX: Final = 256
_TOKEN_FIELDS: Final = ("max_tokens", "max_completion_tokens")


@dataclass(slots=True)
class ChatRequest:
    """A parsed chat completion. ``fields`` holds every top-level value as sent; ``max_tokens`` the larger bound asked.

    ``include_usage`` is what the client asked for, not what the engine is asked for.
    """

    fields: dict[str, msgspec.Raw]
    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None

    @property
    def input_bytes(self) -> int:
        """Size of the messages, for estimates."""
        return len(self.fields.get("messages", b""))


def require_json(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a body that says it is something else than JSON."""
    content_type = header(headers, b"content-type")
    if content_type is not None and content_type.partition(b";")[0].strip().lower() != b"application/json":
        raise Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE)


def _value(fields: dict[str, msgspec.Raw], name: str, kind: type[_T], what: str) -> _T | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(ErrorCode.INVALID_REQUEST, message=f"`{name}` must be {what}.", param=name) from None


def parse_chat(body: bytes) -> ChatRequest:
    """Take a body apart.

    Raises:
        Refusal: ``invalid_json``, or ``invalid_request`` with the field.
    """
    try:
        fields = _FIELDS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(ErrorCode.INVALID_JSON) from None
    # The word also stands in tool schemas and messages: only then look closely.
    if body.count(b'"model"') > 1 and _repeated(body, "model"):
        raise Refusal(ErrorCode.INVALID_REQUEST, message="`model` is there twice: send it once.", param="model")
    model = _value(fields, "model", str, "a string")
    if not model or len(model) > _MODEL_NAME_MAX:
        raise Refusal(
            ErrorCode.INVALID_REQUEST, message="`model` is required: one of the ids of GET /v1/models.", param="model"
        )
    if "messages" not in fields:
        raise Refusal(ErrorCode.INVALID_REQUEST, message="`messages` is required: a list.", param="messages")
    stream = bool(_value(fields, "stream", bool, "true or false"))
    options: dict[str, Any] = _value(fields, "stream_options", dict, "an object") or {}
    if options and not stream:
        message = "`stream_options` goes with `stream: true` only."
        raise Refusal(ErrorCode.INVALID_REQUEST, message=message, param="stream_options")
    include = options.get("include_usage", False)
    if include is not None and not isinstance(include, bool):
        message = "`stream_options.include_usage` must be true or false."
        raise Refusal(ErrorCode.INVALID_REQUEST, message=message, param="stream_options.include_usage")
    bounds = [_value(fields, name, int, "a whole number") for name in _TOKEN_FIELDS]
    for name, bound in zip(_TOKEN_FIELDS, bounds, strict=True):
        if bound is not None and bound < 1:
            raise Refusal(ErrorCode.INVALID_REQUEST, message=f"`{name}` must be at least 1.", param=name)
    given = [bound for bound in bounds if bound is not None]
    return ChatRequest(
        fields=fields, model=model, stream=stream, include_usage=bool(include), max_tokens=max(given, default=None)
    )


def _repeated(body: bytes, name: str) -> bool:
    """True when the outermost object has ``name`` more than once."""
    try:
        pairs = json.loads(body, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise Refusal(ErrorCode.INVALID_JSON) from None
    return sum(1 for key, _ in pairs if key == name) > 1


def check_output_bound(request: ChatRequest, *, max_output_tokens: int | None) -> None:
    """Refuse more output than the model's document permits.

    Raises:
        Refusal: names the field and the bound.
    """
    if max_output_tokens is None or request.max_tokens is None or request.max_tokens <= max_output_tokens:
        return
    name = next(n for n in _TOKEN_FIELDS if (_value(request.fields, n, int, "a whole number") or 0) > max_output_tokens)
    message = f"`{name}` may be at most {max_output_tokens} for this model."
    raise Refusal(ErrorCode.INVALID_REQUEST, message=message, param=name)


def rewrite(request: ChatRequest, *, served_name: str, max_output_tokens: int | None) -> bytes:
    """The body for the engine.

    ``model`` becomes the served name; a client's ``cache_salt`` is removed (it would let a caller share or probe other
    callers' prefix caches); a stream is asked for its usage; a model with an output bound gets it as ``max_tokens``
    when the request has none, or the bound would hold only for those who name one.
    """
    fields = dict(request.fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(served_name))
    fields.pop("cache_salt", None)
    if request.stream and not request.include_usage:
        options: dict[str, Any] = _value(fields, "stream_options", dict, "an object") or {}
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": True}))
    if max_output_tokens is not None and request.max_tokens is None:
        for name in _TOKEN_FIELDS:
            fields.pop(name, None)
        fields["max_tokens"] = msgspec.Raw(msgspec.json.encode(max_output_tokens))
    return msgspec.json.encode(fields)
