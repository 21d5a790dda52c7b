"""How a tenant is printed: a tree for one, a table for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tenantplane_cli.output import clean, console, one_line
from tenantplane_cli.status.view import Child, View

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_SUMMARY: Final = ("Ready", "Stalled", "Reconciling", "Suspended")
_MARKS: Final = {True: "✓ ", False: "✗ ", None: ""}
_STYLES: Final = {True: "green", False: "red", None: ""}
_WARNING: Final = "yellow"


def print_table(views: list[View]) -> None:
    """All tenants in short."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("TENANT", "READY", "REASON", "PLAN", "NAMESPACE", "MODELS", "ENDPOINT"):
        table.add_column(column, overflow="fold")
    for view in views:
        reason = "Suspended" if view.suspended and view.ready else view.reason
        ready = "yes" if view.ready else "no"
        cells = (view.name, ready, reason, view.plan, view.namespace, view.models_usable, view.endpoint)
        table.add_row(*(clean(cell or "-") for cell in cells))
    console().print(table)


def print_tree(view: View) -> None:
    """One tenant with all that belongs to it."""
    console().print(tree_of(view))


def tree_of(view: View) -> Tree:
    """The tree."""
    from rich.tree import Tree

    told = f": {view.message}" if view.message and not view.ready else ""
    head = f"tenant {view.name} ({view.display_name or view.tenant_id}): " + ("Ready" if view.ready else view.reason)
    tree = Tree(_line(head + (", suspended" if view.suspended else "") + told, view.ready))
    shown = [item for item in view.conditions if item["type"] not in _SUMMARY]
    _branch(tree, "conditions", [_condition_line(item) for item in shown])
    if view.children:
        node = tree.add(_line("objects", None))
        for child in view.children:
            _child(node, child)
    _branch(tree, "keys", [(_key_line(key), _key_health(key)) for key in view.keys])
    _branch(tree, "models", [_model_line(item) for item in view.models])
    _branch(tree, "indices", [_index_line(item) for item in view.indices])
    _branch(tree, "assistants", [(f"assistant/{name}", None) for name in view.assistants])
    facts = {
        "plan": view.plan,
        "namespace": view.namespace,
        "limits": ", ".join(f"{name} {value}" for name, value in view.limits.items()),
        "endpoint": view.endpoint,
        "revision": view.revision,
    }
    _branch(tree, "in force", [(f"{name}: {value}", None) for name, value in facts.items() if value])
    _branch(tree, "last events", [(text, None) for text in view.events])
    _branch(tree, "not enforced without Kubernetes", [(text, None) for text in view.not_enforced])
    _branch(tree, "you may not read", [(text, None) for text in view.not_readable])
    return tree


def _line(text: str, good: bool | None, *, warning: bool = False) -> Text:
    from rich.text import Text

    mark = "! " if warning else _MARKS[good]
    return Text(mark + clean(text), style=_WARNING if warning else _STYLES[good])


def _branch(tree: Tree, title: str, lines: list[tuple[str, bool | None]]) -> None:
    if lines:
        node = tree.add(_line(title, None))
        for text, good in lines:
            node.add(_line(text, good))


def _child(node: Tree, child: Child) -> None:
    text = f"{child.kind} {child.name}" + (f": {child.text}" if child.text else "")
    inner = node.add(_line(text, child.healthy, warning=child.warning))
    for detail in child.details:
        inner.add(_line(detail.removeprefix("! "), None, warning=detail.startswith("! ")))


def _condition_line(item: dict[str, Any]) -> tuple[str, bool]:
    text = f"{item['type']}: {item['reason']}"
    if item.get("message"):
        text += f" ({one_line(str(item['message']))})"
    return text, item["status"] == "True"


def _key_health(key: dict[str, Any]) -> bool | None:
    # Somebody wanted these so.
    return None if key["state"] in ("Revoked", "Expired") else key["state"] == "Ready"


def _key_line(key: dict[str, Any]) -> str:
    parts = [key["name"], key["keyID"] or "no key yet", key["state"]]
    if key["expiresAt"]:
        parts.append(f"expires {key['expiresAt']}")
    if key["owner"]:
        parts.append(f"owner {key['owner']}")
    if key.get("nextRotationAt"):
        parts.append(f"next rotation {key['nextRotationAt']}")
    parts += [
        f"{old['keyID'] or 'the one before'} works until {old['acceptedUntil']}" for old in key.get("previous", ())
    ]
    if key.get("message") and key["state"] not in ("Ready", "Revoked"):
        parts.append(one_line(str(key["message"])))
    return ", ".join(str(part) for part in parts)


def _model_line(item: dict[str, Any]) -> tuple[str, bool]:
    behind = f" -> {item['model']}" if item.get("model") else ""
    return f"{item['alias']}{behind}" + ("" if item["usable"] else ": not usable"), bool(item["usable"])


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
