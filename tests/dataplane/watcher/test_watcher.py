"""The watcher against a real API server: copies, resumes, prunes, and never takes an error for an empty list."""

import asyncio
import base64
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from tests.dataplane.harness import DEADLINE, ConfigDir, ListSink, eventually, local_platform, new_key, tenant_document

from tenantplane_api.runtime import documents, names
from tenantplane_api.runtime.documents import TenantRuntime
from tenantplane_cli.cluster import Cluster
from tenantplane_cli.cluster.process import Process
from tenantplane_cli.rest import Rest
from tenantplane_dataplane.app.serve import Ports, serve
from tenantplane_dataplane.config.directory import SYNCED_MARKER
from tenantplane_dataplane.watcher import reflector
from tenantplane_dataplane.watcher.credentials import CredentialsError, from_kubeconfig, in_cluster
from tenantplane_dataplane.watcher.mirror import INVALID, Mirror
from tenantplane_dataplane.watcher.reflector import Reflector

NAMESPACE = "dataplane-watcher-test"


def secret(document: TenantRuntime, *, label: str | None = None, name: str | None = None) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": names.SECRET_TYPE_RUNTIME,
        "metadata": {
            "name": name or names.tenant_document_name(document.name),
            "labels": {names.LABEL_TENANT: label or document.name},
        },
        "data": {names.DOCUMENT_KEY: base64.b64encode(documents.canonical(document)).decode()},
    }


class Api:
    """Runtime Secrets of one namespace."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self.path = f"/api/v1/namespaces/{NAMESPACE}/secrets"

    def put(self, content: dict[str, object]) -> None:
        metadata = content["metadata"]
        assert isinstance(metadata, dict)
        status, answer = self.rest.call("PUT", f"{self.path}/{metadata['name']}", content)
        if status == 404:
            status, answer = self.rest.call("POST", self.path, content)
        assert status in (200, 201), answer

    def delete(self, name: str) -> None:
        assert self.rest.call("DELETE", f"{self.path}/{name}")[0] == 200

    def clear(self) -> None:
        self.rest.call("DELETE", self.path)


@pytest.fixture
def api(cluster: Cluster) -> Iterator[Api]:
    with Rest(cluster.kubeconfig) as rest:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        assert rest.call("POST", "/api/v1/namespaces", namespace)[0] in (201, 409)
        made = Api(rest)
        made.clear()
        yield made
        made.clear()


@contextlib.asynccontextmanager
async def reflecting(cluster: Cluster, directory: Path) -> AsyncIterator[Reflector]:
    credentials = from_kubeconfig(cluster.kubeconfig)
    context = credentials.ssl_context
    connector = aiohttp.TCPConnector(ssl=True if context is None else context)
    async with aiohttp.ClientSession(connector=connector) as session:
        made = Reflector(session, credentials, NAMESPACE, Mirror(directory))
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def content(directory: Path, name: str) -> bytes | None:
    try:
        return (directory / f"t.{name}.json").read_bytes()
    except FileNotFoundError:
        return None


async def test_copies_changes_and_deletions(
    cluster: Cluster, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "PAGE", 2)
    config = ConfigDir(tmp_path / "c")
    tenants = [tenant_document(f"tenant-{number}") for number in range(5)]
    for tenant in tenants:
        api.put(secret(tenant))
    config.write(tenant_document("gone-long-ago"))
    async with reflecting(cluster, config.path):
        await eventually((config.path / SYNCED_MARKER).exists)
        assert {path.name for path in config.path.glob("t.*")} == {f"t.tenant-{n}.json" for n in range(5)}
        assert content(config.path, "tenant-0") == documents.canonical(tenants[0])
        assert config.file(tenants[0]).stat().st_mode & 0o777 == 0o600
        changed = tenant_document("tenant-0", suspended=True)
        await asyncio.to_thread(api.put, secret(changed))
        await eventually(lambda: content(config.path, "tenant-0") == documents.canonical(changed))
        await asyncio.to_thread(api.delete, "t.tenant-1")
        await eventually(lambda: content(config.path, "tenant-1") is None)
        late = tenant_document("late")
        await asyncio.to_thread(api.put, secret(late))
        await eventually(lambda: content(config.path, "late") == documents.canonical(late))


async def test_a_secret_that_contradicts_itself_becomes_invalid(cluster: Cluster, api: Api, tmp_path: Path) -> None:
    config = ConfigDir(tmp_path / "c")
    api.put(secret(tenant_document("acme"), label="globex"))
    without = secret(tenant_document("globex"))
    without["data"] = {"other": ""}
    api.put(without)
    other_type = secret(tenant_document("initech")) | {"type": "Opaque"}
    api.put(other_type)
    api.put(secret(tenant_document("acme"), name="whatever"))
    async with reflecting(cluster, config.path):
        await eventually((config.path / SYNCED_MARKER).exists)
    assert content(config.path, "acme") == INVALID
    assert content(config.path, "globex") == INVALID
    assert content(config.path, "initech") is None, "not a runtime Secret at all"
    assert {path.name for path in config.path.iterdir()} == {"t.acme.json", "t.globex.json", SYNCED_MARKER}


async def test_a_position_that_is_too_old_lists_again_and_prunes(cluster: Cluster, api: Api, tmp_path: Path) -> None:
    config = ConfigDir(tmp_path / "c")
    api.put(secret(tenant_document("acme")))
    async with reflecting(cluster, config.path) as reflector_:
        await eventually(lambda: content(config.path, "acme"))
        # What a gap of the watch hides: the object is gone, and its DELETED event was never seen.
        config.write(tenant_document("ghost"))
        with pytest.raises(reflector.Gone):
            reflector_._take({"type": "ERROR", "object": {"code": 410}})
    async with reflecting(cluster, config.path):
        await eventually(lambda: content(config.path, "ghost") is None)
    assert content(config.path, "acme")


async def test_a_forbidden_list_removes_nothing(cluster: Cluster, api: Api, tmp_path: Path) -> None:
    config = ConfigDir(tmp_path / "c")
    config.write(tenant_document("acme"))
    stranger = cluster.persona("dataplane-stranger", groups=[])
    credentials = from_kubeconfig(stranger.kubeconfig)
    context = credentials.ssl_context
    connector = aiohttp.TCPConnector(ssl=True if context is None else context)
    async with aiohttp.ClientSession(connector=connector) as session:
        made = Reflector(session, credentials, NAMESPACE, Mirror(config.path))
        with pytest.raises(reflector.ApiError) as refused:
            await made._list()
        assert refused.value.status == 403
        task = asyncio.create_task(made.run())
        await eventually(lambda: made._pause > 0.5)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert content(config.path, "acme")
    assert not (config.path / SYNCED_MARKER).exists()


async def test_serve_with_its_watcher_end_to_end(cluster: Cluster, api: Api, tmp_path: Path) -> None:
    """A Secret is applied: its key chats; it is deleted: its key is refused; the watcher is killed: chat goes on."""
    config, key, other = ConfigDir(tmp_path / "c"), new_key(), new_key()
    api.put(secret(tenant_document("acme", keys=[key])))
    command = [sys.executable, "-m", "tenantplane_dataplane.app.main", "watch", "--directory", str(config.path)]
    command += ["--namespace", NAMESPACE, "--kubeconfig", str(cluster.kubeconfig), "--parent-pid", str(os.getpid())]
    stop, ports = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            local_platform(),
            config.path,
            port=0,
            internal_port=0,
            role="gateway",
            watcher=command,
            sink=ListSink(),
            stop=stop,
            on_started=ports.set_result,
        )
    )
    try:
        listening: Ports = await asyncio.wait_for(ports, DEADLINE)
        base = f"http://127.0.0.1:{listening.public}"

        async with aiohttp.ClientSession() as session:

            async def status(text: str) -> int:
                async with session.get(f"{base}/v1/models", headers={"Authorization": f"Bearer {text}"}) as answer:
                    return answer.status

            async def becomes(text: str, expected: int) -> None:
                async with asyncio.timeout(DEADLINE):
                    while await status(text) != expected:  # noqa: ASYNC110 - over HTTP
                        await asyncio.sleep(0.02)

            await becomes(key.text, 200)
            await asyncio.to_thread(api.put, secret(tenant_document("acme", keys=[other])))
            await becomes(key.text, 401)
            assert await status(other.text) == 200
            (watcher,) = _children("watch")
            os.kill(watcher, signal.SIGKILL)
            assert await status(other.text) == 200
            await eventually(lambda: [pid for pid in _children("watch") if pid != watcher])
            await asyncio.to_thread(api.delete, "t.acme")
            await becomes(other.text, 401)
    finally:
        stop.set()
        await task
    assert not _children("watch")


def _children(word: str) -> list[int]:
    """Our own child processes with ``word`` among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and word in (entry / "cmdline").read_text().split("\0"):
                    found.append(int(entry.name))
    return found


async def test_the_watcher_ends_with_its_parent(cluster: Cluster, tmp_path: Path) -> None:
    """The parent is killed, so it can end nobody: the kernel does."""
    config, log = ConfigDir(tmp_path / "c"), tmp_path / "log"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'tenantplane_dataplane.app.main', 'watch', '--directory', "
        f"{str(config.path)!r}, '--namespace', {NAMESPACE!r}, '--kubeconfig', {str(cluster.kubeconfig)!r}, "
        "'--parent-pid', str(os.getpid())])\n"
        "print('child', child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = Process("parent", [sys.executable, "-c", code], log=log, env=dict(os.environ), cwd=tmp_path)
    parent.start()
    try:
        await eventually((config.path / SYNCED_MARKER).exists)
        child = int(next(line for line in log.read_text().splitlines() if line.startswith("child")).split()[1])
        parent.kill()
        await eventually(lambda: not _alive(child))
    finally:
        parent.end()


def _alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kubeconfig(path: Path, *, user: dict[str, object], cluster: dict[str, object] | None = None) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **(cluster or {})}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


def test_tokens_from_files_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    credentials = from_kubeconfig(kubeconfig(tmp_path / "k", user={"tokenFile": "token"}))
    assert credentials.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two\n")
    assert credentials.headers() == {"Authorization": "Bearer one"}
    credentials.renew()
    assert credentials.headers() == {"Authorization": "Bearer two"}
    assert "two" not in repr(credentials)


@pytest.mark.parametrize("user", [{"exec": {"command": "x"}}, {"auth-provider": {}}, {"username": "x"}])
def test_what_a_pod_cannot_do_is_refused(tmp_path: Path, user: dict[str, object]) -> None:
    with pytest.raises(CredentialsError, match=next(iter(user))):
        from_kubeconfig(kubeconfig(tmp_path / "k", user=user))


def test_missing_credentials_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CredentialsError, match="--kubeconfig"):
        in_cluster()
    with pytest.raises(CredentialsError, match="not usable"):
        from_kubeconfig(tmp_path / "missing")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    with pytest.raises(CredentialsError, match="token"):
        in_cluster(folder=tmp_path)
