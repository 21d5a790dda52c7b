"""The ModelDeployment: a model that tenants use under aliases of their own."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tenantplane_api.crd.common import Name, ObjectStatus, SecretKeyRef
from tenantplane_api.crd.schema import Model, list_set, rule, with_rules
from tenantplane_api.runtime import limits


class Engine(Model):
    """What answers."""

    type: Literal["External", "Extractive"] = Field(
        description="`External` is an OpenAI-compatible endpoint that runs elsewhere; `Extractive` needs no model and "
        "answers only with sentences of the text that it is given.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self == oldSelf", "engine.type cannot be changed: make another ModelDeployment")
            ]
        },
    )


class ModelDescription(Model):
    """Facts about the model."""

    served_name: Annotated[str, StringConstraints(max_length=limits.SERVED_NAME_MAX, min_length=1)] | None = Field(
        default=None, description="Name by which the engine knows the model; the object's name when unset."
    )
    context_length: Annotated[int, Field(ge=1, le=limits.CONTEXT_LENGTH_MAX)] | None = Field(
        default=None, description="Tokens of prompt and answer together; shown in `/v1/models`."
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=limits.OUTPUT_TOKENS_MAX)] | None = Field(
        default=None, description="The most output tokens that one request may ask for; more is refused."
    )


class ExternalAuth(Model):
    """How we prove who we are to the endpoint."""

    secret_ref: SecretKeyRef = Field(description="Key of a Secret with the endpoint's API key (sent as bearer token).")


class External(Model):
    """An OpenAI-compatible endpoint."""

    base_url: Annotated[
        str, StringConstraints(pattern=r"^https?://[^\s?#@]+$", max_length=limits.URL_MAX, min_length=8)
    ] = Field(
        alias="baseURL",
        description="URL up to and without `/chat/completions`, usually ending in `/v1`. Its host must be among the "
        "platform's `shared.externalHosts`.",
    )
    auth: ExternalAuth | None = Field(default=None, description="How we prove who we are; nothing is sent when unset.")


class Sharing(Model):
    """Who may use the model. Has an effect only in the platform's namespace for shared models."""

    mode: Literal["Private", "AllTenants", "Selected"] = Field(
        default="Private",
        description="`Private`: only the tenant in whose namespace it is. `AllTenants`: every tenant. `Selected`: the "
        "tenants listed. The last two are allowed in the platform's namespace for shared models only.",
    )
    tenants: list[Name] = Field(
        default=[],
        max_length=limits.SHARED_WITH_MAX,
        description="Names of the tenants, with mode Selected.",
        json_schema_extra=list_set(),
    )

    model_config = with_rules(
        rule(
            "(has(self.mode) && self.mode == 'Selected') == (has(self.tenants) && size(self.tenants) > 0)",
            "tenants are needed with mode Selected, and only there",
        )
    )


class ModelDeploymentSpec(Model):
    """What is wanted of a model."""

    engine: Engine = Field(description="What answers.")
    model: ModelDescription | None = Field(default=None, description="Facts about the model.")
    sharing: Sharing | None = Field(default=None, description="Who may use the model.")
    external: External | None = Field(default=None, description="The endpoint, for engine External.")
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="0 takes the model out of service (503 `model_suspended`); any other number, or unset, serves it. "
        "An External or Extractive engine has no pods that could be counted. Also set by `kubectl scale`.",
    )

    model_config = with_rules(
        rule(
            "(self.engine.type == 'External') == has(self.external)",
            "external is needed for engine External, and only there",
            field=".external",
        )
    )


class ModelDeploymentStatus(ObjectStatus):
    """What the operator saw and made."""

    runtime_revision: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        default=None, description="Revision of the runtime document that was published last."
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None, description="Pods that serve the model."
    )
    selector: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Label selector of its pods, as text."
    )
