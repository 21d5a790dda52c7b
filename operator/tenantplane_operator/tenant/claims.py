"""What all Tenants claim, found by name, by tenantID and by namespace. Pure.

Guarantees that asking for a Tenant's rivals costs what their number costs and not that of all Tenants, so that a start
with thousands of them does not take the square of it.
"""

from collections import defaultdict
from collections.abc import Iterator

from tenantplane_operator.tenant.identity import Claim


class Claims:
    """Claims by the Tenants' names."""

    def __init__(self) -> None:
        self._by_name: dict[str, Claim] = {}
        self._by_id: defaultdict[str, set[str]] = defaultdict(set)
        self._by_namespace: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, name: str, claim: Claim | None) -> None:
        """Take in what a Tenant claims now; ``None``: nothing (any more)."""
        before = self._by_name.pop(name, None)
        if before is not None:
            _drop(self._by_id, before.tenant_id, name)
            _drop(self._by_namespace, before.namespace, name)
        if claim is not None:
            self._by_name[name] = claim
            self._by_id[claim.tenant_id].add(name)
            self._by_namespace[claim.namespace].add(name)

    def wanting(self, tenant_id: str, namespace: str) -> list[Claim]:
        """All that want this tenantID or this namespace, by name."""
        found = self._by_id.get(tenant_id, set()) | self._by_namespace.get(namespace, set())
        return [self._by_name[name] for name in sorted(found)]

    def of_namespace(self, namespace: str) -> list[Claim]:
        """All that want this namespace, by name."""
        return [self._by_name[name] for name in sorted(self._by_namespace.get(namespace, ()))]

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)


def _drop(index: defaultdict[str, set[str]], key: str, name: str) -> None:
    index[key].discard(name)
    if not index[key]:
        del index[key]
