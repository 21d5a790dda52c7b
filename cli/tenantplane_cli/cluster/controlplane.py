"""A control plane of our own: etcd, API server, controller manager and, when asked for, scheduler on loopback.

Guarantees: a real API (schema, CEL, RBAC, admission policies, quota, garbage collection, namespace deletion, tokens)
about four seconds after the call; TLS with client certificates everywhere, etcd included, so that another local user
cannot read Secrets past RBAC; no process is left when the owner ends, by SIGKILL too; a failed start tells the last
log lines. Does not: run containers (no kubelet, no proxy, no DNS, no NetworkPolicy enforcement), survive a crash of the
machine (`--unsafe-no-fsync`).
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from urllib3.exceptions import HTTPError

from tenantplane_cli.cluster.model import Cluster, ClusterError
from tenantplane_cli.cluster.pki import Authority, Issued, key_pem, new_key, public_pem, write_private
from tenantplane_cli.cluster.process import Process
from tenantplane_cli.rest import Rest

HOST = "127.0.0.1"
SERVICE_RANGE = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"  # first of the range: what `kubernetes.default.svc` resolves to
START_SECONDS = 90.0  # deadline; about 4 s are normal
_ATTEMPTS = 3  # a port that was free may be taken before we bind it
_PORTS = (20_000, 32_000)  # below Linux's ephemeral range, where an outgoing connection could take a chosen port


class StartError(ClusterError):
    """A process ended or did not become ready; the message holds its last log lines."""


class OwnControlPlane(Cluster):
    """Processes of ours in a work directory of ours."""

    owned = True

    def __init__(
        self,
        workdir: Path,
        *,
        choice: str,
        binaries: dict[str, Path],
        kubectl: Callable[[], Path],
        scheduler: bool = False,
    ) -> None:
        """`binaries` maps etcd, kube-apiserver, kube-controller-manager (and kube-scheduler) to programs."""
        super().__init__(workdir)
        self.choice = choice
        self._binaries = binaries
        self._kubectl = kubectl
        self._scheduler = scheduler
        self._processes: dict[str, Process] = {}
        self._pki = workdir / "pki"
        self._pki.mkdir(mode=0o700)
        self._env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(workdir), "TMPDIR": str(workdir)}
        self._write_pki()

    @property
    def kubectl(self) -> Path:
        return self._kubectl()

    def start(self) -> None:
        """Start everything; returns when the API serves and the first controllers have worked.

        Raises StartError; then nothing of it runs any more, and `stop` is still to be called.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start_once()
                return
            except StartError as error:
                self._close()
                if attempt == _ATTEMPTS or "address already in use" not in str(error):
                    raise

    def kill_apiserver(self) -> None:
        self._apiserver().kill()

    def start_apiserver(self) -> None:
        self._apiserver().start()
        self._wait_ready(time.monotonic() + START_SECONDS)

    def pause_apiserver(self) -> None:
        self._apiserver().signal(signal.SIGSTOP)

    def resume_apiserver(self) -> None:
        self._apiserver().signal(signal.SIGCONT)

    def pids(self) -> dict[str, int]:
        """Process ids of what runs, by program name."""
        return {name: p.pid for name, p in self._processes.items() if p.running and p.pid is not None}

    def _apiserver(self) -> Process:
        try:
            return self._processes["kube-apiserver"]
        except KeyError:
            raise ClusterError("the control plane is not running") from None

    def _certify(self, user: str, groups: tuple[str, ...]) -> Issued:
        return self._authority.client(user, groups)

    def _close(self) -> None:
        # Clients first, storage last: in the other order the API server waits for an etcd that is gone.
        for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver"):
            if name in self._processes:
                self._processes[name].terminate()
        for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
            if name in self._processes:
                self._processes[name].end(grace=3.0)
        self._processes.clear()

    def _start_once(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        client, peer, secure = _free_ports(3)
        self.server = f"https://{HOST}:{secure}"
        self._write_kubeconfigs()
        self._run("etcd", self._etcd_flags(client, peer))
        self._run("kube-apiserver", self._apiserver_flags(client, secure))
        self._wait_ready(deadline)
        self._run("kube-controller-manager", self._controller_flags())
        if self._scheduler:
            kubeconfig = f"--kubeconfig={self._pki / 'scheduler.kubeconfig'}"
            auth = [
                f"--{kind}-kubeconfig={self._pki / 'scheduler.kubeconfig'}"
                for kind in ("authentication", "authorization")
            ]
            self._run("kube-scheduler", [kubeconfig, *auth, "--leader-elect=false", "--secure-port=0"])
        self._wait_until(self._controllers_work, deadline, "the controller manager made no default ServiceAccount")

    def _write_pki(self) -> None:
        # Two authorities: any persona's certificate would open etcd if one had signed both.
        self._authority = Authority("tenantplane-test-kubernetes")
        self._authority.issued.write(self._pki, "ca")
        self.ca_file = self._pki / "ca.crt"
        names = ["localhost", HOST, SERVICE_ADDRESS, "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        self._authority.serving("kube-apiserver", names).write(self._pki, "apiserver")
        storage = Authority("tenantplane-test-etcd")
        storage.issued.write(self._pki, "etcd-ca")
        storage.serving("etcd", ["localhost", HOST], client_too=True).write(self._pki, "etcd")
        storage.client("kube-apiserver").write(self._pki, "etcd-client")
        accounts = new_key()
        write_private(self._pki / "accounts.key", key_pem(accounts))
        write_private(self._pki / "accounts.pub", public_pem(accounts))

    def _write_kubeconfigs(self) -> None:
        """Written again at each attempt, because they hold the port."""
        self._personas.clear()
        self.kubeconfig = self.persona("admin", user="kubernetes-admin", groups=["system:masters"]).kubeconfig
        for stem in ("controller-manager", "scheduler"):
            user = f"system:kube-{stem}"
            source = self.persona(user).kubeconfig
            source.rename(self._pki / f"{stem}.kubeconfig")
            del self._personas[user]

    def _etcd_flags(self, client: int, peer: int) -> list[str]:
        client_url, peer_url = f"https://{HOST}:{client}", f"https://{HOST}:{peer}"
        tls = []
        for prefix in ("", "peer-"):
            tls += [
                f"--{prefix}cert-file={self._pki / 'etcd.crt'}",
                f"--{prefix}key-file={self._pki / 'etcd.key'}",
                f"--{prefix}trusted-ca-file={self._pki / 'etcd-ca.crt'}",
                f"--{prefix}client-cert-auth=true",
            ]
        return [
            "--name=default",
            f"--data-dir={self.workdir / 'etcd'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync=true",
            "--log-level=warn",
            *tls,
        ]

    def _apiserver_flags(self, etcd: int, secure: int) -> list[str]:
        return [
            f"--bind-address={HOST}",
            f"--advertise-address={HOST}",
            f"--secure-port={secure}",
            "--endpoint-reconciler-type=none",  # EndpointSlices refuse loopback addresses
            f"--etcd-servers=https://{HOST}:{etcd}",
            f"--etcd-cafile={self._pki / 'etcd-ca.crt'}",
            f"--etcd-certfile={self._pki / 'etcd-client.crt'}",
            f"--etcd-keyfile={self._pki / 'etcd-client.key'}",
            f"--tls-cert-file={self._pki / 'apiserver.crt'}",
            f"--tls-private-key-file={self._pki / 'apiserver.key'}",
            f"--client-ca-file={self._pki / 'ca.crt'}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self._pki / 'accounts.pub'}",
            f"--service-account-signing-key-file={self._pki / 'accounts.key'}",
            "--allow-privileged=true",  # as every distribution sets it: PodSecurity must be what refuses
            "--profiling=false",
        ]

    def _controller_flags(self) -> list[str]:
        kubeconfig = self._pki / "controller-manager.kubeconfig"
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--secure-port=0",
            "--leader-elect=false",
            "--use-service-account-credentials=true",  # each controller its own identity, as in real clusters
            f"--root-ca-file={self._pki / 'ca.crt'}",
            f"--service-account-private-key-file={self._pki / 'accounts.key'}",
            f"--cluster-signing-cert-file={self._pki / 'ca.crt'}",
            f"--cluster-signing-key-file={self._pki / 'ca.key'}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ]

    def _run(self, name: str, flags: list[str]) -> None:
        process = Process(
            name, [self._binaries[name], *flags], log=self.workdir / f"{name}.log", env=self._env, cwd=self.workdir
        )
        self._processes[name] = process
        process.start()

    def _wait_ready(self, deadline: float) -> None:
        self._wait_until(lambda rest: rest.call("GET", "/readyz")[0] == 200, deadline, "the API server is not ready")

    @staticmethod
    def _controllers_work(rest: Rest) -> bool:
        # The account and the certificate come from two controllers; pods need both.
        paths = ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
        return all(rest.call("GET", f"/api/v1/namespaces/default/{path}")[0] == 200 for path in paths)

    def _wait_until(self, holds: Callable[[Rest], bool], deadline: float, otherwise: str) -> None:
        with Rest(self.kubeconfig, timeout=5.0) as rest:
            while True:
                for process in self._processes.values():
                    if not process.running:
                        raise StartError(
                            f"{process.name} ended with status {process.returncode}; its last log lines:\n"
                            f"{process.log_tail()}"
                        )
                try:
                    if holds(rest):
                        return
                except (OSError, HTTPError):
                    pass  # not listening yet
                if time.monotonic() > deadline:
                    tails = "\n".join(f"--- {p.name}\n{p.log_tail(10)}" for p in self._processes.values())
                    raise StartError(f"{otherwise} after {START_SECONDS:.0f} s; last log lines:\n{tails}")
                time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    """Different ports of loopback that nobody listens on right now."""
    found: list[int] = []
    chooser = random.SystemRandom()
    while len(found) < count:
        port = chooser.randrange(*_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
