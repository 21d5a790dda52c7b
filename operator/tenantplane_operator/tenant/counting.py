"""Whether a tenant's ResourceQuota may count objects of our own kinds yet.

Kubernetes' quota controller learns of a CRD up to a minute after it was installed. An entry for a kind that it does not
know is never filled in before the quota's next full resync (five minutes) or the next change of the entries, and until
then every create of that kind is refused. So an entry is written late rather than early, and taken out again for a
while when it is not filled in. Does not talk to anybody: facts and the time come in.
"""

from collections.abc import Mapping
from typing import Any, Final

from tenantplane_api.runtime import names

PATIENCE: Final = 10.0
"""Seconds that the quota controller gets to fill in an entry."""
PAUSE: Final = 120.0
"""Seconds without the entries after one was not filled in."""


def counts_own_kinds(entries: Mapping[str, Any]) -> bool:
    """True when a quota names one of our kinds (``count/apikeys.tenantplane.dev``)."""
    return any(name.endswith(f".{names.GROUP}") for name in entries)


def unfilled(quota: Mapping[str, Any] | None) -> bool:
    """True when a live ResourceQuota has an entry of ours that nobody counts."""
    found = quota or {}
    hard: Mapping[str, Any] = (found.get("spec") or {}).get("hard") or {}
    used: Mapping[str, Any] = (found.get("status") or {}).get("used") or {}
    return counts_own_kinds({name: None for name in hard if name not in used})


class Counting:
    """What is remembered of each tenant's quota; times in seconds of any one clock."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._paused: dict[str, float] = {}

    def forget(self, tenant: str) -> None:
        """A Tenant is gone."""
        self._since.pop(tenant, None)
        self._paused.pop(tenant, None)

    def look(
        self, tenant: str, quota: Mapping[str, Any] | None, *, fresh: float, now: float
    ) -> tuple[bool, float | None]:
        """Whether the quota may have entries of our kinds, and in how many seconds to look again.

        Args:
            tenant: its name.
            quota: the live ResourceQuota, ``None`` when there is none.
            fresh: seconds until the CRDs are old enough to be counted.
            now: the time.
        """
        if fresh > 0:
            return False, fresh + 1.0
        until = self._paused.get(tenant, now)
        if until > now:
            return False, until - now
        if not unfilled(quota):
            self._since.pop(tenant, None)
            return True, None
        left = self._since.setdefault(tenant, now) + PATIENCE - now
        if left > 0:
            return True, left
        self._since.pop(tenant, None)
        self._paused[tenant] = now + PAUSE
        return False, PAUSE
