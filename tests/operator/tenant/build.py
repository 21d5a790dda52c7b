"""Short builders of test objects: only what a test is about has to be written down."""

from collections.abc import Mapping, Sequence
from typing import Any

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform, parse_platform
from tenantplane_operator.tenant.manifest import Manifest, Owner
from tenantplane_operator.tenant.parse import ParsedTenant, parse_tenant

ACME = Owner(name=names.TenantName("acme"), tenant_id=names.TenantID("acme-0001"))
BETA = Owner(name=names.TenantName("beta"), tenant_id=names.TenantID("beta-0001"))

HASH_A = "sha256:" + "a" * 64
HASH_B = "sha256:" + "b" * 64


def platform(**sections: Any) -> Platform:
    """A Platform from YAML-like keywords: ``platform(operator={…}, shared={…})``."""
    return parse_platform(sections)


def tenant(
    name: str = "acme",
    *,
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
) -> Manifest:
    """A Tenant as the API server has it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_TENANT,
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "generation": 3,
            "creationTimestamp": created,
            "annotations": dict(annotations or {}),
        },
        "spec": {"tenantID": f"{name}-0001", **(spec or {})},
        **({"status": dict(status)} if status else {}),
    }


def parsed(name: str = "acme", **parts: Any) -> ParsedTenant:
    """A parsed Tenant; see ``tenant``."""
    return parse_tenant(tenant(name, **parts))


def namespace(
    name: str = "tenant-acme",
    *,
    owner: Owner | None = None,
    annotations: Mapping[str, str] | None = None,
    terminating: bool = False,
) -> Manifest:
    """A Namespace, ours when it has an owner."""
    labels = {names.LABEL_NAMESPACE_NAME: name}
    notes = dict(annotations or {})
    if owner is not None:
        labels[names.LABEL_TENANT] = owner.name
        notes[names.ANNOTATION_TENANT_ID] = owner.tenant_id
    metadata: dict[str, Any] = {"name": name, "labels": labels, "annotations": notes}
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def api_key(
    name: str = "default",
    *,
    digest: str | None = HASH_A,
    ours: Owner | None = None,
    ready: tuple[str, str] | None = ("True", "Ready"),
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    where: str = "tenant-acme",
) -> Manifest:
    """An APIKey with status; ``ours`` makes it one that the operator bootstrapped."""
    labels = {} if ours is None else {names.LABEL_TENANT: ours.name, names.LABEL_MANAGED_BY: names.MANAGED_BY}
    body: dict[str, Any] = {**(status or {})}
    if digest is not None:
        body = {"hash": digest, "keyID": "abcdefgh", **body}
    if ready is not None:
        body["conditions"] = [{"type": "Ready", "status": ready[0], "reason": ready[1]}]
    return {
        "metadata": {
            "name": name,
            "namespace": where,
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **(metadata or {}),
        },
        "spec": dict(spec or {}),
        "status": body,
    }


def model(
    key: str = "tenantplane-models/gpt",
    *,
    sharing: Mapping[str, Any] | None = None,
    available: tuple[str, str] | None = ("True", ""),
    deleting: bool = False,
) -> Manifest:
    """A ModelDeployment with status."""
    home, _, name = key.partition("/")
    conditions = (
        []
        if available is None
        else [{"type": "Available", "status": available[0], "reason": "Any", "message": available[1]}]
    )
    metadata = {"name": name, "namespace": home, **({"deletionTimestamp": "now"} if deleting else {})}
    return {
        "metadata": metadata,
        "spec": {"engine": {"type": "Extractive"}, "sharing": dict(sharing or {})},
        "status": {"conditions": conditions},
    }


def by_name(manifests: Sequence[Manifest]) -> dict[str, Manifest]:
    """Manifests by ``Kind/name``."""
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in manifests}
