"""Which deletions of a burst wait for a person: a decision over counts, without clock, client or memory.

Guarantees that up to ``max(floor, fraction * objects)`` deletions of a kind within the window go through at once, that
beyond it nothing more is let through until somebody confirms, and that what one tenant deletes in its own namespace
alone never holds what another one deletes in its own: a deleted key must not go on working because of a neighbour.
Does not know what a deletion would cut, nor whether somebody released it.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import floor

from tenantplane_api.runtime.platform import MassDeletion

_AHEAD = timedelta(hours=1)
"""How far a release may lie in the future: clocks differ, and a date of next year must not confirm what is to come."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """One deletion of a kind.

    ``scope`` is the namespace in which it happened, empty for what belongs to the whole platform. ``at`` is in seconds
    since the epoch: for a pending one when it was asked for, for one that was let through when that was.
    """

    name: str
    scope: str
    at: float


def allowance(objects: int, limits: MassDeletion) -> int:
    """How many of ``objects`` may go within one window."""
    return max(limits.floor, floor(limits.fraction * objects))


def held(
    pending: Collection[Deletion], passed: Sequence[Deletion], *, live: int, limits: MassDeletion, now: float
) -> frozenset[str]:
    """Names of the pending deletions that must wait.

    Args:
        pending: asked for and not decided, however long ago.
        passed: let through without anybody's confirmation; only those of the last window count.
        live: objects of the kind that nobody deletes.
        limits: of the Platform.
        now: seconds since the epoch.
    """
    recent = [deletion for deletion in passed if now - deletion.at < limits.window_seconds]
    counted = [*pending, *recent]
    allowed = allowance(live + len(counted), limits)
    if len(counted) <= allowed:
        return frozenset()
    scopes = Counter(deletion.scope for deletion in counted if deletion.scope).most_common(2)

    def others(scope: str) -> int:
        """Deletions without those of the one other namespace that has the most."""
        loudest = next((count for name, count in scopes if name != scope), 0) if scope else 0
        return len(counted) - loudest

    return frozenset(deletion.name for deletion in pending if others(deletion.scope) > allowed)


def released(requested: str | None, *, since: float, now: float) -> bool:
    """True when ``requested`` (RFC 3339) confirms a deletion that waits since ``since``.

    A request from before the deletion confirms nothing: it may lie in somebody's Git since the last time.
    """
    if requested is None:
        return False
    try:
        at = datetime.fromisoformat(requested.strip().replace("Z", "+00:00"))
    except ValueError:
        return False
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return at.timestamp() >= floor(since) and at <= datetime.fromtimestamp(now, UTC) + _AHEAD
