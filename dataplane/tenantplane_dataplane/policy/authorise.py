"""What a tenant may use: aliases and assistants of its own document, models that their own document shares with it.

Two documents must agree before a model is reached, so that one wrong document opens nothing. What one may not use is
answered like what does not exist.
"""

from dataclasses import dataclass

from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import AssistantEntry
from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.config.compiled import CompiledModel, CompiledTenant, ConfigInvalid
from tenantplane_dataplane.config.snapshot import Snapshot
from tenantplane_dataplane.wire.asgi import Refusal


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """A model under the name that the tenant gave it."""

    alias: str
    model: CompiledModel

    @property
    def engine(self) -> str:
        """Engine type of the model."""
        return self.model.document.spec.engine


@dataclass(frozen=True, slots=True)
class AssistantTarget:
    """An assistant, and the model it speaks through (``None``: extractive)."""

    assistant: AssistantEntry
    model: AliasTarget | None


Target = AliasTarget | AssistantTarget


def _not_found() -> Refusal:
    return Refusal(ErrorCode.MODEL_NOT_FOUND, param="model")


def alias_target(tenant: CompiledTenant, alias: str, snapshot: Snapshot) -> AliasTarget:
    """The model behind one of the tenant's aliases.

    Raises:
        Refusal: ``model_not_found``; ``model_suspended`` when it is switched off or its document is invalid.
    """
    key = tenant.aliases.get(alias)
    if key is None:
        raise _not_found()
    try:
        model = snapshot.model(key)
    except ConfigInvalid:
        raise Refusal(ErrorCode.MODEL_SUSPENDED) from None
    if model is None or not model.open_to(tenant.name):
        raise _not_found()
    if model.document.spec.suspended:
        raise Refusal(ErrorCode.MODEL_SUSPENDED)
    return AliasTarget(alias=alias, model=model)


def assistant_target(tenant: CompiledTenant, name: str, snapshot: Snapshot) -> AssistantTarget:
    """One of the tenant's assistants.

    Raises:
        Refusal: ``model_not_found``, or what its model raises.
    """
    entry = tenant.assistants.get(name)
    if entry is None:
        raise _not_found()
    model = None if entry.model is None else alias_target(tenant, entry.model, snapshot)
    if model is not None and model.engine == "Extractive":
        model = None
    return AssistantTarget(assistant=entry, model=model)


def resolve(tenant: CompiledTenant, model: str, snapshot: Snapshot) -> Target:
    """What ``model`` of a request means for this tenant: an alias, or ``assistant/<name>``."""
    if model.startswith(names.ASSISTANT_MODEL_PREFIX):
        return assistant_target(tenant, model.removeprefix(names.ASSISTANT_MODEL_PREFIX), snapshot)
    return alias_target(tenant, model, snapshot)


def usable(tenant: CompiledTenant, snapshot: Snapshot) -> list[str]:
    """Ids that ``/v1/models`` lists: exactly those that ``resolve`` finds, suspended ones included."""
    found = []
    candidates = [*tenant.aliases, *(names.ASSISTANT_MODEL_PREFIX + name for name in tenant.assistants)]
    for candidate in candidates:
        try:
            resolve(tenant, candidate, snapshot)
        except Refusal as refusal:
            if refusal.code is ErrorCode.MODEL_NOT_FOUND:
                continue
        found.append(candidate)
    return found
