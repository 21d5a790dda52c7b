"""What is in force for a tenant: the plan's defaults with the Tenant's own fields over them.

Guarantees that the result stands on the safe side of every refusal: a subject, range or Pod Security level that must
not be is left out or raised to the floor, *and* reported as a problem of its concern, so that nothing is open while
somebody reads the message. An unknown plan refuses the whole Tenant: without it, no limit is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tenantplane_api.crd.common import Subject
from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.crd.tenant import Access, Auth, BootstrapKey, Egress, Limits, TenantSpec
from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import TenantLimits
from tenantplane_api.runtime.names import ModelKey
from tenantplane_api.runtime.platform import Plan, Platform
from tenantplane_operator.tenant import ranges
from tenantplane_operator.tenant.concern import Concern, Refused, clip, failed

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
    """What is in force. ``container_limits`` has the keys of a LimitRange item; empty ones are left out."""

    plan: str
    quota: Mapping[str, str]
    container_limits: Mapping[str, Mapping[str, str]]
    limits: TenantLimits
    pod_security: PodSecurity
    pod_security_version: str
    access: EffectiveAccess
    network: EffectiveNetwork
    models: tuple[AliasRef, ...]
    api_keys: tuple[BootstrapKey, ...]
    keys_listed: bool
    problems: Mapping[ConditionType, Concern] = field(default_factory=dict)


def merge(spec: TenantSpec, platform: Platform) -> EffectiveTenant:
    """Plan and spec together.

    Raises:
        Refused: UnknownPlan.
    """
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
    keys = (spec.auth or Auth()).api_keys
    return EffectiveTenant(
        plan=name,
        quota={**plan.quota, **spec.quota},
        container_limits=_container_limits(spec, plan),
        limits=_limits(spec, plan),
        pod_security=_pod_security(spec, platform, problems),
        pod_security_version=platform.operator.pod_security_version,
        access=_access(spec, plan, platform, problems),
        network=_network(spec, platform, problems),
        models=_models(spec, plan, platform),
        api_keys=(BootstrapKey(name=DEFAULT_KEY),) if keys is None else tuple(keys),
        keys_listed=keys is not None,
        problems=problems,
    )


def _container_limits(spec: TenantSpec, plan: Plan) -> Mapping[str, Mapping[str, str]]:
    own, base = spec.container_limits, plan.container_limits
    merged: dict[str, Mapping[str, str]] = {
        "default": (own.default if own else {}) or base.default,
        "defaultRequest": (own.default_request if own else {}) or base.default_request,
        "max": (own.max if own else {}) or base.max,
        "min": (own.min if own else {}) or base.min,
    }
    return {key: dict(value) for key, value in merged.items() if value}


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


def _is_denied(subject: Subject, denied: frozenset[str]) -> bool:
    if subject.kind == "ServiceAccount":
        # As the API server spells a ServiceAccount's user name, so that one list serves all three kinds.
        return f"system:serviceaccount:{subject.namespace}:{subject.name}" in denied
    return subject.name in denied or subject.name.startswith("system:")


def _access(
    spec: TenantSpec, plan: Plan, platform: Platform, problems: dict[ConditionType, Concern]
) -> EffectiveAccess:
    denied = frozenset(platform.operator.denied_subjects) | names.DENIED_SUBJECTS
    own = spec.access or Access()
    admitted: dict[str, tuple[Subject, ...]] = {}
    refused: list[str] = []
    for role, subjects in (("admins", own.admins), ("editors", own.editors), ("viewers", own.viewers)):
        admitted[role] = tuple(subject for subject in subjects if not _is_denied(subject, denied))
        refused += [
            f"spec.access.{role}[{position}]: {subject.kind} {subject.name} may not be given a tenant's namespace"
            for position, subject in enumerate(subjects)
            if _is_denied(subject, denied)
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
    ingress = spec.network.ingress if spec.network else None
    cluster = ranges.cluster_networks(platform.shared.network.cluster_cidrs)
    admitted: list[str] = []
    refused: list[str] = []
    for position, text in enumerate(egress.cidrs):
        try:
            admitted.append(ranges.checked_range(text, cluster))
        except ranges.RangeError as error:
            refused.append(f"spec.network.egress.cidrs[{position}]: {text} {error}")
    if refused:
        problems[ConditionType.NETWORK_READY] = failed(Reason.INVALID_SPEC, clip("; ".join(refused)))
    return EffectiveNetwork(
        internet=egress.internet,
        egress_cidrs=tuple(dict.fromkeys(admitted)),
        egress_namespaces=tuple(dict.fromkeys(egress.namespaces)),
        ingress_namespaces=tuple(dict.fromkeys(ingress.namespaces)) if ingress else (),
    )


def _models(spec: TenantSpec, plan: Plan, platform: Platform) -> tuple[AliasRef, ...]:
    shared = platform.shared.namespaces.models
    if spec.models is not None:
        listed = [(model.alias, model.ref.namespace, model.ref.name) for model in spec.models]
    else:
        listed = [(model.alias, model.ref.namespace, model.ref.name) for model in plan.models]
    return tuple(AliasRef(alias, names.model_key(namespace or shared, name)) for alias, namespace, name in listed)
