"""The APIKey: a key of one tenant, managed in the tenant's namespace without ever holding the key itself."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from tenantplane_api.crd.common import Duration, ObjectName, ObjectStatus, SecretKeyRef, immutable
from tenantplane_api.crd.schema import Model, list_map, rule, with_rules
from tenantplane_api.runtime import limits


class Rotation(Model):
    """When the key is replaced, and how long the old one goes on working."""

    interval: Duration | None = Field(
        default=None,
        description="Replace the key when it is this old, for example `720h`; only on request "
        "(`tenantplane.dev/rotate-requested-at`) when unset.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"duration(self) >= duration('{limits.KEY_ROTATION_MIN}')",
                    f"rotation.interval must be at least {limits.KEY_ROTATION_MIN}",
                )
            ]
        },
    )
    grace: Duration = Field(
        default=limits.KEY_GRACE_DEFAULT,
        description="How long the old key is accepted after a rotation, also after its Secret was deleted or its text "
        "replaced; `0s` refuses it at once.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"duration(self) <= duration('{limits.KEY_GRACE_MAX}')",
                    f"rotation.grace must be at most {limits.KEY_GRACE_MAX}",
                )
            ]
        },
    )


class ValueFrom(Model):
    """Where a key comes from that was made elsewhere."""

    secret_key_ref: SecretKeyRef = Field(
        description="Secret of the same namespace and the key in it that holds the text. It must have the format of "
        "our keys: `tenantplane keys new --offline` makes one."
    )


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

    rotation: Rotation | None = Field(
        default=None, description="When the key is replaced, and how long the old one goes on working."
    )
    value_from: ValueFrom | None = Field(
        default=None,
        description="Take the key from a Secret that you made, instead of having one generated. It is read when this "
        "object changes, on request (`tenantplane.dev/reconcile-requested-at`) and at every resync; a new text is a "
        "rotation. The Secret stays yours: it is never changed or deleted.",
    )

    model_config = with_rules(
        immutable("secretName"),
        {
            "rule": "has(oldSelf.valueFrom) == has(self.valueFrom)",
            "message": "a key is either generated or taken from a Secret for good: make a new APIKey",
            "fieldPath": ".valueFrom",
        },
        rule(
            "!has(self.valueFrom) || !has(self.secretName)",
            "secretName is for generated keys: leave it out beside valueFrom",
        ),
        rule(
            "!has(self.valueFrom) || !has(self.rotation) || !has(self.rotation.interval)",
            "a key from valueFrom is rotated by changing its Secret: leave rotation.interval out",
        ),
        rule(
            "!(has(oldSelf.revoked) && oldSelf.revoked) || (has(self.revoked) && self.revoked)",
            "a revoked key stays revoked: make a new APIKey",
            field=".revoked",
        ),
    )


class SecretReference(Model):
    """The Secret that holds the key."""

    name: Annotated[str, StringConstraints(max_length=253)] = Field(description="Name of the Secret.")


class PreviousKey(Model):
    """A replaced text that is still accepted."""

    hash: Annotated[str, StringConstraints(max_length=80)] = Field(description="`sha256:<hex>` of the text.")
    key_id: Annotated[str, StringConstraints(max_length=16)] = Field(
        default="", alias="keyID", description="Its public id."
    )
    accepted_until: datetime = Field(description="When it stops working.")


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
    previous: list[PreviousKey] = Field(
        default=[],
        max_length=limits.PREVIOUS_KEYS_MAX,
        description="Replaced texts in their grace.",
        json_schema_extra=list_map("hash"),
    )
    last_rotated_at: datetime | None = Field(default=None, description="When the current text came into force.")
    next_rotation_at: datetime | None = Field(default=None, description="When it will be replaced by interval.")
    revoked_at: datetime | None = Field(default=None, description="When the key was revoked; never cleared.")
