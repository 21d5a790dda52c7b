"""Stable error codes of the data plane: HTTP status, OpenAI error type and whether waiting helps.

Clients and alerts match on ``code``; a code is never renamed or reused. Messages may improve. No message names another
tenant, an upstream host or a file.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class ErrorInfo(NamedTuple):
    """How a code is answered: ``status`` (HTTP), ``type`` (OpenAI's error type), default ``message``."""

    status: int
    type: str
    message: str


class ErrorCode(StrEnum):
    """Codes in the ``error.code`` field of a response."""

    MISSING_CREDENTIALS = "missing_credentials"
    INVALID_API_KEY = "invalid_api_key"
    API_KEY_EXPIRED = "api_key_expired"
    TENANT_SUSPENDED = "tenant_suspended"
    TENANT_CONFIG_INVALID = "tenant_config_invalid"
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_SUSPENDED = "model_suspended"
    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    REQUEST_TOO_LARGE = "request_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    CONCURRENCY_LIMIT_EXCEEDED = "concurrency_limit_exceeded"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_ERROR = "upstream_error"
    INDEX_UNAVAILABLE = "index_unavailable"
    NOT_READY = "not_ready"
    INTERNAL_ERROR = "internal_error"


_AUTH: Final = "authentication_error"
_REQUEST: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_LIMIT: Final = "rate_limit_error"

ERRORS: Final[dict[ErrorCode, ErrorInfo]] = {
    ErrorCode.MISSING_CREDENTIALS: ErrorInfo(
        401, _AUTH, "No API key: send it as `Authorization: Bearer tp_…`, or ask your tenant admin for one."
    ),
    ErrorCode.INVALID_API_KEY: ErrorInfo(
        401, _AUTH, "This API key is not known here: it may be mistyped, revoked or rotated."
    ),
    ErrorCode.API_KEY_EXPIRED: ErrorInfo(401, _AUTH, "This API key has expired: ask your tenant admin for a new one."),
    ErrorCode.TENANT_SUSPENDED: ErrorInfo(
        403, "permission_error", "Your tenant is suspended: ask your platform team to resume it."
    ),
    ErrorCode.TENANT_CONFIG_INVALID: ErrorInfo(
        503, _SERVER, "Your tenant's configuration cannot be loaded here: ask your platform team to look at the Tenant."
    ),
    ErrorCode.MODEL_NOT_FOUND: ErrorInfo(
        404, _REQUEST, "This model does not exist or you may not use it: GET /v1/models lists yours."
    ),
    ErrorCode.MODEL_SUSPENDED: ErrorInfo(503, _SERVER, "This model is out of service: ask your platform team."),
    ErrorCode.ROUTE_NOT_FOUND: ErrorInfo(404, _REQUEST, "There is no such route here."),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorInfo(405, _REQUEST, "This route does not take that method."),
    ErrorCode.INVALID_JSON: ErrorInfo(400, _REQUEST, "The body is not a JSON object."),
    ErrorCode.INVALID_REQUEST: ErrorInfo(400, _REQUEST, "The request is not valid."),
    ErrorCode.UNSUPPORTED_PARAMETER: ErrorInfo(400, _REQUEST, "The request has a parameter that is not supported."),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorInfo(415, _REQUEST, "Send the body as `Content-Type: application/json`."),
    ErrorCode.REQUEST_TOO_LARGE: ErrorInfo(413, _REQUEST, "The body is larger than this endpoint takes."),
    ErrorCode.HEADERS_TOO_LARGE: ErrorInfo(431, _REQUEST, "The request has too many or too large headers."),
    ErrorCode.REQUEST_TIMEOUT: ErrorInfo(408, _REQUEST, "The request was sent too slowly."),
    ErrorCode.RATE_LIMIT_EXCEEDED: ErrorInfo(429, _LIMIT, "Too many requests: wait as Retry-After says."),
    ErrorCode.CONCURRENCY_LIMIT_EXCEEDED: ErrorInfo(
        429, _LIMIT, "Too many requests at the same time: wait for one to end."
    ),
    ErrorCode.UPSTREAM_UNAVAILABLE: ErrorInfo(502, _SERVER, "The model cannot be reached right now."),
    ErrorCode.UPSTREAM_TIMEOUT: ErrorInfo(504, _SERVER, "The model did not answer in time."),
    ErrorCode.UPSTREAM_ERROR: ErrorInfo(502, _SERVER, "The model answered with an error."),
    ErrorCode.INDEX_UNAVAILABLE: ErrorInfo(503, _SERVER, "The assistant's documents cannot be read right now."),
    ErrorCode.NOT_READY: ErrorInfo(503, _SERVER, "Starting or stopping: try again in a moment."),
    ErrorCode.INTERNAL_ERROR: ErrorInfo(500, _SERVER, "Something went wrong on our side."),
}


def error_body(
    code: ErrorCode, *, message: str | None = None, param: str | None = None, request_id: str
) -> dict[str, object]:
    """The JSON body of an error in OpenAI's shape, plus ``request_id``.

    Shape: ``{"error": {"message", "type", "param", "code", "request_id"}}``; the source is OpenAI's API reference,
    "Error codes". ``request_id`` is our addition and also stands in the header ``x-request-id``.
    """
    info = ERRORS[code]
    return {
        "error": {
            "message": message or info.message,
            "type": info.type,
            "param": param,
            "code": str(code),
            "request_id": request_id,
        }
    }
