"""The program as a process: flags, ports, signals, what it imports, what it leaves behind."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from tests.dataplane.harness import ConfigDir, Key, eventually, external_model, fake_engine, new_key, tenant_document

from tenantplane_cli.cluster.process import Process
from tenantplane_cli.fakeengine import FakeEngine
from tenantplane_dataplane.config.directory import SYNCED_MARKER

PROGRAM = [sys.executable, "-m", "tenantplane_dataplane.app.main"]
SLOW_START = 60.0
"""Importing LangGraph on a loaded machine."""
PLATFORM: dict[str, Any] = {
    "dataplane": {"drainSeconds": 10},
    "shared": {"externalHosts": [{"host": "127.0.0.1", "http": True, "private": True}]},
}


class Plane:
    """A running `tenantplane-dataplane serve`."""

    def __init__(self, process: Process, out: Path, err: Path) -> None:
        self.process, self.out, self.err = process, out, err
        self.public = self.internal = 0

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.read_text().splitlines() if line.startswith("{")]

    @property
    def listening(self) -> bool:
        for line in self.lines():
            if line["msg"] == "listening":
                self.public, self.internal = line["port"], line["internal_port"]
        return bool(self.public)

    async def get(self, path: str, *, port: int | None = None, key: Key | None = None) -> int:
        headers = {} if key is None else {"Authorization": f"Bearer {key.text}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port or self.public}{path}", headers=headers) as answer,
        ):
            await answer.read()
            return answer.status


@contextlib.asynccontextmanager
async def started(tmp_path: Path, *flags: str) -> AsyncIterator[Plane]:
    platform, out, err = tmp_path / "platform.yaml", tmp_path / "out", tmp_path / "err"
    platform.write_text(yaml.safe_dump(PLATFORM))
    # stdout is for usage and stderr for the log; a shell keeps them apart in two files.
    script = f'exec "$0" "$@" >{out} 2>{err}'
    argv = ["/bin/sh", "-c", script, *PROGRAM, "serve", "--platform", str(platform), "--host", "127.0.0.1"]
    argv += ["--internal-host", "127.0.0.1", "--port", "0", "--internal-port", "0", *flags]
    process = Process("dataplane", argv, log=tmp_path / "shell.log", env=dict(os.environ), cwd=tmp_path)
    process.start()
    plane = Plane(process, out, err)
    try:
        await eventually(lambda: err.exists() and (plane.listening or not process.running), deadline=SLOW_START)
        assert process.running, err.read_text()
        yield plane
    finally:
        process.end()


@pytest.fixture
async def engine() -> AsyncIterator[tuple[FakeEngine, str]]:
    async with fake_engine() as made:
        yield made


async def test_serve_drains_flushes_and_ends(tmp_path: Path, engine: tuple[FakeEngine, str]) -> None:
    """SIGTERM in the middle of a stream: not ready at once, the stream is finished, its usage is written, exit 0."""
    fake, url = engine
    key, config = new_key(), ConfigDir(tmp_path / "c")
    config.write(
        external_model("shared", url), tenant_document("acme", keys=[key], models={"chat": "tenantplane-models/shared"})
    )
    async with started(tmp_path, "--config-dir", str(config.path), "--role", "gateway") as plane:
        assert await plane.get("/readyz") == 200
        assert await plane.get("/metrics") == 404
        assert await plane.get("/metrics", port=plane.internal) == 200
        assert await plane.get("/v1/models", port=plane.internal, key=key) == 404
        fake.interval = 0.05
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "word " * 20}]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{plane.public}/v1/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {key.text}"},
            ) as answer,
        ):
            first = await answer.content.readany()
            plane.process.signal(signal.SIGTERM)

            async def readiness() -> int:
                try:
                    return await plane.get("/readyz", port=plane.internal)
                except aiohttp.ClientError:
                    return 0

            while await readiness() == 200:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.01)
            assert plane.process.running
            rest = await answer.read()
            assert (first + rest).decode().endswith("data: [DONE]\n\n")
        await eventually(lambda: not plane.process.running, deadline=30)
        assert plane.process.returncode == 0
        (event,) = [json.loads(line) for line in plane.out.read_text().splitlines()]
        assert (event["tenant"], event["status"], event["measured"]) == ("acme", 200, "provider")
        assert all({"ts", "level", "logger", "msg"} <= set(line) for line in plane.lines())
        assert key.text not in plane.err.read_text()


async def test_with_the_api_server_away_it_serves_on_from_what_is_there(tmp_path: Path) -> None:
    key, config = new_key(), ConfigDir(tmp_path / "c")
    config.write(tenant_document("acme", keys=[key]))
    config.write_raw(SYNCED_MARKER, b"")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    flags = ["--watch-dir", str(config.path), "--kubeconfig", str(kubeconfig), "--role", "gateway"]
    async with started(tmp_path, *flags) as plane:
        assert await plane.get("/v1/models", key=key) == 200
        await eventually(lambda: any(line["logger"] == "tenantplane.watcher" for line in plane.lines()))
        assert await plane.get("/v1/models", key=key) == 200
        config.file(tenant_document("acme")).unlink()
        (config.path / SYNCED_MARKER).unlink()
    flags = ["--watch-dir", str(config.path), "--kubeconfig", str(kubeconfig), "--role", "gateway"]
    (tmp_path / "second").mkdir()
    async with started(tmp_path / "second", *flags) as plane:
        assert await plane.get("/readyz") == 503, "nothing was ever listed: nobody may be refused as unknown"
        assert await plane.get("/healthz") == 200
        assert await plane.get("/v1/models", key=key) == 503


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_wrong_invocations_say_what_to_do(tmp_path: Path) -> None:
    platform = tmp_path / "platform.yaml"
    platform.write_text("{}")
    refused = run("serve", "--platform", str(platform), "--workers", "2", "--config-dir", str(tmp_path))
    assert refused.returncode == 2
    assert "Redis" in refused.stderr
    platform.write_text("dataplane: {socket: {}}")
    refused = run("serve", "--platform", str(platform), "--config-dir", str(tmp_path))
    assert refused.returncode == 2
    assert "dataplane" in refused.stderr
    platform.write_text("{}")
    tmp_path.chmod(0o755)
    refused = run(
        "serve", "--platform", str(platform), "--config-dir", str(tmp_path), "--port", "0", "--internal-port", "0"
    )
    assert refused.returncode == 1
    assert "chmod 700" in refused.stderr
    assert run("serve", "--role", "everything").returncode == 2


HEAVY = ("fastapi", "pydantic", "langgraph", "langchain_core", "httpx", "starlette", "kubernetes", "faiss", "numpy")


def test_the_hot_path_imports_nothing_heavy() -> None:
    """`--role gateway` runs without the assistants' part: proved on a process that has served a request."""
    code = """
import asyncio, sys, tempfile, os, pathlib
from tenantplane_api.runtime.platform import Platform
from tenantplane_dataplane.app.serve import serve
import tenantplane_dataplane.app.main
async def main():
    stop = asyncio.Event()
    directory = pathlib.Path(tempfile.mkdtemp())
    async def ask(ports):
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.public)
        writer.write(b"GET /v1/models HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        assert b" 401 " in await reader.read()
        writer.close()
        stop.set()
    tasks = []
    await serve(Platform(), directory, port=0, internal_port=0, role="gateway", stop=stop,
                on_started=lambda ports: tasks.append(asyncio.create_task(ask(ports))))
    os.rmdir(directory)
asyncio.run(main())
print("\\n".join(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    modules = set(done.stdout.split())
    assert not [name for name in HEAVY if name in modules]
    prefixes = ("tenantplane_dataplane.api", "tenantplane_dataplane.assistants", "tenantplane_dataplane.knowledge")
    assert not [name for name in modules if name.startswith((*prefixes, "tenantplane_dataplane.watcher"))]


@pytest.mark.parametrize(
    "package", ["observability", "wire", "config", "policy", "upstream", "metering", "gateway", "watcher"]
)
def test_a_layer_imports_only_from_its_left(package: str) -> None:
    order = ["observability", "wire", "config", "policy", "upstream", "metering", "gateway"]
    allowed = order[: order.index(package) + 1] if package in order else ["observability", "config", "watcher"]
    code = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module('tenantplane_dataplane.{package}')\n"
        "for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "print('\\n'.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    ours = {name.split(".")[1] for name in done.stdout.split() if name.startswith("tenantplane_dataplane.")}
    assert ours <= set(allowed)
