"""What follows from a folder of YAML: runtime documents, keys, index builds and the state of each tenant.

The same pure builders that the operator runs decide everything; this module only plays the API server for them: it
hands over what was observed and keeps what they decide to keep. Guarantees that keys are made once and stay revoked,
and that conditions about Kubernetes objects say that nothing of them is enforced. No I/O but the state folder.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.crd.tenantstatus import KnowledgeStatus
from tenantplane_api.runtime import documents, names
from tenantplane_api.runtime.names import ModelKey, Revision
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.keys import describe
from tenantplane_cli.up.apikeys import settle_key
from tenantplane_cli.up.load import Loaded
from tenantplane_cli.up.state import State
from tenantplane_operator.apikey.parse import parse_api_key
from tenantplane_operator.apikey.secret import TenantRef
from tenantplane_operator.apikey.state import KeyDecision
from tenantplane_operator.modeldeployment.document import OwnerRef
from tenantplane_operator.modeldeployment.parse import parse_model
from tenantplane_operator.modeldeployment.state import decide as decide_model
from tenantplane_operator.tenant.compile import Compiled, Observed, Publication, compile_tenant, referenced_config_maps
from tenantplane_operator.tenant.concern import Concern, ok
from tenantplane_operator.tenant.identity import Claim
from tenantplane_operator.tenant.knowledge import IndexPlan, config_map_digest
from tenantplane_operator.tenant.models import ObservedModel
from tenantplane_operator.tenant.parse import ParsedTenant, parse_tenant
from tenantplane_operator.tenant.status import effective_status, knowledge_body, settle, tenant_conditions

NOT_ENFORCED: Final = (
    "network policies (spec.network)",
    "resource quota (spec.quota) and container limits (spec.containerLimits)",
    "Kubernetes access rights (spec.access)",
    "namespace and Pod Security (spec.namespace)",
    "cloud identity (spec.identity)",
    "what the plan lets workloads use (the plan's quota, containerLimits, workloads and allow)",
)
"""What a standalone run cannot do, said at start and in `tenantplane status`."""
_OF_KUBERNETES: Final = (
    ConditionType.NAMESPACE_READY,
    ConditionType.QUOTA_READY,
    ConditionType.NETWORK_READY,
    ConditionType.ACCESS_READY,
    ConditionType.IDENTITY_READY,
)
_CREATED: Final = "2000-01-01T00:00:00Z"


@dataclass
class TenantResult:
    """One tenant, compiled. ``entry`` is what `up.json` says about it."""

    tenant: ParsedTenant
    compiled: Compiled
    entry: dict[str, Any]


@dataclass
class Result:
    """All that follows: documents by file name, tenants by name."""

    documents: dict[str, bytes] = field(default_factory=dict)
    tenants: dict[str, TenantResult] = field(default_factory=dict)


class World:
    """Remembers what must outlive one look at the folder."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._keys: dict[str, dict[str, dict[str, Any]]] = state.read("keys.json")
        self._knowledge: dict[str, dict[str, KnowledgeStatus]] = _read_knowledge(state.read("knowledge.json"))
        self._conditions: dict[str, Mapping[str, str]] = {}
        self._published: dict[str, bytes] = {}

    def knowledge_of(self, tenant_id: str, index: str) -> KnowledgeStatus | None:
        """State of one index."""
        return self._knowledge.get(tenant_id, {}).get(index)

    def record(self, tenant_id: str, status: KnowledgeStatus) -> None:
        """A build ended."""
        self._knowledge.setdefault(tenant_id, {})[status.name] = status
        self._state.write(
            "knowledge.json",
            {
                owner: {name: knowledge_body(entry) for name, entry in entries.items()}
                for owner, entries in self._knowledge.items()
            },
        )

    def compile(self, loaded: Loaded, platform: Platform, building: Mapping[str, Mapping[str, str]]) -> Result:
        """Everything that follows from the folder.

        Args:
            loaded: valid objects.
            platform: the Platform file.
            building: by tenant and index, the attempt key of the build that runs or waits.
        """
        tenants = [parse_tenant(self._as_stored(obj)) for obj in loaded.of(names.KIND_TENANT)]
        result = Result()
        models = self._models(loaded, tenants, platform, result)
        claims = [tenant.claim for tenant in tenants]
        for tenant in tenants:
            found = self._tenant(tenant, loaded, platform, models, claims, building.get(tenant.name, {}), result)
            result.tenants[tenant.name] = found
        self._published = {name: data for name, data in result.documents.items() if name.startswith("t.")}
        self._state.write("keys.json", self._keys)
        return result

    def _as_stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        """A Tenant as an API server would hand it out; `tenantplane ingest` asks by a file, not an annotation."""
        tenant_id = str(obj["spec"]["tenantID"])
        annotations = dict(obj["metadata"].get("annotations") or {})
        requested = self._state.requested(tenant_id)
        if requested is not None:
            annotations[names.ANNOTATION_REINDEX] = requested
        meta = {**obj["metadata"], "annotations": annotations, "uid": tenant_id, "generation": 1}
        return {**obj, "metadata": {**meta, "creationTimestamp": _CREATED}, "status": {}}

    def _models(
        self, loaded: Loaded, tenants: list[ParsedTenant], platform: Platform, result: Result
    ) -> dict[ModelKey, ObservedModel]:
        owners = {tenant.namespace: OwnerRef(tenant.name, tenant.tenant_id) for tenant in tenants}
        observed: dict[ModelKey, ObservedModel] = {}
        for obj in loaded.of(names.KIND_MODEL_DEPLOYMENT):
            model = parse_model(obj)
            upstream = None if model.secret_ref is None else _secret_value(loaded, model.namespace, *model.secret_ref)
            decision = decide_model(model, tenant=owners.get(model.namespace), platform=platform, upstream_key=upstream)
            observed[model.key] = decision.observed
            if decision.document is not None:
                name = names.model_document_name(model.namespace, model.name)
                result.documents[f"{name}.json"] = documents.canonical(decision.document)
        return observed

    def _tenant(
        self,
        tenant: ParsedTenant,
        loaded: Loaded,
        platform: Platform,
        models: Mapping[ModelKey, ObservedModel],
        claims: list[Claim],
        building: Mapping[str, str],
        result: Result,
    ) -> TenantResult:
        config_maps = {
            name: config_map_digest(obj)
            for name in referenced_config_maps(tenant)
            if (obj := config_map(loaded, tenant.namespace, name)) is not None
        }
        own = [
            _with_identity(obj)
            for obj in loaded.of(names.KIND_API_KEY)
            if obj["metadata"]["namespace"] == tenant.namespace
        ]
        ref = TenantRef(tenant.name, tenant.tenant_id)

        def observed(api_keys: list[dict[str, Any]]) -> Observed:
            return Observed(
                tenants=claims,
                api_keys=api_keys,
                models=models,
                config_maps=config_maps,
                knowledge=self._knowledge.get(tenant.tenant_id, {}),
                building=building,
            )

        # Twice, as in a cluster: the first look orders the keys that the second one finds.
        first = compile_tenant(tenant, platform, observed(own))
        made = [child.manifest for child in first.children if child.manifest["kind"] == names.KIND_API_KEY]
        foreign = {
            digest
            for owner, kept in self._keys.items()
            if owner != tenant.tenant_id
            for entry in kept.values()
            for digest in (entry.get("hash"), *(replaced["hash"] for replaced in entry.get("previous", [])))
            if digest
        }
        keyed = (
            [self._key(_with_identity(obj), ref, loaded, foreign) for obj in [*own, *made]]
            if first.refusal is None
            else []
        )
        self._forget_keys(
            tenant.tenant_id, {obj["metadata"]["name"] for obj in keyed}, refused=first.refusal is not None
        )
        compiled = compile_tenant(tenant, platform, observed(keyed))
        name = f"{names.tenant_document_name(tenant.name)}.json"
        if compiled.document is not None:
            result.documents[name] = documents.canonical(compiled.document)
        elif compiled.publication is Publication.KEEP and name in self._published:
            result.documents[name] = self._published[name]
        revision = documents.revision(result.documents[name]) if name in result.documents else None
        return TenantResult(tenant, compiled, self._entry(tenant, compiled, keyed, revision, building))

    def _key(self, obj: dict[str, Any], ref: TenantRef, loaded: Loaded, foreign: set[str]) -> dict[str, Any]:
        """An APIKey with the status that it would have in a cluster; its text is made when it must be."""
        name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
        source = parse_api_key(obj).given
        given = None if source is None else _stored_secret(loaded, namespace, source.name)
        kept = self._keys.setdefault(ref.tenant_id, {})
        kept[name], decision = settle_key(
            kept.get(name, {}), obj, ref, given=given, taken=foreign, now=datetime.now(UTC)
        )
        return {**obj, "status": decision.status | {"conditions": _conditions(decision)}}

    def _forget_keys(self, tenant_id: str, wanted: set[str], *, refused: bool) -> None:
        """A key whose APIKey is gone is refused for good: the next of that name is a new one."""
        kept = self._keys.get(tenant_id, {})
        if not refused:
            for name in set(kept) - wanted:
                del kept[name]

    def _entry(
        self,
        tenant: ParsedTenant,
        compiled: Compiled,
        api_keys: list[dict[str, Any]],
        revision: Revision | None,
        building: Mapping[str, str],
    ) -> dict[str, Any]:
        concerns = dict(compiled.concerns)
        if compiled.refusal is None:
            unenforced = ok(Reason.NOT_CONFIGURED, "not enforced without Kubernetes")
            concerns |= {kind: unenforced for kind in _OF_KUBERNETES if concerns[kind].ok}
        conditions = tenant_conditions(
            settle(concerns, published=revision),
            suspended=tenant.spec.suspend,
            previous=self._conditions.get(tenant.tenant_id, {}),
        )
        self._conditions[tenant.tenant_id] = {str(kind): concern.status for kind, concern in conditions.items()}
        ready = conditions[ConditionType.READY]
        effective = effective_status(compiled)
        plain = {} if effective is None else effective.model_dump(mode="json", by_alias=True, exclude_none=True)
        requested = tenant.annotations.get(names.ANNOTATION_REINDEX)
        return {
            "ready": ready.ok,
            "reason": ready.reason,
            "message": ready.message,
            "tenantID": tenant.tenant_id,
            "displayName": tenant.spec.display_name,
            "namespace": tenant.namespace,
            "plan": plain.get("plan", ""),
            "revision": revision or "",
            "conditions": [_condition(kind, concern) for kind, concern in conditions.items()],
            "keys": [describe(obj) for obj in api_keys],
            "models": plain.get("models", []),
            "knowledge": [knowledge_body(status) for status in compiled.knowledge],
            "indices": [
                index.model_dump(mode="json", by_alias=True, exclude_none=True) for index in tenant.spec.knowledge
            ],
            "assistants": [assistant.name for assistant in tenant.spec.assistants],
            "limits": {name: plain[name] for name in ("requestsPerMinute", "concurrency") if name in plain},
            "handledRequest": requested if not compiled.builds and not building else None,
            "notEnforced": list(NOT_ENFORCED),
        }


def config_map(loaded: Loaded, namespace: str, name: str) -> dict[str, Any] | None:
    """A ConfigMap of the folder."""
    for key, obj in loaded.objects.items():
        if key == ("ConfigMap", namespace, name):
            return obj
    return None


def builds(result: Result) -> list[tuple[ParsedTenant, IndexPlan]]:
    """Index builds that are to be started."""
    return [(found.tenant, plan) for found in result.tenants.values() for plan in found.compiled.builds]


def _with_identity(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {**obj, "metadata": {"generation": 1, "creationTimestamp": _CREATED, **obj["metadata"]}}


def _stored_secret(loaded: Loaded, namespace: str, name: str) -> dict[str, Any] | None:
    """A Secret of the folder as the API server would have it: ``stringData`` in ``data``."""
    for found, obj in loaded.objects.items():
        if found == ("Secret", namespace, name):
            plain = obj.get("stringData") or {}
            encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
            return {**obj, "data": {**(obj.get("data") or {}), **encoded}}
    return None


def _secret_value(loaded: Loaded, namespace: str, name: str, key: str) -> str | None:
    found = _stored_secret(loaded, namespace, name)
    try:
        return None if found is None else base64.b64decode(str(found["data"][key]), validate=True).decode()
    except (KeyError, binascii.Error, UnicodeDecodeError):
        return None


def _conditions(decision: KeyDecision) -> list[dict[str, Any]]:
    return [_condition(kind, concern) for kind, concern in decision.conditions.items()]


def _condition(kind: ConditionType, concern: Concern) -> dict[str, Any]:
    return {"type": str(kind), "status": concern.status, "reason": str(concern.reason), "message": concern.message}


def _read_knowledge(value: dict[str, Any]) -> dict[str, dict[str, KnowledgeStatus]]:
    """What was remembered; what does not parse is built again."""
    out: dict[str, dict[str, KnowledgeStatus]] = {}
    for owner, entries in value.items():
        for name, entry in entries.items():
            try:
                out.setdefault(owner, {})[name] = KnowledgeStatus.model_validate(entry)
            except ValidationError:
                continue
    return out
