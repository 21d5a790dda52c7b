"""Reconciles one APIKey: its Secret is made once, read back, and only then is its hash told to anybody.

Guarantees that a key's text exists here only between its generation and its POST: it is never logged, never in a
status, never kept. A Secret is created, never applied, so that an existing one is never overwritten. The hash reaches
the data plane through the tenant's document, which the tenant's reconcile publishes from ``status.hash``.
"""

import logging
from dataclasses import dataclass

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.keys import generate_key
from tenantplane_api.runtime.names import Revision, TenantID, TenantName
from tenantplane_operator.apikey.parse import ParsedAPIKey, parse_api_key
from tenantplane_operator.apikey.secret import ABSENT, ObservedSecret, TenantRef, observe_secret, secret_manifest
from tenantplane_operator.apikey.state import Action, KeyDecision, decide
from tenantplane_operator.context import Context
from tenantplane_operator.runtime.errors import AlreadyExists, ApiError
from tenantplane_operator.runtime.outcome import from_api
from tenantplane_operator.runtime.queue import Again, Done, Result
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, is_deleting, uid_of
from tenantplane_operator.status import write_status
from tenantplane_operator.tenant.concern import Refused, failed, summarize
from tenantplane_operator.tenant.status import endpoint

logger = logging.getLogger(__name__)


async def reconcile_api_key(ctx: Context, key: ObjectKey) -> Result:
    """Bring one APIKey to what it says, or say why not."""
    obj = ctx.cache.get(key)
    if obj is None or is_deleting(obj):
        ctx.hashes.set(key, None)
        ctx.seen_secrets.pop(key, None)
        last = ctx.gone_keys.pop(key, None)
        if last is not None:
            await _clean_up(ctx, last)
        return Done()
    try:
        parsed = parse_api_key(obj)
    except Refused as refused:
        await write_status(ctx, obj, summarize({ConditionType.PUBLISHED: refused.concern}), body=None)
        return Done()
    tenant, published = _tenant(ctx, key.namespace)
    if tenant is not None and published is None and parsed.status.hash:
        # The tenant was not looked at since the start: what is published is not known, so nothing is said of it. Its
        # own reconcile wakes us.
        return Done()
    try:
        decision = await _settle(_Pass(ctx, key, obj, parsed, tenant, published or {}))
    except ApiError as error:
        end = from_api(error, key, since_binding=ctx.since_binding(key.namespace))
        concerns = {ConditionType.PUBLISHED: failed(end.reason, end.message)}
        if not parsed.status.hash and end.reason != Reason.API_UNAVAILABLE:
            await write_status(ctx, obj, summarize(concerns), body=None)
        return Again(after=getattr(end, "after", 0.0))
    live = await write_status(ctx, obj, decision.conditions, body=decision.status)
    ctx.hashes.set(key, (live.get("status") or {}).get("hash"))
    return Done(after=decision.requeue_after)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass knows."""

    ctx: Context
    key: ObjectKey
    obj: Manifest
    parsed: ParsedAPIKey
    tenant: TenantRef | None
    published: dict[str, Revision]

    def decide(self, secret: ObservedSecret) -> KeyDecision:
        """Ask the pure code."""
        return decide(
            self.parsed,
            tenant=self.tenant,
            secret=secret,
            now=self.ctx.now(),
            foreign_hashes=self.ctx.hashes.foreign(self.key.namespace),
            published=self.published,
        )


def _tenant(ctx: Context, namespace: str) -> tuple[TenantRef | None, dict[str, Revision] | None]:
    """The tenant that the namespace belongs to, and revision by hash of what it has published (``None``: unknown)."""
    tenant = ctx.tenant_of(namespace)
    if tenant is None:
        return None, None
    name = str(tenant["metadata"]["name"])
    ref = TenantRef(name=TenantName(name), tenant_id=TenantID(tenant["spec"]["tenantID"]))
    known = ctx.published.get(name)
    if known is None:
        return ref, None
    return ref, dict.fromkeys(known.hashes, known.revision)


async def _settle(this: _Pass) -> KeyDecision:
    """Observe, decide, act, until there is nothing left to do; at most twice, because an action changes one fact."""
    secret = await _observe(this)
    decision = this.decide(secret)
    if decision.action is Action.CREATE_SECRET and this.tenant is not None:
        await _create(this, this.tenant)
        decision = this.decide(await _observe(this, anew=True))
    elif decision.action is Action.DELETE_SECRET:
        await _delete(this, secret)
        decision = this.decide(await _observe(this, anew=True))
    return decision


async def _observe(this: _Pass, *, anew: bool = False) -> ObservedSecret:
    """The Secret as it matters; read once per edit, request and resync, because Secrets are not watched."""
    ctx, key, parsed = this.ctx, this.key, this.parsed
    requests = tuple(annotations_of(this.obj).get(n) for n in (names.ANNOTATION_RECONCILE, names.ANNOTATION_REVOKE))
    occasion = (uid_of(this.obj), parsed.generation, requests, this.tenant, ctx.epoch)
    before = ctx.seen_secrets.get(key)
    if not anew and before is not None and before[0] == occasion and isinstance(before[1], ObservedSecret):
        return before[1]
    if this.tenant is None:
        # We have rights in tenants' namespaces only.
        return ABSENT
    found = await ctx.api.find(ObjectKey("Secret", key.namespace, parsed.secret_name))
    seen = observe_secret(found, parsed, this.tenant)
    ctx.seen_secrets[key] = (occasion, seen)
    return seen


async def _create(this: _Pass, tenant: TenantRef) -> None:
    ctx = this.ctx
    made = secret_manifest(this.parsed, tenant, text=generate_key(), base_url=endpoint(ctx.platform))
    try:
        await ctx.api.create(made, manager=names.MANAGER_CHILDREN)
    except AlreadyExists:
        # Somebody was faster, or we were killed after an earlier POST: what is there decides.
        return
    ctx.recorder.record(this.obj, "Normal", "KeyCreated", f"key in Secret {this.parsed.secret_name}")


async def _delete(this: _Pass, secret: ObservedSecret) -> None:
    target = ObjectKey("Secret", this.key.namespace, this.parsed.secret_name)
    deleted = await this.ctx.api.delete(target, uid=secret.uid)
    if deleted:
        this.ctx.recorder.record(this.obj, "Normal", "KeyDeleted", f"deleted Secret {this.parsed.secret_name}")


async def _clean_up(ctx: Context, last: Manifest) -> None:
    """Delete the Secret of an APIKey that is gone; best effort, because its hash is refused already.

    The Secret is looked at first: only one that carries our labels and this key's id is deleted.
    """
    namespace = str(last["metadata"].get("namespace") or "")
    status = last.get("status") or {}
    name = (status.get("secretRef") or {}).get("name")
    key_id = status.get("keyID")
    if not name or not key_id or ctx.tenant_of(namespace) is None:
        return
    target = ObjectKey("Secret", namespace, str(name))
    try:
        found = await ctx.api.find(target)
        meta = (found or {}).get("metadata") or {}
        ours = (meta.get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
        if found is not None and ours and (meta.get("annotations") or {}).get(names.ANNOTATION_KEY_ID) == key_id:
            await ctx.api.delete(target, uid=uid_of(found))
    except ApiError as error:
        logger.warning("the Secret of a deleted APIKey stays: %s", error.message)
