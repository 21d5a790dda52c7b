"""What two runs of the operator must agree on, whatever happened to it on the way, and what must never be.

``Snapshot`` reads everything of ours once per kind. ``Snapshot.state`` is one tenant's part of it with the tenant's own
name taken out, so that tenants of one shape compare equal, also across runs. Left out, each for its reason: times,
UIDs, resourceVersions, managedFields and generation counts (bookkeeping of the API server); key material, key ids and
what is derived from them: hashes, document revisions, applied hashes (random); names of built index generations (they
hold the tenantID's hash); Events (they tell the story, which differs); usage in a ResourceQuota's status,
kube-root-ca.crt (the controller manager's); the Lease. Everything else counts, also what should not be there.

``Snapshot.problems`` holds the random part to what must be true of it: hashes meet, nothing is twice, nothing is left.
"""

import base64
import json
import re
from collections import Counter, defaultdict
from typing import Any

from tests.operator.e2e.world import CHILDREN, PATHS, World

from tenantplane_api.runtime import documents, keys, names

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Kind, namespace, name."""

_KINDS = (*CHILDREN, "Namespace", "Tenant", "ModelDeployment", "Secret")
_BOOKKEEPING = ("uid", "resourceVersion", "managedFields", "generation", "creationTimestamp")
_VOLATILE_ANNOTATIONS = (
    names.ANNOTATION_REVISION,
    names.ANNOTATION_KEY_ID,
    names.ANNOTATION_APPLIED_HASH,
    f"{names.GROUP}/key-hash",
)
_VOLATILE_STATUS = (
    "hash", "keyID", "publishedRevision", "runtimeRevision", "builtAt", "lastRotatedAt",
    "generation", "manifestSHA256", "prefix", "buildKey",
)  # fmt: skip
_VARYING = re.compile(r"revision [0-9a-f]{16}|sha256:[0-9a-f]{64}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_ABSENT = "nothing"


def _clean(obj: Object, kind: str) -> Object:
    out: Object = json.loads(_VARYING.sub("…", json.dumps(obj, ensure_ascii=False)))
    meta = out["metadata"]
    for name in _BOOKKEEPING:
        meta.pop(name, None)
    for name in _VOLATILE_ANNOTATIONS:
        meta.get("annotations", {}).pop(name, None)
    for entry in meta.get("ownerReferences") or []:
        entry.pop("uid", None)
    if kind == "ResourceQuota":
        out.pop("status", None)
    if kind == "Secret":
        out["data"] = sorted(out.get("data") or {})
    status = out.get("status")
    if isinstance(status, dict):
        for part in (status, *(status.get("knowledge") or []), *(status.get("previous") or [])):
            for name in _VOLATILE_STATUS:
                part.pop(name, None)
        for condition in status.get("conditions") or []:
            condition.pop("lastTransitionTime", None)
    return out


def _document(secret: Object) -> documents.TenantRuntime:
    data = base64.b64decode(secret["data"][names.DOCUMENT_KEY])
    meta = secret["metadata"]
    return documents.decode_tenant(data, document_name=meta["name"], label=meta["labels"][names.LABEL_TENANT])


def _plain_document(document: documents.TenantRuntime) -> Object:
    """What of a document must be the same; of keys and indexes that they are there."""
    out: Object = json.loads(documents.canonical(document))
    spec = out["spec"]
    spec["keys"] = sorted(
        (key["name"], key.get("owner", ""), bool(key.get("expiresAt"))) for key in spec.get("keys", ())
    )
    spec["indexes"] = [(index["name"], index["embedder"], index["dimension"]) for index in spec.get("indexes", ())]
    return out


class Snapshot:
    """Everything of ours in the cluster."""

    def __init__(self, world: World) -> None:
        self.objects: dict[Key, Object] = {}
        for kind in _KINDS:
            status, answer = world.call("GET", PATHS[kind].replace("/namespaces/{ns}", ""))
            assert status == 200, answer
            for item in answer["items"]:
                meta = item["metadata"]
                self.objects[kind, str(meta.get("namespace", "")), str(meta["name"])] = item
        self._inside: defaultdict[str, list[Key]] = defaultdict(list)
        for key in self.objects:
            self._inside[key[1]].append(key)

    def get(self, kind: str, name: str, ns: str = "") -> Object | None:
        """One object, ``None`` when it is not there."""
        return self.objects.get((kind, ns, name))

    def document(self, tenant: str) -> documents.TenantRuntime | None:
        """A tenant's published document, ``None`` when there is none."""
        secret = self.get("Secret", names.tenant_document_name(tenant), names.NAMESPACE_RUNTIME)
        return None if secret is None else _document(secret)

    def state(self, tenant: str) -> dict[str, Any]:
        """A tenant and all that belongs to it, with its name as ``@``."""
        ns = names.default_namespace(tenant)
        out: dict[str, Any] = {}
        for kind, name, place in (("Tenant", tenant, ""), ("Namespace", ns, ""), *self._of_namespace(ns)):
            found = self.get(kind, name, place)
            out[f"{kind} {name}"] = _ABSENT if found is None else _clean(found, kind)
        document = self.document(tenant)
        out["document"] = _ABSENT if document is None else _plain_document(document)
        plain: dict[str, Any] = json.loads(json.dumps(out, ensure_ascii=False).replace(tenant, "@"))
        return plain

    def _of_namespace(self, ns: str) -> list[Key]:
        own = {("ConfigMap", "kube-root-ca.crt")}
        return sorted((kind, name, place) for kind, place, name in self._inside[ns] if (kind, name) not in own)

    def problems(self) -> list[str]:
        """What must not be, whatever happened; empty when all is well."""
        return [*self._orphans(), *self._keys()]

    def _orphans(self) -> list[str]:
        tenants = {name for kind, _, name in self.objects if kind == "Tenant"}
        models = {names.model_document_name(ns, name) for kind, ns, name in self.objects if kind == "ModelDeployment"}
        wanted = {names.tenant_document_name(name) for name in tenants} | models
        found = []
        for kind, ns, name in self._inside[names.NAMESPACE_RUNTIME]:
            if kind == "Secret" and name not in wanted:
                found.append(f"document {name} of nobody")
            elif kind == "Secret" and name not in models:
                label = self.objects[kind, ns, name]["metadata"]["labels"].get(names.LABEL_TENANT)
                if names.tenant_document_name(str(label)) != name:
                    found.append(f"document {name} has the label of {label}")
        spaces: Counter[str] = Counter()
        for (kind, _, _name), obj in self.objects.items():
            if kind == "Namespace":
                spaces[obj["metadata"].get("labels", {}).get(names.LABEL_TENANT, "")] += 1
        found += [f"{count} namespaces of {label}" for label, count in spaces.items() if label and count > 1]
        return found

    def _keys(self) -> list[str]:
        """Per namespace: one Secret per live key and none beside, its text the one whose hash is published."""
        found = []
        everywhere: Counter[str] = Counter()
        for tenant in sorted(name for kind, _, name in self.objects if kind == "Tenant"):
            ns = names.default_namespace(tenant)
            live: dict[str, str] = {}
            for kind, name, place in self._of_namespace(ns):
                status = self.objects[kind, place, name].get("status") or {}
                if kind == names.KIND_API_KEY and status.get("hash") and not status.get("revokedAt"):
                    live[str(status["secretRef"]["name"])] = str(status["hash"])
            texts = {}
            for kind, name, place in self._of_namespace(ns):
                data = self.objects[kind, place, name].get("data") or {}
                if kind == "Secret" and names.SECRET_KEY_API_KEY in data:
                    texts[name] = keys.hash_key(base64.b64decode(data[names.SECRET_KEY_API_KEY]).decode())
            if texts != live:
                found.append(f"{tenant}: Secrets {sorted(texts)} are not those of its live keys {sorted(live)}")
            document = self.document(tenant)
            published = [] if document is None else [entry.hash for entry in document.spec.keys]
            if sorted(published) != sorted(live.values()):
                found.append(f"{tenant}: published hashes are not those of its live keys")
            everywhere.update(texts.values())
        return found + [f"{count} keys have one text" for count in everywhere.values() if count > 1]


def differences(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Entries of two states that differ: what was expected, what is."""
    return {
        key: (expected.get(key, _ABSENT), found.get(key, _ABSENT))
        for key in sorted({*expected, *found})
        if expected.get(key, _ABSENT) != found.get(key, _ABSENT)
    }
