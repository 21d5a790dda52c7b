"""Who owns a namespace: a decision over observed facts, asked by reconcile and tests alike.

Everything durable is bound to ``tenantID``, not to a Tenant's name or UID, so that a restore, a cluster move or a
reinstalled CRD (capsule#1181) takes a namespace back instead of losing it, while another customer under the same name
is refused. Guarantees that at most one live Tenant owns a namespace or a tenantID, the same one whoever asks, and that
a namespace that exists is never taken without its label and tenantID, or a cluster admin's consent, saying so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tenantplane_api.crd.conditions import Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.tenant import manifest
from tenantplane_operator.tenant.concern import Concern, failed

_NEVER = "9999"  # sorts after every RFC 3339 time: what has no creation time is younger than what has one


@dataclass(frozen=True, slots=True)
class Claim:
    """What one Tenant object claims. ``created`` is RFC 3339 text in UTC, which sorts as time.

    ``serves``: its document stands published. Creation times have whole seconds, and within one a newcomer must not
    take over from a Tenant that serves already. It is an observation and no part of the claim: it does not compare.
    """

    name: TenantName
    tenant_id: TenantID
    uid: str
    created: str
    namespace: str
    deleting: bool = False
    serves: bool = field(default=False, compare=False)

    @property
    def age(self) -> tuple[str, bool, str, str]:
        """Sort key: the oldest first; total, so that every observer finds the same winner."""
        return (self.created or _NEVER, not self.serves, self.uid, self.name)


class Ownership(StrEnum):
    """How a Tenant comes to its namespace."""

    CREATE = "Create"
    OWN = "Own"
    TAKE_BACK = "TakeBack"
    ADOPT = "Adopt"


@dataclass(frozen=True, slots=True)
class Owned:
    """The namespace is this Tenant's to write. ``message`` is for an event."""

    how: Ownership
    message: str = ""


def claim_of(obj: Mapping[str, Any]) -> Claim | None:
    """What a raw Tenant claims, also when its spec is invalid elsewhere; ``None`` when it has no identity to claim.

    Lenient on purpose: a Tenant with a typo still holds its namespace and tenantID against others.
    """
    meta, spec = obj.get("metadata"), obj.get("spec")
    if not isinstance(meta, Mapping) or not isinstance(spec, Mapping):
        return None
    name, tenant_id = meta.get("name"), spec.get("tenantID")
    if not isinstance(name, str) or not isinstance(tenant_id, str):
        return None
    section = spec.get("namespace")
    wanted = section.get("name") if isinstance(section, Mapping) else None
    created = meta.get("creationTimestamp")
    return Claim(
        name=TenantName(name),
        tenant_id=TenantID(tenant_id),
        uid=str(meta.get("uid") or ""),
        created=created if isinstance(created, str) else "",
        namespace=wanted if isinstance(wanted, str) and wanted else names.default_namespace(name),
        deleting=bool(meta.get("deletionTimestamp")),
        serves=_serves(obj.get("status")),
    )


def _serves(status: object) -> bool:
    return isinstance(status, Mapping) and bool(status.get("namespace")) and bool(status.get("runtimeRevision"))


def carries(namespace: Mapping[str, Any], tenant: Mapping[str, Any]) -> bool:
    """True when a raw Namespace is this raw Tenant's, by its label *and* by the tenantID that it carries."""
    spec, meta = tenant.get("spec") or {}, tenant.get("metadata") or {}
    owner_id = manifest.annotation(namespace, names.ANNOTATION_TENANT_ID)
    named = manifest.label(namespace, names.LABEL_TENANT) == meta.get("name")
    return named and owner_id is not None and owner_id == spec.get("tenantID")


def belongs_to_another(
    namespace: str, tenant: str, *, found: Mapping[str, Any] | None, claims: Iterable[Claim]
) -> bool:
    """True for a namespace that another Tenant claims, or whose Namespace object carries another's label."""
    if any(claim.namespace == namespace and claim.name != tenant for claim in claims):
        return True
    return found is not None and manifest.label(found, names.LABEL_TENANT) not in (None, tenant)


def decide(
    claim: Claim,
    *,
    namespace: Mapping[str, Any] | None,
    others: Iterable[Claim],
    adoption_policy: str,
    recorded: bool,
    platform: Platform,
) -> Owned | Concern:
    """Whether the Tenant may write its namespace.

    Args:
        claim: the Tenant that asks.
        namespace: the Namespace object of that name, ``None`` when there is none.
        others: all Tenants that exist; the asking one may be among them.
        adoption_policy: ``ByConsent`` or ``Never``.
        recorded: the Tenant's own status already names the namespace.

    Returns:
        ``Owned``, or the refusal (permanent) or wait as a concern for ``NamespaceReady``.
    """
    found = list(others)
    # What was observed of the asking Tenant, its document among it, is in the list.
    claim = next((other for other in found if (other.name, other.uid) == (claim.name, claim.uid)), claim)
    rivals = sorted((other for other in found if other.name != claim.name), key=lambda other: other.age)
    for check in (_reserved(claim, platform), _duplicate(claim, rivals)):
        if check is not None:
            return check
    if namespace is None:
        return _contest(claim, rivals) or Owned(
            Ownership.CREATE,
            f"namespace {claim.namespace} is gone and is made again" if recorded else "",
        )
    owner_id = manifest.annotation(namespace, names.ANNOTATION_TENANT_ID)
    owner_name = manifest.label(namespace, names.LABEL_TENANT)
    if owner_id is not None and (owner_id != claim.tenant_id or owner_name not in (None, claim.name)):
        return _foreign(claim, owner_id, owner_name)
    # A namespace that carries this tenantID settles any contest: age is only for what nobody holds yet.
    if owner_id is None:
        contested = _contest(claim, rivals)
        if contested is not None:
            return contested
    if manifest.is_terminating(namespace):
        return failed(
            Reason.WAITING,
            f"namespace {claim.namespace} is being deleted; it is made again when it is gone",
        )
    if owner_id is not None and owner_name == claim.name:
        if recorded:
            return Owned(Ownership.OWN)
        return Owned(Ownership.TAKE_BACK, f"took namespace {claim.namespace} back: it carries this tenantID")
    return _adopt(claim, namespace, owner_name, adoption_policy)


def _reserved(claim: Claim, platform: Platform) -> Concern | None:
    spaces = platform.shared.namespaces
    platforms = (spaces.system, spaces.runtime, spaces.jobs, spaces.models)
    if names.is_reserved_namespace(claim.namespace) or claim.namespace in platforms:
        return failed(
            Reason.NAMESPACE_RESERVED,
            f"spec.namespace.name: {claim.namespace} is reserved for Kubernetes or the platform: choose another "
            "namespace in a new Tenant",
        )
    return None


def _duplicate(claim: Claim, rivals: list[Claim]) -> Concern | None:
    for rival in rivals:
        if rival.tenant_id != claim.tenant_id:
            continue
        if rival.deleting:
            return failed(
                Reason.DELETING,
                f"Tenant {rival.name} with the same tenantID is being deleted; waiting until it is gone",
            )
        if rival.age < claim.age:
            return failed(
                Reason.DUPLICATE_TENANT_ID,
                f"spec.tenantID: Tenant {rival.name} is older and has the same tenantID: delete one of the two, or "
                "give another customer a tenantID of its own",
            )
    return None


def _contest(claim: Claim, rivals: list[Claim]) -> Concern | None:
    for rival in rivals:
        if rival.namespace != claim.namespace:
            continue
        if rival.deleting:
            return failed(
                Reason.DELETING,
                f"Tenant {rival.name}, which has namespace {claim.namespace}, is being deleted; waiting for its end",
            )
        if rival.age < claim.age:
            return failed(
                Reason.NAMESPACE_CONFLICT,
                f"spec.namespace.name: the older Tenant {rival.name} wants namespace {claim.namespace} too: choose "
                "another namespace in a new Tenant",
            )
    return None


def _foreign(claim: Claim, owner_id: str, owner_name: str | None) -> Concern:
    if owner_id == claim.tenant_id:
        return failed(
            Reason.NAMESPACE_CONFLICT,
            f"namespace {claim.namespace} has this tenantID but belongs to a Tenant named {owner_name}: use that name, "
            "or another namespace",
        )
    return failed(
        Reason.NAMESPACE_CONFLICT,
        f"namespace {claim.namespace} belongs to another tenantID: nothing in it is touched. If it is the same "
        "customer, use the tenantID in the namespace's annotation; otherwise choose another namespace in a new Tenant",
    )


def _adopt(claim: Claim, namespace: Mapping[str, Any], owner_name: str | None, adoption_policy: str) -> Owned | Concern:
    if owner_name not in (None, claim.name):
        return failed(
            Reason.NAMESPACE_CONFLICT, f"namespace {claim.namespace} belongs to Tenant {owner_name}: choose another one"
        )
    if adoption_policy == "Never":
        return failed(
            Reason.ADOPTION_NOT_CONSENTED,
            f"namespace {claim.namespace} exists and spec.namespace.adoptionPolicy is Never: choose another namespace "
            "in a new Tenant, or set ByConsent",
        )
    if manifest.annotation(namespace, names.ANNOTATION_ADOPTABLE_BY) != claim.name:
        if manifest.annotation(namespace, names.ANNOTATION_TENANT_ID) == claim.tenant_id:
            return failed(
                Reason.ADOPTION_NOT_CONSENTED,
                f"namespace {claim.namespace} has lost the label {names.LABEL_TENANT}, so that nobody's fence holds in "
                f"it; access is cut until a cluster admin puts it back with `kubectl label namespace {claim.namespace} "
                f"{names.LABEL_TENANT}={claim.name}`",
            )
        return failed(
            Reason.ADOPTION_NOT_CONSENTED,
            f"namespace {claim.namespace} exists and is not ours: a cluster admin consents with `kubectl annotate "
            f"namespace {claim.namespace} {names.ANNOTATION_ADOPTABLE_BY}={claim.name}`",
        )
    return Owned(Ownership.ADOPT, f"adopted namespace {claim.namespace}: a cluster admin consented")
