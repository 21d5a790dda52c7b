"""Which reconcile a change wakes: from what the cache saw to keys on the queue.

Guarantees that a change that nobody's decision depends on (a quota's usage, our own status) wakes nobody, and that
every decision is made again when one of its facts changes: a Tenant when its children, keys, models or rivals do, an
APIKey or ModelDeployment when its namespace changes hands. Pure apart from the queue.
"""

from typing import Any

from tenantplane_api.runtime import names
from tenantplane_operator.context import Context
from tenantplane_operator.publish import document_owner as document_owner
from tenantplane_operator.runtime.queue import Priority
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, is_deleting, key_of, labels_of
from tenantplane_operator.tenant.identity import claim_of
from tenantplane_operator.tenant.models import observed_model

_OWN = frozenset({names.KIND_TENANT, names.KIND_API_KEY, names.KIND_MODEL_DEPLOYMENT})
_NOISE = frozenset({"resourceVersion", "managedFields", "generation", "selfLink"})


def material(obj: Manifest | None) -> dict[str, Any] | None:
    """What of an object counts as a change: everything but status and bookkeeping."""
    if obj is None:
        return None
    meta = {name: value for name, value in obj["metadata"].items() if name not in _NOISE}
    return {"metadata": meta, **{name: value for name, value in obj.items() if name not in ("metadata", "status")}}


class Waker:
    """Told of every change by the cache."""

    def __init__(self) -> None:
        self.ctx: Context | None = None
        self.priority = Priority.ROLLOUT
        """Of what a change wakes: until the first complete list, nothing that is seen is fresh."""

    def changed(self, key: ObjectKey, old: Manifest | None, new: Manifest | None) -> None:
        """Wake whom this concerns."""
        ctx = self.ctx
        if ctx is None:
            return
        if key.kind == names.KIND_TENANT:
            self._claim(ctx, key, new)
        moved = material(old) != material(new) and not _only_held(old, new)
        if key.kind in _OWN:
            ctx.deletions.see(key, old, new)
        if key.kind in _OWN and moved:
            ctx.queue.add(key, self.priority)
        match key.kind:
            case names.KIND_TENANT if moved:
                self._tenant(ctx, key, old, new)
            case names.KIND_API_KEY:
                self._api_key(ctx, key, old, new)
            case names.KIND_MODEL_DEPLOYMENT:
                self._model(ctx, key, old, new)
            case "Namespace" if moved:
                self._namespace(ctx, key, old, new)
            case "Secret" if moved:
                self._document(ctx, key)
            case _ if moved:
                self._child(ctx, old, new)
            case _:
                pass

    @staticmethod
    def _claim(ctx: Context, key: ObjectKey, new: Manifest | None) -> None:
        ctx.claims.put(key.name, claim_of(new) if new is not None else None)

    def _tenant(self, ctx: Context, key: ObjectKey, old: Manifest | None, new: Manifest | None) -> None:
        before, now = (claim_of(obj) if obj is not None else None for obj in (old, new))
        if before == now:
            return
        mine = [claim for claim in (before, now) if claim is not None]
        rivals = {rival.name for claim in mine for rival in ctx.claims.wanting(claim.tenant_id, claim.namespace)}
        for name in sorted(rivals - {key.name}):
            ctx.wake_tenant(name, self.priority)
        for space in {claim.namespace for claim in mine}:
            self._inhabitants(ctx, space)

    def _inhabitants(self, ctx: Context, namespace: str) -> None:
        for kind in (names.KIND_API_KEY, names.KIND_MODEL_DEPLOYMENT):
            for obj in ctx.cache.in_namespace(kind, namespace):
                ctx.queue.add(key_of(obj), self.priority)

    def _api_key(self, ctx: Context, key: ObjectKey, old: Manifest | None, new: Manifest | None) -> None:
        for waiting in ctx.hashes.see(key, new):
            ctx.queue.add(waiting, self.priority)
        if new is None and old is not None:
            ctx.gone_keys[key] = old
        else:
            ctx.gone_keys.pop(key, None)
        made = old is None and new is not None and _just_made(new)
        if not made and ((old or {}).get("status") != (new or {}).get("status") or material(old) != material(new)):
            self._owner(ctx, key.namespace)

    def concerned(self, key: ObjectKey) -> None:
        """Wake those whose documents depend on an object that may be gone."""
        ctx = self.ctx
        if ctx is None:
            return
        if key.kind == names.KIND_API_KEY:
            self._owner(ctx, key.namespace)
        elif key.kind == names.KIND_MODEL_DEPLOYMENT:
            for name in sorted(ctx.model_users.get(names.model_key(key.namespace, key.name), ())):
                ctx.wake_tenant(name, self.priority)

    def _owner(self, ctx: Context, namespace: str) -> None:
        space = ctx.cache.get(ObjectKey("Namespace", "", namespace))
        name = labels_of(space).get(names.LABEL_TENANT) if space is not None else None
        if name:
            ctx.wake_tenant(name, self.priority)

    def _model(self, ctx: Context, key: ObjectKey, old: Manifest | None, new: Manifest | None) -> None:
        before, now = (observed_model(obj) if obj is not None else None for obj in (old, new))
        if before != now:
            for name in sorted(ctx.model_users.get(names.model_key(key.namespace, key.name), ())):
                ctx.wake_tenant(name, self.priority)

    def _namespace(self, ctx: Context, key: ObjectKey, old: Manifest | None, new: Manifest | None) -> None:
        self._child(ctx, old, new)
        # A namespace that lost our label is one that its Tenant wants back, and is found by its name.
        for claim in ctx.claims.of_namespace(key.name):
            ctx.wake_tenant(claim.name, self.priority)
        if _hands(old) != _hands(new):
            self._inhabitants(ctx, key.name)

    def _document(self, ctx: Context, key: ObjectKey) -> None:
        owner = document_owner(key.name)
        if owner is not None:
            ctx.queue.add(owner, self.priority)

    def _child(self, ctx: Context, old: Manifest | None, new: Manifest | None) -> None:
        for obj in (old, new):
            name = labels_of(obj).get(names.LABEL_TENANT) if obj is not None else None
            if name:
                ctx.wake_tenant(name, self.priority)


def _just_made(key: Manifest) -> bool:
    """True for an APIKey that we made a moment ago: its owner knows, and hears of it again when it has a status."""
    return labels_of(key).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY and not key.get("status")


def _only_held(old: Manifest | None, new: Manifest | None) -> bool:
    """True when nothing came but our own finalizer, which the reconcile that put it there goes on from."""
    if old is None or new is None or names.FINALIZER in (old["metadata"].get("finalizers") or ()):
        return False
    left = [name for name in new["metadata"].get("finalizers") or () if name != names.FINALIZER]
    meta = {**new["metadata"], "finalizers": left}
    before = {**old["metadata"], "finalizers": list(old["metadata"].get("finalizers") or ())}
    return material({**old, "metadata": before}) == material({**new, "metadata": meta})


def _hands(space: Manifest | None) -> tuple[str | None, str | None, bool]:
    if space is None:
        return (None, None, False)
    return (
        labels_of(space).get(names.LABEL_TENANT),
        annotations_of(space).get(names.ANNOTATION_TENANT_ID),
        is_deleting(space),
    )
