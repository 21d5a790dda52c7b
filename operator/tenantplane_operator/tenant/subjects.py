"""Who may never be given a tenant's namespace.

Guarantees that no binding of ours hands a namespace to everybody, to Kubernetes itself, to the platform's programs or
to another tenant's pods. Names of people and groups mean what the cluster's authenticator says; nothing is known of
them here beyond the platform's deny-list.
"""

from collections.abc import Collection

from tenantplane_api.crd.common import Subject
from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform


def why_denied(subject: Subject, *, namespace: str, platform: Platform, foreign: Collection[str]) -> str | None:
    """Why a subject is refused, for people; ``None`` when it is admitted.

    Args:
        subject: who is to get rights.
        namespace: the tenant's own.
        platform: its deny-list and namespaces.
        foreign: namespaces of other tenants, at least those of the ServiceAccounts that are asked about.
    """
    denied = names.DENIED_SUBJECTS.union(platform.operator.denied_subjects)
    if subject.kind != "ServiceAccount":
        if subject.name.startswith("system:"):
            return "is one of Kubernetes' own"
        if subject.name.startswith("eks:"):
            return "is one of EKS' own"
        return "is on the platform's deny-list" if subject.name in denied else None
    # As the API server spells a ServiceAccount's user name, so that one list serves all three kinds.
    if f"system:serviceaccount:{subject.namespace}:{subject.name}" in denied:
        return "is on the platform's deny-list"
    home = subject.namespace or ""
    if home == namespace:
        return None
    if is_platform_namespace(home, platform) or names.is_reserved_namespace(home):
        return f"is of {home}, a namespace of Kubernetes or the platform"
    # By prefix too: a tenant of that name may come after this binding, and would be in it at once.
    if home in foreign or home.startswith(names.NAMESPACE_PREFIX):
        return f"is of {home}, a namespace of another tenant"
    return None


def is_platform_namespace(name: str, platform: Platform) -> bool:
    """True for one of the platform's four namespaces."""
    spaces = platform.shared.namespaces
    return name in (spaces.system, spaces.runtime, spaces.jobs, spaces.models)
