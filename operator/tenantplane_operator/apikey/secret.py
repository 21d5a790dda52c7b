"""The Secret that holds an API key: how it is made, and what one that is found means.

Guarantees that a Secret counts as ours only when it names this tenant, this tenantID and this APIKey, and that a key
counts as the one we made only when its text hashes to what we wrote beside it; the tenant fence keeps tenants from
writing those labels and annotations. The Secret is created, never applied, so that an existing one is never
overwritten, and has no ownerReference, so that a reinstalled CRD does not take the customers' keys with it.

A Secret that a user names (``valueFrom``) is read for a key and for nothing else. What is wrong with it is said without
a character of what it holds.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tenantplane_api.crd.common import SecretKeyRef
from tenantplane_api.runtime import keys, names
from tenantplane_api.runtime.keys import ApiKeyText
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_operator.apikey.parse import ParsedAPIKey
from tenantplane_operator.apikey.rotation import requests_of
from tenantplane_operator.tenant import manifest
from tenantplane_operator.tenant.manifest import Manifest, Owner


@dataclass(frozen=True, slots=True)
class TenantRef:
    """The tenant in whose namespace an APIKey lies."""

    name: TenantName
    tenant_id: TenantID

    @property
    def owner(self) -> Owner:
        """Whose the Secret is."""
        return Owner(name=self.name, tenant_id=self.tenant_id)


class SecretState(StrEnum):
    """What lies under the Secret's name: the first five for a key that we make, the others for ``valueFrom``."""

    ABSENT = "Absent"
    OURS = "Ours"
    EDITED = "Edited"
    FOREIGN = "Foreign"
    LEAVING = "Leaving"
    """Ours, being deleted, and held by somebody's finalizer."""
    GIVEN = "Given"
    MISSING = "Missing"
    UNUSABLE = "Unusable"


@dataclass(frozen=True, slots=True)
class ObservedSecret:
    """What was found.

    ``digest`` and ``key_id`` only for ``OURS`` and ``GIVEN``; ``uid`` is the precondition of a delete; ``request`` is
    the rotation request that was there when we made it; ``problem`` says what is wrong with a user's Secret.
    """

    state: SecretState
    digest: str | None = None
    key_id: str | None = None
    uid: str = ""
    request: str | None = None
    problem: str = ""


ABSENT: Final = ObservedSecret(SecretState.ABSENT)
_NOT_FOR_KEYS: Final = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})


def secret_manifest(key: ParsedAPIKey, tenant: TenantRef, *, text: ApiKeyText, base_url: str) -> Manifest:
    """The Secret to create (POST).

    Args:
        key: the APIKey that it belongs to.
        tenant: the tenant in whose namespace both are.
        text: a freshly generated key.
        base_url: base URL for OpenAI SDKs, ``https://…/v1``.
    """
    notes = {names.ANNOTATION_KEY_ID: text.key_id, names.ANNOTATION_KEY_HASH: text.digest}
    asked = requests_of(key).asked
    if asked is not None:
        notes[names.ANNOTATION_KEY_REQUEST] = asked
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": manifest.metadata(
            tenant.owner,
            name=key.secret_name,
            namespace=key.namespace,
            component=names.COMPONENT_APIKEY,
            labels={names.LABEL_API_KEY: key.name},
            annotations=notes,
        ),
        "type": "Opaque",
        "data": {names.SECRET_KEY_API_KEY: _encoded(text.text), names.SECRET_KEY_BASE_URL: _encoded(base_url)},
    }


def observe_secret(obj: Mapping[str, Any] | None, key: ParsedAPIKey, tenant: TenantRef) -> ObservedSecret:
    """What a Secret is to an APIKey; ``None`` is no Secret."""
    if key.given is not None:
        return _given(obj, key.given)
    if obj is None:
        return ABSENT
    uid = str((obj.get("metadata") or {}).get("uid") or "")
    if not is_secret_of(obj, key.name, tenant):
        return ObservedSecret(SecretState.FOREIGN, uid=uid)
    if manifest.is_terminating(obj):
        return ObservedSecret(SecretState.LEAVING, uid=uid)
    try:
        text = keys.parse_key(_decoded((obj.get("data") or {}).get(names.SECRET_KEY_API_KEY)))
    except keys.KeyFormatError:
        return ObservedSecret(SecretState.EDITED, uid=uid)
    if text.digest != manifest.annotation(obj, names.ANNOTATION_KEY_HASH):
        return ObservedSecret(SecretState.EDITED, uid=uid)
    return ObservedSecret(
        SecretState.OURS,
        digest=text.digest,
        key_id=text.key_id,
        uid=uid,
        request=manifest.annotation(obj, names.ANNOTATION_KEY_REQUEST),
    )


def is_secret_of(obj: Mapping[str, Any], api_key: str, tenant: TenantRef) -> bool:
    """True for a Secret that we made for this APIKey of this customer."""
    return (
        manifest.belongs_to(obj, tenant.owner)
        and manifest.label(obj, names.LABEL_MANAGED_BY) == names.MANAGED_BY
        and manifest.label(obj, names.LABEL_API_KEY) == api_key
    )


def _given(obj: Mapping[str, Any] | None, ref: SecretKeyRef) -> ObservedSecret:
    """What a user's Secret holds for ``valueFrom``."""
    if obj is None or manifest.is_terminating(obj):
        return ObservedSecret(SecretState.MISSING, problem=f"there is no Secret {ref.name}")
    if manifest.label(obj, names.LABEL_MANAGED_BY) == names.MANAGED_BY or obj.get("type") in _NOT_FOR_KEYS:
        # A key that we made has an APIKey already, and a token is not ours to read.
        return ObservedSecret(SecretState.UNUSABLE, problem=f"Secret {ref.name} is not one that a key may come from")
    data = (obj.get("data") or {}).get(ref.key)
    if data is None:
        return ObservedSecret(SecretState.MISSING, problem=f"Secret {ref.name} has no key {ref.key}")
    decoded = _decoded(data)
    try:
        text = keys.parse_key(decoded)
    except keys.KeyFormatError as error:
        # The message of the error never holds the text.
        why = "there is white space around it" if decoded != decoded.strip() else str(error)
        return ObservedSecret(SecretState.UNUSABLE, problem=f"Secret {ref.name}, key {ref.key}: {why}")
    return ObservedSecret(SecretState.GIVEN, digest=text.digest, key_id=text.key_id)


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
