"""The operator refuses to work unfenced: at start it tries what its fence must refuse.

With ``rolebindings: create`` and ``bind`` on one fixed ClusterRole, an operator could read every Secret of the cluster
within milliseconds; only the admission policy on its own user keeps it from that. So it asks, by a dry run, for a
RoleBinding in kube-system, and goes on only when *the policy* says no. RBAC saying no proves nothing: whoever widens a
right later would not be stopped.
"""

import asyncio
from typing import Final

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.errors import ApiError, Forbidden, Invalid, TooManyRequests, Unauthorized, Unavailable
from tenantplane_operator.runtime.resources import Manifest

POLICY: Final = "tenantplane-operator-fence"
_PROBED_NAMESPACE: Final = "kube-system"
PATIENCE: Final = 6.0
"""Seconds that a fresh policy gets to act; it takes about 0.3, up to 1 on a busy server."""


class FenceError(RuntimeError):
    """Raise when the operator's fence is missing or cannot be seen to work; the message says what to do."""


def probe_binding(*, system_namespace: str) -> Manifest:
    """A RoleBinding that would be allowed in a tenant's namespace and must not be in kube-system."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": "tenantplane-fence-check",
            "namespace": _PROBED_NAMESPACE,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": names.CLUSTER_ROLE_OPERATOR_NAMESPACE,
        },
        "subjects": [{"kind": "ServiceAccount", "name": names.SERVICE_ACCOUNT_OPERATOR, "namespace": system_namespace}],
    }


async def check_fence(api: KubeApi, *, system_namespace: str, patience: float = PATIENCE, pause: float = 0.25) -> None:
    """Return when the fence refuses; wait for an API server that does not answer.

    Raises:
        FenceError: for ``patience`` seconds the dry run was let through, or refused by something else.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while True:
        try:
            await api.create(probe_binding(system_namespace=system_namespace), dry_run=True)
            why = (
                f"the admission policy {POLICY} does not refuse a RoleBinding in {_PROBED_NAMESPACE}: install the "
                "chart's policies and their bindings, and run the operator under its own ServiceAccount"
            )
        except (Forbidden, Invalid) as error:
            if "ValidatingAdmissionPolicy" in error.message and POLICY in error.message:
                return
            why = (
                f"the API server refused the check, but not by the admission policy {POLICY}: {error.message}. "
                "Install the chart's RBAC and policies"
            )
        except (Unavailable, TooManyRequests, Unauthorized):
            # No answer says nothing about the fence; give it its full time once there is one.
            end = loop.time() + patience
            why = ""
        except ApiError as error:
            why = f"the check of the admission policy {POLICY} failed: {error.message}"
        if why and loop.time() >= end:
            raise FenceError(f"the operator is not fenced and does not start: {why}")
        await asyncio.sleep(pause)
