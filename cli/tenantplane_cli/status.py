"""`tenantplane status`: what the operator says about a tenant, as a tree; exit code 0 only when it is Ready.

Guarantees: Ready is believed only when it speaks of the object's present generation. Does not: ask the data plane; with
a state folder it shows what the standalone process says of itself, and what of the YAML that process does not enforce.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer

from tenantplane_cli.keys import NamespaceOption, condition, describe, is_true
from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption
from tenantplane_cli.output import EXIT_FAILED, CliError, Format, OutputOption, clean, console, one_line, print_json
from tenantplane_cli.up.state import State, StateOption, choose, running_or_fail, standalone_tenant

_POLL_SECONDS: Final = 0.5
_SUMMARY: Final = ("Ready", "Stalled", "Reconciling", "Suspended")


@dataclass
class View:
    """What is shown of one tenant, whatever it came from; also the shape of the JSON output."""

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
    conditions: list[dict[str, Any]] = field(default_factory=list)
    keys: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    indices: list[dict[str, Any]] = field(default_factory=list)
    assistants: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    last_event: str = ""
    not_enforced: list[str] = field(default_factory=list)


def command(
    tenant: Annotated[str | None, typer.Argument(help="Name of the Tenant; all in short when left out.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for Ready.", min=0)] = 0.0,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show a tenant's state as a tree. Exit code 0 only when it is Ready."""
    standalone = choose(state, cluster_named=bool(kubeconfig or context))
    if standalone is not None:
        views = _until(lambda: _standalone(standalone, tenant), wait)
    else:
        from tenantplane_cli.kube import Kube

        with Kube(kubeconfig, context) as kube:
            views = _until(lambda: _cluster(kube, tenant, namespace), wait)
    if output is Format.JSON:
        values = [vars(view) for view in views]
        print_json(values[0] if tenant is not None else values)
    elif tenant is None:
        _print_list(views)
    else:
        _print_tree(views[0])
    if not all(view.ready for view in views):
        sys.exit(EXIT_FAILED)


def _until(look: Any, wait: float) -> list[View]:
    deadline = time.monotonic() + wait
    while True:
        views: list[View] = look()
        if all(view.ready for view in views) or time.monotonic() >= deadline:
            return views
        time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def view_of(tenant: dict[str, Any], keys: list[dict[str, Any]], last_event: str = "") -> View:
    """From a Tenant object and its APIKey objects."""
    spec, status = tenant.get("spec") or {}, tenant.get("status") or {}
    effective = status.get("effective") or {}
    ready = condition(tenant, "Ready") or {"reason": "Waiting", "message": "the operator has not looked at it yet"}
    stalled = condition(tenant, "Stalled")
    shown = stalled if stalled is not None and stalled["status"] == "True" else ready
    return View(
        name=tenant["metadata"]["name"],
        ready=is_true(tenant, "Ready"),
        reason=str(shown.get("reason", "")),
        message=str(shown.get("message", "")),
        display_name=spec.get("displayName", ""),
        plan=effective.get("plan", spec.get("plan", "")),
        namespace=status.get("namespace", ""),
        tenant_id=spec.get("tenantID", ""),
        endpoint=status.get("endpoint", ""),
        revision=status.get("runtimeRevision", ""),
        conditions=list(status.get("conditions") or ()),
        keys=[describe(key) for key in keys],
        models=list(effective.get("models") or ()),
        indices=list(status.get("knowledge") or ()),
        assistants=[item["name"] for item in spec.get("assistants") or ()],
        limits={name: effective[name] for name in ("requestsPerMinute", "concurrency") if name in effective},
        last_event=last_event,
    )


def _cluster(kube: Any, name: str | None, namespace: str | None) -> list[View]:
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import FORBIDDEN, KubeError, api_keys_path, namespace_of, tenant_path

    if name is None:
        return [view_of(item, []) for item in kube.items(f"/apis/{names.API_VERSION}/{names.PLURAL_TENANTS}")]
    try:
        tenant = kube.get(tenant_path(name))
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        return [_from_namespace(kube, name, namespace or names.default_namespace(name))]
    try:
        keys = kube.items(api_keys_path(namespace or namespace_of(tenant)))
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        keys = []
    return [view_of(tenant, keys, _last_event(kube, tenant))]


def _from_namespace(kube: Any, name: str, namespace: str) -> View:
    """What the operator leaves in the tenant's namespace for its own people, who may not read Tenants."""
    import yaml

    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import api_keys_path, config_map_path

    data = kube.get(config_map_path(namespace, names.CHILD_STATUS_CONFIG_MAP)).get("data") or {}
    try:
        told = {
            key: yaml.safe_load(data.get(key) or "[]") for key in ("models", "assistants", "knowledge", "conditions")
        }
        effective = yaml.safe_load(data.get("effective") or "{}")
    except yaml.YAMLError:
        raise CliError(f"ConfigMap {namespace}/{names.CHILD_STATUS_CONFIG_MAP} is damaged") from None
    tenant = {
        "metadata": {"name": data.get("tenant", name)},
        "spec": {
            "displayName": data.get("displayName", ""),
            "assistants": [{"name": each} for each in told["assistants"]],
        },
        "status": {
            "namespace": namespace,
            "endpoint": data.get("endpoint", ""),
            "effective": {**effective, "models": told["models"]},
            "knowledge": told["knowledge"],
            "conditions": told["conditions"],
        },
    }
    return view_of(tenant, kube.items(api_keys_path(namespace)))


def _last_event(kube: Any, tenant: dict[str, Any]) -> str:
    """The newest event about the Tenant; empty for who may not read events."""
    from tenantplane_cli.kube import KubeError

    selector = f"regarding.kind=Tenant,regarding.name={tenant['metadata']['name']}"
    try:
        # Events about cluster-scoped objects lie in the namespace `default`.
        found = kube.get("/apis/events.k8s.io/v1/namespaces/default/events", {"fieldSelector": selector})
    except KubeError:
        return ""
    events = found.get("items") or []
    if not events:
        return ""
    newest = max(events, key=lambda event: str(_event_time(event)))
    return one_line(
        f"{_event_time(newest)} {newest.get('type', '')} {newest.get('reason', '')}: {newest.get('note', '')}"
    )


def _event_time(event: dict[str, Any]) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime") or event.get("eventTime") or event["metadata"].get("creationTimestamp", "")
    )


def _standalone(state: State, name: str | None) -> list[View]:
    running = running_or_fail(state)
    wanted = sorted(running.get("tenants") or {}) if name is None else [name]
    views = []
    for each in wanted:
        entry = standalone_tenant(running, each)
        fields = {key: entry[key] for key in entry if key in _STANDALONE}
        views.append(
            View(
                name=each,
                ready=bool(entry["ready"]),
                tenant_id=str(entry["tenantID"]),
                display_name=str(entry.get("displayName", "")),
                endpoint=str(running.get("endpoint", "")),
                indices=list(entry.get("knowledge", [])),
                not_enforced=list(entry.get("notEnforced", [])),
                **fields,
            )
        )
    return views


_STANDALONE: Final = frozenset(
    {"reason", "message", "plan", "namespace", "revision", "conditions", "keys", "models", "assistants", "limits"}
)


def _print_list(views: list[View]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("TENANT", "READY", "REASON", "PLAN", "NAMESPACE", "ENDPOINT"):
        table.add_column(column, overflow="fold")
    for view in views:
        cells = (view.name, "yes" if view.ready else "no", view.reason, view.plan, view.namespace, view.endpoint)
        table.add_row(*(clean(cell or "-") for cell in cells))
    console().print(table)


def _print_tree(view: View) -> None:
    from rich.text import Text
    from rich.tree import Tree

    def line(text: str, good: bool | None = None) -> Text:
        mark = {True: "✓ ", False: "✗ ", None: ""}[good]
        return Text(mark + clean(text), style={True: "green", False: "red", None: ""}[good])

    def branch(title: str, lines: list[tuple[str, bool | None]]) -> None:
        if lines:
            node = tree.add(line(title))
            for text, good in lines:
                node.add(line(text, good))

    told = f": {view.message}" if view.message and not view.ready else ""
    head = f"tenant {view.name} ({view.display_name or view.tenant_id}): " + ("Ready" if view.ready else view.reason)
    tree = Tree(line(head + told, view.ready))
    branch("conditions", [_condition_line(item) for item in view.conditions if item["type"] not in _SUMMARY])
    branch("keys", [(_key_line(key), key["state"] == "Ready") for key in view.keys])
    branch("models", [_model_line(item) for item in view.models])
    branch("indices", [_index_line(item) for item in view.indices])
    branch("assistants", [(f"assistant/{name}", None) for name in view.assistants])
    facts = {
        "plan": view.plan,
        "namespace": view.namespace,
        "limits": ", ".join(f"{name} {value}" for name, value in view.limits.items()),
        "endpoint": view.endpoint,
        "revision": view.revision,
        "last event": view.last_event,
    }
    branch("in force", [(f"{name}: {value}", None) for name, value in facts.items() if value])
    branch("not enforced without Kubernetes", [(text, None) for text in view.not_enforced])
    console().print(tree)


def _condition_line(item: dict[str, Any]) -> tuple[str, bool]:
    text = f"{item['type']}: {item['reason']}"
    if item.get("message"):
        text += f" ({one_line(str(item['message']))})"
    return text, item["status"] == "True"


def _key_line(key: dict[str, Any]) -> str:
    parts = [key["name"], key["keyID"] or "no key yet", key["state"]]
    if key["expiresAt"]:
        parts.append(f"expires {key['expiresAt']}")
    if key["owner"]:
        parts.append(f"owner {key['owner']}")
    return ", ".join(str(part) for part in parts)


def _model_line(item: dict[str, Any]) -> tuple[str, bool]:
    behind = f" -> {item['model']}" if item.get("model") else ""
    return f"{item['alias']}{behind}", bool(item["usable"])


def _index_line(item: dict[str, Any]) -> tuple[str, bool]:
    if not item.get("builtAt"):
        return f"{item['name']}: not built yet. {item.get('message', '')}".strip(), False
    text = f"{item['name']}: {item.get('documents', 0)} documents, {item.get('chunks', 0)} chunks"
    if item.get("generation"):
        text += f", generation {item['generation'][:12]}"
    text += f", built {item['builtAt']}"
    if item.get("failedBuildKey") and item.get("message"):
        return f"{text}; the last rebuild failed: {one_line(str(item['message']))}", True
    return text, True
