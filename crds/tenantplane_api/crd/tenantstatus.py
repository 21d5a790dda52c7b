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


class Effective(Model):
    """What is in force after the plan's defaults."""

    plan: Annotated[str, StringConstraints(max_length=bounds.NAMESPACE_MAX)] = Field(description="Name of the plan.")
    quota: dict[str, Annotated[str, StringConstraints(max_length=32)]] = Field(
        default={}, max_length=2 * bounds.QUOTA_KEYS_MAX, description="ResourceQuota entries."
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
    effective: Effective | None = Field(default=None, description="What is in force after the plan's defaults.")
    knowledge: list[KnowledgeStatus] = Field(
        default=[],
        max_length=bounds.INDEXES_MAX,
        description="State of each index.",
        json_schema_extra=list_map("name"),
    )
