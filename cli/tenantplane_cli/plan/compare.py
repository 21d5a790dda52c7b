"""From what is to be and what is there to changes: whether the operator would write, and what would come of it.

Guarantees: an object counts as changed exactly when the operator's own comparison says that it must be applied *and*
something other than bookkeeping comes out different. The outcome is what the API server answers to a dry run of the
operator's apply; where the person may not ask for that, it is computed here from the live object's managed fields.
Nothing secret is in a change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel

from tenantplane_api.crd.apikey import APIKeySpec
from tenantplane_api.crd.modeldeployment import ModelDeploymentSpec
from tenantplane_api.crd.tenant import TenantSpec
from tenantplane_api.runtime import names
from tenantplane_cli.plan.known import Known
from tenantplane_cli.plan.predict import HIDDEN, MARK, Outlook, Wanted, redacted
from tenantplane_operator.runtime.compare import covers, differs, explicit, with_hash
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of

_SPECS: Final[dict[str, type[BaseModel]]] = {
    names.KIND_TENANT: TenantSpec,
    names.KIND_API_KEY: APIKeySpec,
    names.KIND_MODEL_DEPLOYMENT: ModelDeploymentSpec,
}
_BOOKKEEPING: Final = frozenset(
    {"managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "finalizers"}
)
_NOT_SHOWN: Final = frozenset(
    {names.ANNOTATION_APPLIED_HASH, names.ANNOTATION_KEY_HASH, "kubectl.kubernetes.io/last-applied-configuration"}
)
_WHOLE: Final = {"NetworkPolicy": ("spec",), "RoleBinding": ("subjects", "roleRef")}
"""Fields that the operator's apply replaces as a whole."""


class Action(StrEnum):
    """What would happen to an object; ``UNKNOWN``: there was nothing to compare with."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Change:
    """One object before and after, as it may be shown."""

    action: Action
    key: ObjectKey
    before: Manifest | None = None
    after: Manifest | None = None
    note: str = ""

    @property
    def counts(self) -> bool:
        """True when something would change."""
        return self.action in (Action.CREATE, Action.UPDATE, Action.DELETE)


@dataclass
class Plan:
    """Everything about one object of the file."""

    outlook: Outlook
    changes: list[Change] = field(default_factory=list)


def compare(obj: Manifest, outlook: Outlook, known: Known) -> Plan:
    """The changes that follow from one object of the file; its own comes first."""
    plan = Plan(outlook)
    if known.online:
        plan.changes.append(_own(obj, known))
        refused = known.facts.check(obj, known.live(obj))
        if refused is not None:
            outlook.stalled.append(f"the API server refuses it: {refused}")
    plan.changes += [_child(wanted, known, outlook) for wanted in outlook.wanted]
    if known.online:
        plan.changes += [_deletion(key, known) for key in outlook.doomed]
    return plan


def _own(obj: Manifest, known: Known) -> Change:
    """The object of the file itself: the file is the whole truth about its spec."""
    key, live = key_of(obj), known.live(obj)
    after = _subject(obj)
    if live is None:
        return Change(Action.CREATE, key, None, after)
    before = _subject({**live, "apiVersion": obj["apiVersion"], "kind": obj["kind"]})
    for part in ("labels", "annotations"):
        wanted = after["metadata"].get(part) or {}
        have = before["metadata"].pop(part, None) or {}
        # What others put there stays and is no news.
        before["metadata"][part] = {name: value for name, value in have.items() if name in wanted}
    return Change(Action.NONE if _same(before, after) else Action.UPDATE, key, _tidy(before), _tidy(after))


def _subject(obj: Manifest) -> Manifest:
    model = _SPECS[str(obj["kind"])].model_validate(obj.get("spec") or {})
    meta = obj["metadata"]
    kept = {name: meta[name] for name in ("name", "namespace", "labels", "annotations") if meta.get(name)}
    for part in ("labels", "annotations"):
        if part in kept:
            kept[part] = {name: value for name, value in kept[part].items() if name not in _NOT_SHOWN}
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": kept,
        "spec": model.model_dump(mode="json", by_alias=True, exclude_defaults=True),
    }


def _child(wanted: Wanted, known: Known, outlook: Outlook) -> Change:
    manifest, key = wanted.manifest, key_of(wanted.manifest)
    if not known.online:
        return Change(Action.UNKNOWN, key, None, _printable(wanted))
    live = known.facts.get(key)
    if wanted.document is not None:
        return _document(wanted, key, live, known)
    if wanted.once:
        return Change(Action.NONE if live else Action.CREATE, key, None, _printable(wanted))
    if live is None:
        if not known.facts.may_read(key):
            return Change(Action.UNKNOWN, key, None, shown(manifest), "not compared: you may not read it")
        return Change(Action.CREATE, key, None, shown(manifest))
    filled = _filled(manifest, live)
    desired = with_hash(explicit(filled))
    before = shown(live)
    if not differs(desired, live):
        return Change(Action.NONE, key, before, before)
    tried = known.facts.try_apply(desired)
    if tried.refused:
        outlook.stalled.append(f"the API server refuses {key}: {tried.refused}")
    if tried.note:
        outlook.notes.append(f"{key}: {tried.note}")
    after = shown(tried.after if tried.after is not None else applied(desired, live))
    return Change(Action.NONE if _same(before, after) else Action.UPDATE, key, before, after)


def _filled(manifest: Manifest, live: Manifest) -> Manifest:
    """The manifest with the live values of what only the running operator knows."""
    if manifest["kind"] != "ConfigMap":
        return manifest
    have = live.get("data") or {}
    data = {key: have.get(key, value) if value == MARK else value for key, value in manifest["data"].items()}
    return {**manifest, "data": data}


def _document(wanted: Wanted, key: ObjectKey, live: Manifest | None, known: Known) -> Change:
    """A runtime document: told apart by its revision; read only when that differs, and by who may."""
    after = _printable(wanted)
    if live is not None:
        standing = (live["metadata"].get("annotations") or {}).get(names.ANNOTATION_REVISION)
    else:
        standing = None if known.facts.may_read(key) else wanted.standing
    if standing is None:
        return Change(Action.CREATE, key, None, after)
    if wanted.revision is not None and wanted.revision == standing:
        return Change(Action.NONE, key, after, after)
    published = known.facts.document(key.name)
    if published is None:
        if wanted.revision is None:
            return Change(Action.UNKNOWN, key, None, after, "not compared: it holds a credential that is not read here")
        note = f"revision {standing} becomes {wanted.revision}; you may not read what is published, so no diff"
        return Change(Action.UPDATE, key, None, after, note)
    was = _envelope(wanted.manifest, redacted(published), revision=str(standing))
    if wanted.revision is None:
        after = _envelope(wanted.manifest, wanted.document or {}, revision=str(standing))
    return Change(Action.NONE if _same(was, after) else Action.UPDATE, key, was, after)


def _envelope(manifest: Manifest, document: dict[str, Any], *, revision: str) -> Manifest:
    out = shown(manifest)
    out["metadata"]["annotations"] = {**out["metadata"]["annotations"], names.ANNOTATION_REVISION: revision}
    out["stringData"] = {names.DOCUMENT_KEY: json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)}
    return out


def _printable(wanted: Wanted) -> Manifest:
    out = shown(wanted.manifest)
    if wanted.document is not None:
        text = json.dumps(wanted.document, indent=2, sort_keys=True, ensure_ascii=False)
        out["stringData"] = {names.DOCUMENT_KEY: text}
    return out


def _deletion(key: ObjectKey, known: Known) -> Change:
    live = known.facts.get(key)
    if live is None:
        return Change(Action.NONE if known.facts.may_read(key) else Action.DELETE, key)
    before = shown(
        {"apiVersion": "v1", "kind": key.kind, "metadata": live["metadata"]} if key.kind == "Secret" else live
    )
    return Change(Action.DELETE, key, before, None)


def shown(obj: Manifest) -> Manifest:
    """An object without bookkeeping, and a Secret without its content."""
    meta = {name: value for name, value in obj["metadata"].items() if name not in _BOOKKEEPING and value}
    if meta.get("annotations"):
        meta["annotations"] = {name: value for name, value in meta["annotations"].items() if name not in _NOT_SHOWN}
    out = {name: value for name, value in obj.items() if name not in ("status", "metadata")}
    if obj.get("kind") == "Secret" and "data" in out:
        out["data"] = dict.fromkeys(out["data"] or {}, HIDDEN)
    return _tidy({**out, "metadata": meta})


def _tidy(obj: Manifest) -> Manifest:
    """The usual order, and no empty metadata."""
    meta = {name: value for name, value in obj["metadata"].items() if value not in ({}, [], None)}
    head: Manifest = {name: obj[name] for name in ("apiVersion", "kind") if name in obj}
    rest = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")}
    return {**head, "metadata": meta, **rest}


def _same(before: Manifest, after: Manifest) -> bool:
    return json.dumps(_tidy(before), sort_keys=True) == json.dumps(_tidy(after), sort_keys=True)


def applied(desired: Manifest, live: Manifest) -> Manifest:
    """The live object after an apply by the operator's field manager, without asking the API server.

    Maps lose the keys that this manager set before and no longer wants; lists are taken as they are wanted.
    """
    owned: Any = {}
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") == names.MANAGER_CHILDREN and entry.get("operation") == "Apply":
            owned = entry.get("fieldsV1") or {}
    whole = _WHOLE.get(str(desired["kind"]), ())
    out = dict(live)
    for part, value in desired.items():
        out[part] = value if part in whole else _merged(value, live.get(part), owned.get(f"f:{part}") or {})
    for part in owned:
        if part.startswith("f:") and part[2:] not in desired and part[2:] not in ("metadata", "status"):
            out.pop(part[2:], None)
    return out


def _merged(want: Any, have: Any, owned: Any) -> Any:
    if covers(want, have, quantities=True) and not (isinstance(want, dict) and isinstance(have, dict)):
        return have
    if not isinstance(want, dict) or not isinstance(have, dict):
        return want
    ours = {part[2:] for part in owned if part.startswith("f:")} if isinstance(owned, dict) else set()
    out = {key: value for key, value in have.items() if key in want or key not in ours}
    for key, value in want.items():
        out[key] = _merged(value, have.get(key), (owned or {}).get(f"f:{key}") or {})
    return out
