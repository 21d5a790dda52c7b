"""Reconciles one ModelDeployment: reads the credential that it names, publishes its document, tells how it went.

The credential goes from the Secret into the document and nowhere else. A ModelDeployment that is gone, or that lies
where none may, has no document; an absent object is believed only after the API server confirmed it.
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
from tenantplane_operator.runtime.resources import ObjectKey, is_deleting
from tenantplane_operator.status import write_status
from tenantplane_operator.tenant.concern import Refused, failed, summarize
from tenantplane_operator.tenant.deletion import CRDS

logger = logging.getLogger(__name__)

LOOK_AGAIN = 5.0


async def reconcile_model(ctx: Context, key: ObjectKey) -> Result:
    """Bring one ModelDeployment to what it says, or say why not."""
    obj = ctx.cache.get(key)
    document = names.model_document_name(key.namespace, key.name)
    if obj is None:
        return await _forget(ctx, key, document)
    if is_deleting(obj):
        await ctx.publisher.withdraw(document)
        return Done()
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
        elif decision.withdraw and revision is not None:
            await ctx.publisher.withdraw(document)
            revision = None
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


async def _forget(ctx: Context, key: ObjectKey, document: str) -> Result:
    if ctx.publisher.revision(document) is not None:
        if await ctx.api.find(key) is not None:
            return Again()
        if not await ctx.api.serves(names.API_VERSION, CRDS):
            return Again(after=30.0)
        await ctx.publisher.withdraw(document)
    ctx.queue.forget(key)
    return Done()
