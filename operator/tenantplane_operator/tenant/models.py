"""Aliases of a tenant resolved against the ModelDeployments that exist.

Guarantees that an alias reaches the runtime document only when the model lies in the tenant's own namespace or is
shared with it from the platform's namespace for models; the data plane checks the sharing again on its side. A refusal
says the same whether or not the foreign model exists, so that aliases cannot be used to look around.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import ModelAlias
from tenantplane_api.runtime.names import ModelKey
from tenantplane_operator.tenant.concern import Concern, clip, failed, not_configured, ok
from tenantplane_operator.tenant.effective import AliasRef


@dataclass(frozen=True, slots=True)
class ObservedModel:
    """What a tenant may know of a model. ``available`` is ``None`` until the operator has looked at it."""

    key: ModelKey
    mode: str = "Private"
    tenants: frozenset[str] = field(default_factory=frozenset)
    available: bool | None = None
    message: str = ""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class AliasProblem:
    """Why an alias is not as it should be; ``published`` tells whether it stands in the document all the same."""

    alias: str
    reason: Reason
    message: str
    published: bool = False


@dataclass(frozen=True, slots=True)
class ResolvedModels:
    """Aliases for the document, problems in the order of the spec, and whether each alias works."""

    aliases: tuple[ModelAlias, ...]
    problems: tuple[AliasProblem, ...]
    usable: Mapping[str, bool]


def observed_model(obj: Mapping[str, Any]) -> ObservedModel:
    """From a ModelDeployment as the API server has it."""
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    sharing = spec.get("sharing") or {}
    conditions = (obj.get("status") or {}).get("conditions") or []
    found = next((c for c in conditions if c.get("type") == ConditionType.AVAILABLE), None)
    return ObservedModel(
        key=names.model_key(str(meta.get("namespace")), str(meta.get("name"))),
        mode=str(sharing.get("mode") or "Private"),
        tenants=frozenset(str(tenant) for tenant in sharing.get("tenants") or ()),
        available=None if found is None else found.get("status") == "True",
        message=str((found or {}).get("message") or ""),
        deleting=bool(meta.get("deletionTimestamp")),
    )


def resolve(
    refs: Iterable[AliasRef],
    *,
    tenant: str,
    namespace: str,
    shared_namespace: str,
    observed: Mapping[ModelKey, ObservedModel],
) -> ResolvedModels:
    """Aliases that the tenant may use, and what is wrong with the others.

    A model that exists and is shared but does not work yet keeps its alias: leaving it out would rewrite the documents
    of all its tenants each time that one model comes or goes.
    """
    aliases: list[ModelAlias] = []
    problems: list[AliasProblem] = []
    usable: dict[str, bool] = {}
    for ref in refs:
        model, problem = observed.get(ref.key), None
        home = ref.key.partition("/")[0]
        if home not in (namespace, shared_namespace) or (
            home != namespace and model is not None and not _shared_with(model, tenant)
        ):
            problem = AliasProblem(
                ref.alias,
                Reason.MODEL_NOT_SHARED,
                f"alias {ref.alias}: {ref.key} is not shared with this tenant: a tenant uses ModelDeployments of its "
                f"own namespace, and those of {shared_namespace} whose sharing includes it",
            )
        elif model is None or model.deleting:
            problem = AliasProblem(
                ref.alias,
                Reason.MODEL_NOT_FOUND,
                f"alias {ref.alias}: there is no ModelDeployment {ref.key}: create it, or correct the alias",
            )
        elif not model.available:
            why = model.message or "it is not ready yet"
            problem = AliasProblem(
                ref.alias, Reason.MODEL_NOT_READY, f"alias {ref.alias}: {ref.key}: {why}", published=True
            )
        if problem is not None:
            problems.append(problem)
        if problem is None or problem.published:
            aliases.append(ModelAlias(alias=ref.alias, model=ref.key))
        usable[ref.alias] = problem is None
    return ResolvedModels(
        aliases=tuple(sorted(aliases, key=lambda entry: entry.alias)), problems=tuple(problems), usable=usable
    )


def _shared_with(model: ObservedModel, tenant: str) -> bool:
    return model.mode == "AllTenants" or (model.mode == "Selected" and tenant in model.tenants)


def models_concern(resolved: ResolvedModels, *, assistants: Iterable[tuple[str, str | None]]) -> Concern:
    """``ModelsReady``.

    Args:
        resolved: the outcome of ``resolve``.
        assistants: name and alias of each assistant. Where the aliases come from a plan, only this place can see that
            an assistant names one that the plan does not have.
    """
    problems = [(problem.reason, problem.message) for problem in resolved.problems]
    problems += [
        (
            Reason.MODEL_NOT_FOUND,
            f"assistant {name}: {alias!r} is no alias of this tenant or its plan: list it in spec.models",
        )
        for name, alias in assistants
        if alias is not None and alias not in resolved.usable
    ]
    if problems:
        return failed(problems[0][0], clip("; ".join(message for _, message in problems)))
    return ok() if resolved.usable else not_configured()
