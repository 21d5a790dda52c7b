"""ResourceQuota and LimitRange of a tenant's namespace.

Guarantees that counts leave room for the objects that we put there ourselves, beyond what the tenant was given: a full
quota would otherwise refuse the operator's own Secret and starve the very thing that the tenant needs. A tenant that
fills that room too can still be in our way until it deletes something; Kubernetes cannot reserve a part of a quota.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from tenantplane_api.runtime import names
from tenantplane_operator.tenant.manifest import Manifest, Owner, metadata
from tenantplane_operator.tenant.quantity import raise_count

_COUNTED: Final[Mapping[str, tuple[str, ...]]] = {
    "Secret": ("secrets", "count/secrets"),
    "ConfigMap": ("configmaps", "count/configmaps"),
    "ServiceAccount": ("count/serviceaccounts",),
    "ResourceQuota": ("resourcequotas", "count/resourcequotas"),
    "LimitRange": ("count/limitranges",),
    "NetworkPolicy": ("count/networkpolicies.networking.k8s.io",),
    "RoleBinding": ("count/rolebindings.rbac.authorization.k8s.io",),
    "APIKey": ("count/apikeys.tenantplane.dev",),
}
"""Kind of object: the quota entries that count it."""

_FROM_KUBERNETES: Final = Counter({"ConfigMap": 1})
"""What the cluster itself puts into every namespace: ``kube-root-ca.crt``. (``default`` is among ours.)"""


def objects_of_ours(manifests: Iterable[Manifest]) -> Counter[str]:
    """How many objects of each kind we put into the namespace, given the other manifests for it.

    Adds what is made without standing in the list: the quota itself, the status ConfigMap, a Secret for each APIKey.
    """
    ours = Counter(str(manifest["kind"]) for manifest in manifests)
    ours += Counter({"ResourceQuota": 1, "ConfigMap": 1, "Secret": ours["APIKey"]})
    return ours + _FROM_KUBERNETES


def with_room(quota: Mapping[str, str], ours: Mapping[str, int]) -> dict[str, str]:
    """The quota's entries with the counts raised by what is ours; other entries as they are."""
    room = {entry: ours.get(kind, 0) for kind, entries in _COUNTED.items() for entry in entries}
    return {
        entry: raise_count(value, room[entry]) if room.get(entry) else value for entry, value in sorted(quota.items())
    }


def resource_quota(
    owner: Owner, namespace: str, *, quota: Mapping[str, str], ours: Mapping[str, int]
) -> Manifest | None:
    """The ResourceQuota; ``None`` when neither plan nor Tenant bounds anything."""
    if not quota:
        return None
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": metadata(owner, name=names.CHILD_QUOTA, namespace=namespace, component=names.COMPONENT_FENCE),
        "spec": {"hard": with_room(quota, ours)},
    }


def limit_range(owner: Owner, namespace: str, *, limits: Mapping[str, Mapping[str, str]]) -> Manifest | None:
    """The LimitRange for containers; ``None`` when there is nothing to say.

    ``limits`` has the keys ``default``, ``defaultRequest``, ``max`` and ``min``; each a resource to quantity map.
    """
    item = {
        key: dict(sorted(limits[key].items())) for key in ("default", "defaultRequest", "max", "min") if limits.get(key)
    }
    if not item:
        return None
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": metadata(owner, name=names.CHILD_LIMIT_RANGE, namespace=namespace, component=names.COMPONENT_FENCE),
        "spec": {"limits": [{"type": "Container", **item}]},
    }
