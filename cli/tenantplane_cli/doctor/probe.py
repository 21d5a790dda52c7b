"""`doctor --probe`: are NetworkPolicies enforced here? Seen with pods, under the policies that tenants get.

Two namespaces live as long as the probe: one fenced like a tenant's, one open. In each a server listens, and in each a
client tries the server beside it (which must answer) and then the one across (which must not: inwards the fence's
ingress, outwards its egress). Guarantees: OK only when both clients saw exactly that; where pods do not come up, or
cannot reach even the server beside them, nothing is concluded; both namespaces are deleted whatever happens, and those
of a probe that was killed by the next one. Neither carries our tenant label, so the operator never looks at them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.doctor.report import Finding, fail, ok, skip
from tenantplane_cli.kube import Conflict, Kube, KubeError
from tenantplane_cli.output import note, one_line
from tenantplane_operator.tenant.effective import EffectiveNetwork
from tenantplane_operator.tenant.manifest import Owner
from tenantplane_operator.tenant.namespace import pod_security_labels
from tenantplane_operator.tenant.network import network_policies

LABEL: Final = f"{names.GROUP}/probe"
PORT: Final = 8080
BOTH_ANSWERED: Final = 0
ONLY_THE_NEAR: Final = 10
NOT_EVEN_THE_NEAR: Final = 20
_CHECK: Final = "network policies"
_POLL_SECONDS: Final = 0.5
_ACCOUNT_SECONDS: Final = 20.0
_LEFT_OVER_SECONDS: Final = 900.0
_ATTEMPTS: Final = 3
"""A client that got across is asked again: a CNI may take seconds to enforce a fresh policy, and never longer."""

_SERVER: Final = f"""
import socket
s = socket.create_server(("", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True) if socket.has_dualstack_ipv6() \\
    else socket.create_server(("", {PORT}))
while True:
    s.accept()[0].close()
"""
_CLIENT: Final = f"""
import socket, sys, time
def reached(host, attempts):
    for attempt in range(attempts):
        try:
            socket.create_connection((host, {PORT}), timeout=3).close()
            return True
        except OSError:
            time.sleep(1)
    return False
near, far = sys.argv[1:]
sys.exit({NOT_EVEN_THE_NEAR} if not reached(near, 10) else {BOTH_ANSWERED} if reached(far, 2) else {ONLY_THE_NEAR})
"""


@dataclass
class Probe:
    """One run. ``timeout``: seconds that pods get to come up, and then again to finish."""

    kube: Kube
    platform: Platform
    image: str
    timeout: float
    run: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def fenced(self) -> str:
        """Namespace under a tenant's policies."""
        return f"tenantplane-probe-{self.run}-fenced"

    @property
    def open(self) -> str:
        """Namespace without any."""
        return f"tenantplane-probe-{self.run}-open"

    def look(self) -> Iterator[Finding]:
        """Probe, and clean up."""
        self._sweep()
        try:
            yield self._probe()
        finally:
            for space in (self.fenced, self.open):
                self._delete(space)

    def _sweep(self) -> None:
        """Delete what a probe left behind that was killed."""
        for space in self.kube.items("/api/v1/namespaces", LABEL):
            made = datetime.fromisoformat(str(space["metadata"]["creationTimestamp"]))
            if (datetime.now(UTC) - made).total_seconds() > _LEFT_OVER_SECONDS:
                self._delete(str(space["metadata"]["name"]))

    def _delete(self, space: str) -> None:
        try:
            self.kube.delete(f"/api/v1/namespaces/{space}")
        except KubeError as error:
            note(f"warning: namespace {space} of the probe stays: {error}; kubectl delete namespace {space}")

    def _probe(self) -> Finding:
        for space in (self.fenced, self.open):
            self.kube.create("/api/v1/namespaces", self._namespace(space))
        for policy in policies(self.fenced, self.platform, self.run):
            self.kube.create(f"/apis/networking.k8s.io/v1/namespaces/{self.fenced}/networkpolicies", policy)
        addresses = {}
        for space in (self.fenced, self.open):
            self._start(space, "server", _SERVER, ())
        for space in (self.fenced, self.open):
            up = self._wait(space, "server", lambda pod: bool(_address(pod)) and _phase(pod) == "Running")
            if up is None:
                return self._nothing_runs(space, "server")
            addresses[space] = _address(up)
        inwards = self._across(self.open, addresses, self.fenced)
        if not isinstance(inwards, int):
            return inwards
        outwards = self._across(self.fenced, addresses, self.open)
        if not isinstance(outwards, int):
            return outwards
        return verdict(inwards=inwards, outwards=outwards)

    def _across(self, space: str, addresses: dict[str, str], other: str) -> int | Finding:
        """Exit code of a client in one namespace that tries both servers."""
        code = NOT_EVEN_THE_NEAR
        for attempt in range(_ATTEMPTS):
            name = f"client-{attempt}"
            self._start(space, name, _CLIENT, (addresses[space], addresses[other]))
            done = self._wait(space, name, lambda pod: _exit_code(pod) is not None)
            found = None if done is None else _exit_code(done)
            if found is None:
                return self._nothing_runs(space, name)
            code = found
            if code != BOTH_ANSWERED:
                break
        return code

    def _namespace(self, name: str) -> dict[str, Any]:
        labels = {LABEL: self.run, **pod_security_labels("Restricted", self.platform.operator.pod_security_version)}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}

    def _start(self, space: str, name: str, program: str, arguments: tuple[str, ...]) -> None:
        body = pod(space, name, image=self.image, command=["python", "-c", program, *arguments], run=self.run)
        deadline = time.monotonic() + _ACCOUNT_SECONDS
        while True:
            try:
                self.kube.create(f"/api/v1/namespaces/{space}/pods", body)
                return
            except Conflict:
                return
            except KubeError as error:
                # A fresh namespace has no ServiceAccount for a moment.
                if "serviceaccount" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_SECONDS)

    def _wait(self, space: str, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        deadline = time.monotonic() + self.timeout
        while True:
            found = self.kube.get(f"/api/v1/namespaces/{space}/pods/{name}")
            if holds(found):
                return found
            if time.monotonic() > deadline or (_phase(found) == "Failed" and _exit_code(found) is None):
                return None
            time.sleep(_POLL_SECONDS)

    def _nothing_runs(self, space: str, name: str) -> Finding:
        found = self.kube.get(f"/api/v1/namespaces/{space}/pods/{name}")
        return skip(
            _CHECK,
            f"pod {space}/{name} did not come as far as it must in {self.timeout:.0f} s: {_why(found)}; nothing is "
            "concluded",
            f"name an image with Python that nodes can pull by --probe-image (now {self.image}), or give more time by "
            "--probe-timeout",
        )


def policies(namespace: str, platform: Platform, run: str) -> list[dict[str, Any]]:
    """The policies of a tenant that opens nothing, made by the operator's own builder."""
    owner = Owner(name=TenantName("probe"), tenant_id=TenantID(f"probe-{run}"))
    made = network_policies(owner, namespace, network=EffectiveNetwork(), platform=platform)
    # Without our marks: the operator must not take them for a tenant's.
    return [
        {**policy, "metadata": {"name": policy["metadata"]["name"], "namespace": namespace, "labels": {LABEL: run}}}
        for policy in made
    ]


def pod(namespace: str, name: str, *, image: str, command: list[str], run: str) -> dict[str, Any]:
    """A pod that satisfies Pod Security `restricted`, and holds no token."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL: run}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "command": command,
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "32Mi"},
                        "limits": {"cpu": "200m", "memory": "64Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def verdict(*, inwards: int, outwards: int) -> Finding:
    """What the two clients' exit codes mean."""
    crossed = [
        text
        for code, text in (
            (inwards, "a pod of another namespace reached a fenced pod"),
            (outwards, "a fenced pod reached another namespace"),
        )
        if code == BOTH_ANSWERED
    ]
    if crossed:
        return fail(
            _CHECK,
            f"are NOT enforced: {' and '.join(crossed)}",
            "tenants are not separated on the network: use a CNI that enforces NetworkPolicies, or switch its "
            "enforcement on (on EKS: the VPC CNI add-on's enableNetworkPolicy)",
        )
    if inwards == NOT_EVEN_THE_NEAR:
        return skip(
            _CHECK,
            "pods do not reach each other even where nothing forbids it: nothing is concluded",
            "look at the CNI",
        )
    if outwards == NOT_EVEN_THE_NEAR:
        return fail(
            _CHECK,
            "a tenant's pods do not reach each other, which its policies allow",
            "the CNI refuses more than the policies say: see its documentation on podSelector rules",
        )
    if (inwards, outwards) == (ONLY_THE_NEAR, ONLY_THE_NEAR):
        return ok(_CHECK, "are enforced both ways: pods reached what their fence allows, and not across")
    return skip(
        _CHECK, f"the probe's programs ended with {inwards} and {outwards}: nothing is concluded", "use --probe-image"
    )


def _phase(found: dict[str, Any]) -> str:
    return str((found.get("status") or {}).get("phase", ""))


def _address(found: dict[str, Any]) -> str:
    return str((found.get("status") or {}).get("podIP") or "")


def _exit_code(found: dict[str, Any]) -> int | None:
    for each in (found.get("status") or {}).get("containerStatuses") or ():
        ended = (each.get("state") or {}).get("terminated")
        if ended is not None:
            return int(ended.get("exitCode", 1))
    return None


def _why(found: dict[str, Any]) -> str:
    """What keeps a pod from running, in Kubernetes' own words."""
    status = found.get("status") or {}
    for each in status.get("containerStatuses") or ():
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return one_line(f"{waiting['reason']}: {waiting.get('message', '')}")
    for each in status.get("conditions") or ():
        if each.get("status") == "False" and each.get("message"):
            return one_line(f"{each.get('reason', '')}: {each['message']}")
    if not (found.get("spec") or {}).get("nodeName"):
        return f"it is {status.get('phase', 'Pending')} and on no node: is there a node, and a scheduler?"
    return f"it is {status.get('phase', 'Pending')}"
