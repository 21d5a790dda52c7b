"""The runtime document of a model: all that the data plane will know of it.

Guarantees that the document itself says who may use the model, so that no tenant's document can open it; that a model
in a tenant's namespace is that tenant's alone; and that a URL which the platform does not allow is never published.
The address behind the URL is checked again by the data plane when it connects.
"""

from dataclasses import dataclass
from typing import Final

from tenantplane_api.crd.conditions import Reason
from tenantplane_api.runtime import documents, urls
from tenantplane_api.runtime.documents import ExternalEndpoint, ModelRuntime, ModelSpec
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.modeldeployment.parse import ParsedModel
from tenantplane_operator.tenant.concern import Refused, failed

EVERY_TENANT: Final = "*"
_UPSTREAM_KEY_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """The tenant in whose namespace a model lies."""

    name: TenantName
    tenant_id: TenantID


def compile_model(
    model: ParsedModel, *, tenant: OwnerRef | None, platform: Platform, upstream_key: str | None
) -> ModelRuntime:
    """The document.

    Args:
        model: the ModelDeployment.
        tenant: whose namespace it is in; ``None`` for no tenant's.
        platform: namespaces and allowed hosts.
        upstream_key: value of the Secret's key that ``external.auth`` names; ``None`` when it was not found.

    Raises:
        Refused: NotInATenant, SharingNotAllowed, URLNotAllowed, SecretNotFound or InvalidSpec.
    """
    description = model.spec.model
    return documents.model_runtime(
        name=model.name,
        namespace=model.namespace,
        tenant_id=tenant.tenant_id if tenant is not None else "",
        spec=ModelSpec(
            engine=model.spec.engine.type,
            served_name=(description.served_name if description else None) or model.name,
            shared_with=_shared_with(model, tenant, platform),
            context_length=description.context_length if description else None,
            max_output_tokens=description.max_output_tokens if description else None,
            external=_external(model, platform, upstream_key),
            suspended=model.spec.replicas == 0,
        ),
    )


def _shared_with(model: ParsedModel, tenant: OwnerRef | None, platform: Platform) -> tuple[str, ...]:
    sharing = model.sharing
    if model.namespace == platform.shared.namespaces.models:
        match sharing.mode:
            case "AllTenants":
                return (EVERY_TENANT,)
            case "Selected":
                return tuple(sorted(set(sharing.tenants)))
            case "Private":
                return ()
    if tenant is None:
        raise Refused(
            failed(
                Reason.NOT_IN_A_TENANT,
                f"namespace {model.namespace} belongs to no Tenant: create the ModelDeployment in a tenant's "
                f"namespace, or in {platform.shared.namespaces.models} for a shared one",
            )
        )
    if sharing.mode != "Private":
        raise Refused(
            failed(
                Reason.SHARING_NOT_ALLOWED,
                f"spec.sharing.mode: {sharing.mode} is allowed in namespace {platform.shared.namespaces.models} only: "
                "use Private here",
            )
        )
    return (tenant.name,)


def _external(model: ParsedModel, platform: Platform, upstream_key: str | None) -> ExternalEndpoint | None:
    external = model.spec.external
    if external is None:
        return None
    try:
        urls.find_rule(external.base_url, platform.shared.external_hosts)
    except urls.UrlNotAllowedError as error:
        raise Refused(failed(Reason.URL_NOT_ALLOWED, f"spec.external.baseURL: {error}")) from None
    return ExternalEndpoint(
        base_url=external.base_url.rstrip("/"),
        api_key=None if model.secret_ref is None else _checked_key(model, upstream_key),
    )


def _checked_key(model: ParsedModel, value: str | None) -> str:
    """The endpoint's key as it goes into a header; never repeated in a message."""
    secret, entry = model.secret_ref or ("", "")
    where = f"spec.external.auth.secretRef: Secret {secret}, key {entry},"
    if value is None:
        raise Refused(
            failed(Reason.SECRET_NOT_FOUND, f"{where} does not exist in namespace {model.namespace}: create it")
        )
    text = value.strip()  # files and `kubectl create secret --from-file` end in a newline
    if not text or len(text) > _UPSTREAM_KEY_MAX or not text.isascii() or not text.isprintable():
        raise Refused(
            failed(
                Reason.INVALID_SPEC,
                f"{where} must hold 1 to {_UPSTREAM_KEY_MAX} printable ASCII characters, as a header takes",
            )
        )
    return text
