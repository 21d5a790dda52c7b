"""The Secret that holds an API key: how it is made, and how to tell ours from somebody else's.

Guarantees that a Secret counts as ours only when it names this tenant, this tenantID and this APIKey, and that a key
counts as the one we made only when its text hashes to what we wrote beside it; the tenant fence keeps tenants from
writing those labels and annotations. The Secret is created, never applied, so that an existing one is never
overwritten, and has no ownerReference, so that a reinstalled CRD does not take the customers' keys with it.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tenantplane_api.runtime import keys, names
from tenantplane_api.runtime.keys import ApiKeyText
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_operator.apikey.parse import ParsedAPIKey
from tenantplane_operator.tenant import manifest
from tenantplane_operator.tenant.manifest import Manifest, Owner


@dataclass(frozen=True, slots=True)
class TenantRef:
    """The tenant in whose namespace an APIKey lies. ``serving``: its namespace is its own and it is not going away."""

    name: TenantName
    tenant_id: TenantID
    serving: bool = True

    @property
    def owner(self) -> Owner:
        """Whose the Secret is."""
        return Owner(name=self.name, tenant_id=self.tenant_id)


class SecretState(StrEnum):
    """What lies under the Secret's name."""

    ABSENT = "Absent"
    OURS = "Ours"
    EDITED = "Edited"
    FOREIGN = "Foreign"


@dataclass(frozen=True, slots=True)
class ObservedSecret:
    """What was found. ``digest`` and ``key_id`` only for ``OURS``; ``uid`` is the precondition of a delete."""

    state: SecretState
    digest: str | None = None
    key_id: str | None = None
    uid: str = ""


ABSENT: Final = ObservedSecret(SecretState.ABSENT)


def secret_manifest(key: ParsedAPIKey, tenant: TenantRef, *, text: ApiKeyText, base_url: str) -> Manifest:
    """The Secret to create (POST).

    Args:
        key: the APIKey that it belongs to.
        tenant: the tenant in whose namespace both are.
        text: a freshly generated key.
        base_url: base URL for OpenAI SDKs, ``https://…/v1``.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": manifest.metadata(
            tenant.owner,
            name=key.secret_name,
            namespace=key.namespace,
            component=names.COMPONENT_APIKEY,
            labels={names.LABEL_API_KEY: key.name},
            annotations={names.ANNOTATION_KEY_ID: text.key_id, names.ANNOTATION_KEY_HASH: text.digest},
        ),
        "type": "Opaque",
        "data": {names.SECRET_KEY_API_KEY: _encoded(text.text), names.SECRET_KEY_BASE_URL: _encoded(base_url)},
    }


def observe_secret(obj: Mapping[str, Any] | None, key: ParsedAPIKey, tenant: TenantRef) -> ObservedSecret:
    """What a Secret is to an APIKey; ``None`` is no Secret."""
    if obj is None:
        return ABSENT
    uid = str((obj.get("metadata") or {}).get("uid") or "")
    if not manifest.belongs_to(obj, tenant.owner) or manifest.label(obj, names.LABEL_API_KEY) != key.name:
        return ObservedSecret(SecretState.FOREIGN, uid=uid)
    try:
        text = keys.parse_key(_decoded((obj.get("data") or {}).get(names.SECRET_KEY_API_KEY)))
    except keys.KeyFormatError:
        return ObservedSecret(SecretState.EDITED, uid=uid)
    if text.digest != manifest.annotation(obj, names.ANNOTATION_KEY_HASH):
        return ObservedSecret(SecretState.EDITED, uid=uid)
    return ObservedSecret(SecretState.OURS, digest=text.digest, key_id=text.key_id, uid=uid)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _decoded(data: object) -> str:
    """The text of a Secret's entry; empty, which is no key, when it is not text."""
    if not isinstance(data, str):
        return ""
    try:
        return base64.b64decode(data, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
