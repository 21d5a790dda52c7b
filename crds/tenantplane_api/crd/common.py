"""Parts that several custom resources share: references, subjects, quantities, conditions."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from tenantplane_api.crd.schema import Model, list_map
from tenantplane_api.runtime import limits

Name = Annotated[str, StringConstraints(pattern=limits.DNS_LABEL_PATTERN, max_length=limits.NAME_MAX, min_length=1)]
"""A DNS label of at most 40 characters."""
ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253, min_length=1)
]
"""Name of an existing object, for example a Secret or a ConfigMap."""
NamespaceName = Annotated[
    str, StringConstraints(pattern=limits.DNS_LABEL_PATTERN, max_length=limits.NAMESPACE_MAX, min_length=1)
]
Alias = Annotated[str, StringConstraints(pattern=limits.ALIAS_PATTERN, max_length=limits.ALIAS_MAX, min_length=1)]


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]+(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$", max_length=32),
    BeforeValidator(_as_text),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
"""An unsigned Kubernetes quantity; whole numbers need no quotes."""
Duration = Annotated[
    str, StringConstraints(pattern=limits.DURATION_PATTERN, max_length=limits.DURATION_MAX, min_length=2)
]
"""A Go duration in hours, minutes and seconds, such as ``1h30m``; see ``runtime.durations``."""
LabelKey = Annotated[str, StringConstraints(max_length=limits.LABEL_KEY_MAX)]


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace. It never has a namespace."""

    name: ObjectName = Field(description="Name of the Secret, in the namespace of this object.")
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253, min_length=1)] = Field(
        description="Key inside the Secret."
    )


class Subject(Model):
    """A Kubernetes user, group or ServiceAccount."""

    kind: Literal["User", "Group", "ServiceAccount"] = Field(description="Kind of the subject.")
    name: Annotated[str, StringConstraints(max_length=limits.SUBJECT_MAX, min_length=1)] = Field(
        description="Name of the subject as the API server knows it."
    )
    namespace: NamespaceName | None = Field(
        default=None, description="Namespace of a ServiceAccount; not allowed for users and groups."
    )


class Condition(Model):
    """A condition in the form that Kubernetes tools read."""

    type: Annotated[str, StringConstraints(max_length=64)] = Field(description="Type of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    reason: Annotated[str, StringConstraints(max_length=64)] = Field(description="Stable word for the state.")
    message: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="What it means and what to do, for people."
    )
    last_transition_time: datetime = Field(description="When the status last changed.")
    observed_generation: Annotated[int, Field(ge=0, le=2**53)] = Field(
        default=0, description="Generation of the object that this condition speaks of."
    )


Conditions = Annotated[list[Condition], Field(max_length=16, json_schema_extra=list_map("type"))]


class ObjectStatus(Model):
    """What every status of ours has."""

    observed_generation: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        default=None, description="Generation of the object that this status speaks of."
    )
    conditions: Conditions = Field(
        default=[], description="Conditions; `Ready` is always there, `Reconciling` and `Stalled` only when True."
    )
    handled_requests: dict[str, Annotated[str, StringConstraints(max_length=64)]] = Field(
        default={},
        max_length=16,
        description="For each request annotation that was answered (without its domain): the time that it asked for.",
    )


def immutable(field: str) -> dict[str, Any]:
    """A parent's CEL rule: optional ``field`` may not be set, changed or removed after creation."""
    return {
        "rule": f"has(oldSelf.{field}) == has(self.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        "message": f"{field} cannot be changed after creation",
        "fieldPath": f".{field}",
    }
