"""The end of a Tenant: access is cut first, then the namespace is kept with its fence or deleted last.

Guarantees that the runtime document is gone before anything else happens, that a namespace is deleted only when label
*and* tenantID say that it is this Tenant's, and that nothing at all is cut or deleted because a CRD goes (capsule#1181)
or while a mass deletion is held. With its CRD a Tenant goes at once, so that whoever reinstalls it is not kept waiting:
access, namespace and document stay for the Tenant that comes back. A Tenant object that vanished without us (its
finalizer removed by hand) loses its access too, after the API server confirmed that it is gone.
"""

import logging
from typing import Any, Final

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_operator.context import Context
from tenantplane_operator.crdwatch import State
from tenantplane_operator.runtime.queue import Again, Done, Result
from tenantplane_operator.runtime.resources import (
    Manifest,
    ObjectKey,
    annotations_of,
    is_deleting,
    key_of,
    labels_of,
    uid_of,
)
from tenantplane_operator.status import write_status
from tenantplane_operator.tenant.concern import Concern, failed
from tenantplane_operator.tenant.keep import keep_published

logger = logging.getLogger(__name__)

POLL: Final = 1.0
CRDS: Final = frozenset({names.PLURAL_TENANTS, names.PLURAL_API_KEYS, names.PLURAL_MODEL_DEPLOYMENTS})
LOOK_AGAIN: Final = 60.0
"""Seconds until what is held is looked at again, although what releases it wakes us."""


async def held(ctx: Context, obj: Manifest) -> str | None:
    """Why a deletion that was asked for must wait; ``None`` when ``delete_tenant`` is next.

    Raises:
        ApiError: it cannot be told.
    """
    if names.FINALIZER not in (obj["metadata"].get("finalizers") or ()):
        return None
    if (await ctx.kinds.look(names.KIND_TENANT)).state is State.TERMINATING:
        return None
    return await ctx.deletions.verdict(key_of(obj), obj)


async def delete_tenant(ctx: Context, obj: Manifest) -> Result:
    """Go through the deletion of a Tenant that waits for our finalizer and is not held."""
    name = str(obj["metadata"]["name"])
    if names.FINALIZER not in (obj["metadata"].get("finalizers") or ()):
        return Done()
    if ctx.kinds.known(names.KIND_TENANT).state is State.TERMINATING:
        note = "goes with its CRD: namespace, keys and access stay for the Tenant of this tenantID that comes back"
        ctx.recorder.record(obj, "Warning", "Released", note)
        await _release(ctx, obj)
        logger.warning("a tenant goes with its CRD: nothing is cut", extra={"tenant": name})
        return Done()
    ctx.builds.cancel(name)
    if await ctx.publisher.withdraw(names.tenant_document_name(name)):
        ctx.recorder.record(obj, "Normal", "AccessCut", "access is cut: its keys are refused from now on")
    ctx.published.pop(name, None)
    namespace = _namespace_name(obj)
    wake_inhabitants(ctx, namespace)
    deletes = (obj.get("spec") or {}).get("deletionPolicy") == "Delete"
    if deletes:
        holds = await _delete_namespace(ctx, obj, namespace)
        if holds is not None:
            await write_status(ctx, obj, _deleting(failed(Reason.DELETING, holds)), body=None, tell=False)
            return Done(after=POLL)
    left = "its namespace is gone" if deletes else f"namespace {namespace} stays with its fence and all that is in it"
    ctx.recorder.record(obj, "Normal", "Released", f"the Tenant goes; {left}")
    await _release(ctx, obj)
    logger.info("released tenant", extra={"tenant": name})
    return Done()


def wake_inhabitants(ctx: Context, namespace: str) -> None:
    """Have the keys and models of a namespace looked at, because its tenant came or went."""
    for kind in (names.KIND_API_KEY, names.KIND_MODEL_DEPLOYMENT):
        for obj in ctx.cache.in_namespace(kind, namespace):
            ctx.queue.add(key_of(obj))


def _deleting(concern: Concern) -> dict[ConditionType, Concern]:
    return {
        ConditionType.READY: concern,
        ConditionType.RECONCILING: Concern("True", concern.reason, concern.message),
        ConditionType.NAMESPACE_READY: concern,
    }


def _namespace_name(obj: Manifest) -> str:
    """Namespace of a Tenant whose spec may be invalid: deletion must work for that one, too."""
    section = (obj.get("spec") or {}).get("namespace")
    wanted = section.get("name") if isinstance(section, dict) else None
    return str(wanted or names.default_namespace(str(obj["metadata"]["name"])))


async def _delete_namespace(ctx: Context, obj: Manifest, namespace: str) -> str | None:
    """Delete the Tenant's namespace; what is still in the way, ``None`` when it is gone or not ours."""
    key = ObjectKey("Namespace", "", namespace)
    space = await ctx.api.find(key)
    if space is None:
        return None
    ours = labels_of(space).get(names.LABEL_TENANT) == obj["metadata"]["name"] and annotations_of(space).get(
        names.ANNOTATION_TENANT_ID
    ) == (obj.get("spec") or {}).get("tenantID")
    if not ours:
        return None
    if not is_deleting(space):
        await ctx.api.delete(key, uid=uid_of(space))
        return f"namespace {namespace} is being deleted"
    holders = _holders(space)
    if holders:
        ctx.recorder.record(obj, "Warning", "NamespaceHeld", f"namespace {namespace} is held by: {holders}")
        return f"namespace {namespace} is being deleted; it is held by: {holders}"
    return f"namespace {namespace} is being deleted"


def _holders(space: Manifest) -> str:
    """What the namespace controller says is still there; empty when it has not said anything yet."""
    told: list[str] = []
    conditions: list[dict[str, Any]] = (space.get("status") or {}).get("conditions") or []
    for condition in conditions:
        waits = condition.get("type") in ("NamespaceContentRemaining", "NamespaceFinalizersRemaining")
        failed_to = str(condition.get("type") or "").endswith("Failure")
        if condition.get("status") == "True" and (waits or failed_to):
            told.append(str(condition.get("message") or condition.get("reason")))
    return "; ".join(told)


async def _release(ctx: Context, obj: Manifest) -> None:
    """Take our finalizer away, also where somebody else's field manager owns it as well."""
    live = await ctx.api.apply_finalizers(obj, [], manager=names.MANAGER_FINALIZER)
    left = live["metadata"].get("finalizers") or []
    if names.FINALIZER in left:
        rest = [finalizer for finalizer in left if finalizer != names.FINALIZER]
        patch = {
            "metadata": {
                "uid": uid_of(live),
                "resourceVersion": live["metadata"]["resourceVersion"],
                "finalizers": rest,
            }
        }
        live = await ctx.api.merge_patch(key_of(obj), patch, manager=names.MANAGER_FINALIZER)
    # Gone with its last finalizer; the event that says so may take a moment.
    if not live["metadata"].get("finalizers"):
        ctx.cache.remove(key_of(obj), live)
    else:
        ctx.cache.put(live)


async def forget_tenant(ctx: Context, key: ObjectKey) -> Result:
    """A Tenant that we do not know (any more): cut its access if it is really gone, and wake who waited for it."""
    ctx.builds.cancel(key.name)
    document = names.tenant_document_name(key.name)
    if ctx.publisher.revision(document) is not None:
        if await ctx.api.find(key) is not None:
            return Again()
        if await ctx.deletions.verdict(key) is not None:
            # A key that is revoked must be refused although its Tenant is gone.
            await keep_published(ctx, key.name)
            return Done(after=LOOK_AGAIN)
        await ctx.publisher.withdraw(document)
        logger.warning("cut the access of a tenant that vanished", extra={"tenant": key.name})
        for space in ctx.cache.labelled(key.name):
            if space["kind"] == "Namespace":
                wake_inhabitants(ctx, key_of(space).name)
    ctx.published.pop(key.name, None)
    ctx.digests.pop(key.name, None)
    ctx.counting.forget(key.name)
    ctx.queue.forget(key)
    return Done()
