"""What a cluster offers to its users, whatever it was made of: personas, tokens, a kubeconfig, an end.

Guarantees: every file that holds a credential is 0600 in a 0700 folder and goes away with `stop`; the same persona
name always means the same user. Does not: grant rights. A persona may do what RBAC in the cluster says, which is why
they are real users and not impersonation.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tenantplane_cli.cluster import workdir as workdirs
from tenantplane_cli.cluster.pki import Issued, write_private

TOKEN_SECONDS = 24 * 3600  # EKS allows no more; a demo left open for a day must not lose its rights


class ClusterError(Exception):
    """A cluster is there but did not do what was asked; the message says what to do."""


class ClusterUnavailable(ClusterError):  # noqa: N818 - says what is the case, as the interface names it
    """No cluster can be had. `tried` holds (choice, reason) in the order tried."""

    def __init__(self, tried: Sequence[tuple[str, str]]) -> None:
        self.tried = tuple(tried)
        lines = [f"  {number}. {choice}: {reason}" for number, (choice, reason) in enumerate(self.tried, 1)]
        super().__init__(
            "no Kubernetes API can be had; tried in this order:\n"
            + "\n".join(lines)
            + "\nFor a standalone run without Kubernetes: `tenantplane up`"
        )


@dataclass(frozen=True)
class Persona:
    """A real user (client certificate, `token` is None) or ServiceAccount (bearer token) of one cluster."""

    name: str
    user: str
    groups: tuple[str, ...]
    kubeconfig: Path
    token: str | None = field(repr=False)


class Cluster(ABC):
    """A Kubernetes API; a context manager that stops it.

    choice:     what was chosen, for people.
    server:     https URL of the API server.
    ca_file:    PEM of the authority that signed the server's certificate.
    kubeconfig: cluster administrator.
    owned:      True when we started it: it may be wiped, and killed at stop.
    """

    choice: str
    server: str
    ca_file: Path
    kubeconfig: Path
    owned: bool

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self._personas: dict[str, Persona] = {}
        self._persona_lock = threading.Lock()
        self._pid = os.getpid()
        self._stopped = False
        atexit.register(self.stop)

    @property
    @abstractmethod
    def kubectl(self) -> Path:
        """The kubectl binary to use. Raises ClusterError when none can be had."""

    @abstractmethod
    def _certify(self, user: str, groups: tuple[str, ...]) -> Issued:
        """A client certificate for a user. Raises ClusterError when the cluster does not give one."""

    def _close(self) -> None:  # noqa: B027 - nothing to end where we started nothing
        """End what we started."""

    def persona(self, name: str, *, user: str | None = None, groups: Sequence[str] = ()) -> Persona:
        """The user called `name`, created at the first call (`user` defaults to `name`).

        A later call may leave `user` and `groups` out; other values than the first time are a ValueError.
        """
        with self._persona_lock:
            known = self._personas.get(name)
            if known is not None:
                if (user is not None and user != known.user) or (groups and tuple(groups) != known.groups):
                    raise ValueError(f"persona {name!r} is already {known.user!r} of groups {list(known.groups)}")
                return known
            user = name if user is None else user
            issued = self._certify(user, tuple(groups))
            credentials = {
                "client-certificate-data": base64.b64encode(issued.certificate).decode(),
                "client-key-data": base64.b64encode(issued.key).decode(),
            }
            path = self.write_kubeconfig(_file_name(name), user, credentials)
            persona = Persona(name, user, tuple(groups), path, None)
            self._personas[name] = persona
            return persona

    def service_account(self, namespace: str, name: str) -> Persona:
        """A fresh 24-hour token (a cluster may give less) of an existing ServiceAccount, from the TokenRequest API.

        Every call asks for a new token and rewrites the kubeconfig file, so a long-running owner may call again.
        Raises ClusterError when the ServiceAccount does not exist.
        """
        from tenantplane_cli.rest import Rest  # slow to import

        with Rest(self.kubeconfig) as rest:
            status, answer = rest.call(
                "POST",
                f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
                {
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenRequest",
                    "spec": {"expirationSeconds": TOKEN_SECONDS},
                },
            )
        if status == 404:
            raise ClusterError(f"ServiceAccount {namespace}/{name} does not exist: install the chart first")
        if status != 201:
            raise ClusterError(f"no token for ServiceAccount {namespace}/{name}: {answer.get('message', status)}")
        token = str(answer["status"]["token"])
        user = f"system:serviceaccount:{namespace}:{name}"
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        path = self.write_kubeconfig(_file_name(user), user, {"token": token})
        return Persona(f"{namespace}/{name}", user, groups, path, token)

    def write_kubeconfig(self, stem: str, user: str, credentials: Mapping[str, str]) -> Path:
        """A self-contained kubeconfig file (0600) of one user in this cluster's work directory."""
        folder = self.workdir / "personas"
        folder.mkdir(mode=0o700, exist_ok=True)
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "tenantplane",
                    "cluster": {
                        "server": self.server,
                        "certificate-authority-data": base64.b64encode(self.ca_file.read_bytes()).decode(),
                    },
                }
            ],
            "users": [{"name": user, "user": dict(credentials)}],
            "contexts": [{"name": "tenantplane", "context": {"cluster": "tenantplane", "user": user}}],
            "current-context": "tenantplane",
        }
        return write_private(folder / f"{stem}.kubeconfig", yaml.safe_dump(config, sort_keys=False).encode())

    def kill_apiserver(self) -> None:
        """SIGKILL the API server; returns when it is gone. Only for a control plane that we run."""
        raise self._not_ours()

    def start_apiserver(self) -> None:
        """Start the API server again on the same address and data; returns when it is ready."""
        raise self._not_ours()

    def pause_apiserver(self) -> None:
        """SIGSTOP the API server: connections stay open and nothing answers."""
        raise self._not_ours()

    def resume_apiserver(self) -> None:
        """SIGCONT the API server."""
        raise self._not_ours()

    def _not_ours(self) -> ClusterError:
        return ClusterError(f"the API server of this cluster ({self.choice}) is not ours to kill or pause")

    def stop(self) -> None:
        """End what we started and delete the work directory. Idempotent; nothing in a forked child."""
        if self._stopped or os.getpid() != self._pid:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        try:
            self._close()
        finally:
            workdirs.remove(self.workdir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _file_name(name: str) -> str:
    """A file name that tells its persona and cannot be another's, whatever characters the name has."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40]
    return f"{readable or 'persona'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
