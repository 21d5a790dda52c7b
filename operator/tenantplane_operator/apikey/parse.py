"""From a raw APIKey object to typed values, or to a refusal that names the wrong field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenantplane_api.crd.apikey import APIKeySpec, APIKeyStatus
from tenantplane_operator.tenant.parse import creation_time, lenient, object_metadata, validated


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
    def secret_name(self) -> str:
        """Name of the Secret: ``spec.secretName``, else the APIKey's own name."""
        return self.spec.secret_name or self.name


def parse_api_key(obj: Mapping[str, Any]) -> ParsedAPIKey:
    """Validate an APIKey.

    Raises:
        Refused: InvalidSpec; the message starts with the field's path.
    """
    meta = object_metadata(obj)
    return ParsedAPIKey(
        name=str(meta["name"]),
        namespace=str(meta.get("namespace") or ""),
        uid=str(meta.get("uid") or ""),
        generation=int(meta.get("generation") or 0),
        created=creation_time(meta),
        deleting=bool(meta.get("deletionTimestamp")),
        annotations=dict(meta.get("annotations") or {}),
        spec=validated(APIKeySpec, obj.get("spec"), "spec"),
        status=lenient(APIKeyStatus, obj.get("status")),
    )
