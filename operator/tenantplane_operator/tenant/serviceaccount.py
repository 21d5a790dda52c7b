"""ServiceAccounts of a tenant's namespace.

``tenant`` is the identity of what runs for the tenant; ``default`` is the one that Kubernetes gives to every pod that
names none. Guarantees that neither gets an API token mounted unasked. A pod may still ask for one in its own spec;
such a token has no rights, since nothing here is bound to a role. Only ``tenant`` is ever given a role in AWS; EKS
mounts a token of its own for that, which the API server does not take.
"""

from collections.abc import Mapping
from typing import Final

from tenantplane_api.runtime import names
from tenantplane_operator.tenant.manifest import Manifest, Owner, metadata

DEFAULT_SERVICE_ACCOUNT: Final = "default"


def tenant_account(owner: Owner, namespace: str, *, role_arn: str | None) -> Manifest:
    """``tenant``; ``role_arn`` must be one that the platform admits."""
    return _account(
        owner,
        namespace,
        name=names.CHILD_SERVICE_ACCOUNT,
        annotations={} if role_arn is None else {names.ANNOTATION_ROLE_ARN: role_arn},
    )


def default_account(owner: Owner, namespace: str) -> Manifest:
    """``default``."""
    return _account(owner, namespace, name=DEFAULT_SERVICE_ACCOUNT, annotations={})


def _account(owner: Owner, namespace: str, *, name: str, annotations: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(
            owner, name=name, namespace=namespace, component=names.COMPONENT_ACCESS, annotations=annotations
        ),
        "automountServiceAccountToken": False,
    }
