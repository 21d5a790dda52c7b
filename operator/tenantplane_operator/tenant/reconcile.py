"""Reconciles one Tenant: observe, ask the pure code, do what it says, tell how it went.

Everything that is decided is decided in ``compile``; here is only I/O and its order: finalizer before anything that
would have to be cleaned up, namespace before what lies in it, our own rights before what needs them, children before
the runtime document that relies on them, status last. Steps are independent: what fails becomes its concern's
condition and keeps nothing else from being done.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import ModelKey, Revision
from tenantplane_operator.apikey.again import earliest
from tenantplane_operator.context import Context, Published
from tenantplane_operator.knowledge.orders import order_for
from tenantplane_operator.runtime.apply import Applied
from tenantplane_operator.runtime.errors import ApiError, Forbidden, Invalid
from tenantplane_operator.runtime.outcome import RBAC_LAG, from_api
from tenantplane_operator.runtime.prune import prune, to_prune
from tenantplane_operator.runtime.queue import Again, Done, Result
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, is_deleting, key_of
from tenantplane_operator.status import write_status
from tenantplane_operator.tenant.compile import (
    PRUNABLE,
    Compiled,
    Observed,
    Publication,
    compile_tenant,
    referenced_config_maps,
    referenced_models,
    referenced_namespaces,
    refused_spec,
)
from tenantplane_operator.tenant.concern import Concern, Refused, failed
from tenantplane_operator.tenant.counting import counts_own_kinds
from tenantplane_operator.tenant.deletion import delete_tenant, forget_tenant, held
from tenantplane_operator.tenant.heldstatus import hold_conditions
from tenantplane_operator.tenant.identity import claim_of
from tenantplane_operator.tenant.keep import as_published, keep_held_keys, keep_published, kept_model, seed_knowledge
from tenantplane_operator.tenant.knowledge import config_map_digest
from tenantplane_operator.tenant.models import ObservedModel, observed_model
from tenantplane_operator.tenant.parse import ParsedTenant, parse_tenant
from tenantplane_operator.tenant.status import settle, tenant_conditions, tenant_status
from tenantplane_operator.tenant.status_configmap import status_config_map
from tenantplane_operator.tenant.story import namespace_event, story
from tenantplane_operator.tenant.strangers import LOOK_AGAIN as STRANGERS_AGAIN
from tenantplane_operator.tenant.strangers import NONE, with_strangers
from tenantplane_operator.tenant.told import tell_keys

logger = logging.getLogger(__name__)

KEYS_SOON: Final = 10.0
"""Seconds that a new Tenant's first document waits at most for the Tenant's own keys."""
LOOK_AGAIN: Final = 5.0
"""Seconds until what nobody reports to us is looked at again: a foreign namespace, a ConfigMap that is not there."""
_PATIENCE: Final = (0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass
class Steps:
    """What went wrong per concern, and how soon to try again."""

    failures: dict[ConditionType, Concern] = field(default_factory=dict)
    again: float | None = None

    def fail(self, concern: ConditionType, key: ObjectKey | None, error: ApiError, since: float | None) -> None:
        """Take in an API error of a step."""
        end = from_api(error, key, since_binding=since)
        self.failures.setdefault(concern, failed(end.reason, end.message))
        self.again = max(self.again or 0.0, getattr(end, "after", 0.0))


async def reconcile_tenant(ctx: Context, key: ObjectKey) -> Result:
    """Bring one Tenant to what it says, or say why not."""
    obj = ctx.cache.get(key)
    if obj is None:
        return await forget_tenant(ctx, key)
    why: str | None = None
    if is_deleting(obj):
        why = await held(ctx, obj)
        if why is None:
            return await delete_tenant(ctx, obj)
        # Until somebody says that it was meant, nothing changes for this tenant.
    elif names.FINALIZER not in (obj["metadata"].get("finalizers") or ()):
        # Before the first child: from here on nothing of this Tenant can be orphaned by its deletion.
        obj = await ctx.api.apply_finalizers(obj, [names.FINALIZER], manager=names.MANAGER_FINALIZER)
        # Told to all: the answer may hold somebody's edit that came in between, whose own event will be no news.
        ctx.cache.put(obj)
    try:
        tenant = parse_tenant(obj)
    except Refused as refused:
        return await _refused(ctx, obj, refused.concern, why)
    return await _Reconcile(ctx, obj, tenant, why).run()


async def _refused(ctx: Context, obj: Manifest, concern: Concern, why: str | None) -> Result:
    """A spec that cannot be read: what is published stays, unless the tenant is to be suspended."""
    suspended = bool((obj.get("spec") or {}).get("suspend"))
    compiled = refused_spec(concern, suspended=suspended)
    name = str(obj["metadata"]["name"])
    claim = claim_of(obj)
    namespace = claim.namespace if claim is not None else names.default_namespace(name)
    kept: Published | None = None
    if compiled.publication is Publication.KEEP:
        kept = await keep_published(ctx, name, obj)
    elif ctx.publisher.revision(names.tenant_document_name(name)) is not None:
        await ctx.publisher.withdraw(names.tenant_document_name(name))
    tell_keys(ctx, name, namespace, kept)
    settled = settle(compiled.concerns, published=kept.revision if kept is not None else None)
    conditions = tenant_conditions(settled, suspended=suspended, previous=_statuses(obj))
    await write_status(ctx, obj, hold_conditions(conditions, why, _held_keys(ctx, name)), body=None)
    return Done()


def _held_keys(ctx: Context, tenant: str) -> list[str]:
    return ctx.deletions.held_keys(names.tenant_document_name(tenant))


def _statuses(obj: Manifest) -> dict[str, str]:
    """Status by type of the conditions that stand in the object."""
    return {str(c["type"]): str(c["status"]) for c in (obj.get("status") or {}).get("conditions") or []}


class _Reconcile:
    """One pass over one Tenant."""

    def __init__(self, ctx: Context, obj: Manifest, tenant: ParsedTenant, why: str | None = None) -> None:
        self.ctx = ctx
        self.why = why
        self.models: dict[ModelKey, ObservedModel] = {}
        self.obj = obj
        self.tenant = tenant
        self.steps = Steps()
        self.strangers = NONE
        self.look_again = False
        self.document = names.tenant_document_name(tenant.name)

    async def run(self) -> Result:
        """The pass; see the module for its order."""
        ctx, tenant = self.ctx, self.tenant
        namespace = await self._namespace()
        await seed_knowledge(ctx, tenant)
        await self._look_at_models()
        observed = self._observe(namespace, {})
        compiled = compile_tenant(tenant, ctx.platform, observed)
        entered = compiled.ownership is not None and await self._enter(compiled)
        if entered:
            maps = await self._digests()
            if maps or namespace is None:
                namespace = ctx.cache.get(ObjectKey("Namespace", "", tenant.namespace))
                compiled = compile_tenant(tenant, ctx.platform, self._observe(namespace, maps))
            if compiled.ownership is not None:
                await self._children(compiled)
                await self._look_for_strangers()
                self._builds(compiled)
        # A tenant whose fence cannot be written is not opened; one that is open must still hear of a revoked key.
        known = self.ctx.publisher.revision(self.document)
        if entered and not known and self._keys_are_coming(compiled):
            return Done(after=KEYS_SOON)
        published = await self._publish(compiled) if entered or known or compiled.ownership is None else None
        return await self._tell(compiled, published)

    def _keys_are_coming(self, compiled: Compiled) -> bool:
        """True while a new Tenant's first document would be one without the keys that were made for it just now.

        Their APIKeys wake us; writing document and statuses only then is a third of all that a new Tenant costs.
        """
        if self.why is not None or self.steps.failures or compiled.publication is not Publication.PUBLISH:
            return False
        now = asyncio.get_running_loop().time()
        if now - self.ctx.keys_awaited.setdefault(self.tenant.uid, now) >= KEYS_SOON:
            return False
        for child in compiled.children:
            if child.manifest["kind"] == names.KIND_API_KEY:
                made = self.ctx.cache.get(key_of(child.manifest))
                if made is not None and not (made.get("status") or {}).get("conditions"):
                    return True
        return False

    # Observe.

    async def _namespace(self) -> Manifest | None:
        """The Namespace from the cache, which knows ours; a foreign one is asked for."""
        key = ObjectKey("Namespace", "", self.tenant.namespace)
        known = self.ctx.cache.get(key)
        return known if known is not None else await self.ctx.api.find(key)

    def _observe(self, namespace: Manifest | None, config_maps: Mapping[str, str]) -> Observed:
        ctx, tenant = self.ctx, self.tenant
        return Observed(
            namespace=namespace,
            tenants=ctx.rivals(tenant.tenant_id, tenant.namespace),
            api_keys=ctx.cache.in_namespace(names.KIND_API_KEY, tenant.namespace),
            models=self.models,
            config_maps=config_maps,
            knowledge=ctx.knowledge.get(tenant.uid, {}),
            building=ctx.builds.building(tenant.name),
            taken_hashes=ctx.hashes.outside(tenant.namespace),
            own_kinds_countable=self._counting()[0],
            foreign_namespaces=frozenset(s for s in referenced_namespaces(tenant) if ctx.is_anothers(s, tenant.name)),
        )

    async def _look_for_strangers(self) -> None:
        ctx, namespace = self.ctx, self.tenant.namespace
        try:
            self.strangers = await ctx.strangers.of(
                ctx.api,
                namespace,
                epoch=ctx.epoch,
                asked=self.tenant.annotations.get(names.ANNOTATION_RECONCILE),
                wake=ctx.wake_claimants,
            )
        except ApiError as error:
            self.steps.fail(ConditionType.NETWORK_READY, None, error, self._since())

    async def _look_at_models(self) -> None:
        """The models that aliases name; one that vanished and is held is as its document says."""
        ctx = self.ctx
        for key in referenced_models(self.tenant, ctx.platform):
            ctx.model_users[key].add(self.tenant.name)
            home, _, name = key.partition("/")
            model = ctx.cache.get(ObjectKey(names.KIND_MODEL_DEPLOYMENT, home, name))
            found = None if model is None else observed_model(model)
            if found is None or found.deleting:
                found = await kept_model(ctx, key) or found
            if found is not None:
                self.models[key] = found

    def _counting(self) -> tuple[bool, float | None]:
        ctx, now = self.ctx, self.ctx.now().timestamp()
        quota = ctx.cache.get(ObjectKey("ResourceQuota", self.tenant.namespace, names.CHILD_QUOTA))
        return ctx.counting.look(self.tenant.name, quota, fresh=ctx.kinds.countable(now), now=now)

    async def _digests(self) -> dict[str, str]:
        """Digests of the ConfigMaps that sources name; read once per edit, request and resync."""
        wanted = referenced_config_maps(self.tenant)
        requests = tuple(
            self.tenant.annotations.get(name) for name in (names.ANNOTATION_REINDEX, names.ANNOTATION_RECONCILE)
        )
        occasion = (self.tenant.uid, self.tenant.generation, requests, self.ctx.epoch)
        before, known = self.ctx.digests.get(self.tenant.name, (None, {}))
        found = dict(known) if before == occasion else {}
        for name in wanted:
            if name in found:
                continue
            key = ObjectKey("ConfigMap", self.tenant.namespace, name)
            try:
                config_map = await self._patiently_find(key)
            except ApiError as error:
                self.steps.fail(ConditionType.KNOWLEDGE_READY, key, error, self._since())
                continue
            if config_map is None:
                self.look_again = True
            else:
                found[name] = config_map_digest(config_map)
        self.ctx.digests[self.tenant.name] = (occasion, found)
        return found

    async def _patiently_find(self, key: ObjectKey) -> Manifest | None:
        for pause in (*_PATIENCE, None):
            try:
                return await self.ctx.api.find(key)
            except Forbidden:
                since = self._since()
                if pause is None or since is None or since > RBAC_LAG:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _since(self) -> float | None:
        return self.ctx.since_binding(self.tenant.namespace)

    # Do.

    async def _enter(self, compiled: Compiled) -> bool:
        """Namespace, then our own rights in it; False when there is no point in going on."""
        told = namespace_event(compiled.ownership, self.tenant.namespace) if compiled.ownership is not None else None
        for child in compiled.children[:2]:
            manifest = child.manifest
            fresh = manifest["kind"] != "Namespace"
            applied = await self._apply([manifest], patient=fresh)
            if applied.errors:
                for key, error in applied.errors.items():
                    self.steps.fail(child.concern, key, error, self._since())
                return False
            if fresh and applied.written:
                self.ctx.bound_at[self.tenant.namespace] = asyncio.get_running_loop().time()
            if not fresh and told is not None:
                # What this process made or adopted is not taken back as well, until the status names it.
                if told.reason != "NamespaceTakenBack" or self.tenant.uid not in self.ctx.entered:
                    if told.reason != "NamespaceCreated":
                        self.ctx.strangers.doubt(self.tenant.namespace)
                    self.ctx.recorder.record(self.obj, told.type, told.reason, told.note)
                self.ctx.entered.add(self.tenant.uid)
        return True

    async def _apply(self, manifests: Sequence[Manifest], *, patient: bool) -> Applied:
        """Apply; what is refused because rights or labels are not in force yet is tried again for a moment."""
        applied = await self.ctx.applier.apply(manifests)
        for pause in _PATIENCE if patient else ():
            since = self._since()
            late = [key for key, error in applied.errors.items() if _lag(error, since)]
            if not late:
                break
            await asyncio.sleep(pause)
            for key in late:
                del applied.errors[key]
            applied.merge(await self.ctx.applier.apply([item for item in manifests if key_of(item) in late]))
        return applied

    async def _children(self, compiled: Compiled) -> None:
        concerns = {key_of(child.manifest): child.concern for child in compiled.children}
        applied = await self._apply([child.manifest for child in compiled.children[2:]], patient=True)
        for key, error in applied.errors.items():
            self.steps.fail(concerns[key], key, error, self._since())
        keep = {*concerns, ObjectKey("ConfigMap", self.tenant.namespace, names.CHILD_STATUS_CONFIG_MAP)}
        doomed = to_prune(
            self.ctx.cache.labelled(self.tenant.name),
            keep,
            kinds={kind for _, kind in PRUNABLE},
            namespace=self.tenant.namespace,
        )
        for name in compiled.obsolete_keys:
            found = self.ctx.cache.get(ObjectKey(names.KIND_API_KEY, self.tenant.namespace, name))
            if found is not None:
                self.ctx.deletions.expect(key_of(found))
                doomed.append(found)
        if doomed:
            pruned = await prune(self.ctx.api, self.ctx.cache, doomed)
            for key, error in pruned.errors.items():
                self.steps.fail(ConditionType.ACCESS_READY, key, error, self._since())

    def _builds(self, compiled: Compiled) -> None:
        for plan in compiled.builds:
            served = next((item for item in compiled.knowledge if item.name == plan.index), None)
            if self.ctx.builds.start(order_for(self.tenant, plan, served)):
                self.ctx.recorder.record(self.obj, "Normal", "BuildStarted", f"index {plan.index}: build started")

    async def _publish(self, compiled: Compiled) -> Revision | None:
        """Do with the runtime document what was decided; the revision that stands published."""
        publisher, name = self.ctx.publisher, self.document
        if compiled.publication is Publication.WITHDRAW:
            if publisher.revision(name) is not None:
                await self._withdraw()
            tell_keys(self.ctx, self.tenant.name, self.tenant.namespace, None)
            return None
        if compiled.document is None:
            try:
                kept = await keep_published(self.ctx, self.tenant.name, self.obj)
            except ApiError as error:
                self.steps.fail(ConditionType.RUNTIME_PUBLISHED, publisher.key(name), error, None)
                return publisher.revision(name)
            tell_keys(self.ctx, self.tenant.name, self.tenant.namespace, kept)
            return kept.revision if kept is not None else None
        try:
            document = await keep_held_keys(self.ctx, compiled.document, self.obj)
            revision, written = await publisher.publish(document)
            await self.ctx.deletions.settle(name)
        except ApiError as error:
            self.steps.fail(ConditionType.RUNTIME_PUBLISHED, publisher.key(name), error, None)
            return publisher.revision(name)
        tell_keys(self.ctx, self.tenant.name, self.tenant.namespace, as_published(revision, document))
        if written:
            logger.info("published runtime document", extra={"tenant": self.tenant.name, "revision": revision})
        return revision

    async def _withdraw(self) -> None:
        try:
            await self.ctx.publisher.withdraw(self.document)
        except ApiError as error:
            self.steps.fail(ConditionType.RUNTIME_PUBLISHED, None, error, None)

    # Tell.

    async def _tell(self, compiled: Compiled, published: Revision | None) -> Result:
        ctx, tenant = self.ctx, self.tenant
        stands = ctx.published.get(tenant.name)
        if not _hashes(compiled) <= (stands.hashes if stands is not None else frozenset()):
            # What was compiled is not what stands published: a key that is only in it does not work yet.
            unpublished = failed(Reason.PROGRESSING, "the document with the tenant's keys is not published yet")
            self.steps.failures.setdefault(ConditionType.KEYS_READY, unpublished)
        concerns = with_strangers(compiled.concerns, self.strangers)
        settled = settle(concerns, failures=self.steps.failures, published=published)
        conditions = hold_conditions(
            tenant_conditions(settled, suspended=tenant.spec.suspend, previous=_statuses(self.obj)),
            self.why,
            _held_keys(ctx, tenant.name),
        )
        body = tenant_status(
            tenant, compiled, platform=ctx.platform, published=published, handled_requests=self._handled(compiled)
        )
        if compiled.ownership is not None and not self.steps.failures.get(ConditionType.NAMESPACE_READY):
            told = status_config_map(tenant, namespace=tenant.namespace, status=body, conditions=conditions)
            applied = await self._apply([told], patient=True)
            for key, error in applied.errors.items():
                self.steps.fail(ConditionType.ACCESS_READY, key, error, self._since())
        live = await write_status(ctx, self.obj, conditions, body=body)
        for event in story(self.obj.get("status") or {}, live.get("status") or {}):
            ctx.recorder.record(self.obj, event.type, event.reason, event.note)
        if self.steps.failures:
            return Again(after=self.steps.again or 0.0)
        if self.look_again or compiled.ownership is None:
            return Done(after=LOOK_AGAIN)
        counts = compiled.effective is not None and counts_own_kinds(compiled.effective.quota)
        return Done(
            after=earliest(
                self._counting()[1] if counts else None, STRANGERS_AGAIN if self.strangers.policies else None
            )
        )

    def _handled(self, compiled: Compiled) -> dict[str, str]:
        """Requests that this pass has answered; a reindex is answered when its builds have ended."""
        handled = dict(self.tenant.status.handled_requests)
        building = bool(compiled.builds) or bool(self.ctx.builds.building(self.tenant.name))
        for name in (names.ANNOTATION_RECONCILE, names.ANNOTATION_REINDEX, names.ANNOTATION_RELEASE):
            asked = annotations_of(self.obj).get(name)
            answered = not self.steps.failures and not (name == names.ANNOTATION_REINDEX and building)
            if asked is not None and answered:
                handled[name.partition("/")[2]] = asked[:64]
        return handled


def _hashes(compiled: Compiled) -> frozenset[str]:
    return (
        frozenset(entry.hash for entry in compiled.document.spec.keys) if compiled.document is not None else frozenset()
    )


def _lag(error: ApiError, since_binding: float | None) -> bool:
    """True when a refusal may only mean that our rights, or the namespace's label, are not in force yet."""
    if isinstance(error, Forbidden) and "status unknown for quota" in error.message:
        # A ResourceQuota that was made just now is not filled in yet.
        return True
    if isinstance(error, Forbidden) and (error.by_quota or error.terminating):
        return False
    if isinstance(error, Forbidden):
        return since_binding is None or since_binding < RBAC_LAG
    return isinstance(error, Invalid) and "ValidatingAdmissionPolicy" in error.message
