"""What is in force for a tenant: the plan's defaults with the Tenant's own fields over them.

Guarantees that the result stands on the safe side of every refusal: a subject, range or Pod Security level that must
not be is left out or raised to the floor, *and* reported as a problem of its concern, so that nothing is open while
somebody reads the message. An unknown plan refuses the whole Tenant: without it, no limit is known.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from tenantplane_api.crd.common import Subject
from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.crd.tenant import Access, Auth, BootstrapKey, Egress, Ingress, Limits, TenantSpec
from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import TenantLimits
from tenantplane_api.runtime.names import ModelKey
from tenantplane_api.runtime.platform import Allowances, Plan, Platform
from tenantplane_operator.tenant import awsrole, containers, quota, ranges, subjects
from tenantplane_operator.tenant.concern import Concern, Refused, clip, failed
from tenantplane_operator.tenant.parse import ParsedTenant

PodSecurity = Literal["Restricted", "Baseline", "Privileged"]
_STRICTNESS: Final[Mapping[str, int]] = {"Privileged": 0, "Baseline": 1, "Restricted": 2}

DEFAULT_KEY: Final = "default"
"""Name of the API key of a tenant that lists none."""


@dataclass(frozen=True, slots=True)
class AliasRef:
    """An alias and the model that it is to stand for."""

    alias: str
    key: ModelKey


@dataclass(frozen=True, slots=True)
class EffectiveNetwork:
    """Openings in the fence; ranges are canonical and admitted."""

    internet: bool = False
    egress_cidrs: tuple[str, ...] = ()
    egress_namespaces: tuple[str, ...] = ()
    ingress_namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EffectiveAccess:
    """Admitted subjects. ``workloads``: admins may run workloads."""

    admins: tuple[Subject, ...] = ()
    editors: tuple[Subject, ...] = ()
    viewers: tuple[Subject, ...] = ()
    workloads: bool = False


@dataclass(frozen=True, slots=True)
class EffectiveTenant:
    """What is in force.

    ``container_limits`` has the keys of a LimitRange item; empty ones are left out. ``allow`` is the plan's, its hosts
    this tenant's own.
    ``role_arn`` is ``None`` unless the platform admits it.
    """

    plan: str
    quota: Mapping[str, str]
    container_limits: Mapping[str, Mapping[str, str]]
    limits: TenantLimits
    pod_security: PodSecurity
    pod_security_version: str
    access: EffectiveAccess
    network: EffectiveNetwork
    allow: Allowances
    role_arn: str | None
    models: tuple[AliasRef, ...]
    api_keys: tuple[BootstrapKey, ...]
    keys_listed: bool
    problems: Mapping[ConditionType, Concern] = field(default_factory=dict)


def merge(
    tenant: ParsedTenant, platform: Platform, *, foreign_namespaces: Collection[str] = frozenset()
) -> EffectiveTenant:
    """Plan and spec together.

    Args:
        tenant: whose.
        platform: plans, floors and deny-lists.
        foreign_namespaces: those of other tenants; see ``subjects.why_denied``.

    Raises:
        Refused: UnknownPlan.
    """
    spec = tenant.spec
    chosen = platform.plan(spec.plan)
    if chosen is None:
        known = ", ".join(sorted(platform.operator.plans))
        raise Refused(
            failed(
                Reason.UNKNOWN_PLAN, f"spec.plan: there is no plan {spec.plan!r}: use one of {known}, or leave it out"
            )
        )
    name, plan = chosen
    problems: dict[ConditionType, Concern] = {}
    bounds, wrong_counts = quota.whole_counts({**plan.quota, **spec.quota}, spec.quota, plan_name=name)
    limits = containers.merge_limits(spec.container_limits, plan.container_limits, plan_name=name)
    _report(problems, ConditionType.QUOTA_READY, [*wrong_counts, *limits.problems])
    keys = (spec.auth or Auth()).api_keys
    return EffectiveTenant(
        plan=name,
        quota=bounds,
        container_limits=limits.limits,
        limits=_limits(spec, plan),
        pod_security=_pod_security(spec, platform, problems),
        pod_security_version=platform.operator.pod_security_version,
        access=_access(tenant, plan, platform, foreign_namespaces, problems),
        network=_network(spec, platform, problems),
        allow=plan.allow.for_tenant(tenant.name, tenant.tenant_id),
        role_arn=_role(tenant, platform, problems),
        models=_models(spec, plan, platform),
        api_keys=(BootstrapKey(name=DEFAULT_KEY),) if keys is None else tuple(keys),
        keys_listed=keys is not None,
        problems=problems,
    )


def _report(problems: dict[ConditionType, Concern], kind: ConditionType, found: Sequence[str]) -> None:
    if found:
        problems[kind] = failed(Reason.INVALID_SPEC, clip("; ".join(found)))


def _limits(spec: TenantSpec, plan: Plan) -> TenantLimits:
    own = spec.limits or Limits()
    per_minute = own.requests.per_minute if own.requests else None
    return TenantLimits(
        requests_per_minute=plan.limits.requests.per_minute if per_minute is None else per_minute,
        concurrency=plan.limits.concurrency if own.concurrency is None else own.concurrency,
    )


def _pod_security(spec: TenantSpec, platform: Platform, problems: dict[ConditionType, Concern]) -> PodSecurity:
    floor = platform.operator.pod_security_floor
    wanted = (spec.namespace.pod_security if spec.namespace else None) or floor
    if _STRICTNESS[wanted] >= _STRICTNESS[floor]:
        return wanted
    problems[ConditionType.NAMESPACE_READY] = failed(
        Reason.POD_SECURITY_BELOW_FLOOR,
        f"spec.namespace.podSecurity: {wanted} is below the platform's floor {floor}, which is enforced instead: "
        f"use {floor} or stricter",
    )
    return floor


def _access(
    tenant: ParsedTenant,
    plan: Plan,
    platform: Platform,
    foreign: Collection[str],
    problems: dict[ConditionType, Concern],
) -> EffectiveAccess:
    own = tenant.spec.access or Access()
    admitted: dict[str, tuple[Subject, ...]] = {}
    refused: list[str] = []
    for role, listed in (("admins", own.admins), ("editors", own.editors), ("viewers", own.viewers)):
        reasons = [
            subjects.why_denied(subject, namespace=tenant.namespace, platform=platform, foreign=foreign)
            for subject in listed
        ]
        admitted[role] = tuple(subject for subject, why in zip(listed, reasons, strict=True) if why is None)
        refused += [
            f"spec.access.{role}[{position}]: {listed[position].kind} {listed[position].name} {why} and may not be "
            "given a tenant's namespace"
            for position, why in enumerate(reasons)
            if why is not None
        ]
    if refused:
        problems[ConditionType.ACCESS_READY] = failed(
            Reason.SUBJECT_DENIED, clip("; ".join(refused) + ": name people, groups or ServiceAccounts of the customer")
        )
    return EffectiveAccess(
        admins=admitted["admins"],
        editors=admitted["editors"],
        viewers=admitted["viewers"],
        workloads=(own.workloads or plan.workloads) == "Restricted",
    )


def _network(spec: TenantSpec, platform: Platform, problems: dict[ConditionType, Concern]) -> EffectiveNetwork:
    egress = (spec.network.egress if spec.network else None) or Egress()
    ingress = (spec.network.ingress if spec.network else None) or Ingress()
    cluster = ranges.cluster_networks(platform.shared.network.cluster_cidrs)
    admitted: list[str] = []
    refused: list[str] = []
    for position, text in enumerate(egress.cidrs):
        try:
            admitted.append(ranges.checked_range(text, cluster))
        except ranges.RangeError as error:
            refused.append(f"spec.network.egress.cidrs[{position}]: {text} {error}")
    outwards = _namespaces("egress", egress.namespaces, platform, refused)
    inwards = _namespaces("ingress", ingress.namespaces, platform, refused)
    _report(problems, ConditionType.NETWORK_READY, refused)
    return EffectiveNetwork(
        internet=egress.internet,
        egress_cidrs=tuple(dict.fromkeys(admitted)),
        egress_namespaces=outwards,
        ingress_namespaces=inwards,
    )


def _namespaces(direction: str, listed: Sequence[str], platform: Platform, refused: list[str]) -> tuple[str, ...]:
    """Namespaces that may be opened: never Kubernetes' own and the platform's, where engines and builds of all are."""
    admitted: list[str] = []
    for position, name in enumerate(listed):
        if name.startswith(names.RESERVED_NAMESPACE_PREFIXES) or subjects.is_platform_namespace(name, platform):
            refused.append(
                f"spec.network.{direction}.namespaces[{position}]: {name} is a namespace of Kubernetes or the "
                "platform, which no tenant is connected with: name a namespace of your own"
            )
        else:
            admitted.append(name)
    return tuple(dict.fromkeys(admitted))


def _role(tenant: ParsedTenant, platform: Platform, problems: dict[ConditionType, Concern]) -> str | None:
    aws = tenant.spec.identity.aws if tenant.spec.identity else None
    if aws is None:
        return None
    if awsrole.role_allowed(aws.role_arn, platform.operator.aws.allowed_role_arns, tenant_id=tenant.tenant_id):
        return aws.role_arn
    problems[ConditionType.IDENTITY_READY] = failed(
        Reason.ROLE_NOT_ALLOWED,
        f"spec.identity.aws.roleARN: {aws.role_arn} is not on the platform's list for this tenant: ask the platform "
        "team to add it to operator.aws.allowedRoleARNs, or name another role",
    )
    return None


def _models(spec: TenantSpec, plan: Plan, platform: Platform) -> tuple[AliasRef, ...]:
    shared = platform.shared.namespaces.models
    if spec.models is not None:
        listed = [(model.alias, model.ref.namespace, model.ref.name) for model in spec.models]
    else:
        listed = [(model.alias, model.ref.namespace, model.ref.name) for model in plan.models]
    return tuple(AliasRef(alias, names.model_key(namespace or shared, name)) for alias, namespace, name in listed)
