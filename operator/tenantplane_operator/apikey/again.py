"""When to look at a key again although nobody reports a change. Pure.

Users' Secrets are not watched. One that somebody has to create, correct or delete is looked for every few seconds at
first and every half minute later, so that a forgotten one costs next to nothing.
"""

from datetime import datetime
from typing import Final

from tenantplane_api.crd.apikey import APIKeyStatus
from tenantplane_api.crd.conditions import ConditionType
from tenantplane_operator.tenant.parse import as_utc

LOOK_AGAIN: Final = 5.0
LOOK_AGAIN_MAX: Final = 30.0
_PART: Final = 0.25


def look_again(status: APIKeyStatus, now: datetime) -> float:
    """Seconds until the next look at a Secret: a quarter of the time that the key has not been Ready for, in bounds."""
    since = next((c.last_transition_time for c in status.conditions if c.type == ConditionType.READY), None)
    age = 0.0 if since is None else (as_utc(now) - as_utc(since)).total_seconds()
    return min(max(LOOK_AGAIN, age * _PART), LOOK_AGAIN_MAX)


def earliest(*plans: float | None) -> float | None:
    """The first of several plans in seconds; ``None`` when there is none."""
    return min((plan for plan in plans if plan is not None), default=None)
