"""What the reconcilers share: clients, caches, and the few facts that live only in this process.

Everything here can be lost at any moment and is found again from the API server: nothing but speed depends on it.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tenantplane_api.crd.tenantstatus import KnowledgeStatus
from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import ModelKey, Revision
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.knowledge.runner import BuildRunner
from tenantplane_operator.publish import Publisher
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.apply import Applier
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.events import EventRecorder
from tenantplane_operator.runtime.queue import Priority, WorkQueue
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, is_deleting, labels_of
from tenantplane_operator.tenant.identity import Claim


@dataclass(frozen=True, slots=True)
class Published:
    """A tenant's document as it stands published: its revision and the key hashes in it."""

    revision: Revision
    hashes: frozenset[str]


class HashOwners:
    """Which APIKeys published which hash: a key that two tenants claim is rejected for the second."""

    def __init__(self) -> None:
        self._owners: dict[str, set[ObjectKey]] = defaultdict(set)
        self._hash: dict[ObjectKey, str] = {}

    def set(self, key: ObjectKey, digest: str | None) -> None:
        """Record the hash in an APIKey's status, ``None`` when it has none or is gone."""
        before = self._hash.pop(key, None)
        if before is not None:
            self._owners[before].discard(key)
            if not self._owners[before]:
                del self._owners[before]
        if digest:
            self._hash[key] = digest
            self._owners[digest].add(key)

    def foreign(self, namespace: str) -> "ForeignHashes":
        """The hashes of all other namespaces, as a container."""
        return ForeignHashes(self, namespace)

    def owned_elsewhere(self, digest: str, namespace: str) -> bool:
        """True when an APIKey of another namespace has this hash."""
        return any(key.namespace != namespace for key in self._owners.get(digest, ()))


@dataclass(frozen=True, slots=True)
class ForeignHashes:
    """``digest in foreign``: whether another namespace has it."""

    owners: HashOwners
    namespace: str

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and self.owners.owned_elsewhere(digest, self.namespace)


@dataclass
class Context:
    """One per process."""

    platform: Platform
    api: KubeApi
    cache: Cache
    applier: Applier
    recorder: EventRecorder
    publisher: Publisher
    queue: WorkQueue[ObjectKey]
    builds: BuildRunner
    hashes: HashOwners = field(default_factory=HashOwners)
    claims: dict[str, Claim] = field(default_factory=dict)
    """What each Tenant claims, by its name; kept with the cache."""
    epoch: int = 0
    """Counts resyncs: what was read of users' objects is read again once per epoch."""
    digests: dict[str, tuple[object, dict[str, str]]] = field(default_factory=dict)
    """Per tenant: what the digests of its ConfigMaps were read for, and the digests by name."""
    knowledge: dict[str, dict[str, KnowledgeStatus]] = field(default_factory=lambda: defaultdict(dict))
    """Per Tenant UID and index: results of builds that ended in this process."""
    published: dict[str, Published] = field(default_factory=dict)
    """Per tenant: what its reconcile found or made published."""
    model_users: dict[ModelKey, set[str]] = field(default_factory=lambda: defaultdict(set))
    bound_at: dict[str, float] = field(default_factory=dict)
    """Per namespace: when we bound ourselves in it."""
    gone_keys: dict[ObjectKey, Manifest] = field(default_factory=dict)
    """Last states of APIKeys that were deleted, until their Secrets were seen to."""
    seen_secrets: dict[ObjectKey, tuple[object, object]] = field(default_factory=dict)
    """Per APIKey: what its Secret was read for, and what was seen; never a key's text."""

    # Keys.

    @staticmethod
    def tenant_key(name: str) -> ObjectKey:
        """Key of a Tenant."""
        return ObjectKey(names.KIND_TENANT, "", name)

    def tenant_of(self, namespace: str) -> Manifest | None:
        """The live Tenant to which a namespace belongs by label and tenantID, ``None`` when it belongs to none."""
        space = self.cache.get(ObjectKey("Namespace", "", namespace))
        if space is None:
            return None
        tenant = self.cache.get(self.tenant_key(labels_of(space).get(names.LABEL_TENANT, "")))
        if tenant is None or is_deleting(tenant):
            return None
        if annotations_of(space).get(names.ANNOTATION_TENANT_ID) != tenant.get("spec", {}).get("tenantID"):
            return None
        return tenant

    def rivals(self, tenant_id: str, namespace: str) -> list[Claim]:
        """Claims of all Tenants that want this tenantID or this namespace, the asking one included."""
        return [c for c in self.claims.values() if c.tenant_id == tenant_id or c.namespace == namespace]

    def wake_tenant(self, name: str, priority: Priority = Priority.FRESH) -> None:
        """Have a Tenant reconciled."""
        self.queue.add(self.tenant_key(name), priority)

    def since_binding(self, namespace: str) -> float | None:
        """Seconds since we bound ourselves in a namespace, ``None`` when that was not in this process."""
        bound = self.bound_at.get(namespace)
        return None if bound is None else asyncio.get_running_loop().time() - bound

    @staticmethod
    def now() -> datetime:
        """The time for conditions."""
        return datetime.now(UTC)
