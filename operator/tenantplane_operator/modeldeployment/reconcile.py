"""Reconciles one ModelDeployment: reads the credential that it names, publishes its document, tells how it went.

The credential goes from the Secret into the document and nowhere else. A ModelDeployment that is gone, or that lies
where none may, has no document; an absent object is believed only after the API server confirmed it and its deletion is
not held. A model in a tenant's namespace is served as long as the tenant is: it goes after the tenant's access is cut.
"""

import base64
import binascii
import logging

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_operator.context import Context
from tenantplane_operator.modeldeployment.document import OwnerRef
from tenantplane_operator.modeldeployment.parse import ParsedModel, parse_model
from tenantplane_operator.modeldeployment.state import decide
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.outcome import from_api
from tenantplane_operator.runtime.queue import Again, Done, Result
from tenantplane_operator.runtime.resources import ObjectKey, annotations_of, is_deleting, labels_of
from tenantplane_operator.status import write_status
from tenantplane_operator.tenant.concern import Refused, failed, summarize

logger = logging.getLogger(__name__)

LOOK_AGAIN = 5.0
HELD = 60.0
"""Seconds until a held deletion is looked at again, although what releases it wakes us."""


async def reconcile_model(ctx: Context, key: ObjectKey) -> Result:
    """Bring one ModelDeployment to what it says, or say why not."""
    obj = ctx.cache.get(key)
    document = names.model_document_name(key.namespace, key.name)
    if obj is None:
        return await _forget(ctx, key, document)
    if is_deleting(obj):
        return await _going(ctx, key, document)
    try:
        model = parse_model(obj)
    except Refused as refused:
        await write_status(ctx, obj, summarize({ConditionType.AVAILABLE: refused.concern}), body=None)
        return Done()
    owner = _owner(ctx, key.namespace)
    try:
        credential = await _credential(ctx, model, owner)
        decision = decide(model, tenant=owner, platform=ctx.platform, upstream_key=credential)
        revision = ctx.publisher.revision(document)
        if decision.document is not None:
            revision, _ = await ctx.publisher.publish(decision.document)
        elif decision.withdraw and revision is not None and not _tenant_serves(ctx, key.namespace, owner):
            await ctx.publisher.withdraw(document)
            revision = None
        await ctx.deletions.settle(document)
    except ApiError as error:
        end = from_api(error, key, since_binding=ctx.since_binding(key.namespace))
        concerns = summarize({ConditionType.AVAILABLE: failed(end.reason, end.message)})
        await write_status(ctx, obj, concerns, body=None)
        return Again(after=getattr(end, "after", 0.0))
    settled = decide(model, tenant=owner, platform=ctx.platform, upstream_key=credential, published=revision)
    await write_status(ctx, obj, settled.conditions, body=settled.status)
    missing = model.secret_ref is not None and credential is None
    return Done(after=LOOK_AGAIN if missing else None)


def _owner(ctx: Context, namespace: str) -> OwnerRef | None:
    tenant = ctx.tenant_of(namespace)
    if tenant is None:
        return None
    return OwnerRef(name=TenantName(tenant["metadata"]["name"]), tenant_id=TenantID(tenant["spec"]["tenantID"]))


async def _credential(ctx: Context, model: ParsedModel, owner: OwnerRef | None) -> str | None:
    """The upstream's API key, from the model's own namespace only; ``None`` when it names none or it is not there."""
    if model.secret_ref is None or (owner is None and model.namespace != ctx.platform.shared.namespaces.models):
        return None
    name, entry = model.secret_ref
    secret = await ctx.api.find(ObjectKey("Secret", model.namespace, name))
    value = ((secret or {}).get("data") or {}).get(entry)
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True).decode("utf-8").strip() or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _tenant_serves(ctx: Context, namespace: str, owner: OwnerRef | None) -> bool:
    """True when only the Tenant's object is missing, whose deletion is held: its document still stands."""
    space = ctx.cache.get(ObjectKey("Namespace", "", namespace))
    name = labels_of(space).get(names.LABEL_TENANT) if space is not None else None
    if owner is not None or name is None or space is None:
        return False
    tenant_id = ctx.publisher.tenant_id(names.tenant_document_name(name))
    return tenant_id is not None and tenant_id == annotations_of(space).get(names.ANNOTATION_TENANT_ID)


async def _going(ctx: Context, key: ObjectKey, document: str) -> Result:
    """Somebody deleted it, and a finalizer that is not ours still holds the object."""
    if ctx.publisher.revision(document) is not None:
        if await ctx.deletions.verdict(key) is not None:
            return Done(after=HELD)
        await _withdraw(ctx, key, document)
    return Done()


async def _forget(ctx: Context, key: ObjectKey, document: str) -> Result:
    if ctx.publisher.revision(document) is not None:
        if await ctx.api.find(key) is not None:
            return Again()
        if await ctx.deletions.verdict(key) is not None:
            return Done(after=HELD)
        await _withdraw(ctx, key, document)
    ctx.queue.forget(key)
    return Done()


async def _withdraw(ctx: Context, key: ObjectKey, document: str) -> None:
    await ctx.publisher.withdraw(document)
    for name in sorted(ctx.model_users.get(names.model_key(key.namespace, key.name), ())):
        ctx.wake_tenant(name)
