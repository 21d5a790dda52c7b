"""What the API server may answer instead of an object, as types.

Guarantees that every failed request ends in exactly one of these, so that callers decide by type and never by text.
Messages are the API server's own and may name objects; they never hold a request body, because a body may be a Secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldCause:
    """One field that the API server refused. ``field`` is a JSON path such as ``spec.hard``."""

    field: str
    message: str


class ApiError(Exception):
    """Raise when a request to the API server failed. ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        causes: tuple[FieldCause, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.causes = causes
        self.retry_after = retry_after


class NotFound(ApiError):  # noqa: N818 -- named as the API server names them
    """The object, or its namespace, or its kind, is not there (404)."""


class Conflict(ApiError):  # noqa: N818
    """A precondition (uid, resourceVersion) does not hold, or another field manager owns a field (409)."""


class AlreadyExists(Conflict):
    """A create found an object of that name (409, reason AlreadyExists)."""


class Forbidden(ApiError):  # noqa: N818
    """RBAC, quota or an admission policy refused (403)."""

    @property
    def by_quota(self) -> bool:
        """True when a ResourceQuota refused: the API server writes ``exceeded quota``."""
        return "exceeded quota" in self.message

    @property
    def terminating(self) -> bool:
        """True when nothing can be created because the namespace is being deleted."""
        return "because it is being terminated" in self.message


class Invalid(ApiError):  # noqa: N818
    """The object breaks its schema, or an admission policy says so (422); ``causes`` name the fields."""


class Gone(ApiError):  # noqa: N818
    """A resourceVersion or a continue token is too old (410): list again from the start."""


class TooManyRequests(ApiError):  # noqa: N818
    """The server asks us to slow down (429); ``retry_after`` in seconds."""


class Unauthorized(ApiError):  # noqa: N818
    """The credential is not accepted (401), for example an expired token."""


class Unavailable(ApiError):  # noqa: N818
    """No answer in time, a broken connection, or a 5xx: nothing is known about what happened."""


class NotLeading(Unavailable):
    """Nothing was sent: this operator does not hold the Lease, or cannot be sure of it."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def from_response(status: int, body: Any, retry_after: str | None) -> ApiError:
    """The error that belongs to an HTTP answer; ``body`` is the decoded ``Status`` object or anything else."""
    known = body if isinstance(body, dict) and body.get("kind") == "Status" else {}
    reason = str(known.get("reason") or "")
    details = known.get("details") or {}
    causes = tuple(
        FieldCause(field=str(cause.get("field") or ""), message=str(cause.get("message") or ""))
        for cause in details.get("causes") or ()
    )
    seconds: float | None = None
    if retry_after is not None and retry_after.isdecimal():
        seconds = float(retry_after)
    elif isinstance(details.get("retryAfterSeconds"), int):
        seconds = float(details["retryAfterSeconds"])
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else ApiError)
    if kind is Conflict and reason == "AlreadyExists":
        kind = AlreadyExists
    message = str(known.get("message") or f"the API server answered {status}")
    return kind(message, status=status, reason=reason, causes=causes, retry_after=seconds)
