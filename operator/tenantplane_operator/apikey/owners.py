"""Which APIKey holds which hash: what keeps one text from opening two tenants, or two keys of one tenant.

Guarantees an order that depends only on what stands in the objects: whoever holds a hash in its status comes before
whoever does not, and of two that hold it the one that has had it longer, so that every operator decides the same,
before and after a restart. A text that was replaced and is in its grace is held like the current one, and so is the
text of a revoked key while its APIKey exists. Knows objects and this process's reservations, not what is published.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tenantplane_operator.runtime.resources import ObjectKey


class Rank(NamedTuple):
    """The lower comes first. ``since`` and ``created`` are RFC 3339 in UTC, which sort as text."""

    reserved: bool
    since: str
    created: str
    namespace: str
    name: str


class HashOwners:
    """All claims. ``see`` is told of every state of every APIKey; everything else asks."""

    def __init__(self) -> None:
        self._claims: defaultdict[str, dict[ObjectKey, Rank]] = defaultdict(dict)
        self._held: dict[ObjectKey, frozenset[str]] = {}
        self._wanted: dict[ObjectKey, str] = {}

    def see(self, key: ObjectKey, obj: Mapping[str, Any] | None) -> frozenset[ObjectKey]:
        """Take in an APIKey as it is (``None``: gone); the APIKeys that want a hash which this set free."""
        claims = {} if obj is None else _claims(key, obj)
        before = self._held.pop(key, frozenset())
        for digest in before - claims.keys():
            self._drop(key, digest)
        for digest, rank in claims.items():
            self._claims[digest][key] = rank
        if claims:
            self._held[key] = frozenset(claims)
        if obj is None:
            self._wanted.pop(key, None)
        return self.wanting(before - claims.keys())

    def reserve(self, key: ObjectKey, digest: str) -> None:
        """Hold a hash that will be in the key's status in a moment; until the key is seen again."""
        if key not in self._claims[digest]:
            self._claims[digest][key] = Rank(True, "", "", key.namespace, key.name)
            self._held[key] = self._held.get(key, frozenset()) | {digest}

    def want(self, key: ObjectKey, digest: str | None) -> None:
        """Remember which hash a key would have, were it free."""
        if digest is None:
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = digest

    def wanting(self, digests: Iterable[str]) -> frozenset[ObjectKey]:
        """The APIKeys that want one of these hashes."""
        free = frozenset(digests)
        return frozenset(key for key, digest in self._wanted.items() if digest in free) if free else frozenset()

    def taken(self, key: ObjectKey, digest: str) -> bool:
        """True when another APIKey, of whatever namespace, has the better right to this hash."""
        claims = self._claims.get(digest)
        if not claims:
            return False
        mine = claims.get(key)
        return any(other != key and (mine is None or rank < mine) for other, rank in claims.items())

    def outside(self, namespace: str) -> "Elsewhere":
        """The hashes to which an APIKey of another namespace has the best right, as a container."""
        return Elsewhere(self, namespace)

    def first(self, digest: str) -> ObjectKey | None:
        """Who has the best right to a hash."""
        claims = self._claims.get(digest)
        return min(claims, key=lambda key: claims[key]) if claims else None

    def _drop(self, key: ObjectKey, digest: str) -> None:
        self._claims[digest].pop(key, None)
        if not self._claims[digest]:
            del self._claims[digest]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """``digest in elsewhere``: whether another namespace has the best right to it."""

    owners: HashOwners
    namespace: str

    def __contains__(self, digest: object) -> bool:
        first = self.owners.first(digest) if isinstance(digest, str) else None
        return first is not None and first.namespace != self.namespace


def _claims(key: ObjectKey, obj: Mapping[str, Any]) -> dict[str, Rank]:
    """What an APIKey holds; nothing once it is being deleted."""
    meta, status = obj.get("metadata") or {}, obj.get("status") or {}
    if meta.get("deletionTimestamp"):
        return {}
    created = str(meta.get("creationTimestamp") or "")
    # A replaced text was there before any that somebody holds as the current one.
    held = {
        str(entry["hash"]): Rank(False, "", created, key.namespace, key.name)
        for entry in status.get("previous") or []
        if isinstance(entry, Mapping) and entry.get("hash")
    }
    if status.get("hash"):
        since = str(status.get("lastRotatedAt") or created)
        held[str(status["hash"])] = Rank(False, since, created, key.namespace, key.name)
    return held
