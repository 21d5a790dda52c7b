"""``final_state``: what two runs of the operator must agree on, whatever happened to it on the way.

Left out, each for its reason: timestamps, UIDs, resourceVersions, managedFields and generation counts (bookkeeping of
the API server); key material, key ids and what is derived from it: hashes, document revisions, applied hashes (random);
Events (they tell the story, which differs); usage in a ResourceQuota's status, ServiceAccount token bookkeeping and
kube-root-ca.crt (the controller manager's). Everything else counts, also what should not be there.
"""

import json
import re
from typing import Any

from tests.operator.e2e.world import CHILDREN, World

from tenantplane_api.runtime import documents, names

_BOOKKEEPING = ("uid", "resourceVersion", "managedFields", "generation", "creationTimestamp")
_VOLATILE_ANNOTATIONS = (names.ANNOTATION_REVISION, names.ANNOTATION_KEY_ID, f"{names.GROUP}/key-hash")
_VARYING = re.compile(r"revision [0-9a-f]{16}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_VOLATILE_STATUS = ("hash", "keyID", "publishedRevision", "runtimeRevision", "builtAt")


def _clean(obj: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(json.dumps(obj))
    meta = out["metadata"]
    for name in _BOOKKEEPING:
        meta.pop(name, None)
    for name in _VOLATILE_ANNOTATIONS:
        meta.get("annotations", {}).pop(name, None)
    if out.get("kind") == "ConfigMap" or "data" in out:
        # The status ConfigMap repeats the revision.
        meta.get("annotations", {}).pop(names.ANNOTATION_APPLIED_HASH, None)
    status = out.get("status")
    if isinstance(status, dict):
        for name in _VOLATILE_STATUS:
            status.pop(name, None)
        if "revokedAt" in status:
            status["revokedAt"] = "at some time"
        for condition in status.get("conditions") or []:
            condition.pop("lastTransitionTime", None)
            condition["message"] = _VARYING.sub("…", condition.get("message", ""))
        for index in status.get("knowledge") or []:
            for name in _VOLATILE_STATUS:
                index.pop(name, None)
    return out


def _document(document: documents.TenantRuntime | None) -> object:
    if document is None:
        return None
    spec = document.spec
    keys = sorted((key.name, key.owner, key.expires_at) for key in spec.keys)
    return {
        "name": document.name,
        "namespace": document.namespace,
        "tenantID": document.tenant_id,
        "spec": {name: repr(getattr(spec, name)) for name in spec.__struct_fields__ if name != "keys"},
        "keys": keys,
    }


def final_state(world: World, tenants: list[str]) -> dict[str, Any]:
    """The state of these Tenants and all that belongs to them, in a form that compares equal when it is the same."""
    out: dict[str, Any] = {}
    for tenant in tenants:
        found = world.get("Tenant", tenant)
        out[f"Tenant {tenant}"] = _clean(found) if found is not None else None
        out[f"document {tenant}"] = _document(world.document(tenant))
        ns = names.default_namespace(tenant)
        space = world.get("Namespace", ns)
        out[f"Namespace {ns}"] = _clean(space) if space is not None else None
        if space is None:
            continue
        for kind in CHILDREN:
            for item in world.items(kind, ns):
                name = item["metadata"]["name"]
                if (kind, name) in (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")):
                    continue
                clean = _clean(item)
                if kind == "ResourceQuota":
                    clean.pop("status", None)
                if (kind, name) == ("ConfigMap", names.CHILD_STATUS_CONFIG_MAP):
                    clean["data"] = sorted(clean["data"])
                out[f"{kind} {ns}/{name}"] = clean
        for secret in world.items("Secret", ns):
            clean = _clean(secret)
            clean["data"] = sorted(clean["data"])
            out[f"Secret {ns}/{secret['metadata']['name']}"] = clean
    documents_there = {item["metadata"]["name"] for item in world.items("Secret", names.NAMESPACE_RUNTIME)}
    out["documents"] = sorted(documents_there)
    return out


def consistent(world: World, tenants: list[str]) -> list[str]:
    """What is wrong with the random part that ``final_state`` leaves out: hashes must match where they meet."""
    problems = []
    for tenant in tenants:
        ns = names.default_namespace(tenant)
        if world.get("Tenant", tenant) is None:
            continue
        live = {
            item["status"]["hash"]
            for item in world.items("APIKey", ns)
            if item.get("status", {}).get("hash") and not item["status"].get("revokedAt")
        }
        if world.hashes(tenant) != live:
            problems.append(f"{tenant}: published hashes are not those of its live keys")
    return problems
