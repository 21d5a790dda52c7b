"""Which kinds we read and write, and where the API server keeps them.

A fixed table instead of discovery: the operator's rights name each kind anyway, and a kind that is not here cannot be
written by mistake. Says nothing about whether the server serves a kind.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tenantplane_api.runtime import names

Manifest = dict[str, Any]
"""A Kubernetes object as plain JSON."""


class ObjectKey(NamedTuple):
    """Identity of an object by name; ``namespace`` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind and its place in the API."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``group/version``, or ``v1`` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path below the server's address; without ``namespace`` it spans all namespaces."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


_RBAC: Final = "rbac.authorization.k8s.io"

RESOURCES: Final[dict[str, Resource]] = {
    resource.kind: resource
    for resource in (
        Resource(names.GROUP, names.VERSION, names.KIND_TENANT, names.PLURAL_TENANTS, namespaced=False),
        Resource(names.GROUP, names.VERSION, names.KIND_API_KEY, names.PLURAL_API_KEYS),
        Resource(names.GROUP, names.VERSION, names.KIND_MODEL_DEPLOYMENT, names.PLURAL_MODEL_DEPLOYMENTS),
        Resource("", "v1", "Namespace", "namespaces", namespaced=False),
        Resource("", "v1", "ResourceQuota", "resourcequotas"),
        Resource("", "v1", "LimitRange", "limitranges"),
        Resource("", "v1", "ServiceAccount", "serviceaccounts"),
        Resource("", "v1", "ConfigMap", "configmaps"),
        Resource("", "v1", "Secret", "secrets"),
        Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
        Resource(_RBAC, "v1", "RoleBinding", "rolebindings"),
        Resource("batch", "v1", "Job", "jobs"),
        Resource("events.k8s.io", "v1", "Event", "events"),
        Resource("coordination.k8s.io", "v1", "Lease", "leases"),
    )
}


def resource_of(kind: str) -> Resource:
    """The table's row for a kind.

    Raises:
        KeyError: the operator does not handle this kind; that is a bug in a builder.
    """
    return RESOURCES[kind]


def key_of(manifest: Manifest) -> ObjectKey:
    """Identity of a manifest or of an object that the server sent."""
    meta = manifest["metadata"]
    return ObjectKey(str(manifest["kind"]), str(meta.get("namespace") or ""), str(meta["name"]))


def uid_of(obj: Manifest) -> str:
    """``metadata.uid``, empty for a manifest that was never stored."""
    return str(obj.get("metadata", {}).get("uid") or "")


def labels_of(obj: Manifest) -> dict[str, str]:
    """``metadata.labels``, never ``None``."""
    return dict(obj.get("metadata", {}).get("labels") or {})


def annotations_of(obj: Manifest) -> dict[str, str]:
    """``metadata.annotations``, never ``None``."""
    return dict(obj.get("metadata", {}).get("annotations") or {})


def is_deleting(obj: Manifest) -> bool:
    """True when deletion was requested and finalizers still hold the object."""
    return bool(obj.get("metadata", {}).get("deletionTimestamp"))
