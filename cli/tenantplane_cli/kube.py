"""The cluster as the command line sees it: paths in, plain dicts out, under the user's own rights.

Guarantees: every refusal becomes a `CliError` that names the object and says what to do; loopback is never sent through
a proxy. Does not: cache, retry, or model objects.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tenantplane_api.runtime import names
from tenantplane_cli.output import CliError, clean, one_line

FORBIDDEN = 403
_TIMEOUT = 30.0
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"
_METADATA_ONLY = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
_METADATA_LIST = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
_CLOSE_NAMES = 3
_TOO_MANY = 429
_ADMISSION = ("ValidatingAdmissionPolicy", "admission webhook", "exceeded quota")
"""What a refusal by admission says of itself; one by RBAC says none of it."""


class KubeError(CliError):
    """The API server refused; ``status`` is its HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """True when the same request may well succeed soon: no answer, too many requests, a fault of the server."""
        return self.status in (0, _TOO_MANY) or self.status >= 500

    @property
    def by_admission(self) -> bool:
        """True when whoever asked has the right, and a policy, a webhook or a quota said no to what was asked."""
        return any(part in str(self) for part in _ADMISSION)


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
            known = _contexts(kubeconfig)
            if context is not None and known and context not in known:
                raise CliError(
                    f"--context: the kubeconfig has no context {context!r}; there: {', '.join(known)}"
                ) from None
            raise CliError(
                f"no usable kubeconfig: {one_line(str(error))}; name one by --kubeconfig or KUBECONFIG, or the state "
                "folder of a `tenantplane up` by --state where the command takes one"
            ) from None
        self.server = self._rest.server

    def get(
        self, path: str, query: dict[str, str] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One object or list."""
        return self._call("GET", path, query=query, headers=headers)

    def find(self, path: str) -> dict[str, Any] | None:
        """One object, ``None`` when it is not there."""
        try:
            return self.get(path)
        except NotFound:
            return None

    def metadata(self, path: str) -> dict[str, Any] | None:
        """Metadata of one object and nothing else of it, ``None`` when it is not there."""
        try:
            return self._call("GET", path, headers=_METADATA_ONLY)
        except NotFound:
            return None

    def items(self, path: str, selector: str = "", *, fields: str = "") -> list[dict[str, Any]]:
        """All objects of a list, page by page; ``selector`` is one of labels, ``fields`` one of fields."""
        return list(self._pages(path, {"labelSelector": selector, "fieldSelector": fields}, None))

    def metadata_items(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        """Metadata of all objects of a list and nothing else of them."""
        return list(self._pages(path, {"labelSelector": selector}, _METADATA_LIST))

    def create(
        self, path: str, body: dict[str, Any], *, dry_run: bool = False, as_user: str | None = None
    ) -> dict[str, Any]:
        """POST one object; with ``dry_run`` everything is checked and nothing kept.

        ``as_user`` impersonates somebody, for who may: only ever together with ``dry_run``.
        """
        headers = {"Impersonate-User": as_user} if as_user and dry_run else None
        return self._call("POST", path, body, query={"dryRun": "All"} if dry_run else None, headers=headers)

    def replace_dry(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a PUT of this object would come to; nothing is kept."""
        return self._call("PUT", path, body, query={"dryRun": "All"})

    def apply_dry(self, path: str, body: dict[str, Any], *, manager: str) -> dict[str, Any]:
        """What a forced server-side apply by this field manager would come to; nothing is kept."""
        query = {"dryRun": "All", "fieldManager": manager, "force": "true"}
        return self._call("PATCH", path, body, query=query, content_type=_APPLY_PATCH)

    def delete(self, path: str) -> None:
        """DELETE one object; that it is gone already is as well."""
        with contextlib.suppress(NotFound):
            self._call("DELETE", path)

    def merge(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """JSON merge patch of one object."""
        return self._call("PATCH", path, body, content_type=_MERGE_PATCH)

    def _pages(
        self, path: str, selectors: dict[str, str], headers: Mapping[str, str] | None
    ) -> Iterator[dict[str, Any]]:
        token = ""
        fixed = {"limit": "500", **{name: value for name, value in selectors.items() if value}}
        while True:
            page = self.get(path, {**fixed, **({"continue": token} if token else {})}, headers=headers)
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
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        from urllib3.exceptions import HTTPError

        try:
            status, answer = self._rest.call(
                method, path, body, query=query, content_type=content_type, headers=headers
            )
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
        return KubeError(status, f"you may not do that: {message}; ask a platform admin, or choose another --context")
    if status == 404:
        if message.startswith("404 page not found") or "could not find the requested resource" in message:
            return NotFound(status, "the cluster has no CRDs of tenantplane: install the chart first")
        return NotFound(status, message or f"{path} does not exist")
    if status == 409:
        return Conflict(status, message)
    return KubeError(status, message or f"the API server answered {method} {path} with {status}")


def _contexts(kubeconfig: Path | None) -> list[str]:
    from kubernetes import config

    try:
        found, _ = config.list_kube_config_contexts(None if kubeconfig is None else str(kubeconfig))
    except Exception:  # noqa: BLE001 - there is a better error to tell
        return []
    return sorted(clean(str(each["name"])) for each in found)


def get_tenant(kube: Kube, name: str) -> dict[str, Any]:
    """One Tenant.

    Raises NotFound: there is none of that name; the message names those that are spelt alike.
    """
    try:
        return kube.get(tenant_path(name))
    except NotFound as error:
        if name not in str(error):
            raise  # not even the CRD is there
        known = [str(item["metadata"]["name"]) for item in _all_tenants(kube)]
    close = difflib.get_close_matches(name, known, _CLOSE_NAMES)
    hint = f"; is it {' or '.join(close)}?" if close else "; `tenantplane status` lists all"
    raise NotFound(404, f"there is no Tenant {name!r}" + (hint if known else ": there are no Tenants at all"))


def _all_tenants(kube: Kube) -> list[dict[str, Any]]:
    try:
        return kube.metadata_items(f"/apis/{names.API_VERSION}/{names.PLURAL_TENANTS}")
    except KubeError:
        return []


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
