"""RoleBindings in a tenant's namespace: the customer's people on the chart's fixed roles, and the operator itself.

Guarantees that a binding only ever names one of the chart's ClusterRoles and subjects that ``effective`` admitted. The
operator binds itself here because it has no right to Secrets anywhere else; which namespaces it may do that in is
fenced by admission, not by this module.
"""

from collections.abc import Sequence
from typing import Any, Final

from tenantplane_api.crd.common import Subject
from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.tenant.effective import EffectiveAccess
from tenantplane_operator.tenant.manifest import Manifest, Owner, metadata

_RBAC: Final = "rbac.authorization.k8s.io"


def operator_binding(owner: Owner, namespace: str, *, platform: Platform) -> Manifest:
    """The operator's own rights in the namespace; applied before anything that needs them."""
    subject = {
        "kind": "ServiceAccount",
        "name": names.SERVICE_ACCOUNT_OPERATOR,
        "namespace": platform.shared.namespaces.system,
    }
    return _binding(
        owner,
        namespace,
        name=names.CHILD_ROLE_BINDING_OPERATOR,
        role=names.CLUSTER_ROLE_OPERATOR_NAMESPACE,
        subjects=[subject],
    )


def access_bindings(owner: Owner, namespace: str, *, access: EffectiveAccess) -> tuple[Manifest, ...]:
    """One binding per role that has anybody in it."""
    wanted = (
        (names.CHILD_ROLE_BINDING_ADMINS, names.CLUSTER_ROLE_TENANT_ADMIN, access.admins),
        (names.CHILD_ROLE_BINDING_EDITORS, names.CLUSTER_ROLE_TENANT_EDITOR, access.editors),
        (names.CHILD_ROLE_BINDING_VIEWERS, names.CLUSTER_ROLE_TENANT_VIEWER, access.viewers),
        (
            names.CHILD_ROLE_BINDING_WORKLOADS,
            names.CLUSTER_ROLE_TENANT_WORKLOADS,
            access.admins if access.workloads else (),
        ),
    )
    return tuple(
        _binding(owner, namespace, name=name, role=role, subjects=[rbac_subject(subject) for subject in subjects])
        for name, role, subjects in wanted
        if subjects
    )


def rbac_subject(subject: Subject) -> dict[str, Any]:
    """A subject as RBAC spells it: users and groups have an API group, ServiceAccounts a namespace."""
    if subject.kind == "ServiceAccount":
        return {"kind": subject.kind, "name": subject.name, "namespace": subject.namespace}
    return {"apiGroup": _RBAC, "kind": subject.kind, "name": subject.name}


def _binding(owner: Owner, namespace: str, *, name: str, role: str, subjects: Sequence[dict[str, Any]]) -> Manifest:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata(owner, name=name, namespace=namespace, component=names.COMPONENT_ACCESS),
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": list(subjects),
    }
