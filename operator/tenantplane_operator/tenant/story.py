"""What is told of a Tenant as events: once, when it happened, in words that people search for.

Pure: from the status before and after, and from how the namespace was come by. What ``Ready`` and ``Stalled`` say is
told by whoever writes the status; what deletion does, by ``deletion``.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_operator.runtime.conditions import is_true
from tenantplane_operator.tenant.identity import Owned, Ownership


class Event(NamedTuple):
    """One event."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


_NAMESPACE = {
    Ownership.CREATE: "NamespaceCreated",
    Ownership.ADOPT: "NamespaceAdopted",
    Ownership.TAKE_BACK: "NamespaceTakenBack",
}


def namespace_event(owned: Owned, namespace: str) -> Event | None:
    """How the Tenant came to the namespace that was just written; ``None`` for one that it had."""
    reason = _NAMESPACE.get(owned.how)
    return None if reason is None else Event("Normal", reason, owned.message or f"made namespace {namespace}")


def story(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Event]:
    """What a change of the status tells."""
    told: list[Event] = []
    was, is_ = (is_true(status.get("conditions") or [], ConditionType.SUSPENDED) for status in (before, now))
    if is_ and not was:
        told.append(Event("Normal", "Suspended", "suspended: all requests are refused until spec.suspend is false"))
    elif was and not is_:
        told.append(Event("Normal", "Resumed", "resumed: requests are served again"))
    old, new = ((status.get("effective") or {}).get("plan") for status in (before, now))
    if old and new and old != new:
        told.append(Event("Normal", "PlanChanged", f"plan {old} became {new}: its defaults are in force"))
    return told
