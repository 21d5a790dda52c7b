"""Tenants of a standalone run, as the process itself tells of them; and what of the YAML it does not enforce."""

from __future__ import annotations

from typing import Final

from tenantplane_cli.status.view import View
from tenantplane_cli.up.state import State, running_or_fail, standalone_tenant

_FIELDS: Final = frozenset(
    {"reason", "message", "plan", "namespace", "revision", "conditions", "keys", "models", "assistants", "limits"}
)


def standalone_views(state: State, name: str | None) -> list[View]:
    """One tenant, or all when ``name`` is ``None``.

    Raises CliError: nothing runs there, or there is no such tenant.
    """
    running = running_or_fail(state)
    wanted = sorted(running.get("tenants") or {}) if name is None else [name]
    views = []
    for each in wanted:
        entry = standalone_tenant(running, each)
        views.append(
            View(
                name=each,
                ready=bool(entry["ready"]),
                tenant_id=str(entry["tenantID"]),
                display_name=str(entry.get("displayName", "")),
                endpoint=str(running.get("endpoint", "")),
                indices=list(entry.get("knowledge", [])),
                not_enforced=list(entry.get("notEnforced", [])),
                **{key: entry[key] for key in entry if key in _FIELDS},
            )
        )
    return views
