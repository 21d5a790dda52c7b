"""The APIKey: a key of one tenant, managed in the tenant's namespace without ever holding the key itself."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from tenantplane_api.crd.common import ObjectName, ObjectStatus, immutable
from tenantplane_api.crd.schema import Model, rule, with_rules
from tenantplane_api.runtime import limits


class APIKeySpec(Model):
    """What is wanted of a key."""

    owner: Annotated[str, StringConstraints(max_length=limits.OWNER_MAX)] = Field(
        default="", description="Who answers for the key: a person, team or system. It is the user of its requests."
    )
    description: Annotated[str, StringConstraints(max_length=limits.DESCRIPTION_MAX)] = Field(
        default="", description="What the key is for."
    )
    expires_at: datetime | None = Field(default=None, description="When the key stops working; never when unset.")
    revoked: bool = Field(
        default=False,
        description="Set to true to refuse the key for good; its Secret is deleted. There is no way back: make a new "
        "APIKey.",
        json_schema_extra={
            "x-kubernetes-validations": [rule("!oldSelf || self", "a revoked key stays revoked: make a new APIKey")]
        },
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Name of the Secret that will hold the key (keys `apiKey` and `baseURL`); the APIKey's name when "
        "unset. It cannot be changed. An existing Secret of somebody else is never overwritten.",
    )

    model_config = with_rules(
        immutable("secretName"),
        rule(
            "!(has(oldSelf.revoked) && oldSelf.revoked) || (has(self.revoked) && self.revoked)",
            "a revoked key stays revoked: make a new APIKey",
            field=".revoked",
        ),
    )


class SecretReference(Model):
    """The Secret that holds the key."""

    name: Annotated[str, StringConstraints(max_length=253)] = Field(description="Name of the Secret.")


class APIKeyStatus(ObjectStatus):
    """What the operator saw and made. Nothing here is secret."""

    key_id: Annotated[str, StringConstraints(max_length=16)] | None = Field(
        default=None, alias="keyID", description="Public id of the key; it stands in logs."
    )
    hash: Annotated[str, StringConstraints(max_length=80)] | None = Field(
        default=None, description="`sha256:<hex>` of the key's text: what the data plane looks up."
    )
    secret_ref: SecretReference | None = Field(default=None, description="The Secret that holds the key.")
    published_revision: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        default=None, description="Revision of the tenant's runtime document that first had the key."
    )
    revoked_at: datetime | None = Field(default=None, description="When the key was revoked; never cleared.")
