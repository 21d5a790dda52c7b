"""Conditions in the form that kstatus, Argo CD and ``kubectl wait`` read. Pure.

``Ready`` is always there; ``Reconciling`` and ``Stalled`` only when True; one condition per concern.
``lastTransitionTime`` moves only when ``status`` flips, so that the time says how long it has been so, and an
unchanged state gives an identical list, so that nothing is written.
Source: kubernetes-sigs/cli-utils ``pkg/kstatus``, API conventions "Typical status properties".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Status = Literal["True", "False", "Unknown"]
MESSAGE_MAX = 4096


@dataclass(frozen=True, slots=True)
class Condition:
    """What one condition says now; the time is added by ``merge``."""

    type: str
    status: Status
    reason: str
    message: str = ""


def rfc3339(now: datetime) -> str:
    """Whole seconds in UTC with ``Z``, as the API server writes times."""
    return now.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def merge(
    previous: Sequence[Mapping[str, Any]], wanted: Iterable[Condition], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The conditions to store, in the order of ``wanted``; times of unflipped ones are kept."""
    before = {str(condition.get("type")): condition for condition in previous}
    out: list[dict[str, Any]] = []
    for condition in wanted:
        known = before.get(condition.type)
        flipped = known is None or known.get("status") != condition.status
        since = rfc3339(now) if flipped or known is None else str(known.get("lastTransitionTime") or rfc3339(now))
        out.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message[:MESSAGE_MAX],
                "lastTransitionTime": since,
                "observedGeneration": generation,
            }
        )
    return out


def find(conditions: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """The condition of a type, or ``None``."""
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def is_true(conditions: Sequence[Mapping[str, Any]], kind: str) -> bool:
    """True when the condition is there and True."""
    found = find(conditions, kind)
    return found is not None and found.get("status") == "True"


def same(previous: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True when writing ``wanted`` over ``previous`` would change nothing; order of conditions does not count.

    Keys that ``wanted`` lacks count too: an applied status without them would remove them.
    """
    return bool(_normal(previous) == _normal(wanted))


def _normal(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _normal(sorted(item, key=lambda c: str(c.get("type"))) if key == "conditions" else item)
            for key, item in value.items()
            if item not in (None, "", [], {})
        }
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    return value
