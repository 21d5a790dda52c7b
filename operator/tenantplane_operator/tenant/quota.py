"""ResourceQuota and LimitRange of a tenant's namespace.

Guarantees that counts leave room for the objects that we put there ourselves, beyond what the tenant was given: a full
quota would otherwise refuse the operator's own Secret and starve the very thing that the tenant needs. A tenant that
fills that room too can still be in our way until it deletes something; Kubernetes cannot reserve a part of a quota.
A count of our own kinds is left out until Kubernetes counts them, because until then it refuses every one of them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from decimal import ROUND_FLOOR
from typing import Any, Final

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import limits as bounds
from tenantplane_api.runtime import names
from tenantplane_operator.tenant import containers, manifest
from tenantplane_operator.tenant.manifest import Manifest, Owner, metadata
from tenantplane_operator.tenant.quantity import parse_quantity, raise_count

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

_WHOLE: Final = frozenset(
    {"pods", "services", "services.loadbalancers", "services.nodeports", "secrets", "configmaps"}
    | {"persistentvolumeclaims", "replicationcontrollers", "resourcequotas"}
)
_OUR_KINDS: Final = f".{names.GROUP}"


def whole_counts(quota: Mapping[str, str], own: Iterable[str], *, plan_name: str) -> tuple[dict[str, str], list[str]]:
    """The entries with counts of objects as whole numbers, and what was wrong with them.

    Args:
        quota: plan and Tenant merged.
        own: entries that the Tenant itself sets, to tell whose a wrong one is.
        plan_name: of the plan in force.

    A fraction is lowered to the whole below it: the API server takes none, and would leave the namespace unbounded.
    """
    named = frozenset(own)
    out, problems = dict(quota), []
    for entry, value in quota.items():
        number = parse_quantity(value)
        if _is_count(entry) and number != number.to_integral_value():
            out[entry] = str(int(number.to_integral_value(rounding=ROUND_FLOOR)))
            where = "spec.quota" if entry in named else f"plan {plan_name}: quota"
            problems.append(
                f"{where}.{entry}: {value} is not a whole number of objects; {out[entry]} is enforced instead"
            )
    return out, problems


def _is_count(entry: str) -> bool:
    return (
        entry in _WHOLE
        or entry.startswith("count/")
        or entry.endswith(
            (".storageclass.storage.k8s.io/persistentvolumeclaims", ".deviceclass.resource.k8s.io/devices")
        )
    )


def without_defaults(quota: Mapping[str, str], limits: Mapping[str, Mapping[str, str]]) -> str:
    """What the quota bounds although a container that does not state it gets none; empty when nothing.

    No fault, but a surprise: Kubernetes then refuses pods that do not state cpu or memory, and counts ephemeral storage
    that nobody stated as none.
    """
    refused, uncounted = [], []
    for entry in sorted(quota):
        part, dot, resource = entry.partition(".")
        if not dot:
            part, resource = "requests", entry
        if part not in ("requests", "limits") or containers.has_default(limits, part, resource):
            continue
        if resource in ("cpu", "memory"):
            refused.append(entry)
        elif resource == "ephemeral-storage":
            uncounted.append(entry)
    told = []
    if refused:
        told.append(f"pods that do not state {', '.join(refused)} are refused")
    if uncounted:
        told.append(f"{', '.join(uncounted)} of containers that do not state it counts as none")
    return f"{'; '.join(told)}: the quota bounds it, containerLimits has no default for it" if told else ""


def secrets_of_keys(bootstrap: Iterable[Manifest], observed: Collection[Mapping[str, Any]]) -> int:
    """How many Secrets of API keys the namespace holds or is about to hold.

    A key that the tenant's admin makes gets its Secret from us as well; one that is taken from the admin's own Secret
    does not, and one that ended has none any more: APIKeys that pile up buy the tenant no room for Secrets of its own.
    Bounded like the keys that a tenant can use at all. One more, because a Secret that is replaced at a rotation is
    still counted for a moment after it is gone.
    """
    generated = {str(key["metadata"]["name"]) for key in bootstrap}
    generated |= {
        str(obj["metadata"]["name"])
        for obj in observed
        if not (obj.get("spec") or {}).get("valueFrom") and not manifest.is_terminating(obj)
    }
    generated -= {str(obj["metadata"]["name"]) for obj in observed if _ended(obj)}
    return min(len(generated), bounds.RUNTIME_KEYS_MAX) + bool(generated)


def _ended(key: Mapping[str, Any]) -> bool:
    """True for an APIKey that is revoked or expired and has no Secret any more, nor gets one."""
    status = key.get("status") or {}
    ready: Mapping[str, Any] = next(
        (c for c in status.get("conditions") or [] if c.get("type") == ConditionType.READY), {}
    )
    return ready.get("reason") in (Reason.REVOKED, Reason.EXPIRED) and not status.get("secretRef")


def objects_of_ours(manifests: Iterable[Manifest], *, secrets: int) -> Counter[str]:
    """How many objects of each kind we put into the namespace, given the other manifests for it.

    Adds what is made without standing in the list: the quota itself, the status ConfigMap, ``secrets`` of API keys.
    """
    ours = Counter(str(item["kind"]) for item in manifests)
    ours += Counter({"ResourceQuota": 1, "ConfigMap": 1, "Secret": secrets})
    return ours + _FROM_KUBERNETES


def with_room(quota: Mapping[str, str], ours: Mapping[str, int]) -> dict[str, str]:
    """The quota's entries with the counts raised by what is ours; other entries as they are."""
    room = {entry: ours.get(kind, 0) for kind, entries in _COUNTED.items() for entry in entries}
    return {
        entry: raise_count(value, room[entry]) if room.get(entry) else value for entry, value in sorted(quota.items())
    }


def countable(quota: Mapping[str, str], *, own_kinds: bool) -> dict[str, str]:
    """The entries that Kubernetes can count now."""
    return {
        entry: value
        for entry, value in quota.items()
        if own_kinds or not (entry.startswith("count/") and entry.endswith(_OUR_KINDS))
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
