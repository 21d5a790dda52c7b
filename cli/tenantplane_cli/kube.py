"""The cluster as the command line sees it: paths in, plain dicts out, under the user's own rights.

Guarantees: every refusal becomes a `CliError` that names the object and says what to do; loopback is never sent through
a proxy. Does not: cache, retry, or model objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tenantplane_api.runtime import names
from tenantplane_cli.output import CliError, one_line

FORBIDDEN = 403
_TIMEOUT = 30.0
_MERGE_PATCH = "application/merge-patch+json"


class KubeError(CliError):
    """The API server refused; ``status`` is its HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFound(KubeError):  # noqa: N818 - says what is the case
    """The object, or its kind, does not exist."""


class Conflict(KubeError):  # noqa: N818 - says what is the case
    """The object exists already, or changed under us."""


class Kube:
    """One connection pool under one kubeconfig's rights; a context manager."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """Raise CliError when there is no usable kubeconfig."""
        from tenantplane_cli.rest import Rest  # late: it imports the whole client library

        if kubeconfig is not None and not kubeconfig.is_file():
            raise CliError(f"--kubeconfig: {kubeconfig} is not a file")
        try:
            self._rest = Rest(kubeconfig, context=context, timeout=_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - the library raises its own, yaml's, and OSError
            raise CliError(
                f"no usable kubeconfig: {one_line(str(error))}; name one by --kubeconfig or KUBECONFIG, or the state "
                "folder of a `tenantplane up` by --state where the command takes one"
            ) from None
        self.server = self._rest.server

    def get(self, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
        """One object or list."""
        return self._call("GET", path, query=query)

    def items(self, path: str) -> list[dict[str, Any]]:
        """All objects of a list, page by page."""
        return list(self._pages(path))

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST one object."""
        return self._call("POST", path, body)

    def merge(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """JSON merge patch of one object."""
        return self._call("PATCH", path, body, content_type=_MERGE_PATCH)

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = self.get(path, {"limit": "500", **({"continue": token} if token else {})})
            yield from page.get("items") or ()
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        from urllib3.exceptions import HTTPError

        try:
            status, answer = self._rest.call(method, path, body, query=query, content_type=content_type)
        except (HTTPError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise KubeError(
                0,
                f"the API server at {self.server} does not answer: {one_line(str(reason), 160)}; is it the right one?",
            ) from None
        if 200 <= status < 300:
            return answer
        raise _refusal(status, method, path, one_line(str(answer.get("message", "")), 600))

    def close(self) -> None:
        self._rest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refusal(status: int, method: str, path: str, message: str) -> KubeError:
    if status == 401:
        return KubeError(status, "the API server does not accept your credentials: renew them or choose a --context")
    if status == FORBIDDEN:
        return KubeError(status, f"you may not do that: {message}")
    if status == 404:
        if message.startswith("404 page not found") or "could not find the requested resource" in message:
            return NotFound(status, "the cluster has no CRDs of tenantplane: install the chart first")
        return NotFound(status, message or f"{path} does not exist")
    if status == 409:
        return Conflict(status, message)
    return KubeError(status, message or f"the API server answered {method} {path} with {status}")


def tenant_path(name: str) -> str:
    """Path of one Tenant."""
    return f"/apis/{names.API_VERSION}/{names.PLURAL_TENANTS}/{quote(name, safe='')}"


def api_keys_path(namespace: str, name: str = "") -> str:
    """Path of a namespace's APIKeys, or of one of them."""
    base = f"/apis/{names.API_VERSION}/namespaces/{quote(namespace, safe='')}/{names.PLURAL_API_KEYS}"
    return f"{base}/{quote(name, safe='')}" if name else base


def secret_path(namespace: str, name: str) -> str:
    """Path of one Secret."""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{quote(name, safe='')}"


def config_map_path(namespace: str, name: str) -> str:
    """Path of one ConfigMap."""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/configmaps/{quote(name, safe='')}"


def namespace_of(tenant: dict[str, Any]) -> str:
    """The tenant's namespace: as observed, as asked for, or by default."""
    observed = (tenant.get("status") or {}).get("namespace")
    wanted = ((tenant.get("spec") or {}).get("namespace") or {}).get("name")
    return str(observed or wanted or names.default_namespace(tenant["metadata"]["name"]))


def find_namespace(kube: Kube, tenant: str) -> str:
    """Namespace of a tenant for somebody who may not read Tenants (they are cluster-scoped): the default name then.

    Raises NotFound when the Tenant can be looked up and does not exist.
    """
    try:
        return namespace_of(kube.get(tenant_path(tenant)))
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        return names.default_namespace(tenant)
