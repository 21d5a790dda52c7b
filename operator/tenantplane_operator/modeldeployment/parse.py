"""From a raw ModelDeployment object to typed values, or to a refusal that names the wrong field.

Repeats the schema's CEL rules, for YAML that never met an API server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenantplane_api.crd.conditions import Reason
from tenantplane_api.crd.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus, Sharing
from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import ModelKey
from tenantplane_operator.tenant.concern import Refused, failed
from tenantplane_operator.tenant.parse import lenient, object_metadata, validated


@dataclass(frozen=True, slots=True)
class ParsedModel:
    """A ModelDeployment whose spec is valid."""

    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus

    @property
    def key(self) -> ModelKey:
        """``namespace/name``."""
        return names.model_key(self.namespace, self.name)

    @property
    def sharing(self) -> Sharing:
        """Who may use it; private when unset."""
        return self.spec.sharing or Sharing()

    @property
    def secret_ref(self) -> tuple[str, str] | None:
        """Secret's name and key in it where the endpoint's API key is; ``None`` when none is sent."""
        external = self.spec.external
        if external is None or external.auth is None:
            return None
        return external.auth.secret_ref.name, external.auth.secret_ref.key


def parse_model(obj: Mapping[str, Any]) -> ParsedModel:
    """Validate a ModelDeployment.

    Raises:
        Refused: InvalidSpec; the message starts with the field's path.
    """
    meta = object_metadata(obj)
    spec = validated(ModelDeploymentSpec, obj.get("spec"), "spec")
    sharing = spec.sharing or Sharing()
    if (spec.engine.type == "External") != (spec.external is not None):
        raise Refused(
            failed(Reason.INVALID_SPEC, "spec.external: is needed for spec.engine.type External, and only there")
        )
    if (sharing.mode == "Selected") != bool(sharing.tenants):
        raise Refused(
            failed(Reason.INVALID_SPEC, "spec.sharing.tenants: are needed with mode Selected, and only there")
        )
    return ParsedModel(
        name=str(meta["name"]),
        namespace=str(meta.get("namespace") or ""),
        uid=str(meta.get("uid") or ""),
        generation=int(meta.get("generation") or 0),
        deleting=bool(meta.get("deletionTimestamp")),
        spec=spec,
        status=lenient(ModelDeploymentStatus, obj.get("status")),
    )
