"""The demo's people at work on the API: who applies what, under whose rights, and when it is Ready.

Guarantees that nothing is done with more rights than its author would have: a cluster admin makes namespaces with
consent and fills ConfigMaps, a platform admin writes Tenants and shared models, a tenant's admin reads its key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tenantplane_cli.cluster.kubectl import kubectl_apply
from tenantplane_cli.cluster.model import Cluster, ClusterError
from tenantplane_cli.demo.parts import DemoError, Example, Programs
from tenantplane_cli.demo.view import Step, View
from tenantplane_cli.keys import condition, read_secret
from tenantplane_cli.kube import Kube, KubeError, secret_path, tenant_path
from tenantplane_cli.output import one_line
from tenantplane_cli.status import View as TenantView
from tenantplane_cli.status import view_of

READY_SECONDS: Final = 120.0
STUCK_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Admins:
    """Kubeconfigs of real users."""

    cluster: Path
    platform: Path
    tenants: dict[str, Path]

    @classmethod
    def of(cls, cluster: Cluster, *, platform_group: str) -> Admins:
        """Certificates for a platform admin and for each example's admin."""
        from tenantplane_cli.demo.parts import TENANTS

        return cls(
            cluster=cluster.kubeconfig,
            platform=cluster.persona("platform-admin", groups=[platform_group]).kubeconfig,
            tenants={name: cluster.persona(f"{name}-admin", groups=[f"{name}-admins"]).kubeconfig for name in TENANTS},
        )


def apply_examples(cluster: Cluster, admins: Admins, examples: list[Example], model: dict[str, Any]) -> None:
    """`kubectl apply` of the examples. Raises DemoError with kubectl's own words."""
    _apply(cluster, admins.cluster, [item for example in examples for item in example.before])
    _apply(cluster, admins.platform, [model, *(example.tenant for example in examples)])


def _apply(cluster: Cluster, kubeconfig: Path, objects: list[dict[str, Any]]) -> None:
    try:
        kubectl_apply(cluster, objects, kubeconfig=kubeconfig)
    except ClusterError as error:
        raise DemoError(one_line(str(error), 1000)) from None


def await_ready(view: View, step: Step, admins: Admins, examples: list[Example], programs: Programs) -> None:
    """Return when every Tenant is Ready. Raises DemoError when one is stuck or a program ended."""
    deadline = time.monotonic() + READY_SECONDS
    stuck_since: float | None = None
    with Kube(admins.platform) as kube:
        while True:
            programs.check()
            tenants = [kube.get(tenant_path(example.name)) for example in examples]
            views = [view_of(tenant, []) for tenant in tenants]
            view.detail(step, [line for found in views for line in _lines(found)])
            if all(found.ready for found in views):
                step.note = ", ".join(f"{found.name}: {_indices(found)}" for found in views)
                return
            stuck_since = (stuck_since or time.monotonic()) if any(map(_stuck, tenants)) else None
            if stuck_since is not None and time.monotonic() - stuck_since > STUCK_SECONDS:
                raise DemoError(_why(views), log="operator")
            if time.monotonic() > deadline:
                raise DemoError(f"not Ready after {READY_SECONDS:.0f} s: {_why(views)}", log="operator")
            time.sleep(_POLL_SECONDS)


def _stuck(tenant: dict[str, Any]) -> bool:
    """True when waiting alone will not make it Ready."""
    stalled, ready = condition(tenant, "Stalled"), condition(tenant, "Ready")
    return (stalled is not None and stalled["status"] == "True") or (
        ready is not None and ready["reason"] == "BuildFailed"
    )


def _lines(found: TenantView) -> list[str]:
    """A tenant's conditions on one line, and why it is not ready yet."""
    if not found.conditions:
        return [f"{found.name}: the operator has not looked at it yet"]
    marks = " ".join(
        ("✓" if item["status"] == "True" else "✗") + str(item["type"]).removesuffix("Ready")
        for item in found.conditions
        if item["type"] not in ("Ready", "Reconciling", "Stalled", "Suspended")
    )
    return [f"{found.name}: {'Ready' if found.ready else found.reason}  {marks}"]


def _why(views: list[TenantView]) -> str:
    return "; ".join(f"{found.name}: {found.reason}: {found.message}" for found in views if not found.ready)


def _indices(found: TenantView) -> str:
    return ", ".join(f"{i.get('documents', 0)} documents in {i.get('chunks', 0)} chunks" for i in found.indices)


def key_of(admins: Admins, example: Example) -> str:
    """The tenant's key as its own admin reads it."""
    with Kube(admins.tenants[example.name]) as kube:
        return read_secret(kube, example.namespace, "default")[0]


def refuse_foreign_secret(admins: Admins, a: Example, b: Example) -> None:
    """Neither tenant's admin may read the other's Secrets."""
    for own, other in ((a, b), (b, a)):
        with Kube(admins.tenants[own.name]) as kube:
            try:
                kube.get(secret_path(other.namespace, "default"))
            except KubeError as error:
                if error.status == 403:
                    continue
                raise DemoError(
                    f"{own.name}'s admin reading {other.name}'s Secret: expected 403, got {error}"
                ) from None
            raise DemoError(f"LEAK: {own.name}'s admin read a Secret of {other.name}")
