"""What the command line reads from APIKey objects and their Secrets, and how it waits for them.

Guarantees that what is shown of an APIKey holds no hash, and that the text of a key is read only by who asks for it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from tenantplane_cli.output import CliError

WAIT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2


def describe(key: dict[str, Any]) -> dict[str, Any]:
    """What may be shown of an APIKey object."""
    spec, status = key.get("spec") or {}, key.get("status") or {}
    ready = condition(key, "Ready")
    if status.get("revokedAt"):
        state = "Revoked"
    elif ready is None:
        state = "Waiting"
    else:
        state = "Ready" if ready["status"] == "True" else str(ready.get("reason", "NotReady"))
    source = ((spec.get("valueFrom") or {}).get("secretKeyRef")) or {}
    return {
        "name": key["metadata"]["name"],
        "keyID": status.get("keyID"),
        "owner": spec.get("owner", ""),
        "description": spec.get("description", ""),
        "state": state,
        "expiresAt": spec.get("expiresAt"),
        "revokedAt": status.get("revokedAt"),
        "lastRotatedAt": status.get("lastRotatedAt"),
        "nextRotationAt": status.get("nextRotationAt"),
        "previous": [
            {"keyID": entry.get("keyID", ""), "acceptedUntil": entry.get("acceptedUntil")}
            for entry in status.get("previous") or []
        ],
        "secret": source.get("name") or (status.get("secretRef") or {}).get("name"),
        "message": "" if state == "Ready" or ready is None else ready.get("message", ""),
    }


def condition(item: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """One condition of an object's status."""
    for entry in (item.get("status") or {}).get("conditions") or ():
        if entry.get("type") == kind:
            found: dict[str, Any] = entry
            return found
    return None


def is_true(item: dict[str, Any], kind: str) -> bool:
    """True when a condition holds for the object's present generation."""
    found = condition(item, kind)
    return (
        found is not None
        and found["status"] == "True"
        and int(found.get("observedGeneration", 0)) >= int(item["metadata"].get("generation", 0))
    )


def key_text(kube: Any, namespace: str, key: dict[str, Any]) -> str:
    """The text of an APIKey, from its own Secret or the one that it names. Raises CliError."""
    source = (((key.get("spec") or {}).get("valueFrom") or {}).get("secretKeyRef")) or {}
    if source:
        return read_secret(kube, namespace, source["name"], entry=source["key"])[0]
    return read_secret(kube, namespace, str(describe(key)["secret"] or key["metadata"]["name"]))[0]


def read_secret(kube: Any, namespace: str, name: str, *, entry: str | None = None) -> tuple[str, str]:
    """Text and base URL of a key's Secret. Raises CliError when it is not there or not a key's.

    ``entry`` is the Secret's key that holds the text, where a user made it.
    """
    import base64
    import binascii

    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import NotFound, secret_path

    wanted = entry or names.SECRET_KEY_API_KEY
    try:
        data = kube.get(secret_path(namespace, name)).get("data") or {}
    except NotFound:
        raise CliError(
            f"there is no Secret {namespace}/{name}: is the key Ready? `tenantplane keys list` shows its state"
        ) from None
    try:
        values = {
            key: base64.b64decode(value).decode()
            for key, value in data.items()
            if key in (wanted, names.SECRET_KEY_BASE_URL)
        }
    except (binascii.Error, UnicodeDecodeError):
        raise CliError(f"Secret {namespace}/{name} does not hold text") from None
    if wanted not in values:
        raise CliError(f"Secret {namespace}/{name} has no key {wanted}: it is not an API key's")
    return values[wanted], values.get(names.SECRET_KEY_BASE_URL, "")


def now_text() -> str:
    """The time as request annotations have it: RFC 3339 with microseconds, so that two requests differ."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@contextlib.contextmanager
def in_namespace(kube: Any, tenant: str | None, given: str | None) -> Iterator[str]:
    """The namespace of a tenant's keys: ``given``, else as the Tenant says, else by default for who may not read it.

    A refusal inside the block says so when the namespace was only assumed.
    """
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import FORBIDDEN, KubeError, get_tenant, namespace_of
    from tenantplane_cli.output import UsageError

    if given:
        yield given
        return
    if tenant is None:
        raise UsageError("name the tenant by --tenant, or its namespace by --namespace")
    try:
        space = namespace_of(get_tenant(kube, tenant))
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        space = names.default_namespace(tenant)
        try:
            yield space
        except KubeError as refused:
            if refused.status != FORBIDDEN:
                raise
            raise CliError(
                f"{refused} (namespace {space} is an assumption, because you may not read Tenants: name the "
                "tenant's by --namespace)"
            ) from None
        return
    yield space


def wait_for(
    kube: Any, path: str, holds: Callable[[dict[str, Any]], bool], otherwise: str, *, stalls: bool = True
) -> dict[str, Any]:
    """Wait until ``holds``; the object then.

    ``stalls``: a stalled object will not get there. False for what is done to a stalled one as well. Raises CliError
    after a minute, or when it is stalled; a fault of the API server that may pass is waited out until then.
    """
    from tenantplane_cli.patience import Patience

    patience = Patience(time.monotonic() + WAIT_SECONDS)
    while True:
        found: dict[str, Any] | None = patience.ask(lambda: kube.get(path))
        if found is not None:
            if holds(found):
                return found
            stalled = condition(found, "Stalled")
            if stalls and stalled is not None and stalled["status"] == "True":
                raise CliError(f"{otherwise}: {stalled.get('reason')}: {stalled.get('message')}")
            if patience.over:
                ready = condition(found, "Ready") or {}
                raise CliError(
                    f"{otherwise} after {WAIT_SECONDS:.0f} s: {ready.get('message') or 'does the operator run?'}"
                )
        time.sleep(_POLL_SECONDS)
