"""What every object that we make carries, and the plain-dict type of objects.

Guarantees that an object built from ``metadata`` is recognised as ours (label ``tenant``) and is bound to the customer
rather than to the Tenant object (annotation ``tenant-id``), which is what survives a restore.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import TenantID, TenantName

Manifest = dict[str, Any]
"""A Kubernetes object as plain JSON-compatible data."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an object is."""

    name: TenantName
    tenant_id: TenantID


def metadata(
    owner: Owner,
    *,
    name: str,
    component: str,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """Metadata of an object of ours; our own labels and annotations win over ``labels`` and ``annotations``."""
    out: Manifest = {"name": name}
    if namespace is not None:
        out["namespace"] = namespace
    out["labels"] = {
        **(labels or {}),
        names.LABEL_TENANT: owner.name,
        names.LABEL_COMPONENT: component,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }
    out["annotations"] = {**(annotations or {}), names.ANNOTATION_TENANT_ID: owner.tenant_id}
    return out


def label(obj: Mapping[str, Any], key: str) -> str | None:
    """Value of an object's label; ``None`` when it has none."""
    return _entry(obj, "labels", key)


def annotation(obj: Mapping[str, Any], key: str) -> str | None:
    """Value of an object's annotation; ``None`` when it has none."""
    return _entry(obj, "annotations", key)


def _entry(obj: Mapping[str, Any], part: str, key: str) -> str | None:
    value = ((obj.get("metadata") or {}).get(part) or {}).get(key)
    return value if isinstance(value, str) else None


def is_terminating(obj: Mapping[str, Any]) -> bool:
    """True for an object that is being deleted."""
    return bool((obj.get("metadata") or {}).get("deletionTimestamp"))


def belongs_to(obj: Mapping[str, Any], owner: Owner) -> bool:
    """True when label and annotation both name ``owner``: the name alone may be reused by another customer."""
    return (
        label(obj, names.LABEL_TENANT) == owner.name and annotation(obj, names.ANNOTATION_TENANT_ID) == owner.tenant_id
    )
