"""A thin Kubernetes client over one shared connection pool.

Guarantees: server-side apply and status writes name a field manager, every request has a deadline, every failure is
one of ``errors``, no body is ever logged, and nothing is written that ``guard`` does not allow. Counts requests by
verb, so that tests and metrics can say what a reconcile costs. Does not retry, cache or watch: the queue, the cache and
kopf do.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self

import aiohttp
import msgspec

from tenantplane_operator.runtime.errors import ApiError, Gone, Unavailable, from_response
from tenantplane_operator.runtime.guard import Check, GuardedConnector, guarded
from tenantplane_operator.runtime.kubeconfig import Connection, KubeconfigError
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of, resource_of

POOL_LIMIT: Final = 160
"""Sockets to the API server, kopf's watches included; without a bound every busy object opens one.

Some forty are used at most; the rest is room for requests that hang, which must not keep the others waiting."""
DEADLINE: Final = 30.0
PAGE: Final = 500

Verb = Literal["get", "list", "apply", "create", "delete", "status", "patch", "replace", "lease"]

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_JSON: Final = "application/json"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class KubeApi:
    """The client; use it as an async context manager. ``requests`` counts by verb since the start."""

    def __init__(self, connection: Connection, *, limit: int = POOL_LIMIT, deadline: float = DEADLINE) -> None:
        self._connection = connection
        self._limit = limit
        self._deadline = deadline
        self._session: aiohttp.ClientSession | None = None
        self._connector: GuardedConnector | None = None
        self._writes: set[asyncio.Timeout] = set()
        self.guard: Check | None = None
        """Asked before everything that changes something, the Lease itself and dry runs excepted."""
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str]] = Counter()
        """Requests by class of answer (``2xx``, ``409``…, ``none`` without one) and verb."""

    def sibling(self, *, limit: int) -> "KubeApi":
        """Another client with a small pool of its own and without a guard; requests are counted together."""
        other = KubeApi(self._connection, limit=limit, deadline=self._deadline)
        other.requests, other.failures, other.answers = self.requests, self.failures, self.answers
        return other

    @property
    def server(self) -> str:
        """Address of the API server."""
        return self._connection.server

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session of this client."""
        if self._session is None:
            self._session = self.new_session()
        return self._session

    def new_session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """Another session over the same bounded pool, for somebody who closes sessions as they please, such as kopf.

        Only for reading: the guard is asked in ``request`` alone.
        """
        connection = self._connection
        if self._connector is None:
            self._connector = GuardedConnector(limit=self._limit, ssl=connection.tls or False)

        async def authorise(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            # Per request, so that a renewed ServiceAccount token is used without a new session.
            token = connection.token()
            if token:
                request.headers["Authorization"] = f"Bearer {token}"
            response = await handler(request)
            if response.status == 401:
                connection.refused()
            return response

        return aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            middlewares=(*middlewares, authorise),
            headers={"User-Agent": "tenantplane-operator"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()
        if self._connector is not None:
            await self._connector.close()

    async def request(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        deadline: float | None = None,
    ) -> Any:
        """One request; the decoded answer.

        Raises:
            NotLeading: the guard does not allow it; nothing was sent.
            ApiError: as ``errors`` says; ``Unavailable`` also when the deadline passed or the connection broke.
        """
        writes = method != "GET" and verb != "lease" and "dryRun" not in (params or {})
        with guarded(self.guard if writes else None):
            self.requests[verb] += 1
            return await self._send(
                verb, method, path, params, body, content_type, accept, deadline or self._deadline, writes=writes
            )

    async def _send(
        self,
        verb: str,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str,
        accept: str,
        deadline: float,
        *,
        writes: bool,
    ) -> Any:
        headers = {"Accept": accept}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = msgspec.json.encode(body)
        scope = asyncio.timeout(deadline)
        try:
            async with scope:
                if writes:
                    self._writes.add(scope)
                async with self.session.request(
                    method,
                    self._connection.server + path,
                    params=params,
                    data=data,
                    headers=headers,
                    timeout=_NO_TIMEOUT,
                    allow_redirects=False,
                ) as response:
                    raw = await response.read()
                    status, retry_after = response.status, response.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError, KubeconfigError) as error:
            self.failures[verb] += 1
            self.answers["none", verb] += 1
            raise Unavailable(f"the API server cannot be reached: {type(error).__name__}") from None
        finally:
            self._writes.discard(scope)
        self.answers[str(status) if status >= 400 else f"{status // 100}xx", verb] += 1
        try:
            answer = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            answer = None
        if status >= 400 or not isinstance(answer, dict):
            self.failures[verb] += 1
            raise from_response(status if status >= 400 else 502, answer, retry_after)
        return answer

    def stop_writes(self) -> None:
        """Break off every request that changes something; each ends as ``Unavailable``."""
        now = asyncio.get_running_loop().time()
        for scope in list(self._writes):
            if not scope.expired():
                scope.reschedule(now)

    async def get(self, key: ObjectKey) -> Manifest:
        """Read one object."""
        resource = resource_of(key.kind)
        found: Manifest = await self.request("get", "GET", resource.path(key.namespace, key.name))
        return found

    async def find(self, key: ObjectKey) -> Manifest | None:
        """Read one object, or ``None`` when it is not there."""
        try:
            return await self.get(key)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def pages(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        limit: int = PAGE,
        metadata_only: bool = False,
    ) -> AsyncIterator[list[Manifest]]:
        """List page by page, so that a large list is never in memory as one answer.

        Items get ``apiVersion`` and ``kind``, which the API server leaves out of list items. With ``metadata_only``
        they have nothing but metadata: what a Secret holds never reaches this process.

        Raises:
            Gone: the list took so long that its snapshot is lost; start again.
        """
        resource = resource_of(kind)
        params = {"limit": str(limit)}
        if label_selector:
            params["labelSelector"] = label_selector
        accept = _METADATA_LIST if metadata_only else _JSON
        while True:
            answer = await self.request("list", "GET", resource.path(namespace), params=params, accept=accept)
            items = answer.get("items") or []
            for item in items:
                item["apiVersion"], item["kind"] = resource.api_version, kind
            yield items
            token = answer.get("metadata", {}).get("continue")
            if not token:
                return
            params["continue"] = token

    async def list_all(
        self, kind: str, *, namespace: str | None = None, label_selector: str | None = None, metadata_only: bool = False
    ) -> list[Manifest]:
        """List everything that matches; starts again once when the snapshot was lost on the way."""
        for attempt in (1, 2):
            try:
                return [
                    item
                    async for page in self.pages(
                        kind, namespace=namespace, label_selector=label_selector, metadata_only=metadata_only
                    )
                    for item in page
                ]
            except Gone:
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    async def apply(
        self,
        manifest: Manifest,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        verb: str = "apply",
        subresource: str | None = None,
    ) -> Manifest:
        """Server-side apply; the object as the server has it now.

        ``metadata.uid`` or ``metadata.resourceVersion`` in the manifest are preconditions: a mismatch is ``Conflict``
        and nothing is written, where an apply without them would bring a deleted object back.
        """
        key = key_of(manifest)
        params = {"fieldManager": manager}
        if force:
            params["force"] = "true"
        if dry_run:
            params["dryRun"] = "All"
        path = resource_of(key.kind).path(key.namespace, key.name, subresource)
        applied: Manifest = await self.request(verb, "PATCH", path, params=params, body=manifest, content_type=_APPLY)
        return applied

    async def apply_status(self, obj: Manifest, status: Mapping[str, Any], *, manager: str) -> Manifest:
        """Apply ``status`` to an existing object, bound to its UID; the object as the server has it now."""
        key = key_of(obj)
        manifest: Manifest = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "metadata": {"name": key.name, "uid": obj["metadata"]["uid"]},
            "status": dict(status),
        }
        if key.namespace:
            manifest["metadata"]["namespace"] = key.namespace
        return await self.apply(manifest, manager=manager, verb="status", subresource="status")

    async def apply_finalizers(self, obj: Manifest, finalizers: list[str], *, manager: str) -> Manifest:
        """Own exactly these finalizers of an object; those of others stay. An empty list removes ours."""
        key = key_of(obj)
        meta: Manifest = {"name": key.name, "uid": obj["metadata"]["uid"]}
        if key.namespace:
            meta["namespace"] = key.namespace
        if finalizers:
            meta["finalizers"] = finalizers
        manifest: Manifest = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta}
        return await self.apply(manifest, manager=manager)

    async def create(self, manifest: Manifest, *, dry_run: bool = False, manager: str | None = None) -> Manifest:
        """Create an object that must not exist yet.

        Raises:
            AlreadyExists: it does.
        """
        key = key_of(manifest)
        params = {}
        if dry_run:
            params["dryRun"] = "All"
        if manager:
            params["fieldManager"] = manager
        path = resource_of(key.kind).path(key.namespace)
        created: Manifest = await self.request("create", "POST", path, params=params, body=manifest)
        return created

    async def merge_patch(self, key: ObjectKey, patch: Manifest, *, manager: str) -> Manifest:
        """RFC 7386 merge patch; only for objects that nobody applies, such as Events."""
        path = resource_of(key.kind).path(key.namespace, key.name)
        params = {"fieldManager": manager}
        patched: Manifest = await self.request("patch", "PATCH", path, params=params, body=patch, content_type=_MERGE)
        return patched

    async def delete(
        self,
        key: ObjectKey,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> bool:
        """Delete an object; False when it was gone already.

        Raises:
            Conflict: it is not the object (``uid``) or not the version that the caller saw.
        """
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options["preconditions"] = {name: value for name, value in preconditions.items() if value}
        try:
            # Metadata only: the answer to a Secret's deletion would otherwise bring its content along.
            path = resource_of(key.kind).path(key.namespace, key.name)
            await self.request("delete", "DELETE", path, body=options, accept=f"{_METADATA},{_JSON}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def serves(self, group_version: str, plurals: frozenset[str]) -> bool:
        """True when the API server serves all ``plurals`` of ``group/version`` (discovery; needs no rights)."""
        try:
            answer = await self.request("get", "GET", f"/apis/{group_version}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return plurals <= {item.get("name") for item in answer.get("resources") or []}


async def wait_until_served(api: KubeApi, group_version: str, plurals: frozenset[str], *, pause: float = 1.0) -> None:
    """Wait, without an end, until the CRDs are there; an unreachable API server is waited for as well."""
    while True:
        try:
            if await api.serves(group_version, plurals):
                return
        except ApiError:
            pass
        await asyncio.sleep(pause)
