"""A whole data plane over real HTTP on loopback, fed from a real private directory, with the fake engine behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tenantplane_api.runtime import documents, keys, names
from tenantplane_api.runtime.documents import (
    AssistantEntry,
    ExternalEndpoint,
    IndexPointer,
    KeyEntry,
    ModelAlias,
    ModelRuntime,
    ModelSpec,
    TenantLimits,
    TenantRuntime,
    TenantSpec,
)
from tenantplane_api.runtime.names import ModelKey
from tenantplane_api.runtime.platform import (
    Dataplane,
    ExternalHost,
    Knowledge,
    Platform,
    Shared,
    SocketLimits,
    Upstream,
)
from tenantplane_api.runtime.records import UsageEvent
from tenantplane_cli.fakeengine import FakeEngine, running
from tenantplane_dataplane.app.compose import DataPlane, Role
from tenantplane_dataplane.wire.server import listen, make_server, wait_started

DEADLINE = 10.0
"""Ten times the target for a change to take effect."""


@dataclass(frozen=True)
class Key:
    """An API key and its entry in a tenant's document."""

    text: str
    entry: KeyEntry


def new_key(name: str = "default", *, expires_at: int | None = None) -> Key:
    made = keys.generate_key()
    return Key(made.text, KeyEntry(hash=made.digest, id=made.key_id, name=name, owner=name, expires_at=expires_at))


def tenant_document(
    name: str,
    *,
    keys: Iterable[Key] = (),
    models: dict[str, str] | None = None,
    assistants: Iterable[AssistantEntry] = (),
    indexes: Iterable[IndexPointer] = (),
    limits: TenantLimits | None = None,
    suspended: bool = False,
    tenant_id: str | None = None,
) -> TenantRuntime:
    return documents.tenant_runtime(
        name=name,
        namespace=f"tenant-{name}",
        tenant_id=tenant_id or f"{name}-account",
        spec=TenantSpec(
            suspended=suspended,
            keys=tuple(key.entry for key in keys),
            models=tuple(ModelAlias(alias=a, model=ModelKey(m)) for a, m in (models or {}).items()),
            assistants=tuple(assistants),
            indexes=tuple(indexes),
            limits=limits or TenantLimits(),
        ),
    )


def external_model(
    name: str,
    base_url: str,
    *,
    shared_with: Iterable[str] = ("*",),
    served_name: str = "fake-chat",
    api_key: str | None = "upstream-secret-key",
    max_output_tokens: int | None = None,
    suspended: bool = False,
) -> ModelRuntime:
    return documents.model_runtime(
        name=name,
        namespace=names.NAMESPACE_MODELS,
        spec=ModelSpec(
            engine="External",
            served_name=served_name,
            shared_with=tuple(shared_with),
            max_output_tokens=max_output_tokens,
            suspended=suspended,
            external=ExternalEndpoint(base_url=base_url, api_key=api_key),
        ),
    )


def extractive_model(name: str, *, shared_with: Iterable[str] = ("*",)) -> ModelRuntime:
    spec = ModelSpec(engine="Extractive", served_name="extractive", shared_with=tuple(shared_with))
    return documents.model_runtime(name=name, namespace=names.NAMESPACE_MODELS, spec=spec)


class ConfigDir:
    """Writes documents as the watcher does: a temporary file, then a rename."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def file(self, document: TenantRuntime | ModelRuntime) -> Path:
        if isinstance(document, TenantRuntime):
            return self.path / f"{names.tenant_document_name(document.name)}.json"
        return self.path / f"{names.model_document_name(document.namespace, document.name)}.json"

    def write(self, *written: TenantRuntime | ModelRuntime) -> None:
        for document in written:
            self.write_raw(self.file(document).name, documents.canonical(document))

    def write_raw(self, file_name: str, data: bytes) -> None:
        temporary = self.path / f".{file_name}.tmp"
        temporary.write_bytes(data)
        temporary.replace(self.path / file_name)

    def remove(self, document: TenantRuntime | ModelRuntime) -> None:
        self.file(document).unlink()


class ListSink:
    """Keeps usage events in memory."""

    def __init__(self) -> None:
        self.events: list[UsageEvent] = []

    def write(self, events: list[UsageEvent]) -> None:
        self.events.extend(events)


def local_platform(
    *,
    sockets: SocketLimits | None = None,
    upstream: Upstream | None = None,
    store: Path | None = None,
    **dataplane: Any,
) -> Platform:
    """A platform whose models may live on loopback."""
    return Platform(
        dataplane=Dataplane(sockets=sockets or SocketLimits(), upstream=upstream or Upstream(), **dataplane),
        shared=Shared(
            external_hosts=(ExternalHost(host="127.0.0.1", http=True, private=True),),
            knowledge=Knowledge(store=None if store is None else store.as_uri()),
        ),
    )


@dataclass
class Running:
    """A data plane that listens, and what it wrote."""

    app: DataPlane
    url: str
    port: int
    config: ConfigDir
    usage: ListSink
    session: aiohttp.ClientSession
    extra: dict[str, Any] = field(default_factory=dict)

    async def request(
        self, method: str, path: str, *, key: Key | None = None, headers: dict[str, str] | None = None, **kwargs: Any
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, JSON body, headers (names in lower case)."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key.text}"
        async with self.session.request(method, self.url + path, headers=sent, **kwargs) as response:
            body = await response.json(content_type=None)
            return response.status, body, {name.lower(): value for name, value in response.headers.items()}

    async def chat(
        self, key: Key | None, model: str, text: str = "hello", **body: Any
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """A chat completion."""
        content = {"model": model, "messages": [{"role": "user", "content": text}], **body}
        return await self.request("POST", "/v1/chat/completions", key=key, json=content)

    async def events(self, count: int) -> list[UsageEvent]:
        """Usage events, once there are ``count``."""
        await eventually(lambda: len(self.usage.events) >= count)
        assert len(self.usage.events) == count, [event.code for event in self.usage.events]
        return self.usage.events


async def eventually(condition: Callable[[], object], *, deadline: float = DEADLINE) -> None:
    """Wait until ``condition`` holds; fail at the deadline."""
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 - the condition is another program's state
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def dataplane(
    directory: Path, *, platform: Platform | None = None, role: Role = "gateway", require_synced: bool = False
) -> AsyncIterator[Running]:
    """A data plane on a free port of loopback."""
    platform = platform or local_platform()
    config, usage = ConfigDir(directory), ListSink()
    app = DataPlane(platform, directory, role=role, require_synced=require_synced, sink=usage)
    sock = listen("127.0.0.1", 0)
    server = make_server(app, limits=platform.dataplane.sockets, metrics=app.metrics, drain_seconds=1.0)
    await app.start()
    task = asyncio.create_task(server.serve(sockets=[sock]))
    port = sock.getsockname()[1]
    try:
        await wait_started(server, task)
        async with aiohttp.ClientSession() as session:
            yield Running(app, f"http://127.0.0.1:{port}", port, config, usage, session)
    finally:
        server.stop()
        await task
        await app.stop()
        sock.close()


@contextlib.asynccontextmanager
async def fake_engine(**options: Any) -> AsyncIterator[tuple[FakeEngine, str]]:
    """The fake engine and its base URL."""
    engine = FakeEngine(**options)
    async with running(engine) as url:
        yield engine, url
