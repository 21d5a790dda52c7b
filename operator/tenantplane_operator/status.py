"""Writes the status of our custom resources, and tells of the changes that people want to hear of.

Guarantees: one request per change and none without, bound to the UID that was reconciled; times of conditions move
only when a condition flips; an event is recorded when ``Ready`` or ``Stalled`` changes and not on every pass.
"""

from collections.abc import Mapping
from typing import Any

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_api.runtime import names
from tenantplane_operator.context import Context
from tenantplane_operator.runtime import conditions as cond
from tenantplane_operator.runtime.resources import Manifest
from tenantplane_operator.tenant.concern import Concern


async def write_status(
    ctx: Context,
    obj: Manifest,
    concerns: Mapping[ConditionType, Concern],
    *,
    body: Mapping[str, Any] | None,
    tell: bool = True,
) -> Manifest:
    """Bring ``status`` to this state; the object as it is afterwards.

    Args:
        ctx: shared services.
        obj: the object that was reconciled; its generation is what the status speaks of.
        concerns: all conditions, in order; types that are not in it are removed.
        body: the rest of the status, ``None`` to keep what is there.
        tell: record an event when ``Ready`` or ``Stalled`` changes; False for who tells it better.

    Raises:
        ApiError: it was not written.
    """
    previous: Mapping[str, Any] = obj.get("status") or {}
    generation = int(obj["metadata"].get("generation") or 0)
    wanted = [cond.Condition(str(kind), c.status, c.reason, c.message) for kind, c in concerns.items()]
    merged = cond.merge(previous.get("conditions") or [], wanted, generation=generation, now=ctx.now())
    rest = previous if body is None else body
    status = {
        **{key: value for key, value in rest.items() if key != "conditions"},
        "observedGeneration": generation,
        "conditions": merged,
    }
    if cond.same(previous, status):
        return obj
    if tell:
        _tell(ctx, obj, previous.get("conditions") or [], merged)
    live = await ctx.api.apply_status(obj, status, manager=names.MANAGER_STATUS)
    ctx.cache.put(live)
    return live


def _tell(ctx: Context, obj: Manifest, before: list[dict[str, Any]], now: list[dict[str, Any]]) -> None:
    stalled, was = cond.find(now, ConditionType.STALLED), cond.find(before, ConditionType.STALLED)
    if stalled is not None and (was is None or was.get("message") != stalled["message"]):
        ctx.recorder.record(obj, "Warning", str(stalled["reason"]), str(stalled["message"]))
        return
    ready, ready_was = cond.is_true(now, ConditionType.READY), cond.is_true(before, ConditionType.READY)
    if ready and not ready_was:
        reason = "TenantReady" if obj.get("kind") == names.KIND_TENANT else "Ready"
        ctx.recorder.record(obj, "Normal", reason, "can be used as declared")
    elif ready_was and not ready:
        lost = cond.find(now, ConditionType.READY) or {}
        ctx.recorder.record(obj, "Warning", str(lost.get("reason")), f"no longer ready: {lost.get('message')}")
