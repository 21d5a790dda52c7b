"""NetworkPolicies and RoleBindings in tenants' namespaces that are not ours: they were there before the fence.

NetworkPolicies and RoleBindings add up, so what the earlier owner of an adopted namespace left there opens what ours
close; afterwards the tenant fence lets nobody make more. They are not ours to delete: they are told of, with their
names. Pure. Judges no RoleBinding: what it gives may be meant.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_operator.runtime.resources import Manifest, key_of, labels_of
from tenantplane_operator.tenant.concern import Concern, clip, failed, ok

LOOK_AGAIN: Final = 30.0
"""Seconds between two looks into a namespace in which something was found."""
KINDS: Final = ("NetworkPolicy", "RoleBinding")
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Strangers:
    """Names in one namespace. ``policies`` are those that open something; a denial more harms nobody."""

    policies: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.policies or self.bindings)


NONE: Final = Strangers()


def is_strange(obj: Manifest) -> bool:
    """True for an object that is not ours and gives somebody something."""
    labels = labels_of(obj)
    if labels.get(names.LABEL_TENANT) and labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY:
        return False
    spec = obj.get("spec") or {}
    return obj["kind"] != "NetworkPolicy" or bool(spec.get("ingress") or spec.get("egress"))


def sorted_out(objects: Iterable[Manifest]) -> dict[str, Strangers]:
    """The strange ones by namespace."""
    found: defaultdict[str, dict[str, list[str]]] = defaultdict(lambda: {kind: [] for kind in KINDS})
    for obj in objects:
        if is_strange(obj):
            key = key_of(obj)
            found[key.namespace][key.kind].append(key.name)
    return {
        space: Strangers(tuple(sorted(kinds["NetworkPolicy"])), tuple(sorted(kinds["RoleBinding"])))
        for space, kinds in found.items()
    }


def with_strangers(concerns: Mapping[ConditionType, Concern], found: Strangers) -> dict[ConditionType, Concern]:
    """The concerns, with what was found; what is wrong otherwise is told first."""
    out = dict(concerns)
    if found.policies and out[ConditionType.NETWORK_READY].ok:
        out[ConditionType.NETWORK_READY] = failed(
            Reason.FOREIGN_POLICIES,
            clip(
                f"NetworkPolicies {_listed(found.policies)} in the namespace are not this Tenant's and may open its "
                "fence: delete them, and write what shall be open into spec.network"
            ),
        )
    access = out[ConditionType.ACCESS_READY]
    if found.bindings and access.ok:
        told = (
            f"RoleBindings {_listed(found.bindings)} in the namespace are not this Tenant's: delete what is not meant"
        )
        out[ConditionType.ACCESS_READY] = ok(
            access.reason, clip(f"{access.message}; {told}" if access.message else told)
        )
    return out


def _listed(found: tuple[str, ...]) -> str:
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
