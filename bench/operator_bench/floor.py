"""The floor: every write that a Tenant needs, once, by a client that decides nothing.

What is written is *captured* from a Tenant that the operator itself made, so that the floor moves with the product:
each object as it stood in the end, its name replaced. Kept of the operator's work: the order (finalizer, namespace,
own rights, fence and people, key, document, status), the number of workers and of parallel writes, server-side apply
under the same field managers, and the operator's own credential, so that RBAC and the fence judge both alike. Left
out: watching, lists, events, comparing, compiling, keys of its own.
"""

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.operator_bench.load import Client, LoadError, Object, create_all

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.kubeconfig import Connection
from tenantplane_operator.runtime.resources import RESOURCES, resource_of

SAMPLE = "bench-zzzz"
"""Name of the Tenant that is captured: as long as the others', so that every write has the size of the real one."""
_PARALLEL = 4
_PATIENCE = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_APPLY = "application/apply-patch+yaml"
_SERVER_SIDE = ("resourceVersion", "managedFields", "generation", "creationTimestamp", "uid", "selfLink")
_NOT_CAPTURED = frozenset({"Event", "Job", "Lease", "Pod", names.KIND_TENANT, names.KIND_MODEL_DEPLOYMENT})


class Write(NamedTuple):
    """One request: ``text`` is the JSON body with ``SAMPLE`` and ``@uid@`` in it; ``stage`` orders it."""

    stage: int
    verb: str
    path: str
    manager: str
    text: str
    secret: bool = False

    @property
    def what(self) -> str:
        """Which kind it writes, for people."""
        parts = self.path.split("/")
        if parts[-1] == "status":
            return f"{parts[-3]}/status"
        return "finalizer" if self.stage == 0 else parts[-1] if self.verb == "POST" else parts[-2]


@dataclass(frozen=True, slots=True)
class Floor:
    """What the bare client did: seconds from the first create to the last write per Tenant, requests in all, and those
    that had to be repeated, by what the API server said: rights and labels are in force a moment late."""

    took: dict[str, float]
    requests: int
    repeated: dict[str, int]


def _clean(obj: Object) -> Object:
    meta = {name: value for name, value in obj["metadata"].items() if name not in _SERVER_SIDE}
    return {**obj, "metadata": meta}


def _body(obj: Object, *, tenant_uid: str) -> str:
    """JSON of an object; what is base64 is opened, so that the name inside is replaced as well."""
    obj = dict(obj)
    if obj["kind"] == "Secret":
        obj["data"] = {name: base64.b64decode(value).decode() for name, value in (obj.get("data") or {}).items()}
    if obj["kind"] == "Namespace":
        # Its finalizer is the API server's.
        obj.pop("spec", None)
    return json.dumps(obj).replace(tenant_uid, "@uid@")


def filled(write: "Write", name: str, uid: str) -> bytes:
    """The request's body for one Tenant."""
    text = write.text.replace(SAMPLE, name).replace("@uid@", uid)
    if not write.secret:
        return text.encode()
    body = json.loads(text)
    body["data"] = {entry: base64.b64encode(value.encode()).decode() for entry, value in body["data"].items()}
    return json.dumps(body).encode()


def _stage(obj: Object, kind: str) -> int:
    if kind == "Namespace":
        return 1
    if kind == "RoleBinding":
        subjects = obj.get("subjects") or []
        ours = any(s["name"] == names.SERVICE_ACCOUNT_OPERATOR for s in subjects)
        return 2 if ours else 3
    if kind == names.KIND_API_KEY:
        return 4
    if kind == "Secret":
        return 7 if obj["metadata"]["namespace"] == names.NAMESPACE_RUNTIME else 5
    if kind == "ConfigMap" and obj["metadata"]["name"] == names.CHILD_STATUS_CONFIG_MAP:
        return 8
    return 3


async def capture(connection: Connection, tenant: Object) -> list[Write]:
    """The writes of a Tenant that is Ready, in order.

    Args:
        connection: of an administrator.
        tenant: the Tenant as the API server has it; its name is ``SAMPLE``.

    Raises:
        LoadError: something could not be read.
    """
    uid = str(tenant["metadata"]["uid"])
    head = {"apiVersion": tenant["apiVersion"], "kind": tenant["kind"], "metadata": {"name": SAMPLE, "uid": uid}}
    path = resource_of(names.KIND_TENANT).path("", SAMPLE)
    finalizer = {**head, "metadata": {**head["metadata"], "finalizers": [names.FINALIZER]}}
    found = [Write(0, "PATCH", path, names.MANAGER_FINALIZER, json.dumps(finalizer).replace(uid, "@uid@"))]
    async with Client(connection) as client:
        for kind, resource in RESOURCES.items():
            if kind in _NOT_CAPTURED:
                continue
            selector = f"{names.LABEL_TENANT}%3D{SAMPLE},{names.LABEL_MANAGED_BY}%3D{names.MANAGED_BY}"
            status, answer = await client.send("GET", f"{resource.path()}?labelSelector={selector}")
            if status != 200:
                raise LoadError(f"{kind} cannot be listed: {status} {answer.get('message')}")
            for item in answer["items"]:
                obj = _clean({**item, "apiVersion": resource.api_version, "kind": kind})
                found += _writes(obj, uid)
    status_body = json.dumps({**head, "status": tenant["status"]}).replace(uid, "@uid@")
    found.append(Write(9, "PATCH", f"{path}/status", names.MANAGER_STATUS, status_body))
    return sorted(found)


def _writes(obj: Object, uid: str) -> list[Write]:
    kind, meta = str(obj["kind"]), obj["metadata"]
    status = obj.pop("status", None)
    stage, resource = _stage(obj, kind), resource_of(kind)
    place, name = str(meta.get("namespace") or ""), str(meta["name"])
    text = _body(obj, tenant_uid=uid)
    if stage == 5:
        # A key's Secret is created, never applied.
        return [Write(stage, "POST", resource.path(place), names.MANAGER_CHILDREN, text, secret=True)]
    path = resource.path(place, name)
    found = [Write(stage, "PATCH", path, names.MANAGER_CHILDREN, text, secret=kind == "Secret")]
    if kind == names.KIND_API_KEY and status:
        head: Object = {"apiVersion": obj["apiVersion"], "kind": kind, "metadata": {"name": name, "namespace": place}}
        body = json.dumps({**head, "status": status}).replace(uid, "@uid@")
        found.append(Write(6, "PATCH", f"{path}/status", names.MANAGER_STATUS, body))
    return found


class _Bare:
    def __init__(self, client: Client, writes: Sequence[Write]) -> None:
        self._client = client
        self._stages = [[w for w in writes if w.stage == stage] for stage in sorted({w.stage for w in writes})]
        self.repeated: Counter[str] = Counter()

    async def tenant(self, name: str, uid: str) -> None:
        """Everything of one Tenant, stage by stage."""
        gate = asyncio.Semaphore(_PARALLEL)

        async def one(write: Write) -> None:
            async with gate:
                await self._write(write, name, uid)

        for stage in self._stages:
            if len(stage) == 1:
                await self._write(stage[0], name, uid)
            else:
                async with asyncio.TaskGroup() as group:
                    for write in stage:
                        group.create_task(one(write))

    async def _write(self, write: Write, name: str, uid: str) -> None:
        body = filled(write, name, uid)
        query = f"?fieldManager={write.manager}" + ("&force=true" if write.verb == "PATCH" else "")
        path = write.path.replace(SAMPLE, name) + query
        kind = _APPLY if write.verb == "PATCH" else "application/json"
        for pause in (*_PATIENCE, None):
            status, answer = await self._client.send(write.verb, path, body, content_type=kind)
            if status in (200, 201):
                return
            if pause is None or status not in (403, 422, 429):
                raise LoadError(f"{write.verb} {path}: {status} {answer.get('message')}")
            self.repeated[f"{status} {answer.get('reason')} on stage {write.stage}"] += 1
            await asyncio.sleep(pause)


async def bare_apply(
    admin: Connection, operator: Connection, writes: Sequence[Write], tenants: Sequence[str], *, workers: int
) -> Floor:
    """Create all Tenants and make everything of theirs; what it took.

    Raises:
        LoadError: the API server refused a write.
    """
    queue: asyncio.Queue[Object | None] = asyncio.Queue()
    took: dict[str, float] = {}
    async with Client(admin) as people, Client(operator) as client:
        bare = _Bare(client, writes)
        started = time.perf_counter()

        async def worker() -> None:
            while (item := await queue.get()) is not None:
                name = str(item["metadata"]["name"])
                await bare.tenant(name, str(item["metadata"]["uid"]))
                took[name] = time.perf_counter() - started

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
            await create_all(people, tenants, queue.put_nowait)
            for _ in range(workers):
                queue.put_nowait(None)
    return Floor(took, client.requests, dict(bare.repeated))
