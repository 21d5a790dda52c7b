"""API errors become ends by type, once."""

import pytest

from tenantplane_operator.runtime.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    from_response,
)
from tenantplane_operator.runtime.outcome import Retry, Terminal, WaitingFor, from_api, worst
from tenantplane_operator.runtime.resources import ObjectKey


def status(code: int, message: str = "m", **rest: object) -> dict[str, object]:
    return {"kind": "Status", "message": message, "code": code, **rest}


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (401, status(401), Unauthorized),
        (403, status(403), Forbidden),
        (404, status(404), NotFound),
        (409, status(409, reason="Conflict"), Conflict),
        (409, status(409, reason="AlreadyExists"), AlreadyExists),
        (410, status(410), Gone),
        (422, status(422), Invalid),
        (429, status(429), TooManyRequests),
        (500, status(500), Unavailable),
        (503, None, Unavailable),
        (504, "<html>", Unavailable),
        (400, status(400), ApiError),
        (418, [1], ApiError),
    ],
)
def test_every_status_is_one_type(code: int, body: object, kind: type[ApiError]) -> None:
    error = from_response(code, body, None)
    assert type(error) is kind
    assert error.status == code


def test_causes_and_retry_after_are_read() -> None:
    details = {"causes": [{"field": "spec.hard", "message": "must not be negative"}], "retryAfterSeconds": 7}
    error = from_response(422, status(422, details=details), None)
    assert [(cause.field, cause.message) for cause in error.causes] == [("spec.hard", "must not be negative")]
    assert error.retry_after == 7
    assert from_response(429, None, "3").retry_after == 3
    assert "spec.hard" in from_api(error).message


def test_a_body_that_is_no_status_is_not_repeated() -> None:
    # It might be a Secret.
    assert "s3cret" not in str(from_response(500, {"kind": "Secret", "message": "s3cret"}, None))


def test_forbidden_means_different_things() -> None:
    key = ObjectKey("ResourceQuota", "ns", "q")
    assert isinstance(from_api(Forbidden("no", status=403), key, since_binding=0.5), WaitingFor)
    assert not isinstance(from_api(Forbidden("no", status=403), key, since_binding=60.0), WaitingFor)
    assert not isinstance(from_api(Forbidden("no", status=403), key), WaitingFor)
    quota = from_api(Forbidden("exceeded quota: pods", status=403), key, since_binding=0.5)
    assert quota.reason == "QuotaExceeded"
    going = from_api(Forbidden("x because it is being terminated", status=403), key)
    assert isinstance(going, WaitingFor)
    assert going.dependency == "namespace"


def test_an_api_server_that_is_away_is_waited_for() -> None:
    assert from_api(Unavailable("gone")).reason == "APIUnavailable"
    slow = from_api(TooManyRequests("slow", status=429, retry_after=9))
    assert isinstance(slow, Retry)
    assert slow.after == 9


def test_the_worst_decides_and_nobody_is_hidden() -> None:
    assert worst([]) is None
    terminal, retry, waiting = Terminal("A", "a"), Retry("B", "b", after=3), WaitingFor("rbac", "c", after=1)
    assert worst([waiting, retry, terminal]) is terminal
    assert worst([waiting, retry]) is retry
    joined = worst([retry, Retry("C", "d", after=5)])
    assert isinstance(joined, Retry)
    assert (joined.reason, joined.message, joined.after) == ("B", "b; d", 5)
