"""What the operator tells about a Tenant: effective settings, indices, revision, conditions."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from tenantplane_api.crd.common import ObjectStatus
from tenantplane_api.crd.schema import Model, list_map
from tenantplane_api.runtime import limits as bounds


class EffectiveModel(Model):
    """An alias as it is in force."""

    alias: Annotated[str, StringConstraints(max_length=bounds.ALIAS_MAX)] = Field(description="The alias.")
    model: Annotated[str, StringConstraints(max_length=128)] = Field(description="`namespace/name` behind it.")
    usable: bool = Field(description="Whether the data plane serves it now.")


class EffectiveNetwork(Model):
    """Openings in the fence as applied."""

    internet: bool = Field(default=False, description="Public addresses are open.")
    egress_cidrs: list[Annotated[str, StringConstraints(max_length=43)]] = Field(
        default=[], max_length=bounds.CIDRS_MAX, alias="egressCIDRs", description="Address ranges that are open."
    )
    egress_namespaces: list[Annotated[str, StringConstraints(max_length=bounds.NAMESPACE_MAX)]] = Field(
        default=[], max_length=bounds.NAMESPACES_MAX, description="Namespaces that the tenant's pods may reach."
    )
    ingress_namespaces: list[Annotated[str, StringConstraints(max_length=bounds.NAMESPACE_MAX)]] = Field(
        default=[], max_length=bounds.NAMESPACES_MAX, description="Namespaces that may reach the tenant's pods."
    )


_Quantities = dict[str, Annotated[str, StringConstraints(max_length=32)]]


class Effective(Model):
    """What is in force after the plan's defaults."""

    plan: Annotated[str, StringConstraints(max_length=bounds.NAMESPACE_MAX)] = Field(description="Name of the plan.")
    quota: dict[str, Annotated[str, StringConstraints(max_length=32)]] = Field(
        default={}, max_length=2 * bounds.QUOTA_KEYS_MAX, description="ResourceQuota entries."
    )
    container_limits: dict[
        Annotated[str, StringConstraints(max_length=16)], Annotated[_Quantities, Field(max_length=16)]
    ] = Field(default={}, max_length=4, description="The LimitRange: `default`, `defaultRequest`, `max` and `min`.")
    network: EffectiveNetwork | None = Field(default=None, description="Openings in the default-deny network fence.")
    allow: dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[
            list[Annotated[str, StringConstraints(max_length=bounds.ALLOW_TEXT_MAX)]],
            Field(max_length=bounds.ALLOW_MAX),
        ],
    ] = Field(
        default={}, max_length=16, description="What the plan lets workloads use, by field of the plan's `allow`."
    )
    role_arn: Annotated[str, StringConstraints(max_length=bounds.ROLE_ARN_MAX)] | None = Field(
        default=None, alias="roleARN", description="AWS role of the tenant's ServiceAccount."
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=bounds.REQUESTS_PER_MINUTE_MAX)] | None = Field(
        default=None, description="Requests per minute; unset is not limited."
    )
    concurrency: Annotated[int, Field(ge=1, le=bounds.CONCURRENCY_MAX)] | None = Field(
        default=None, description="Requests in flight; unset is not limited."
    )
    workloads: Annotated[str, StringConstraints(max_length=32)] = Field(description="Whether admins may run workloads.")
    pod_security: Annotated[str, StringConstraints(max_length=32)] = Field(
        description="Pod Security Standard in force."
    )
    models: list[EffectiveModel] = Field(
        default=[], max_length=bounds.MODELS_MAX, description="Aliases.", json_schema_extra=list_map("alias")
    )


class KnowledgeStatus(Model):
    """State of one index."""

    name: Annotated[str, StringConstraints(max_length=bounds.NAME_MAX)] = Field(description="Name of the index.")
    generation: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Generation that is served; unset until the first build succeeded."
    )
    manifest_sha256: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, alias="manifestSHA256", description="SHA-256 of its manifest."
    )
    prefix: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Folder of the generation in the store."
    )
    embedder: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Embedder that made its vectors."
    )
    dimension: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        default=None, description="Dimension of its vectors."
    )
    documents: Annotated[int, Field(ge=0, le=2**53)] | None = Field(default=None, description="Documents in it.")
    chunks: Annotated[int, Field(ge=0, le=2**53)] | None = Field(default=None, description="Chunks in it.")
    built_at: datetime | None = Field(default=None, description="When the served generation was built.")
    build_key: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Hash of what the last finished build was made from."
    )
    failed_build_key: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Hash of what the last failed build was to be made from."
    )
    message: Annotated[str, StringConstraints(max_length=1024)] = Field(
        default="", description="What the last build said, for people."
    )


class TenantStatus(ObjectStatus):
    """What the operator saw and made."""

    namespace: Annotated[str, StringConstraints(max_length=bounds.NAMESPACE_MAX)] | None = Field(
        default=None, description="The tenant's namespace."
    )
    endpoint: Annotated[str, StringConstraints(max_length=bounds.URL_MAX)] | None = Field(
        default=None, description="Base URL for OpenAI SDKs."
    )
    runtime_revision: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        default=None, description="Revision of the runtime document that was published last."
    )
    models_usable: Annotated[str, StringConstraints(max_length=16)] | None = Field(
        default=None, description="Aliases that the data plane serves now, of all: `2/3`."
    )
    effective: Effective | None = Field(default=None, description="What is in force after the plan's defaults.")
    knowledge: list[KnowledgeStatus] = Field(
        default=[],
        max_length=bounds.INDEXES_MAX,
        description="State of each index.",
        json_schema_extra=list_map("name"),
    )
