"""The file over the facts: what the cluster would hold once the file was applied.

Guarantees: an object of the file counts as the API server would store it, with the identity and status of the live one.
Does not: apply defaults of the schema; the parsers do.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_cli.kube import FORBIDDEN, KubeError
from tenantplane_cli.plan.facts import Facts
from tenantplane_cli.up.load import Key, Loaded
from tenantplane_operator.apikey.owners import HashOwners
from tenantplane_operator.modeldeployment.document import OwnerRef
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of
from tenantplane_operator.tenant.identity import Claim, belongs_to_another, carries, claim_of
from tenantplane_operator.tenant.manifest import annotation, label

_KEPT = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "finalizers", "resourceVersion")


@dataclass(frozen=True)
class Known:
    """Objects of the file, and what is known beside them. What is asked once per object of the file is made once."""

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
        if not label:
            found.update((key_of(obj), self.stored(obj)) for obj in self._of_file[kind, namespace])
        return list(found.values())

    @cached_property
    def _of_file(self) -> defaultdict[tuple[str, str], list[Manifest]]:
        """Objects of the file by kind and namespace."""
        out: defaultdict[tuple[str, str], list[Manifest]] = defaultdict(list)
        for key, obj in self.loaded.objects.items():
            out[key.kind, key.namespace].append(obj)
        return out

    @cached_property
    def claims(self) -> list[Claim]:
        """What all Tenants claim, those of the file included."""
        found = {str(item["metadata"]["name"]): item for item in self.facts.listing(names.KIND_TENANT)}
        for obj in self.loaded.of(names.KIND_TENANT):
            found[str(obj["metadata"]["name"])] = self.stored(obj)
        return [claim for item in found.values() if (claim := claim_of(item)) is not None]

    def belongs_to_another(self, namespace: str, tenant: str) -> bool:
        """True for a namespace that another Tenant claims, or that carries another tenant's label."""
        found = self.facts.get(ObjectKey("Namespace", "", namespace))
        return belongs_to_another(namespace, tenant, found=found, claims=self._claims_on[namespace])

    @cached_property
    def _claims_on(self) -> defaultdict[str, list[Claim]]:
        out: defaultdict[str, list[Claim]] = defaultdict(list)
        for claim in self.claims:
            out[claim.namespace].append(claim)
        return out

    def owner(self, namespace: str) -> OwnerRef | None:
        """The tenant of a namespace, by the namespace's own marks, else by what a Tenant of the file wants."""
        space = self.get(ObjectKey("Namespace", "", namespace)) or {}
        name, tenant_id = label(space, names.LABEL_TENANT), annotation(space, names.ANNOTATION_TENANT_ID)
        if name and tenant_id:
            try:
                tenant = self.get(ObjectKey(names.KIND_TENANT, "", name))
                stands = tenant is not None and carries(space, tenant)
            except KubeError as error:
                if error.status != FORBIDDEN:
                    raise
                stands = True  # a tenant's own people may not read Tenants; the fence keeps the marks true
            return OwnerRef(TenantName(name), TenantID(tenant_id)) if stands else None
        return self._wanted_by_file.get(namespace)

    @cached_property
    def _wanted_by_file(self) -> dict[str, OwnerRef]:
        found = [claim for obj in self.loaded.of(names.KIND_TENANT) if (claim := claim_of(obj)) is not None]
        return {claim.namespace: OwnerRef(claim.name, claim.tenant_id) for claim in reversed(found)}

    @cached_property
    def hashes(self) -> HashOwners:
        """Who has which hash of a key."""
        owners = HashOwners()
        for item in self.facts.listing(names.KIND_API_KEY):
            owners.see(key_of(item), item)
        return owners
