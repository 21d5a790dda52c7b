"""The standalone process: folder and requests watched, documents written, indices built, chat served.

Guarantees: one event loop, one process beside the short-lived indexers; a change of the folder takes effect without a
restart; the folder of runtime documents holds exactly what was compiled last; at the end nothing keeps running.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from watchfiles import awatch

from tenantplane_cli.output import CliError
from tenantplane_cli.up import world as worlds
from tenantplane_cli.up.load import Loaded, load
from tenantplane_cli.up.platformfile import read_platform, with_extractive
from tenantplane_cli.up.state import State, write_private
from tenantplane_cli.up.world import Result, World
from tenantplane_dataplane.app.serve import Ports, serve
from tenantplane_dataplane.config.directory import ConfigDirectoryError
from tenantplane_dataplane.metering.recorder import JsonLinesSink
from tenantplane_operator.knowledge.orders import order_for, settle
from tenantplane_operator.knowledge.runner import BuildResult, BuildRunner, Order
from tenantplane_operator.knowledge.subprocess import SubprocessBuilder

_SETTLE_MS: Final = 200
_FALLBACK_SECONDS: Final = 5.0
"""How often the folder is looked at even when no notification came: not every file system sends them."""


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    folder: Path
    host: str
    port: int
    strict: bool


class Standalone:
    """One run. ``say`` is called with lines for the person at the terminal."""

    def __init__(self, options: Options, state: State, say: Callable[[str], None]) -> None:
        self._options = options
        self._state = state
        self._say = say
        self._world = World(state)
        self._loaded = Loaded()
        self._result = Result()
        self._platform = read_platform(options.folder, state, public_url=_url(options.host, options.port))
        self._runner = BuildRunner(
            SubprocessBuilder(self._platform, self._config_map),
            concurrency=self._platform.operator.indexer.concurrency,
            on_result=self._built,
        )
        self._stop = asyncio.Event()
        self._dirty = asyncio.Event()
        self._reload = True
        self._endpoint = ""
        self._shown: dict[str, str] = {}
        self._problems: list[str] = []
        self._signature = _signature(options.folder, state.requests)

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM. Raises CliError when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        await self._refresh()
        if self._options.strict and self._problems:
            raise CliError(f"--strict: {len(self._problems)} objects are not valid")
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._follow())]
        try:
            with (self._state.folder / "usage.jsonl").open("ab") as usage:
                serving = asyncio.create_task(
                    serve(
                        self._platform,
                        self._state.runtime,
                        host=self._options.host,
                        port=self._options.port,
                        internal_port=0,
                        sink=JsonLinesSink(usage),
                        stop=self._stop,
                        on_started=self._started,
                    )
                )
                await self._until(serving, tasks)
        except (OSError, ConfigDirectoryError) as error:
            if self._endpoint or not isinstance(error, OSError):
                raise CliError(f"serving ended: {error}") from None
            raise CliError(
                f"port {self._options.port} of {self._options.host} cannot be had: {error.strerror}; choose by --port"
            ) from None
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self._runner.stop()

    async def _until(self, serving: asyncio.Task[None], tasks: list[asyncio.Task[None]]) -> None:
        """Return when serving ended; end it when something else failed."""
        done, _ = await asyncio.wait([serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        await serving
        for task in done:
            task.result()

    def _started(self, ports: Ports) -> None:
        self._endpoint = _url(self._options.host, ports.public) + "/v1"
        self._publish()
        self._say(f"serving {self._endpoint}; Ctrl-C ends it")

    async def _watch(self) -> None:
        """Notice changes of the YAML, the documents and what `tenantplane ingest` asks for."""
        folder, requests = self._options.folder, self._state.requests

        def relevant(_: object, path: str) -> bool:
            found = Path(path)
            return found.parent == requests or found.suffix in (".yaml", ".yml") or found == folder

        try:
            async for changes in awatch(
                folder, requests, watch_filter=relevant, step=50, debounce=_SETTLE_MS, stop_event=self._stop,
                rust_timeout=int(_FALLBACK_SECONDS * 1000), yield_on_timeout=True, ignore_permission_denied=True,
            ):  # fmt: skip
                await self._look(sure=bool(changes))
        except (OSError, RuntimeError) as error:
            self._say(f"no notifications of changes here ({error}): looking every {_FALLBACK_SECONDS:.0f} s")
        while not self._stop.is_set():
            await asyncio.sleep(_FALLBACK_SECONDS)
            await self._look(sure=False)

    async def _look(self, *, sure: bool) -> None:
        """Read the folder again when something changed; ``sure``: it is known that something did."""
        found = await asyncio.to_thread(_signature, self._options.folder, self._state.requests)
        if sure or found != self._signature:
            self._signature = found
            self._reload = True
            self._dirty.set()

    async def _follow(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._refresh()

    async def _refresh(self) -> None:
        """Look, compile, write, order builds, tell."""
        if self._reload:
            self._reload = False
            self._loaded = await asyncio.to_thread(load, self._options.folder, self._loaded)
            self._read_platform()
            with_extractive(self._loaded, self._platform)
        names = [obj["metadata"]["name"] for obj in self._loaded.of("Tenant")]
        building = {name: self._runner.building(name) for name in names}
        self._result = self._world.compile(self._loaded, self._platform, building)
        for gone in set(self._shown) - set(self._result.tenants):
            self._runner.cancel(gone)
        self._write_documents()
        for tenant, plan in worlds.builds(self._result):
            self._make_sources(plan)
            self._runner.start(order_for(tenant, plan, self._world.knowledge_of(tenant.tenant_id, plan.index)))
        self._publish()
        self._tell()

    def _read_platform(self) -> None:
        try:
            found = read_platform(
                self._options.folder, self._state, public_url=self._platform.shared.dataplane.public_url
            )
        except CliError as error:
            self._loaded.problems.append(worlds_problem(str(error)))
            return
        if found.dataplane != self._platform.dataplane or found.shared != self._platform.shared:
            self._loaded.problems.append(
                worlds_problem("platform.yaml: changes of `shared` and `dataplane` need a restart")
            )
            return
        self._platform = found

    def _write_documents(self) -> None:
        folder = self._state.runtime
        for name, data in self._result.documents.items():
            path = folder / name
            if not path.exists() or path.read_bytes() != data:
                write_private(path, data)
        for path in folder.iterdir():
            if path.name not in self._result.documents and path.suffix == ".json":
                path.unlink()

    def _make_sources(self, plan: Any) -> None:
        """Folders of directory sources below our own root: empty is a fine beginning."""
        root = self._platform.shared.knowledge.directory_root
        for source in plan.sources:
            if source.directory and root == str(self._state.documents.resolve()):
                (Path(root) / source.directory).mkdir(mode=0o755, parents=True, exist_ok=True)

    async def _config_map(self, namespace: str, name: str) -> dict[str, Any] | None:
        return worlds.config_map(self._loaded, namespace, name)

    def _built(self, order: Order, result: BuildResult) -> None:
        previous = self._world.knowledge_of(order.tenant_id, order.index)
        tenant_id, status = settle(order, result, previous)
        self._world.record(tenant_id, status)
        if result.manifest is None:
            self._say(f"index {order.index} of {order.tenant}: not built: {result.message}")
        else:
            self._say(f"index {order.index} of {order.tenant}: {status.documents} documents, {status.chunks} chunks")
        self._dirty.set()

    def _publish(self) -> None:
        """Tell other commands what runs."""
        knowledge, indexer = self._platform.shared.knowledge, self._platform.operator.indexer
        self._state.write(
            "up.json",
            {
                "folder": str(self._options.folder),
                "endpoint": self._endpoint,
                "directoryRoot": knowledge.directory_root,
                "bounds": {
                    "files": indexer.max_files,
                    "file_bytes": indexer.max_file_bytes,
                    "total_bytes": indexer.max_total_bytes,
                },
                "notEnforced": list(worlds.NOT_ENFORCED),
                "problems": [str(problem) for problem in self._loaded.problems],
                "tenants": {name: found.entry for name, found in self._result.tenants.items()},
            },
        )

    def _tell(self) -> None:
        """Say what changed since the last time."""
        problems = [str(problem) for problem in self._loaded.problems]
        for problem in problems:
            if problem not in self._problems:
                self._say(f"refused: {problem}")
        self._problems = problems
        shown = {name: tenant_line(name, found.entry) for name, found in self._result.tenants.items()}
        for name in sorted(shown.keys() | self._shown.keys()):
            if name not in shown:
                self._say(f"tenant {name}: gone, its access is cut")
            elif shown[name] != self._shown.get(name):
                self._say(shown[name])
        self._shown = shown


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _signature(*folders: Path) -> frozenset[tuple[str, int, int]]:
    """What changes when a file that matters here is written, made or removed."""
    found = set()
    for folder in folders:
        for root, below, files in os.walk(folder):
            below[:] = [name for name in below if not name.startswith(".") and name != "documents"]
            for name in files:
                if name.endswith((".yaml", ".yml")) or folder != folders[0]:
                    with suppress(OSError):
                        facts = (Path(root) / name).lstat()
                        found.add((str(Path(root) / name), facts.st_mtime_ns, facts.st_size))
    return frozenset(found)


def tenant_line(name: str, entry: dict[str, Any]) -> str:
    """One line about a tenant."""
    state = "Ready" if entry["ready"] else f"{entry['reason']}: {entry['message']}"
    keys = ", ".join(
        f"{key['name']} (tp_{key['keyID']}_…)" for key in entry["keys"] if key["keyID"] and not key["revokedAt"]
    )
    return f"tenant {name}: {state}; keys: {keys or 'none'}"


def worlds_problem(message: str) -> Any:
    """A problem of the folder as a whole."""
    from tenantplane_cli.up.load import PLATFORM_FILE, Problem

    return Problem(PLATFORM_FILE, message.removeprefix(f"{PLATFORM_FILE}: "))
