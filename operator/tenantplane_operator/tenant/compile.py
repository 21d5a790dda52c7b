"""The front door: one Tenant, the Platform and what was observed in; children, runtime document and concerns out.

Guarantees that the same input gives the same output in the same order, that bad input becomes a concern and never an
exception, and that a Tenant that may not write its namespace gets no child and no document. The reconciler applies,
``plan`` prints, standalone mode serves what comes out of here; none of them decides anything again.
"""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tenantplane_api.crd.conditions import TENANT_CONCERNS, ConditionType, Reason
from tenantplane_api.crd.tenantstatus import KnowledgeStatus
from tenantplane_api.runtime.documents import IndexPointer, TenantRuntime
from tenantplane_api.runtime.names import ModelKey
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.tenant import access, document, identity, keys, knowledge, models, quota
from tenantplane_operator.tenant.concern import Concern, Refused, ok, pending
from tenantplane_operator.tenant.effective import EffectiveTenant, merge
from tenantplane_operator.tenant.identity import Claim, Owned
from tenantplane_operator.tenant.knowledge import IndexPlan, IndexState
from tenantplane_operator.tenant.manifest import Manifest
from tenantplane_operator.tenant.models import ObservedModel, ResolvedModels
from tenantplane_operator.tenant.namespace import namespace_manifest
from tenantplane_operator.tenant.network import network_policies
from tenantplane_operator.tenant.parse import ParsedTenant
from tenantplane_operator.tenant.serviceaccount import default_account, tenant_account

PRUNABLE: Final[tuple[tuple[str, str], ...]] = (
    ("v1", "ResourceQuota"),
    ("v1", "LimitRange"),
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
)
"""Kinds in a tenant's namespace of which an object that carries our labels, and is no longer wanted, is deleted.

Namespaces are never pruned, Secrets belong to their APIKeys, APIKeys are listed one by one (``obsolete_keys``).
"""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the compiler may know beside the Tenant itself.

    ``tenants``: what all Tenants claim, the compiled one among them or not. ``api_keys``: APIKey objects of the
    tenant's namespace with their status. ``models``: at least those of ``referenced_models``. ``config_maps``: digest
    by name of those of ``referenced_config_maps`` that exist. ``knowledge``: states newer than the Tenant's own status.
    ``building``: ``attempt_key`` of the build that runs or waits for an index. ``own_kinds_countable``: Kubernetes
    counts objects of our kinds, which it does half a minute after their CRDs were installed; until then it refuses all
    of them where a quota names them. ``foreign_namespaces``: those of ``referenced_namespaces`` that belong to another
    tenant. ``taken_hashes``: hashes of keys to which another tenant has the better right.
    """

    namespace: Mapping[str, Any] | None = None
    tenants: Sequence[Claim] = ()
    api_keys: Sequence[Mapping[str, Any]] = ()
    models: Mapping[ModelKey, ObservedModel] = field(default_factory=dict)
    config_maps: Mapping[str, str] = field(default_factory=dict)
    knowledge: Mapping[str, KnowledgeStatus] = field(default_factory=dict)
    building: Mapping[str, str] = field(default_factory=dict)
    own_kinds_countable: bool = True
    foreign_namespaces: Collection[str] = frozenset()
    taken_hashes: Container[str] = frozenset()


class Publication(StrEnum):
    """What to do about the tenant's runtime document."""

    PUBLISH = "Publish"
    KEEP = "Keep"
    WITHDRAW = "Withdraw"


@dataclass(frozen=True, slots=True)
class Child:
    """An object to apply, and the condition that suffers when that fails."""

    concern: ConditionType
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Compiled:
    """What is to be.

    ``children`` are in the order in which they must be applied. ``concerns`` has every type of ``TENANT_CONCERNS`` and
    says what holds once children and document are applied. ``document`` is set exactly when ``publication`` is PUBLISH.
    """

    publication: Publication
    concerns: Mapping[ConditionType, Concern]
    ownership: Owned | None = None
    refusal: Concern | None = None
    children: tuple[Child, ...] = ()
    obsolete_keys: tuple[str, ...] = ()
    document: TenantRuntime | None = None
    effective: EffectiveTenant | None = None
    models: ResolvedModels | None = None
    builds: tuple[IndexPlan, ...] = ()
    knowledge: tuple[KnowledgeStatus, ...] = ()


def referenced_config_maps(tenant: ParsedTenant) -> tuple[str, ...]:
    """Names of the ConfigMaps in the tenant's namespace that its indices are made from."""
    found = {source.config_map.name for index in tenant.spec.knowledge for source in index.sources if source.config_map}
    return tuple(sorted(found))


def referenced_models(tenant: ParsedTenant, platform: Platform) -> tuple[ModelKey, ...]:
    """Models that the tenant's aliases name; empty when its plan is unknown."""
    try:
        effective = merge(tenant, platform)
    except Refused:
        return ()
    return tuple(sorted({ref.key for ref in effective.models}))


def referenced_namespaces(tenant: ParsedTenant) -> tuple[str, ...]:
    """Namespaces beside the tenant's own whose ServiceAccounts are to be let in."""
    own = tenant.spec.access
    listed = () if own is None else (*own.admins, *own.editors, *own.viewers)
    return tuple(sorted({item.namespace for item in listed if item.namespace} - {tenant.namespace}))


def compile_tenant(tenant: ParsedTenant, platform: Platform, observed: Observed) -> Compiled:
    """Everything that follows from a Tenant; see ``Compiled``."""
    policy = tenant.spec.namespace.adoption_policy if tenant.spec.namespace else "ByConsent"
    ownership = identity.decide(
        tenant.claim,
        namespace=observed.namespace,
        others=observed.tenants,
        adoption_policy=policy,
        recorded=tenant.status.namespace == tenant.namespace,
        platform=platform,
    )
    if isinstance(ownership, Concern):
        # Whoever may not write the namespace may not be served under its name either.
        return refused(ownership, Publication.WITHDRAW)
    try:
        effective = merge(tenant, platform, foreign_namespaces=observed.foreign_namespaces)
    except Refused as error:
        return refused_spec(error.concern, suspended=tenant.spec.suspend)

    bootstrap = keys.bootstrap_keys(tenant.owner, tenant.namespace, effective=effective, observed=observed.api_keys)
    resolved = models.resolve(
        effective.models,
        tenant=tenant.name,
        namespace=tenant.namespace,
        shared_namespace=platform.shared.namespaces.models,
        observed=observed.models,
    )
    indexes = _indexes(tenant, platform, observed)
    built: TenantRuntime | None = None
    runtime = ok(Reason.PUBLISHED)
    try:
        built = document.compile_document(
            tenant,
            plan=effective.plan,
            keys=document.accepted_keys(observed.api_keys, namespace=tenant.namespace, taken=observed.taken_hashes),
            models=resolved.aliases,
            indexes=_pointers(indexes),
            rates=effective.limits,
        )
    except Refused as error:
        runtime = error.concern
    concerns = dict.fromkeys(TENANT_CONCERNS, ok(Reason.APPLIED)) | {
        ConditionType.KEYS_READY: keys.keys_concern(
            bootstrap,
            effective=effective,
            observed=observed.api_keys,
            accepted=frozenset(entry.hash for entry in built.spec.keys) if built is not None else (),
        ),
        ConditionType.MODELS_READY: models.models_concern(
            resolved, assistants=[(assistant.name, assistant.model) for assistant in tenant.spec.assistants]
        ),
        ConditionType.KNOWLEDGE_READY: knowledge.knowledge_concern(indexes),
        ConditionType.RUNTIME_PUBLISHED: runtime,
        ConditionType.QUOTA_READY: _quota_concern(effective),
        ConditionType.IDENTITY_READY: ok(Reason.APPLIED) if effective.role_arn else ok(Reason.NOT_CONFIGURED),
        **effective.problems,
    }
    children = _children(tenant, platform, effective, bootstrap.manifests, observed)
    publication = Publication.PUBLISH if built is not None else _fallback(tenant.spec.suspend)
    return Compiled(
        publication=publication,
        concerns=concerns,
        ownership=ownership,
        children=children,
        obsolete_keys=bootstrap.obsolete,
        document=built,
        effective=effective,
        models=resolved,
        builds=tuple(state.build for state in indexes.values() if state.build is not None),
        knowledge=tuple(state.status for state in indexes.values()),
    )


def _quota_concern(effective: EffectiveTenant) -> Concern:
    if not effective.quota and not effective.container_limits:
        return ok(Reason.NOT_CONFIGURED)
    return ok(Reason.APPLIED, quota.without_defaults(effective.quota, effective.container_limits))


def _fallback(suspended: bool) -> Publication:
    """What holds when no document can be made: the last one, unless it would serve a tenant that is to be suspended."""
    return Publication.WITHDRAW if suspended else Publication.KEEP


def refused(
    concern: Concern, publication: Publication, kind: ConditionType = ConditionType.NAMESPACE_READY
) -> Compiled:
    """Nothing may be written; ``kind`` says why, of the other concerns nothing is known."""
    unknown = pending(Reason.WAITING, f"not looked at while {kind} is {concern.reason}")
    concerns = dict.fromkeys(TENANT_CONCERNS, unknown) | {kind: concern}
    return Compiled(publication=publication, concerns=concerns, refusal=concern)


def refused_spec(concern: Concern, *, suspended: bool = False) -> Compiled:
    """A spec that cannot be compiled, also one that ``parse_tenant`` refused.

    What was applied and published before stays, as with any bad reload; a Tenant that asks to be suspended is cut off
    all the same.
    """
    return refused(concern, _fallback(suspended), ConditionType.RUNTIME_PUBLISHED)


def _indexes(tenant: ParsedTenant, platform: Platform, observed: Observed) -> dict[str, IndexState]:
    stored = {status.name: status for status in tenant.status.knowledge} | dict(observed.knowledge)
    return {
        index.name: knowledge.decide(
            index.name,
            knowledge.plan_index(tenant, index, platform=platform, config_maps=observed.config_maps),
            previous=stored.get(index.name),
            building=observed.building.get(index.name),
        )
        for index in tenant.spec.knowledge
    }


def _pointers(indexes: Mapping[str, IndexState]) -> list[IndexPointer]:
    return [state.pointer for state in indexes.values() if state.pointer is not None]


def _children(
    tenant: ParsedTenant,
    platform: Platform,
    effective: EffectiveTenant,
    api_keys: Sequence[Manifest],
    observed: Observed,
) -> tuple[Child, ...]:
    """In order: what everything needs, the fence, and only then the people and programs it is there for."""
    owner, namespace = tenant.owner, tenant.namespace
    first = [
        Child(
            ConditionType.NAMESPACE_READY,
            namespace_manifest(owner, namespace, spec=tenant.spec.namespace, effective=effective),
        ),
        Child(ConditionType.ACCESS_READY, access.operator_binding(owner, namespace, platform=platform)),
    ]
    limits = quota.limit_range(owner, namespace, limits=effective.container_limits)
    rest = [
        *([] if limits is None else [Child(ConditionType.QUOTA_READY, limits)]),
        *(
            Child(ConditionType.NETWORK_READY, policy)
            for policy in network_policies(owner, namespace, network=effective.network, platform=platform)
        ),
        Child(
            ConditionType.ACCESS_READY if effective.role_arn is None else ConditionType.IDENTITY_READY,
            tenant_account(owner, namespace, role_arn=effective.role_arn),
        ),
        Child(ConditionType.ACCESS_READY, default_account(owner, namespace)),
        *(
            Child(ConditionType.ACCESS_READY, binding)
            for binding in access.access_bindings(owner, namespace, access=effective.access)
        ),
        *(Child(ConditionType.KEYS_READY, key) for key in api_keys),
    ]
    ours = quota.objects_of_ours(
        (child.manifest for child in (*first[1:], *rest)),
        secrets=quota.secrets_of_keys(api_keys, observed.api_keys),
    )
    counted = quota.countable(effective.quota, own_kinds=observed.own_kinds_countable)
    bounds = quota.resource_quota(owner, namespace, quota=counted, ours=ours)
    return (*first, *([] if bounds is None else [Child(ConditionType.QUOTA_READY, bounds)]), *rest)
