"""What is shown of one tenant, whatever it came from: a cluster, a tenant's own namespace, or a standalone run.

Guarantees: Ready is believed only when it speaks of the object's present generation; nothing secret is in a view. Does
not: read anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tenantplane_cli.keyobjects import condition, describe, is_true


@dataclass
class Child:
    """An object that belongs to the tenant. ``healthy``: ``None`` where there is nothing to be healthy about.

    ``warning``: it holds, and somebody should look at it all the same.
    """

    kind: str
    name: str
    healthy: bool | None
    text: str = ""
    details: list[str] = field(default_factory=list)
    warning: bool = False


@dataclass
class View:
    """One tenant; also the shape of the JSON output."""

    name: str
    ready: bool
    reason: str = ""
    message: str = ""
    display_name: str = ""
    plan: str = ""
    namespace: str = ""
    tenant_id: str = ""
    endpoint: str = ""
    revision: str = ""
    models_usable: str = ""
    suspended: bool = False
    conditions: list[dict[str, Any]] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    keys: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    indices: list[dict[str, Any]] = field(default_factory=list)
    assistants: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    not_enforced: list[str] = field(default_factory=list)
    not_readable: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


def view_of(tenant: dict[str, Any], keys: list[dict[str, Any]]) -> View:
    """From a Tenant object and its APIKey objects."""
    spec, status = tenant.get("spec") or {}, tenant.get("status") or {}
    effective = status.get("effective") or {}
    ready = condition(tenant, "Ready") or {"reason": "Waiting", "message": "the operator has not looked at it yet"}
    stalled = condition(tenant, "Stalled")
    shown = stalled if stalled is not None and stalled["status"] == "True" else ready
    reason, message = str(shown.get("reason", "")), str(shown.get("message", ""))
    if ready.get("status") == "True" and not is_true(tenant, "Ready"):
        reason, message = "Outdated", "the operator has not looked at the last change yet"
    if tenant["metadata"].get("deletionTimestamp"):
        reason = "Deleting"
    return View(
        name=tenant["metadata"]["name"],
        ready=is_true(tenant, "Ready"),
        reason=reason,
        message=message,
        display_name=spec.get("displayName", ""),
        plan=effective.get("plan", spec.get("plan", "")),
        namespace=status.get("namespace", ""),
        tenant_id=spec.get("tenantID", ""),
        endpoint=status.get("endpoint", ""),
        revision=status.get("runtimeRevision", ""),
        models_usable=status.get("modelsUsable", ""),
        suspended=bool(spec.get("suspend")),
        conditions=list(status.get("conditions") or ()),
        keys=[describe(key) for key in sorted(keys, key=lambda key: str(key["metadata"]["name"]))],
        models=list(effective.get("models") or ()),
        indices=list(status.get("knowledge") or ()),
        assistants=[item["name"] for item in spec.get("assistants") or ()],
        limits={name: effective[name] for name in ("requestsPerMinute", "concurrency") if name in effective},
    )
