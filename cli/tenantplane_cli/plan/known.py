"""The file over the facts: what the cluster would hold once the file was applied.

Guarantees: an object of the file counts as the API server would store it, with the identity and status of the live one.
Does not: apply defaults of the schema; the parsers do.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenantplane_api.runtime import names
from tenantplane_cli.plan.facts import Facts
from tenantplane_cli.up.load import Key, Loaded
from tenantplane_operator.apikey.owners import HashOwners
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of
from tenantplane_operator.tenant.identity import Claim, claim_of
from tenantplane_operator.tenant.manifest import label

_KEPT = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "finalizers", "resourceVersion")


@dataclass(frozen=True)
class Known:
    """Objects of the file, and what is known beside them."""

    loaded: Loaded
    facts: Facts

    @property
    def online(self) -> bool:
        """Whether there is a cluster."""
        return self.facts.online

    def live(self, obj: Manifest) -> Manifest | None:
        """The object of the same name in the cluster."""
        return self.facts.get(key_of(obj))

    def stored(self, obj: Manifest) -> Manifest:
        """An object of the file as it would be stored."""
        live = self.live(obj)
        if live is None:
            return {**obj, "status": {}}
        meta = {**obj["metadata"], **{key: live["metadata"][key] for key in _KEPT if key in live["metadata"]}}
        for part in ("labels", "annotations"):
            meta[part] = {**(live["metadata"].get(part) or {}), **(obj["metadata"].get(part) or {})}
        return {**obj, "metadata": meta, "status": live.get("status") or {}}

    def get(self, key: ObjectKey) -> Manifest | None:
        """One object: the file's version of it before the cluster's."""
        own = self.loaded.objects.get(Key(*key))
        if own is None or key.kind == "Secret":
            return self.facts.get(key)
        if key.kind == "Namespace":
            # What is there decides who may have it; a Namespace in the file matters where there is none.
            return self.facts.get(key) or own
        return self.stored(own)

    def listing(self, kind: str, namespace: str, *, label: str = "") -> list[Manifest]:
        """Objects of a kind in a namespace, the file's over the cluster's."""
        found = {key_of(item): item for item in self.facts.listing(kind, namespace, label=label)}
        for key, obj in self.loaded.objects.items():
            if key.kind == kind and key.namespace == namespace and not label:
                found[ObjectKey(*key)] = self.stored(obj)
        return list(found.values())

    def claims(self) -> list[Claim]:
        """What all Tenants claim, those of the file included."""
        found = {str(item["metadata"]["name"]): item for item in self.facts.listing(names.KIND_TENANT)}
        for obj in self.loaded.of(names.KIND_TENANT):
            found[str(obj["metadata"]["name"])] = self.stored(obj)
        return [claim for item in found.values() if (claim := claim_of(item)) is not None]

    def belongs_to_another(self, namespace: str, tenant: str) -> bool:
        """True for a namespace that another Tenant claims, or that carries another tenant's label."""
        space = self.facts.get(ObjectKey("Namespace", "", namespace)) or {}
        claimed = any(claim.namespace == namespace and claim.name != tenant for claim in self.claims())
        return claimed or label(space, names.LABEL_TENANT) not in (None, tenant)

    def hashes(self) -> HashOwners:
        """Who has which hash of a key."""
        owners = HashOwners()
        for item in self.facts.listing(names.KIND_API_KEY):
            owners.see(key_of(item), item)
        return owners
