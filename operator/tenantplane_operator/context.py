"""What the reconcilers share: clients, caches, and the few facts that live only in this process.

Everything here can be lost at any moment and is found again from the API server: nothing but speed depends on it.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tenantplane_api.crd.tenantstatus import KnowledgeStatus
from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import KeyEntry
from tenantplane_api.runtime.names import ModelKey, Revision
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.apikey.owners import HashOwners
from tenantplane_operator.crdwatch import OwnKinds
from tenantplane_operator.deletions import Deletions
from tenantplane_operator.knowledge.runner import BuildRunner
from tenantplane_operator.publish import Publisher
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.apply import Applier
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.events import EventRecorder
from tenantplane_operator.runtime.queue import Priority, WorkQueue
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, is_deleting, key_of, labels_of
from tenantplane_operator.strangers import Watch
from tenantplane_operator.tenant.claims import Claims
from tenantplane_operator.tenant.counting import Counting
from tenantplane_operator.tenant.identity import Claim


@dataclass(frozen=True, slots=True)
class Published:
    """A tenant's document as it stands published: its revision, the key hashes in it, and their entries.

    ``left_out`` are hashes of its APIKeys for which there is no room.
    """

    revision: Revision
    hashes: frozenset[str]
    keys: tuple[KeyEntry, ...] = ()
    left_out: frozenset[str] = frozenset()


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
    kinds: OwnKinds
    deletions: Deletions
    hashes: HashOwners = field(default_factory=HashOwners)
    claims: Claims = field(default_factory=Claims)
    """What each Tenant claims; kept with the cache."""
    epoch: int = 0
    """Counts resyncs: what was read of users' objects is read again once per epoch."""
    digests: dict[str, tuple[object, dict[str, str]]] = field(default_factory=dict)
    """Per tenant: what the digests of its ConfigMaps were read for, and the digests by name."""
    knowledge: dict[str, dict[str, KnowledgeStatus]] = field(default_factory=lambda: defaultdict(dict))
    """Per Tenant UID and index: results of builds that ended in this process."""
    published: dict[str, Published] = field(default_factory=dict)
    """Per tenant: what its reconcile found or made published."""
    model_users: dict[ModelKey, set[str]] = field(default_factory=lambda: defaultdict(set))
    keys_awaited: dict[str, float] = field(default_factory=dict)
    """Per Tenant UID: since when its first document waits for the keys that we make."""
    bound_at: dict[str, float] = field(default_factory=dict)
    """Per namespace: when we bound ourselves in it."""
    gone_keys: dict[ObjectKey, Manifest] = field(default_factory=dict)
    """Last states of APIKeys that were deleted, until their Secrets were seen to."""
    seen_secrets: dict[ObjectKey, tuple[object, object]] = field(default_factory=dict)
    """Per APIKey: what its Secret was read for, and what was seen; never a key's text."""

    seeded: set[tuple[str, str]] = field(default_factory=set)
    """Per Tenant UID and index: that its published document was asked which generation is served."""

    entered: set[str] = field(default_factory=set)
    """UIDs of Tenants of which was told how they came to their namespace."""
    counting: Counting = field(default_factory=Counting)
    strangers: Watch = field(default_factory=Watch)

    # Keys.

    @staticmethod
    def tenant_key(name: str) -> ObjectKey:
        """Key of a Tenant."""
        return ObjectKey(names.KIND_TENANT, "", name)

    def tenant_of(self, namespace: str) -> Manifest | None:
        """The Tenant to which a namespace belongs by label and tenantID, ``None`` when it belongs to none.

        One that is being deleted counts until its access is cut: its deletion may be held.
        """
        space = self.cache.get(ObjectKey("Namespace", "", namespace))
        if space is None:
            return None
        tenant = self.cache.get(self.tenant_key(labels_of(space).get(names.LABEL_TENANT, "")))
        if tenant is None:
            return None
        if is_deleting(tenant) and self.publisher.revision(names.tenant_document_name(key_of(tenant).name)) is None:
            return None
        if annotations_of(space).get(names.ANNOTATION_TENANT_ID) != tenant.get("spec", {}).get("tenantID"):
            return None
        return tenant

    def rivals(self, tenant_id: str, namespace: str) -> list[Claim]:
        """Claims of all Tenants that want this tenantID or this namespace, the asking one included."""
        found = self.claims.wanting(tenant_id, namespace)
        return [replace(c, serves=c.serves or self._published(c)) for c in found]

    def is_anothers(self, namespace: str, tenant: str) -> bool:
        """True for a namespace that is another tenant's than ``tenant``, by its label or by what that one claims."""
        space = self.cache.get(ObjectKey("Namespace", "", namespace))
        owner = labels_of(space).get(names.LABEL_TENANT) if space is not None else None
        return owner not in (None, tenant) or any(c.name != tenant for c in self.claims.of_namespace(namespace))

    def _published(self, claim: Claim) -> bool:
        return self.publisher.tenant_id(names.tenant_document_name(claim.name)) == claim.tenant_id

    def wake_tenant(self, name: str, priority: Priority = Priority.FRESH) -> None:
        """Have a Tenant reconciled."""
        self.queue.add(self.tenant_key(name), priority)

    def wake_claimants(self, namespace: str) -> bool:
        """Have the Tenants reconciled that want a namespace; False when there is none."""
        claims = self.claims.of_namespace(namespace)
        for claim in claims:
            self.wake_tenant(claim.name, Priority.RESYNC)
        return bool(claims)

    def since_binding(self, namespace: str) -> float | None:
        """Seconds since we bound ourselves in a namespace, ``None`` when that was not in this process."""
        bound = self.bound_at.get(namespace)
        return None if bound is None else asyncio.get_running_loop().time() - bound

    @staticmethod
    def now() -> datetime:
        """The time for conditions."""
        return datetime.now(UTC)
