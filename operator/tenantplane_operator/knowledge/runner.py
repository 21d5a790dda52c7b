"""Runs index builds: bounded in number, one at a time per index, and successful only when the store says so.

A build that was asked for runs to its end even when nobody asks again; its result is handed to ``on_result`` on the
event loop. Guarantees: a result is a success only after the manifest was read back from the store and verified against
tenantID, index and generation; a failed build leaves what is served untouched; builds die with this process and are
asked for again by the next one. What a build is made from is decided elsewhere (``IndexPlan``).
"""

import asyncio
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from tenantplane_api.runtime.indexjob import IndexJob
from tenantplane_api.runtime.manifest import IndexManifest
from tenantplane_operator.runtime.resources import Manifest

logger = logging.getLogger(__name__)

RETRIES: Final = 3
RETRY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class BuildResult:
    """How a build ended. On success ``manifest``, its SHA-256 and the generation's URL; otherwise only ``message``."""

    built_at: datetime
    manifest: IndexManifest | None = None
    manifest_sha256: str = ""
    prefix: str = ""
    message: str = ""


class BuildFailed(Exception):  # noqa: N818 -- an end, not only an error
    """Raise when a build cannot succeed; ``transient`` when the same build may succeed later."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.message = message
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Source:
    """One source of a build: either a ConfigMap in the tenant's namespace or a folder below ``directoryRoot``."""

    name: str
    config_map: str | None = None
    directory: str | None = None


@dataclass(frozen=True)
class Order:
    """A build that is wanted. ``attempt_key`` tells attempts apart; ``job`` makes the job from resolved folders."""

    tenant: str
    tenant_id: str
    namespace: str
    index: str
    attempt_key: str
    sources: tuple[Source, ...]
    job: Callable[[Mapping[str, str]], IndexJob]
    keep: tuple[str, ...] = ()
    """Generations that must stay in the store: the one that is served."""
    payload: Any = None
    """What the orderer wants back with the result."""


class Builder(Protocol):
    """One way to build: raises ``BuildFailed`` or returns what stands verified in the store."""

    async def build(self, order: Order) -> BuildResult:
        """Build once."""

    async def clean(self, order: Order, built: str) -> None:
        """Remove generations that nobody serves any more; ``built`` is the new one."""


class BuildRunner:
    """Keeps track of builds, and of nothing else. Use it on one event loop."""

    def __init__(
        self,
        builder: Builder,
        *,
        concurrency: int,
        on_result: Callable[[Order, BuildResult], None],
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._builder = builder
        self._slots = asyncio.Semaphore(concurrency)
        self._on_result = on_result
        self._retry_seconds = retry_seconds
        self._running: dict[tuple[str, str], tuple[str, asyncio.Task[None]]] = {}

    def building(self, tenant: str) -> dict[str, str]:
        """Index and attempt key of the builds of a tenant that run or wait."""
        return {index: key for (owner, index), (key, _) in self._running.items() if owner == tenant}

    def start(self, order: Order) -> bool:
        """Start a build, or replace one of the same index whose attempt is another; False when it runs already."""
        slot = (order.tenant, order.index)
        running = self._running.get(slot)
        if running is not None:
            if running[0] == order.attempt_key:
                return False
            running[1].cancel()
        task = asyncio.create_task(self._run(order), name=f"build-{order.tenant}-{order.index}")
        self._running[slot] = (order.attempt_key, task)
        # Also for a task that is cancelled before its first step, which runs none of its own clean-up.
        task.add_done_callback(lambda ended: self._leave(slot, ended))
        return True

    def _leave(self, slot: tuple[str, str], task: asyncio.Task[None] | None) -> None:
        if self._running.get(slot, ("", None))[1] is task:
            self._running.pop(slot, None)

    def cancel(self, tenant: str) -> None:
        """End all builds of a tenant."""
        for (owner, _), (_, task) in list(self._running.items()):
            if owner == tenant:
                task.cancel()

    async def stop(self) -> None:
        """End all builds and wait until their processes are gone."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, order: Order) -> None:
        slot = (order.tenant, order.index)
        async with self._slots:
            result = await self._attempts(order)
        # Before the result is told: whoever hears of it must not find the build still running.
        self._leave(slot, asyncio.current_task())
        self._on_result(order, result)
        if result.manifest is not None and result.manifest.generation not in order.keep:
            try:
                await self._builder.clean(order, result.manifest.generation)
            except OSError as error:
                logger.warning("old generations of %s/%s stay: %s", order.tenant, order.index, error.strerror)

    async def _attempts(self, order: Order) -> BuildResult:
        for attempt in range(1, RETRIES + 1):
            try:
                return await self._builder.build(order)
            except BuildFailed as error:
                if not error.transient or attempt == RETRIES:
                    return BuildResult(built_at=datetime.now(UTC), message=error.message)
            except Exception:
                logger.exception("build of %s/%s failed in a way that nobody foresaw", order.tenant, order.index)
                return BuildResult(built_at=datetime.now(UTC), message="the build failed: see the operator's log")
            await asyncio.sleep(self._retry_seconds * attempt)
        raise AssertionError("unreachable")


_WORKSPACE: Final = "tenantplane-build-"


def _bases() -> list[Path]:
    """Folders in which a workspace may be, the preferred one first."""
    shared = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 -- what is made there is private
    return list(dict.fromkeys(Path(base).resolve() for base in (tempfile.gettempdir(), *shared) if Path(base).is_dir()))


def _passable(folder: Path) -> bool:
    """True when any user can reach what lies in ``folder``."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents))


def sweep_workspaces() -> int:
    """Remove workspaces that operators left which were killed; their number. Only our own user's, of dead processes."""
    removed = 0
    for path in (path for base in _bases() for path in base.glob(f"{_WORKSPACE}*-*")):
        pid = path.name.removeprefix(_WORKSPACE).partition("-")[0]
        if pid.isdecimal() and not path.is_symlink() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


class Workspace:
    """A private folder of one build, gone afterwards; given to the user that the build runs as."""

    def __init__(self, user: tuple[int, int] | None) -> None:
        self._user = user
        self.path = Path()

    async def __aenter__(self) -> Path:
        self.path = await asyncio.to_thread(self._make)
        return self.path

    def _make(self) -> Path:
        # Resolved, because the indexer follows no link, not even one in the path of the temporary folder; and where
        # another user can get to it: a private TMPDIR of root is closed to nobody.
        bases = _bases()
        base = bases[0] if self._user is None else next(filter(_passable, bases), bases[0])
        path = Path(tempfile.mkdtemp(prefix=f"{_WORKSPACE}{os.getpid()}-", dir=base))
        if self._user is not None:
            os.chown(path, *self._user)
        return path

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True))


ReadConfigMap = Callable[[str, str], Awaitable[Manifest | None]]
"""Reads a ConfigMap by namespace and name; ``None`` when it is not there."""
