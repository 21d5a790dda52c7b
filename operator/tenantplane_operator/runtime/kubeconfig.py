"""How to reach the API server: from a kubeconfig, or from inside a cluster.

Guarantees a verified TLS context unless the kubeconfig itself says otherwise, and a token that is read again while the
process lives (a projected ServiceAccount token changes every hour). Does not run exec plugins: an operator runs under
a ServiceAccount, and a plugin would be a foreign program with our environment.
"""

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_MAX_AGE: Final = 60.0


class KubeconfigError(ValueError):
    """Raise when there is no usable way to the API server; the message names the file and the field."""


@dataclass(frozen=True)
class Connection:
    """Address, TLS and credential. ``token`` is called for every request and returns ``None`` without one."""

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[], str | None]

    def refused(self) -> None:
        """Have a token that lies in a file read again at the next request."""
        if isinstance(self.token, FileToken):
            self.token.expire()


class FileToken:
    """A bearer token in a file, read again once a minute; keeps the last one when a read fails."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._read_at = float("-inf")
        self._value: str | None = None

    def __call__(self) -> str | None:
        """The current token."""
        if self._clock() - self._read_at >= _TOKEN_MAX_AGE:
            try:
                self._value = self._path.read_text(encoding="utf-8").strip()
            except OSError:
                if self._value is None:
                    raise KubeconfigError(f"{self._path}: the token cannot be read") from None
            self._read_at = self._clock()
        return self._value

    def expire(self) -> None:
        """The token was refused: read the file again, which may hold a newer one."""
        self._read_at = float("-inf")


def connect(kubeconfig: Path | None = None) -> Connection:
    """The connection to use.

    Args:
        kubeconfig: file named by the caller; without one, ``$KUBECONFIG``, then the pod's ServiceAccount, then
            ``~/.kube/config``.

    Raises:
        KubeconfigError: nothing usable was found.
    """
    if kubeconfig is not None:
        return from_kubeconfig(kubeconfig)
    if os.environ.get("KUBECONFIG"):
        return from_kubeconfig(Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]))
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (_SERVICE_ACCOUNT / "token").exists():
        return in_cluster()
    home = Path.home() / ".kube" / "config"
    if home.exists():
        return from_kubeconfig(home)
    raise KubeconfigError("no API server: pass --kubeconfig, set KUBECONFIG, or run in a pod with a ServiceAccount")


def in_cluster(folder: Path = _SERVICE_ACCOUNT) -> Connection:
    """The connection of a pod's ServiceAccount."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise KubeconfigError("KUBERNETES_SERVICE_HOST is not set: this is no pod")
    host = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    return Connection(server=f"https://{host}:{port}", tls=tls, token=FileToken(folder / "token"))


def from_kubeconfig(path: Path) -> Connection:
    """The connection of a kubeconfig's current context.

    Raises:
        KubeconfigError: unreadable, incomplete, or it needs an exec or auth-provider plugin.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        raise KubeconfigError(f"{path}: cannot be read as a kubeconfig") from None
    if not isinstance(config, dict):
        raise KubeconfigError(f"{path}: cannot be read as a kubeconfig")
    context = _named(path, config, "contexts", str(config.get("current-context") or ""), "context")
    cluster = _named(path, config, "clusters", str(context.get("cluster") or ""), "cluster")
    user = _named(path, config, "users", str(context.get("user") or ""), "user") if context.get("user") else {}
    for plugin in ("exec", "auth-provider"):
        if plugin in user:
            raise KubeconfigError(f"{path}: users[].user.{plugin} is not supported: use a token or client certificate")
    server = str(cluster.get("server") or "").rstrip("/")
    if not server:
        raise KubeconfigError(f"{path}: clusters[].cluster.server is missing")
    return Connection(server=server, tls=_tls(path, server, cluster, user), token=_token(path, user))


def _named(path: Path, config: dict[str, Any], section: str, name: str, field: str) -> dict[str, Any]:
    for entry in config.get(section) or []:
        if entry.get("name") == name:
            return dict(entry.get(field) or {})
    raise KubeconfigError(f"{path}: {section} has no entry named {name!r}")


def _token(path: Path, user: dict[str, Any]) -> Callable[[], str | None]:
    if user.get("token"):
        token = str(user["token"])
        return lambda: token
    if user.get("tokenFile"):
        return FileToken(path.parent / str(user["tokenFile"]))
    return lambda: None


def _material(path: Path, section: dict[str, Any], field: str) -> bytes | None:
    if section.get(f"{field}-data"):
        try:
            return base64.b64decode(str(section[f"{field}-data"]), validate=True)
        except binascii.Error:
            raise KubeconfigError(f"{path}: {field}-data is not base64") from None
    if section.get(field):
        try:
            return (path.parent / str(section[field])).read_bytes()
        except OSError:
            raise KubeconfigError(f"{path}: the file named in {field} cannot be read") from None
    return None


def _tls(path: Path, server: str, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext | None:
    if not server.startswith("https://"):
        return None
    authority = _material(path, cluster, "certificate-authority")
    try:
        tls = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
        certificate = _material(path, user, "client-certificate")
        key = _material(path, user, "client-key")
        if certificate and key:
            # The ssl module loads client certificates from files only; the file is private and gone at once.
            with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
                pem.write(certificate + b"\n" + key)
                pem.flush()
                tls.load_cert_chain(pem.name)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{path}: a certificate or key cannot be used: {error}") from None
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls
