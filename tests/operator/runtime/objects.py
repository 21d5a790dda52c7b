"""Builders of small objects for the runtime's tests."""

from typing import Any

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.resources import Manifest


def obj(
    kind: str = "ConfigMap",
    name: str = "a",
    *,
    ns: str = "ns",
    uid: str = "u1",
    version: int | str = 1,
    tenant: str | None = "acme",
    **rest: Any,
) -> Manifest:
    """An object as the API server would send it."""
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_COMPONENT: names.COMPONENT_FENCE}
    if tenant is not None:
        labels[names.LABEL_TENANT] = tenant
    meta: dict[str, Any] = {"name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}
    if ns:
        meta["namespace"] = ns
    meta |= rest.pop("metadata", {})
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **rest}
