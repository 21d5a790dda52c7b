"""The directory that a worker obeys, and the snapshot that it obeys now.

Guarantees: only a private directory (mode 0700, owned by this user or root, no symlink) is read; a document that
disappears cuts access with the next snapshot; one that cannot be read is invalid, not absent; a directory that
cannot be listed changes nothing. A change takes effect well under a second (inotify), and at the latest with the next
full scan, should a notification be lost. Does not verify who wrote the files: their directory's mode does.
"""

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from watchfiles import awatch

from tenantplane_api.runtime import limits
from tenantplane_api.runtime.names import TenantName
from tenantplane_dataplane.config.directory import DOCUMENT_FILE, SYNCED_MARKER, check_directory
from tenantplane_dataplane.config.snapshot import Snapshot, advance
from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.observability.metrics import Metrics

_log = get_logger("config")


class _Signature(NamedTuple):
    """What changes when a file is replaced or written."""

    inode: int
    mtime_ns: int
    size: int


_UNKNOWN: Final = _Signature(0, 0, -1)
"""Equal to no file's signature."""


def _read(path: Path) -> tuple[_Signature, bytes | None] | None:
    """Signature and content; content ``None`` when it cannot be read; ``None`` when it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return _UNKNOWN, None
    try:
        info = os.fstat(descriptor)
        signature = _Signature(info.st_ino, info.st_mtime_ns, info.st_size)
        if not stat.S_ISREG(info.st_mode) or info.st_size > limits.RUNTIME_DOCUMENT_MAX_BYTES:
            return signature, None
        with open(descriptor, "rb", closefd=False) as file:
            return signature, file.read(limits.RUNTIME_DOCUMENT_MAX_BYTES + 1)
    except OSError:
        return _UNKNOWN, None
    finally:
        os.close(descriptor)


class ConfigStore:
    """Loads, watches and swaps. One per process; ``current`` may be read at any time from the event loop."""

    def __init__(
        self,
        directory: Path,
        *,
        metrics: Metrics,
        require_synced: bool = False,
        rescan_seconds: float = 30.0,
        on_change: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self.directory: Final = directory
        self.current = Snapshot()
        self.rescan_seconds: Final = rescan_seconds
        self._metrics = metrics
        self._require_synced = require_synced
        self._on_change = on_change
        self._signatures: dict[str, _Signature] = {}
        self._loaded = False
        # Reading happens in a thread: without this, a slow scan could put an older content over a newer one, and with
        # it a revoked key back into force.
        self._reading = asyncio.Lock()
        self._synced = not require_synced

    @property
    def ready(self) -> bool:
        """True once everything that existed at the start was read."""
        return self._loaded and self._synced

    def load(self) -> None:
        """Read the whole directory now.

        Raises:
            ConfigDirectoryError: the directory must not be trusted.
        """
        check_directory(self.directory)
        self._apply(*self._scan())
        self._loaded = True

    async def run(self) -> None:
        """Follow changes until cancelled. Survives a directory that is away for a while."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._rescan_for_ever())

    async def _follow(self) -> None:
        while True:
            try:
                async for batch in awatch(self.directory, watch_filter=None, recursive=False, step=20, debounce=200):
                    await self._take_up({Path(path).name for _, path in batch})
            except (OSError, RuntimeError) as error:
                # watchfiles reports a directory that cannot be watched as one of these.
                _log.error(
                    "cannot watch the configuration directory", extra={"fields": {"error": type(error).__name__}}
                )
            await asyncio.sleep(1.0)

    async def _rescan_for_ever(self) -> None:
        # The first one soon: it finds what changed between `load` and the moment the watch took hold.
        delay = min(0.3, self.rescan_seconds)
        while True:
            await asyncio.sleep(delay)
            await self._rescan()
            delay = self.rescan_seconds

    async def _rescan(self) -> None:
        async with self._reading:
            self._apply(*await asyncio.to_thread(self._scan))

    async def _take_up(self, file_names: Iterable[str]) -> None:
        wanted = [name for name in file_names if DOCUMENT_FILE.match(name)]
        async with self._reading:
            read = await asyncio.to_thread(lambda: {name: _read(self.directory / name) for name in wanted})
            # The kernel says that they changed: a file system's clock is too coarse to contradict that.
            self._signatures.update(dict.fromkeys(self._signatures.keys() & set(wanted), _UNKNOWN))
            self._apply({n: r for n, r in read.items() if r is not None}, {n for n, r in read.items() if r is None})

    def _scan(self) -> tuple[dict[str, tuple[_Signature, bytes | None]], set[str]]:
        """Files that differ from what was read, and names that are gone."""
        found: dict[str, tuple[_Signature, bytes | None]] = {}
        seen: set[str] = set()
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if not DOCUMENT_FILE.match(entry.name):
                        continue
                    seen.add(entry.name)
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        seen.discard(entry.name)
                        continue
                    signature = _Signature(info.st_ino, info.st_mtime_ns, info.st_size)
                    if self._signatures.get(entry.name) != signature:
                        read = _read(self.directory / entry.name)
                        if read is None:
                            seen.discard(entry.name)
                        else:
                            found[entry.name] = read
        except OSError as error:
            # Not an empty list: what is known stays in force.
            _log.error("cannot list the configuration directory", extra={"fields": {"error": error.strerror}})
            return {}, set()
        return found, self._signatures.keys() - seen

    def _apply(self, found: Mapping[str, tuple[_Signature, bytes | None]], gone: set[str]) -> None:
        """Swap in the next snapshot. Runs without an await: nobody sees half of a change."""
        changed = {
            name: item for name, item in found.items() if self._signatures.get(name) != item[0] or item[1] is None
        }
        gone = {name for name in gone if name in self._signatures}
        if not self._synced and (self.directory / SYNCED_MARKER).exists():
            self._synced = True
        if not changed and not gone:
            return
        documents = {name.removesuffix(".json"): item[1] for name, item in changed.items()}
        removed = frozenset(name.removesuffix(".json") for name in gone)
        snapshot, conflicts = advance(self.current, documents, removed)
        for name, item in changed.items():
            self._signatures[name] = item[0]
        for name in gone:
            del self._signatures[name]
        self.current = snapshot
        self._report(snapshot, documents, removed)
        for conflict in conflicts:
            fields = {"tenant": conflict.tenant, "key_id": conflict.key_id}
            _log.error("an API key is claimed by another tenant and refused for this one", extra={"fields": fields})
        if self._on_change is not None:
            self._on_change(snapshot)

    def _report(self, snapshot: Snapshot, documents: Mapping[str, bytes | None], removed: frozenset[str]) -> None:
        metrics = self._metrics
        for name in (*documents, *removed):
            metrics.config_changes.labels("model" if name.startswith("m.") else "tenant").inc()
        for name in documents:
            if name.startswith("t."):
                handle = snapshot.tenants[TenantName(name.removeprefix("t."))]
                if handle.problem is not None:
                    fields = {"tenant": handle.tenant, "problem": handle.problem}
                    _log.error("a tenant's document is invalid: its callers get 503", extra={"fields": fields})
        invalid = sum(1 for handle in snapshot.tenants.values() if handle.problem is not None)
        metrics.config_documents.labels("tenant", "valid").set(len(snapshot.tenants) - invalid)
        metrics.config_documents.labels("tenant", "invalid").set(invalid)
        metrics.config_documents.labels("model", "held").set(len(snapshot.models))
        metrics.config_conflicts.set(sum(len(handle.rejected) for handle in snapshot.tenants.values()))
        metrics.config_last_change.set(time.time())
