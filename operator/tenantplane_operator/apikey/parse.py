"""From a raw APIKey object to typed values, or to a refusal that names the wrong field.

What the schema's CEL rules say is said again here: an object stored before a rule existed is not re-validated, and a
folder of YAML never was. Guarantees that a revocation survives even a status that cannot be read otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenantplane_api.crd.apikey import APIKeySpec, APIKeyStatus
from tenantplane_api.crd.common import SecretKeyRef
from tenantplane_api.crd.conditions import Reason
from tenantplane_api.runtime import limits, names
from tenantplane_api.runtime.durations import parse_duration
from tenantplane_operator.tenant.concern import Refused, clip, failed
from tenantplane_operator.tenant.parse import creation_time, lenient, object_metadata, validated

_LASTING = ("revokedAt", "hash", "keyID")


@dataclass(frozen=True, slots=True)
class ParsedAPIKey:
    """An APIKey whose spec is valid. ``secret_name`` is where its key is to be found."""

    name: str
    namespace: str
    uid: str
    generation: int
    created: str
    deleting: bool
    annotations: Mapping[str, str]
    spec: APIKeySpec
    status: APIKeyStatus

    @property
    def given(self) -> SecretKeyRef | None:
        """Where the text comes from when somebody else made it; ``None`` for a key that we make."""
        return self.spec.value_from.secret_key_ref if self.spec.value_from is not None else None

    @property
    def secret_name(self) -> str:
        """Name of the Secret: the user's, ``spec.secretName``, else the APIKey's own name."""
        return self.given.name if self.given is not None else self.spec.secret_name or self.name


def parse_api_key(obj: Mapping[str, Any]) -> ParsedAPIKey:
    """Validate an APIKey.

    Raises:
        Refused: InvalidSpec; the message starts with the field's path.
    """
    meta = object_metadata(obj)
    spec = validated(APIKeySpec, obj.get("spec"), "spec")
    problems = _problems(spec)
    if problems:
        raise Refused(failed(Reason.INVALID_SPEC, clip("; ".join(problems))))
    return ParsedAPIKey(
        name=str(meta["name"]),
        namespace=str(meta.get("namespace") or ""),
        uid=str(meta.get("uid") or ""),
        generation=int(meta.get("generation") or 0),
        created=creation_time(meta),
        deleting=bool(meta.get("deletionTimestamp")),
        annotations=dict(meta.get("annotations") or {}),
        spec=spec,
        status=_status(obj.get("status")),
    )


def revoked_status(obj: Mapping[str, Any], *, now: str) -> dict[str, Any] | None:
    """Status of an APIKey that may be invalid otherwise, with its revocation (``now``: RFC 3339); ``None``: as it is.

    Who revokes a key need not have mended it: what is asked for is recorded before anything of it is read.
    """
    status, spec = obj.get("status") or {}, obj.get("spec")
    notes = (obj.get("metadata") or {}).get("annotations") or {}
    asked = names.ANNOTATION_REVOKE in notes or (isinstance(spec, Mapping) and spec.get("revoked") is True)
    return {**status, "revokedAt": now} if asked and not status.get("revokedAt") else None


def _status(data: Any) -> APIKeyStatus:
    status = lenient(APIKeyStatus, data)
    if status.revoked_at is None and isinstance(data, Mapping) and data.get("revokedAt"):
        status = lenient(APIKeyStatus, {name: data[name] for name in _LASTING if data.get(name)})
    return status


def _problems(spec: APIKeySpec) -> list[str]:
    found = []
    rotation = spec.rotation
    if rotation is not None and parse_duration(rotation.grace) > parse_duration(limits.KEY_GRACE_MAX):
        found.append(f"spec.rotation.grace: must be at most {limits.KEY_GRACE_MAX}")
    if rotation is not None and rotation.interval is not None:
        if parse_duration(rotation.interval) < parse_duration(limits.KEY_ROTATION_MIN):
            found.append(f"spec.rotation.interval: must be at least {limits.KEY_ROTATION_MIN}")
        if spec.value_from is not None:
            found.append("spec.rotation.interval: a key from valueFrom is rotated by changing its Secret: leave it out")
    if spec.value_from is not None and spec.secret_name is not None:
        found.append("spec.secretName: is for generated keys: leave it out beside valueFrom")
    return found
