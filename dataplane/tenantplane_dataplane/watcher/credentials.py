"""Who the watcher is: the pod's ServiceAccount, or a kubeconfig.

Guarantees that a token from a file is read again before it expires (projected tokens live an hour) and that the API
server's certificate is always verified, unless a kubeconfig says otherwise in so many words. Exec plugins and proxies
of a kubeconfig are refused: a pod has neither.
"""

import base64
import binascii
import os
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_REREAD_SECONDS: Final = 60.0


class CredentialsError(Exception):
    """Raise when there is no usable way to the API server; the message says what is missing."""


@dataclass
class Credentials:
    """Server URL, TLS settings and how to authenticate. ``ssl_context`` is ``None`` for plain HTTP."""

    server: str
    ssl_context: ssl.SSLContext | None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    server_name: str | None = None
    _read_at: float = 0.0

    def headers(self) -> dict[str, str]:
        """Request headers that authenticate; reads a token file again when its content may be old.

        Raises:
            CredentialsError: the token file cannot be read.
        """
        if self.token_file is not None and time.monotonic() - self._read_at >= _REREAD_SECONDS:
            try:
                self.token = self.token_file.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                raise CredentialsError("the token file cannot be read") from None
            self._read_at = time.monotonic()
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def renew(self) -> None:
        """After a 401: read the token again with the next request."""
        self._read_at = float("-inf")


def in_cluster(*, folder: Path = SERVICE_ACCOUNT) -> Credentials:
    """The pod's ServiceAccount.

    Raises:
        CredentialsError: this is no pod, or it has no token mounted.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise CredentialsError("not in a pod (KUBERNETES_SERVICE_HOST is not set): give --kubeconfig or --config-dir")
    if not (folder / "token").is_file():
        raise CredentialsError("the pod has no ServiceAccount token mounted (automountServiceAccountToken)")
    name = f"[{host}]" if ":" in host else host
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    except OSError:
        raise CredentialsError("the ServiceAccount's ca.crt cannot be read") from None
    return Credentials(
        server=f"https://{name}:{port}", ssl_context=context, token_file=folder / "token", _read_at=float("-inf")
    )


def from_kubeconfig(path: Path) -> Credentials:
    """The current context of a kubeconfig.

    Raises:
        CredentialsError: it cannot be read, or uses what is not supported here.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = _named(content, "contexts", content["current-context"])["context"]
        cluster = _named(content, "clusters", context["cluster"])["cluster"]
        user = _named(content, "users", context["user"])["user"] or {}
        server = str(cluster["server"]).rstrip("/")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise CredentialsError(f"the kubeconfig is not usable: {type(error).__name__}") from None
    for unsupported in ("exec", "auth-provider", "username"):
        if unsupported in user:
            raise CredentialsError(f"the kubeconfig's user has {unsupported!r}: give one with a token or certificate")
    if "proxy-url" in cluster:
        raise CredentialsError("the kubeconfig's cluster has a proxy-url, which is not supported here")
    token_file = path.parent / user["tokenFile"] if "tokenFile" in user else None
    return Credentials(
        server=server,
        ssl_context=_tls(path.parent, cluster, user) if server.startswith("https:") else None,
        token=None if token_file is not None else user.get("token"),
        token_file=token_file,
        server_name=cluster.get("tls-server-name"),
        _read_at=float("-inf"),
    )


def _named(content: Any, kind: str, name: str) -> dict[str, Any]:
    for item in content[kind]:
        if item["name"] == name:
            return dict(item)
    raise KeyError(kind)


def _material(folder: Path, section: dict[str, Any], name: str) -> bytes | None:
    """Inline data or the content of the file it names, relative to the kubeconfig's folder."""
    try:
        if section.get(f"{name}-data"):
            return base64.b64decode(section[f"{name}-data"], validate=True)
        if section.get(name):
            return (folder / str(section[name])).read_bytes()
    except (OSError, binascii.Error):
        raise CredentialsError(f"the kubeconfig's {name} cannot be read") from None
    return None


def _tls(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = _material(folder, cluster, "certificate-authority")
    try:
        context = ssl.create_default_context(cadata=None if authority is None else authority.decode("ascii"))
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate, key = _material(folder, user, "client-certificate"), _material(folder, user, "client-key")
        if certificate is not None and key is not None:
            # The ssl module reads certificates from files only.
            with tempfile.TemporaryDirectory() as temporary:
                pair = Path(temporary) / "pair.pem"
                pair.touch(mode=0o600)
                pair.write_bytes(certificate + b"\n" + key)
                context.load_cert_chain(pair)
    except (ssl.SSLError, UnicodeDecodeError):
        raise CredentialsError("the kubeconfig's certificates are not usable") from None
    return context
