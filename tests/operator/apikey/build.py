"""Builders of APIKeys, Secrets and questions to the state machine."""

import base64
from datetime import UTC, datetime
from typing import Any

from tenantplane_api.runtime import keys, names
from tenantplane_api.runtime.names import Revision, TenantID, TenantName
from tenantplane_operator.apikey.parse import ParsedAPIKey, parse_api_key
from tenantplane_operator.apikey.secret import ObservedSecret, TenantRef, observe_secret, secret_manifest
from tenantplane_operator.apikey.state import KeyDecision, decide
from tenantplane_operator.tenant.manifest import Manifest

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ACME = TenantRef(TenantName("acme"), TenantID("acme-0001"))
BETA = TenantRef(TenantName("beta"), TenantID("beta-0001"))
TEXT, OTHER, THIRD = keys.generate_key(), keys.generate_key(), keys.generate_key()
R1, R2 = Revision("r1"), Revision("r2")
GIVEN = {"valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}


def key(
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    notes: dict[str, str] | None = None,
    *,
    name: str = "web",
) -> ParsedAPIKey:
    """A parsed APIKey of tenant acme."""
    meta = {"name": name, "namespace": "tenant-acme", "uid": "u", "generation": 2, "annotations": notes or {}}
    return parse_api_key({"metadata": meta, "spec": spec or {}, "status": status or {}})


def secret(text: keys.ApiKeyText = TEXT, tenant: TenantRef = ACME, of: ParsedAPIKey | None = None) -> Manifest:
    """The Secret that we make."""
    made = secret_manifest(of or key(), tenant, text=text, base_url="http://x/v1")
    made["metadata"]["uid"] = "secret-uid"
    return made


def users(text: str, **rest: Any) -> Manifest:
    """A Secret that a user made."""
    return {"metadata": {"name": "mine"}, "data": {"k": base64.b64encode(text.encode()).decode()}, **rest}


def seen(text: keys.ApiKeyText = TEXT, of: ParsedAPIKey | None = None) -> ObservedSecret:
    """Our Secret as it is observed."""
    return observe_secret(secret(text, of=of), key(), ACME)


def known(text: keys.ApiKeyText = TEXT, **rest: Any) -> dict[str, Any]:
    """A status that has this text since ten o'clock."""
    return {"hash": text.digest, "keyID": text.key_id, "lastRotatedAt": "2026-11-01T10:00:00Z", **rest}


def replaced(text: keys.ApiKeyText, until: str) -> dict[str, str]:
    """An entry of ``status.previous``."""
    return {"hash": text.digest, "keyID": text.key_id, "acceptedUntil": until}


def ask(
    this: ParsedAPIKey,
    observed: ObservedSecret,
    *,
    tenant: TenantRef | None = ACME,
    taken: frozenset[str] = frozenset(),
    published: dict[str, Revision] | None = None,
    now: datetime = NOW,
) -> KeyDecision:
    """Ask the state machine."""
    return decide(this, tenant=tenant, secret=observed, now=now, taken=taken, published=published or {})


ROTATE_NOTE = names.ANNOTATION_ROTATE
