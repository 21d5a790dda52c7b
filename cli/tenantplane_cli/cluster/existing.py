"""Clusters that others run: the one named by a kubeconfig, and one that kind makes for us.

Guarantees: personas are real users whose client certificates the cluster itself signs (CertificateSigningRequest API);
the kubeconfig's user is checked to be a cluster administrator before anything is written; a kind cluster is deleted at
stop. Does not guarantee: that certificates can be had (some managed clusters sign none: a clear error), that a kind
cluster goes away when the owner is killed by SIGKILL (`kind get clusters`, `kind delete cluster --name …`).
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from urllib3.exceptions import HTTPError

from tenantplane_cli.cluster.model import Cluster, ClusterError
from tenantplane_cli.cluster.pki import Issued, signing_request
from tenantplane_cli.rest import Rest

_CSR = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_CSR_SECONDS = 24 * 3600
_SIGN_DEADLINE = 30.0
_KIND_DEADLINE = 600.0


class ExistingCluster(Cluster):
    """The current context of a kubeconfig file. Never wiped, killed or deleted."""

    owned = False

    def __init__(self, workdir: Path, *, kubeconfig: Path, choice: str, kubectl: Callable[[], Path]) -> None:
        """Raises ClusterError when the file is not usable or its cluster does not answer to an administrator."""
        super().__init__(workdir)
        self.choice = choice
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl
        try:
            self.server, authority = read_kubeconfig(kubeconfig)
            self.ca_file = workdir / "ca.crt"
            self.ca_file.write_bytes(authority)
            self._check_administrator()
        except BaseException:
            self.stop()
            raise

    @property
    def kubectl(self) -> Path:
        return self._kubectl()

    def _check_administrator(self) -> None:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": "*", "group": "*", "resource": "*"}},
        }
        try:
            with Rest(self.kubeconfig, timeout=10.0) as rest:
                status, answer = rest.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        except (OSError, HTTPError) as error:
            raise ClusterError(f"{self.server} of {self.kubeconfig} does not answer: {error}") from error
        if status != 201:
            raise ClusterError(f"{self.server} refuses the user of {self.kubeconfig}: {answer.get('message', status)}")
        if not answer.get("status", {}).get("allowed"):
            raise ClusterError(
                f"the user of {self.kubeconfig} is not a cluster administrator (verb * on every resource)"
            )

    def _certify(self, user: str, groups: tuple[str, ...]) -> Issued:
        key, request = signing_request(user, groups)
        name = f"tenantplane-{secrets.token_hex(8)}"
        body: dict[str, Any] = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64.b64encode(request).decode(),
                "signerName": "kubernetes.io/kube-apiserver-client",
                "expirationSeconds": _CSR_SECONDS,
                "usages": ["client auth"],
            },
        }
        with Rest(self.kubeconfig) as rest:
            made = _expect(rest.call("POST", _CSR, body), user, "create a CertificateSigningRequest")
            try:
                return Issued(self._signed(rest, made, user), key)
            finally:
                rest.call("DELETE", f"{_CSR}/{name}")

    @staticmethod
    def _signed(rest: Rest, request: dict[str, Any], user: str) -> bytes:
        path = f"{_CSR}/{request['metadata']['name']}"
        condition = {
            "type": "Approved",
            "status": "True",
            "reason": "TenantplaneTestPersona",
            "message": "a user of tests and demo",
        }
        request["status"] = {"conditions": [condition]}
        _expect(rest.call("PUT", f"{path}/approval", request), user, "approve a CertificateSigningRequest")
        deadline = time.monotonic() + _SIGN_DEADLINE
        while True:
            status = _expect(rest.call("GET", path), user, "read a CertificateSigningRequest").get("status", {})
            if certificate := status.get("certificate"):
                return base64.b64decode(certificate)
            for found in status.get("conditions", ()):
                if found["type"] in ("Failed", "Denied"):
                    raise ClusterError(f"the cluster signs no certificate for {user!r}: {found.get('message')}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"no certificate for {user!r} after {_SIGN_DEADLINE:.0f} s: this cluster has no signer for "
                    "kubernetes.io/kube-apiserver-client (some managed clusters have none); use kind or the built "
                    "control plane"
                )
            time.sleep(0.1)


class KindCluster(ExistingCluster):
    """A cluster that kind made under a unique name; deleted at stop."""

    owned = True

    def __init__(self, workdir: Path, *, kind: Path, name: str, kubectl: Callable[[], Path]) -> None:
        self._kind, self._name = kind, name
        super().__init__(
            workdir,
            kubeconfig=workdir / "kind.kubeconfig",
            choice=f"kind cluster {name}, deleted at stop",
            kubectl=kubectl,
        )

    @classmethod
    def create(cls, workdir: Path, *, kind: Path, kubectl: Callable[[], Path]) -> KindCluster:
        """Raises ClusterError with kind's last words; then no cluster is left."""
        name = f"tenantplane-{secrets.token_hex(4)}"
        kubeconfig = workdir / "kind.kubeconfig"
        command = [str(kind), "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--wait", "180s"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_KIND_DEADLINE, check=False)
        except BaseException:
            _kind_delete(kind, name, kubeconfig)
            raise
        if done.returncode != 0:
            _kind_delete(kind, name, kubeconfig)
            raise ClusterError(f"`kind create cluster` failed: {' | '.join(done.stderr.splitlines()[-5:])}")
        kubeconfig.chmod(0o600)
        return cls(workdir, kind=kind, name=name, kubectl=kubectl)

    def _close(self) -> None:
        _kind_delete(self._kind, self._name, self.workdir / "kind.kubeconfig")


def _kind_delete(kind: Path, name: str, kubeconfig: Path) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [str(kind), "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)],
            capture_output=True,
            timeout=120,
            check=False,
        )


def read_kubeconfig(path: Path) -> tuple[str, bytes]:
    """Server URL and CA bundle (PEM) of the current context. Raises ClusterError that names what is missing."""
    try:
        config = yaml.safe_load(path.read_text())
        contexts = {item["name"]: item["context"] for item in config["contexts"]}
        clusters = {item["name"]: item["cluster"] for item in config["clusters"]}
        cluster = clusters[contexts[config["current-context"]]["cluster"]]
        server = str(cluster["server"])
    except OSError as error:
        raise ClusterError(f"kubeconfig {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ClusterError(f"{path} is not a kubeconfig with a current context: {error!r}") from error
    if not server.startswith("https://"):
        raise ClusterError(f"{path}: server {server!r} is not https")
    if "certificate-authority-data" in cluster:
        return server, base64.b64decode(cluster["certificate-authority-data"])
    if "certificate-authority" in cluster:
        return server, (path.parent / cluster["certificate-authority"]).read_bytes()
    raise ClusterError(f"{path}: the cluster names no certificate-authority, which the personas' kubeconfigs need")


def _expect(result: tuple[int, dict[str, Any]], user: str, action: str) -> dict[str, Any]:
    status, answer = result
    if 200 <= status < 300:
        return answer
    raise ClusterError(f"user {user!r} cannot be made: not possible to {action}: {answer.get('message', status)}")
