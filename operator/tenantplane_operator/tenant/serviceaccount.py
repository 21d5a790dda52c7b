"""ServiceAccounts of a tenant's namespace.

``tenant`` is the identity of what runs for the tenant; ``default`` is the one that Kubernetes gives to every pod that
names none. Guarantees that neither gets an API token mounted unasked. A pod may still ask for one in its own spec;
such a token has no rights, since nothing here is bound to a role.
"""

from typing import Final

from tenantplane_api.runtime import names
from tenantplane_operator.tenant.manifest import Manifest, Owner, metadata

DEFAULT_SERVICE_ACCOUNT: Final = "default"


def service_accounts(owner: Owner, namespace: str) -> tuple[Manifest, ...]:
    """Both ServiceAccounts, without tokens."""
    return tuple(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(owner, name=name, namespace=namespace, component=names.COMPONENT_ACCESS),
            "automountServiceAccountToken": False,
        }
        for name in (names.CHILD_SERVICE_ACCOUNT, DEFAULT_SERVICE_ACCOUNT)
    )
