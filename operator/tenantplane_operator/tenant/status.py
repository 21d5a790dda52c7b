"""From what was compiled and what came of it to the Tenant's status.

Guarantees the meaning of ``Ready``: access can be used as declared. Keys, models and knowledge take it away only until
they succeeded for the first time: a model that is gone or an index that cannot be rebuilt is a fault to report, not a
reason to call a tenant unusable that others wait for. A suspended tenant is Ready: it is what was asked for. Times are
added by whoever writes the status.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from tenantplane_api.crd.conditions import TENANT_CONCERNS, ConditionType, Reason
from tenantplane_api.crd.tenantstatus import Effective, EffectiveModel, EffectiveNetwork, KnowledgeStatus
from tenantplane_api.runtime.names import Revision
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.tenant.compile import Compiled
from tenantplane_operator.tenant.concern import Concern, failed, ok, summarize
from tenantplane_operator.tenant.parse import ParsedTenant, format_time

UNTIL_FIRST_SUCCESS: Final = frozenset(
    {ConditionType.KEYS_READY, ConditionType.MODELS_READY, ConditionType.KNOWLEDGE_READY}
)
"""Concerns that lower ``Ready`` only until they held once."""


def settle(
    concerns: Mapping[ConditionType, Concern],
    *,
    failures: Mapping[ConditionType, Concern] | None = None,
    published: Revision | None,
) -> dict[ConditionType, Concern]:
    """What is, from what was to be.

    Args:
        concerns: of ``Compiled``.
        failures: concerns whose children could not be applied. A refusal of the compiler is kept over them: it is what
            the user can do something about.
        published: revision of the tenant's document that stands published, ``None`` when none does.
    """
    out = dict(concerns)
    for kind, failure in (failures or {}).items():
        if out[kind].ok or out[kind].status == "Unknown":
            out[kind] = failure
    runtime = out[ConditionType.RUNTIME_PUBLISHED]
    if runtime.ok:
        out[ConditionType.RUNTIME_PUBLISHED] = (
            ok(Reason.PUBLISHED, f"revision {published}")
            if published is not None
            else failed(Reason.PROGRESSING, "the runtime document is not published yet")
        )
    return out


def tenant_conditions(
    settled: Mapping[ConditionType, Concern], *, suspended: bool, previous: Mapping[str, str]
) -> dict[ConditionType, Concern]:
    """All conditions of a Tenant.

    Args:
        settled: the outcome of ``settle``.
        suspended: ``spec.suspend``.
        previous: status by type of the conditions in the live object.

    A type that is not in the result is to be removed.
    """
    lowering = [
        kind for kind in TENANT_CONCERNS if kind not in UNTIL_FIRST_SUCCESS or not _succeeded_before(kind, previous)
    ]
    ordered = {kind: settled[kind] for kind in TENANT_CONCERNS}
    out = summarize(ordered, lowering=lowering)
    if suspended:
        out[ConditionType.SUSPENDED] = ok(
            Reason.SUSPENDED, "all requests are refused; set spec.suspend to false to resume"
        )
    return out


def _succeeded_before(kind: ConditionType, previous: Mapping[str, str]) -> bool:
    # Ready was never True without it, so a Ready that is True remembers the success of a concern that is False now.
    return "True" in (previous.get(kind), previous.get(ConditionType.READY))


def tenant_status(
    tenant: ParsedTenant,
    compiled: Compiled,
    *,
    platform: Platform,
    published: Revision | None,
    handled_requests: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The status without conditions, as the schema spells it; what is unset is left out.

    Of a Tenant whose spec was refused, what was known before stays: it is still in force.
    """
    body: dict[str, Any] = {"observedGeneration": tenant.generation}
    owns = compiled.refusal is None
    namespace = tenant.namespace if owns else tenant.status.namespace
    if namespace:
        body["namespace"] = namespace
    if published is not None:
        body["endpoint"] = endpoint(platform)
        body["runtimeRevision"] = published
    usable = models_usable(compiled) if owns else tenant.status.models_usable
    if usable is not None:
        body["modelsUsable"] = usable
    effective = effective_status(compiled) if owns else tenant.status.effective
    if effective is not None:
        body["effective"] = _plain(effective.model_dump(mode="python", by_alias=True, exclude_none=True))
    entries = compiled.knowledge if owns else tuple(tenant.status.knowledge)
    if entries:
        body["knowledge"] = [knowledge_body(entry) for entry in sorted(entries, key=lambda entry: entry.name)]
    requests = {**tenant.status.handled_requests, **(handled_requests or {})}
    if requests:
        body["handledRequests"] = dict(sorted(requests.items()))
    return body


def endpoint(platform: Platform) -> str:
    """Base URL for OpenAI SDKs: ``<publicURL>/v1``."""
    return platform.shared.dataplane.public_url.rstrip("/") + "/v1"


def models_usable(compiled: Compiled) -> str | None:
    """``status.modelsUsable``: aliases that are served, of all; ``None`` when nothing was compiled."""
    if compiled.models is None:
        return None
    usable = compiled.models.usable
    return f"{sum(usable.values())}/{len(usable)}"


def effective_status(compiled: Compiled) -> Effective | None:
    """``status.effective``: the tenant's share of the quota, without the room that we add for ourselves."""
    effective, models = compiled.effective, compiled.models
    if effective is None or models is None:
        return None
    return Effective(
        plan=effective.plan,
        quota=dict(sorted(effective.quota.items())),
        container_limits={section: dict(sorted(item.items())) for section, item in effective.container_limits.items()},
        network=EffectiveNetwork(
            internet=effective.network.internet,
            egressCIDRs=list(effective.network.egress_cidrs),
            egress_namespaces=list(effective.network.egress_namespaces),
            ingress_namespaces=list(effective.network.ingress_namespaces),
        ),
        allow={name: entries for name, entries in msgspec.to_builtins(effective.allow).items() if entries},
        roleARN=effective.role_arn,
        requests_per_minute=effective.limits.requests_per_minute,
        concurrency=effective.limits.concurrency,
        workloads="Restricted" if effective.access.workloads else "None",
        pod_security=effective.pod_security,
        models=[
            EffectiveModel(alias=ref.alias, model=ref.key, usable=models.usable[ref.alias])
            for ref in sorted(effective.models, key=lambda ref: ref.alias)
        ],
    )


def knowledge_body(entry: KnowledgeStatus) -> dict[str, Any]:
    """One entry of ``status.knowledge`` as the schema spells it."""
    body: dict[str, Any] = _plain(entry.model_dump(mode="python", by_alias=True, exclude_none=True))
    if not entry.message:
        body.pop("message", None)
    return body


def _plain(value: Any) -> Any:
    """JSON-compatible data; times as the API server writes them, so that an unchanged status compares equal."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item not in ({}, [])}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return format_time(value) if isinstance(value, datetime) else value
