"""Reconciles one APIKey: its Secret is made once, read back, and only then is its hash told to anybody.

Guarantees that a key's text exists here only between its generation and its POST: it is never logged, never in a
status, never kept. A Secret is created, never applied, so that an existing one is never overwritten; it is deleted only
after it was read again; a user's Secret is neither. The hash reaches the data plane through the tenant's document,
which the tenant's reconcile publishes from ``status``: a crash anywhere is continued from the Secret and the status.
"""

import logging
from dataclasses import dataclass
from typing import Final

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.keys import generate_key
from tenantplane_api.runtime.names import Revision, TenantID, TenantName
from tenantplane_operator.apikey.cleanup import clean_up
from tenantplane_operator.apikey.parse import ParsedAPIKey, parse_api_key, revoked_status
from tenantplane_operator.apikey.rotation import ROTATE, requests_of
from tenantplane_operator.apikey.secret import (
    ABSENT,
    ObservedSecret,
    SecretState,
    TenantRef,
    observe_secret,
    secret_manifest,
)
from tenantplane_operator.apikey.state import Action, KeyDecision, decide
from tenantplane_operator.apikey.story import story
from tenantplane_operator.context import Context
from tenantplane_operator.runtime.errors import AlreadyExists, ApiError
from tenantplane_operator.runtime.outcome import WaitingFor, from_api
from tenantplane_operator.runtime.queue import Again, Done, Result
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, is_deleting, uid_of
from tenantplane_operator.status import write_status
from tenantplane_operator.tenant.concern import Refused, failed, summarize
from tenantplane_operator.tenant.parse import format_time
from tenantplane_operator.tenant.status import endpoint

logger = logging.getLogger(__name__)

_ACTING: Final = frozenset({Action.CREATE_SECRET, Action.DELETE_SECRET, Action.ROTATE})
_STEPS: Final = 4
"""Actions of one pass: a rotation takes two, and one may find that somebody was faster."""
_CACHED: Final = frozenset({SecretState.OURS, SecretState.GIVEN, SecretState.ABSENT})
_OCCASIONS: Final = (names.ANNOTATION_RECONCILE, names.ANNOTATION_REVOKE, names.ANNOTATION_ROTATE)


async def reconcile_api_key(ctx: Context, key: ObjectKey) -> Result:
    """Bring one APIKey to what it says, or say why not."""
    obj = ctx.cache.get(key)
    if obj is None or is_deleting(obj):
        for waiting in ctx.hashes.see(key, None):
            ctx.queue.add(waiting)
        ctx.seen_secrets.pop(key, None)
        return await clean_up(ctx, key)
    try:
        parsed = parse_api_key(obj)
    except Refused as refused:
        body = revoked_status(obj, now=format_time(ctx.now()))
        await write_status(ctx, obj, summarize({ConditionType.PUBLISHED: refused.concern}), body=body)
        return Done()
    tenant, published = _tenant(ctx, key.namespace)
    if tenant is not None and published is None and parsed.status.hash:
        # Something stands published, and the tenant was not looked at since the start: what it is is not known, so
        # nothing is said of it. Its own reconcile wakes us.
        return Done()
    try:
        decision = await _settle(_Pass(ctx, key, obj, parsed, tenant, published or {}))
        live = await write_status(ctx, obj, decision.conditions, body=decision.status, tell=False)
    except ApiError as error:
        # What was held for this pass is held no more than the status says.
        for waiting in ctx.hashes.see(key, ctx.cache.get(key)):
            ctx.queue.add(waiting)
        return await _failed(ctx, key, obj, parsed, error)
    if decision.action is Action.REFUSE:
        # Somebody has to change something, in a Secret that is not watched: the next look reads it.
        ctx.seen_secrets.pop(key, None)
    if live is not obj:
        _tell(ctx, obj, parsed, decision)
    return Done(after=decision.requeue_after)


async def _failed(ctx: Context, key: ObjectKey, obj: Manifest, parsed: ParsedAPIKey, error: ApiError) -> Result:
    """A step that the API server refused: what works goes on working, and is tried again."""
    end = from_api(error, key, since_binding=ctx.since_binding(key.namespace))
    if end.reason != Reason.API_UNAVAILABLE:
        if not parsed.status.hash:
            concerns = {ConditionType.PUBLISHED: failed(end.reason, end.message)}
            await write_status(ctx, obj, summarize(concerns), body=None)
        elif not isinstance(end, WaitingFor):
            ctx.recorder.record(obj, "Warning", end.reason, end.message)
    return Again(after=getattr(end, "after", 0.0))


def _tell(ctx: Context, obj: Manifest, parsed: ParsedAPIKey, decision: KeyDecision) -> None:
    event = story(obj.get("status") or {}, decision)
    if event is not None:
        ctx.recorder.record(obj, event.type, event.reason, event.note)
    requests = requests_of(parsed)
    if (decision.status.get("handledRequests") or {}).get(ROTATE) == parsed.status.handled_requests.get(ROTATE):
        # Answered before, and told then.
        return
    if requests.invalid:
        note = f"annotation {names.ANNOTATION_ROTATE} is ignored: it must be a time such as 2027-01-31T12:00:00Z"
        ctx.recorder.record(obj, "Warning", "InvalidRequest", note)
    elif parsed.given is not None and requests.rotation_pending:
        note = f"this key comes from Secret {parsed.given.name}: change its text there to rotate it"
        ctx.recorder.record(obj, "Warning", "KeyNotRotated", note)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass knows."""

    ctx: Context
    key: ObjectKey
    obj: Manifest
    parsed: ParsedAPIKey
    tenant: TenantRef | None
    published: dict[str, Revision]

    @property
    def left_out(self) -> frozenset[str]:
        """Hashes for which the tenant's document has no room."""
        known = self.ctx.published.get(self.tenant.name) if self.tenant is not None else None
        return known.left_out if known is not None else frozenset()

    def decide(self, secret: ObservedSecret) -> KeyDecision:
        """Ask the pure code, and hold what it takes before anybody else is asked."""
        decision = decide(
            self.parsed,
            tenant=self.tenant,
            secret=secret,
            now=self.ctx.now(),
            taken=_Taken(self.ctx, self.key, self.tenant),
            published=self.published,
            left_out=self.left_out,
        )
        self.ctx.hashes.want(self.key, decision.wanted)
        if decision.status.get("hash"):
            self.ctx.hashes.reserve(self.key, str(decision.status["hash"]))
        return decision


@dataclass(frozen=True, slots=True)
class _Taken:
    """``digest in taken``: another APIKey has the better right, or another tenant's document still has it."""

    ctx: Context
    key: ObjectKey
    tenant: TenantRef | None

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str):
            return False
        hashes = self.ctx.hashes
        if hashes.taken(self.key, digest):
            return True
        if hashes.first(digest) == self.key:
            return False
        mine = None if self.tenant is None else self.tenant.name
        return any(digest in known.hashes for name, known in self.ctx.published.items() if name != mine)


def _tenant(ctx: Context, namespace: str) -> tuple[TenantRef | None, dict[str, Revision] | None]:
    """The tenant that the namespace belongs to, and revision by hash of what it has published.

    ``None`` while that is not known; a tenant of which nothing stands published has published nothing.
    """
    tenant = ctx.tenant_of(namespace)
    if tenant is None:
        return None, None
    name = str(tenant["metadata"]["name"])
    ref = TenantRef(name=TenantName(name), tenant_id=TenantID(tenant["spec"]["tenantID"]))
    known = ctx.published.get(name)
    if known is None:
        stands = ctx.publisher.revision(names.tenant_document_name(name)) is not None
        return ref, None if stands else {}
    return ref, dict.fromkeys(known.hashes, known.revision)


async def _settle(this: _Pass) -> KeyDecision:
    """Observe, decide, act, until there is nothing left to do; a few times at most, as an action changes one fact."""
    secret, fresh = await _observe(this)
    decision = this.decide(secret)
    if decision.action in _ACTING and not fresh:
        # What is about to be replaced may have been edited since: that is evidence, and somebody has to look at it.
        secret, _ = await _observe(this, anew=True)
        decision = this.decide(secret)
    for _ in range(_STEPS):
        if decision.action is Action.CREATE_SECRET and this.tenant is not None:
            await _create(this, this.tenant)
        elif decision.action in (Action.DELETE_SECRET, Action.ROTATE):
            await _delete(this, secret)
        else:
            break
        secret, _ = await _observe(this, anew=True)
        decision = this.decide(secret)
    return decision


async def _observe(this: _Pass, *, anew: bool = False) -> tuple[ObservedSecret, bool]:
    """The Secret as it matters, and whether it was read just now.

    Read once per edit, request and resync, because Secrets are not watched, and at each look while something is wrong.
    """
    ctx, key, parsed = this.ctx, this.key, this.parsed
    requests = tuple(annotations_of(this.obj).get(name) for name in _OCCASIONS)
    occasion = (uid_of(this.obj), parsed.generation, requests, this.tenant, ctx.epoch)
    before = ctx.seen_secrets.get(key)
    if not anew and before is not None and before[0] == occasion and isinstance(before[1], ObservedSecret):
        return before[1], False
    if this.tenant is None:
        # We have rights in tenants' namespaces only.
        return ABSENT, True
    found = await ctx.api.find(ObjectKey("Secret", key.namespace, parsed.secret_name))
    seen = observe_secret(found, parsed, this.tenant)
    if seen.state in _CACHED:
        ctx.seen_secrets[key] = (occasion, seen)
    else:
        ctx.seen_secrets.pop(key, None)
    return seen, True


async def _create(this: _Pass, tenant: TenantRef) -> None:
    ctx, text = this.ctx, generate_key()
    made = secret_manifest(this.parsed, tenant, text=text, base_url=endpoint(ctx.platform))
    # Before it can be read by anybody: a text of ours is nobody else's to bring.
    ctx.hashes.reserve(this.key, text.digest)
    try:
        await ctx.api.create(made, manager=names.MANAGER_CHILDREN)
    except AlreadyExists:
        # Somebody was faster, or we were killed after an earlier POST: what is there decides.
        return


async def _delete(this: _Pass, secret: ObservedSecret) -> None:
    await this.ctx.api.delete(ObjectKey("Secret", this.key.namespace, this.parsed.secret_name), uid=secret.uid)
