"""Bootstrap API keys: APIKey objects that the operator makes, so that one apply of one Tenant is enough to chat.

Guarantees that an APIKey which a user made is neither taken over nor deleted: ours carry our label, which the tenant
fence lets nobody else set. ``revoked`` is never applied, so a bootstrap key that was revoked by hand stays revoked.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.crd.tenant import BootstrapKey
from tenantplane_api.runtime import names
from tenantplane_operator.tenant import manifest
from tenantplane_operator.tenant.concern import Concern, clip, failed, not_configured, ok
from tenantplane_operator.tenant.effective import EffectiveTenant
from tenantplane_operator.tenant.manifest import Manifest, Owner
from tenantplane_operator.tenant.parse import format_time


@dataclass(frozen=True, slots=True)
class BootstrapKeys:
    """APIKeys to apply, names of earlier ones to delete, and what is wrong with the rest."""

    manifests: tuple[Manifest, ...]
    obsolete: tuple[str, ...]
    problems: tuple[str, ...] = ()


def bootstrap_keys(
    owner: Owner, namespace: str, *, effective: EffectiveTenant, observed: Iterable[Mapping[str, Any]]
) -> BootstrapKeys:
    """What to do about the keys that the Tenant lists.

    Args:
        owner: whose they are.
        namespace: the tenant's namespace.
        effective: what is in force; without a list there is one key, ``default``.
        observed: all APIKey objects of the namespace.
    """
    present = {str(obj["metadata"]["name"]): obj for obj in observed}
    foreign = {name for name, obj in present.items() if not is_bootstrapped(obj, owner)}
    wanted = {key.name for key in effective.api_keys}
    return BootstrapKeys(
        manifests=tuple(api_key(owner, namespace, key=key) for key in effective.api_keys if key.name not in foreign),
        obsolete=tuple(
            sorted(
                name
                for name, obj in present.items()
                if name not in wanted and name not in foreign and not manifest.is_terminating(obj)
            )
        ),
        # A key that nobody listed is not missed when the customer made one of that name.
        problems=tuple(
            f"spec.auth.apiKeys: an APIKey {name} exists in namespace {namespace} and is not this Tenant's: rename "
            "the one or delete the other"
            for name in sorted(wanted & foreign)
            if effective.keys_listed
        ),
    )


def is_bootstrapped(obj: Mapping[str, Any], owner: Owner) -> bool:
    """True for an APIKey that we made for this tenant."""
    return (
        manifest.label(obj, names.LABEL_MANAGED_BY) == names.MANAGED_BY
        and manifest.label(obj, names.LABEL_TENANT) == owner.name
    )


def api_key(owner: Owner, namespace: str, *, key: BootstrapKey) -> Manifest:
    """One APIKey."""
    spec: dict[str, Any] = {"description": f"Made for Tenant {owner.name}"}
    if key.owner:
        spec["owner"] = key.owner
    if key.expires_at is not None:
        spec["expiresAt"] = format_time(key.expires_at)
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_API_KEY,
        "metadata": manifest.metadata(owner, name=key.name, namespace=namespace, component=names.COMPONENT_APIKEY),
        "spec": spec,
    }


def keys_concern(
    keys: BootstrapKeys,
    *,
    effective: EffectiveTenant,
    observed: Sequence[Mapping[str, Any]],
    accepted: Collection[str] = (),
) -> Concern:
    """``KeysReady``: every key that the Tenant lists works, or does not because somebody wanted it so.

    ``accepted`` are the hashes in the document that is about to be published: what is in it need not first be told of
    by its APIKey, which would cost another pass over every new Tenant.
    """
    if keys.problems:
        return failed(Reason.INVALID_SPEC, clip("; ".join(keys.problems)))
    if not effective.api_keys:
        return not_configured("spec.auth.apiKeys is empty: keys are made by APIKey objects in the tenant's namespace")
    present = {str(obj["metadata"]["name"]): obj for obj in observed}
    waiting, broken = [], []
    for key in effective.api_keys:
        ready = _ready(present.get(key.name))
        under_way = ready is None or (ready.get("status") != "True" and ready.get("reason") in _UNDER_WAY)
        if under_way and ((present.get(key.name) or {}).get("status") or {}).get("hash") in accepted:
            continue
        if ready is None or under_way:
            waiting.append(key.name)
        elif ready.get("status") != "True" and ready.get("reason") not in _SETTLED:
            broken.append(f"APIKey {key.name}: {ready.get('message') or ready.get('reason')}")
    if broken:
        return failed(_reason(present, effective), clip("; ".join(broken)))
    if waiting:
        return failed(Reason.PROGRESSING, clip("waiting for APIKeys " + ", ".join(waiting)))
    return ok()


_SETTLED = frozenset({Reason.EXPIRED, Reason.REVOKED})
_UNDER_WAY = frozenset({Reason.PROGRESSING, Reason.WAITING})


def _ready(obj: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    conditions = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == ConditionType.READY), None)


def _reason(present: Mapping[str, Mapping[str, Any]], effective: EffectiveTenant) -> str:
    """Reason of the first listed key that is neither ready, settled nor under way."""
    for key in effective.api_keys:
        ready = _ready(present.get(key.name)) or {}
        reason = str(ready.get("reason") or "")
        if ready.get("status") != "True" and reason and reason not in _SETTLED | _UNDER_WAY:
            return reason
    return Reason.APPLY_FAILED
