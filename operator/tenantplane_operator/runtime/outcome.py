"""How a reconcile ends when it does not end well, and how the API's errors become that, once and by type.

Three ends: ``Terminal`` waits for a person, ``Retry`` for time, ``WaitingFor`` for something that will wake us up
anyway. ``worst`` joins the ends of independent steps without hiding the others.
"""

from collections.abc import Iterable

from tenantplane_operator.runtime.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from tenantplane_operator.runtime.resources import ObjectKey


class ReconcileError(Exception):
    """Base: raise when a step cannot reach its goal. ``reason`` is stable, ``message`` says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Terminal(ReconcileError):  # noqa: N818 -- an end, not only an error
    """Only a change by a person helps: Stalled, no retry on a timer but the resync's."""


class Retry(ReconcileError):  # noqa: N818
    """Time may help: tried again after ``after`` seconds or the key's backoff, whichever is longer."""

    def __init__(self, reason: str, message: str, *, after: float = 0.0) -> None:
        super().__init__(reason, message)
        self.after = after


class WaitingFor(Retry):
    """``dependency`` is on its way; its arrival wakes us, the timer is only for safety."""

    def __init__(self, dependency: str, message: str, *, reason: str = "Waiting", after: float = 0.0) -> None:
        super().__init__(reason, message, after=after)
        self.dependency = dependency


RBAC_LAG = 10.0
"""Seconds after our own RoleBinding within which a 403 is the authoriser's lag and not a missing right."""


def from_api(error: ApiError, key: ObjectKey | None = None, *, since_binding: float | None = None) -> ReconcileError:
    """The end that an API error means.

    Args:
        error: what the API server answered.
        key: object that was written or read, for the message.
        since_binding: seconds since we bound ourselves in the namespace, ``None`` when that was not in this process.
    """
    what = f"{key}: " if key is not None else ""
    match error:
        case Forbidden() if error.terminating:
            return WaitingFor("namespace", f"{what}the namespace is being deleted", after=2.0)
        case Forbidden() if error.by_quota:
            return Retry("QuotaExceeded", f"{what}{error.message}: raise the quota or delete something", after=5.0)
        case Forbidden() if since_binding is not None and since_binding < RBAC_LAG:
            return WaitingFor("rbac", f"{what}our rights in the namespace are not in force yet")
        case Forbidden():
            return Retry("ApplyFailed", f"{what}{error.message}", after=5.0)
        case Invalid():
            fields = "; ".join(f"{cause.field}: {cause.message}" for cause in error.causes) or error.message
            # A fresh policy or namespace label can be behind by moments, so even this is tried again at leisure.
            return Retry("ApplyFailed", f"{what}{fields}", after=5.0)
        case Conflict():
            return Retry("ApplyFailed", f"{what}it changed meanwhile")
        case NotFound():
            return WaitingFor("namespace", f"{what}{error.message}")
        case TooManyRequests():
            return Retry("APIUnavailable", "the API server asks us to slow down", after=error.retry_after or 1.0)
        case Unavailable() | Unauthorized():
            return Retry("APIUnavailable", error.message, after=error.retry_after or 0.0)
        case _:
            return Retry("ApplyFailed", f"{what}{error.message}")


def worst(errors: Iterable[ReconcileError]) -> ReconcileError | None:
    """The error that decides: a terminal one first, then a retry, then waiting; messages of the same kind joined."""
    found = list(errors)
    if not found:
        return None

    def rank(error: ReconcileError) -> int:
        return 0 if isinstance(error, Terminal) else 2 if isinstance(error, WaitingFor) else 1

    first = min(found, key=rank)
    same = [error for error in found if rank(error) == rank(first)]
    if len(same) == 1:
        return first
    message = "; ".join(dict.fromkeys(error.message for error in same))[:2048]
    if isinstance(first, Terminal):
        return Terminal(first.reason, message)
    after = max(error.after for error in same if isinstance(error, Retry))
    if isinstance(first, WaitingFor):
        return WaitingFor(first.dependency, message, reason=first.reason, after=after)
    return Retry(first.reason, message, after=after)
