"""What people are told of an APIKey: one event for one story, from the status before and the decision. Pure.

Guarantees that an event says something that the status before did not, so that a pass that changes nothing tells
nothing, and that no event holds more of a key than its public id.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_operator.apikey.state import KeyDecision


class Event(NamedTuple):
    """As ``events.k8s.io`` has it."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


_REASONS: dict[str, str] = {Reason.EXPIRED: "KeyExpired"}
_QUIET = frozenset({Reason.PROGRESSING, Reason.WAITING})


def story(before: Mapping[str, Any], decision: KeyDecision) -> Event | None:
    """The event that a decision is worth; ``None`` when it is no news.

    Args:
        before: the APIKey's status as it was.
        decision: what is now.
    """
    now = decision.status
    if now.get("revokedAt"):
        return (
            None if before.get("revokedAt") else Event("Warning", "KeyRevoked", f"key {_id(now)} is refused for good")
        )
    if now.get("hash") and now["hash"] != before.get("hash"):
        return _new_text(before, now)
    ready = decision.conditions[ConditionType.READY]
    was = _ready(before)
    if not ready.ok:
        news = ready.reason != was.get("reason") and ready.reason not in _QUIET
        return Event("Warning", _REASONS.get(ready.reason, ready.reason), ready.message) if news else None
    if was.get("status") == "False" and was.get("reason") not in _QUIET:
        return Event("Normal", "Ready", f"key {_id(now)} is accepted again")
    return None


def _new_text(before: Mapping[str, Any], now: Mapping[str, Any]) -> Event:
    old = before.get("hash")
    where = (now.get("secretRef") or {}).get("name")
    if old is None:
        return Event("Normal", "KeyCreated", f"key {_id(now)} in Secret {where}")
    kept = next((entry for entry in now.get("previous") or [] if entry.get("hash") == old), None)
    end = f"is accepted until {kept['acceptedUntil']}" if kept is not None else "is refused"
    return Event("Normal", "KeyRotated", f"key {_id(before)} → {_id(now)} in Secret {where}; {_id(before)} {end}")


def _id(status: Mapping[str, Any]) -> str:
    return str(status.get("keyID") or "(none)")


def _ready(status: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [c for c in status.get("conditions") or [] if c.get("type") == ConditionType.READY]
    return found[0] if found else {}
