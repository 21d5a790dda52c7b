"""From a raw Tenant object to typed values, or to a refusal that names the wrong field.

The API server has validated most objects already; YAML in standalone mode and objects stored under an older schema
have not been, so everything is checked again here and nothing later has to. What CEL rules say beyond types is in
``rules``. Guarantees that a ``ParsedTenant`` has a usable name, tenantID and namespace name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tenantplane_api.crd.conditions import Reason
from tenantplane_api.crd.tenant import TenantSpec
from tenantplane_api.crd.tenantstatus import TenantStatus
from tenantplane_api.runtime import limits, names
from tenantplane_api.runtime.indexjob import whole
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_operator.tenant import rules
from tenantplane_operator.tenant.concern import Refused, clip, failed
from tenantplane_operator.tenant.identity import Claim
from tenantplane_operator.tenant.manifest import Owner

_M = TypeVar("_M", bound=BaseModel)
_NAME = re.compile(whole(limits.DNS_LABEL_PATTERN))
_ERRORS_SHOWN = 3
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(microsecond=0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ParsedTenant:
    """A Tenant whose spec is valid. ``created`` is the API server's RFC 3339 text, empty outside a cluster."""

    name: TenantName
    uid: str
    generation: int
    created: str
    deleting: bool
    annotations: Mapping[str, str]
    spec: TenantSpec
    status: TenantStatus
    namespace: str

    @property
    def tenant_id(self) -> TenantID:
        """Durable identity of the customer."""
        return TenantID(self.spec.tenant_id)

    @property
    def owner(self) -> Owner:
        """Whose the children are."""
        return Owner(name=self.name, tenant_id=self.tenant_id)

    @property
    def claim(self) -> Claim:
        """What this Tenant claims beside others."""
        return Claim(
            name=self.name,
            tenant_id=self.tenant_id,
            uid=self.uid,
            created=self.created,
            namespace=self.namespace,
            deleting=self.deleting,
            serves=bool(self.status.namespace and self.status.runtime_revision),
        )


def parse_tenant(obj: Mapping[str, Any]) -> ParsedTenant:
    """Validate a Tenant.

    Raises:
        Refused: InvalidSpec; the message starts with the field's path, ``spec.models[0].alias: …``.
    """
    meta = object_metadata(obj)
    spec = validated(TenantSpec, obj.get("spec"), "spec")
    problems = rules.tenant_problems(spec)
    if problems:
        raise Refused(failed(Reason.INVALID_SPEC, clip("; ".join(problems[:_ERRORS_SHOWN]))))
    name = TenantName(meta["name"])
    return ParsedTenant(
        name=name,
        uid=str(meta.get("uid") or ""),
        generation=int(meta.get("generation") or 0),
        created=creation_time(meta),
        deleting=bool(meta.get("deletionTimestamp")),
        annotations=dict(meta.get("annotations") or {}),
        spec=spec,
        status=lenient(TenantStatus, obj.get("status")),
        namespace=(spec.namespace.name if spec.namespace else None) or names.default_namespace(name),
    )


def object_metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Metadata of a custom resource of ours.

    Raises:
        Refused: InvalidSpec, when the name is none that the schema lets through.
    """
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    name = meta.get("name")
    if not isinstance(name, str) or len(name) > limits.NAME_MAX or not _NAME.match(name):
        raise Refused(
            failed(
                Reason.INVALID_SPEC,
                f"metadata.name: must be a DNS label (a-z, 0-9, '-') of at most {limits.NAME_MAX} characters",
            )
        )
    return meta


def validated(model: type[_M], data: Any, path: str) -> _M:
    """Parse ``data`` as ``model``.

    Raises:
        Refused: InvalidSpec; each problem starts with the field's path below ``path``. Values are not repeated: a
            field may hold something that should not have been there.
    """
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = "; ".join(f"{_path(path, item['loc'])}: {item['msg']}" for item in found[:_ERRORS_SHOWN])
    more = f" (and {len(found) - _ERRORS_SHOWN} more)" if len(found) > _ERRORS_SHOWN else ""
    raise Refused(failed(Reason.INVALID_SPEC, clip(shown + more)))


def _path(root: str, location: tuple[int | str, ...]) -> str:
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def lenient(model: type[_M], data: Any) -> _M:
    """A status that we wrote ourselves, or an empty one: what cannot be read is observed and written again."""
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError:
        return model.model_validate({})


def creation_time(meta: Mapping[str, Any]) -> str:
    """``metadata.creationTimestamp`` as RFC 3339 text; YAML readers hand it over as a time."""
    value = meta.get("creationTimestamp")
    if isinstance(value, datetime):
        return format_time(value)
    return value if isinstance(value, str) else ""


def as_utc(value: datetime) -> datetime:
    """The same moment in UTC; a time without a zone is UTC, as Kubernetes reads it.

    A time whose zone takes it out of the calendar (9999-12-31T23:59:59-05:00) is the nearest one in it: what a user
    may write must not end the pass that would publish somebody's revocation.
    """
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return _LAST if value.year > _FIRST.year else _FIRST


def later(value: datetime, by: timedelta) -> datetime:
    """``value + by`` in UTC, at most the calendar's last second."""
    try:
        return as_utc(value) + by
    except OverflowError:
        return _LAST


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with seconds, as ``metav1.Time`` writes it: ``2027-01-31T00:00:00Z``."""
    # Not strftime, which does not fill up a year below 1000.
    return as_utc(value).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str) -> datetime:
    """The time that ``format_time`` wrote, or any RFC 3339 text.

    Raises:
        ValueError: it is no time.
    """
    return as_utc(datetime.fromisoformat(text))
