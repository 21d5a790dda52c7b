"""What is to be done and said about a ModelDeployment: publish its document, or withdraw it and say why.

Guarantees that a model that is refused, or that is going away, is not left published: sharing or an allowed host that
was taken back must take effect. A Secret that cannot be read at this moment is such a case too, because its absence is
how an endpoint's key is revoked.
"""

from dataclasses import dataclass
from typing import Any

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import ModelRuntime
from tenantplane_api.runtime.names import Revision
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.modeldeployment.document import OwnerRef, compile_model
from tenantplane_operator.modeldeployment.parse import ParsedModel
from tenantplane_operator.tenant.concern import Concern, Refused, failed, ok, summarize
from tenantplane_operator.tenant.models import ObservedModel


@dataclass(frozen=True, slots=True)
class ModelDecision:
    """What to do and to say.

    ``document`` is to be published; ``None`` means that a published one is to be deleted. ``status`` has no
    conditions. ``observed`` is what tenants' aliases are resolved against.
    """

    document: ModelRuntime | None
    conditions: dict[ConditionType, Concern]
    status: dict[str, Any]
    observed: ObservedModel

    @property
    def withdraw(self) -> bool:
        """True when nothing may stand published."""
        return self.document is None


def decide(
    model: ParsedModel,
    *,
    tenant: OwnerRef | None,
    platform: Platform,
    upstream_key: str | None,
    published: Revision | None = None,
) -> ModelDecision:
    """The next step for a ModelDeployment; see ``compile_model`` for the arguments.

    Args:
        model, tenant, platform, upstream_key: as for ``compile_model``.
        published: revision of its document that stands published, ``None`` when none does. Standalone mode, which
            publishes by what it returns, may leave it out; ``observed`` does not depend on it.
    """
    document: ModelRuntime | None = None
    if model.deleting:
        available = failed(Reason.DELETING, f"{model.key} is being deleted")
    else:
        try:
            document = compile_model(model, tenant=tenant, platform=platform, upstream_key=upstream_key)
            available = _available(document)
        except Refused as error:
            available = error.concern
    shown = available
    if available.ok and published is None:
        shown = failed(Reason.PROGRESSING, "the runtime document is not published yet")
    return ModelDecision(
        document=document,
        conditions=summarize({ConditionType.AVAILABLE: shown}),
        status=_status(model, published if document is not None else None),
        observed=ObservedModel(
            key=model.key,
            mode=model.sharing.mode,
            tenants=frozenset(model.sharing.tenants),
            available=available.ok,
            message="" if available.ok else available.message,
            deleting=model.deleting,
        ),
    )


def _available(document: ModelRuntime) -> Concern:
    if document.spec.suspended:
        return ok(Reason.SCALED_TO_ZERO, "spec.replicas is 0: requests are answered with 503 `model_suspended`")
    return ok(Reason.AVAILABLE)


def _status(model: ParsedModel, published: Revision | None) -> dict[str, Any]:
    """Status without conditions. No engine of today has pods, so ``replicas`` is 0 and the selector finds none."""
    body: dict[str, Any] = {
        "observedGeneration": model.generation,
        "replicas": 0,
        "selector": f"{names.LABEL_MODEL}={model.name}",
    }
    if published is not None:
        body["runtimeRevision"] = published
    if model.status.handled_requests:
        body["handledRequests"] = dict(model.status.handled_requests)
    return body
