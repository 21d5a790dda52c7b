"""A changed Platform file takes effect without a restart, as far as that is possible.

Guarantees that an unusable file changes nothing: the last good one stays in force, the log names the wrong field, and a
metric says so until the file is good again. A good one replaces the old at once; tenants are then brought to it by the
caller, at a bounded rate. What is built into the process when it starts (workers, ports, the indexer, namespaces,
leader election) keeps its value until a restart, and the log says which. Looks every few seconds, and also notices
a ConfigMap volume's swap of links.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tenantplane_api.runtime.platform import Platform, PlatformError, load_platform

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 0.2
"""A file that is being written is not read: it must look the same twice."""
AT_START: Final = (
    "operator.workers",
    "operator.probePort",
    "operator.resyncSeconds",
    "operator.indexer",
    "operator.leaderElection",
    "shared.namespaces",
    "shared.knowledge",
)
"""Fields that a running operator does not change; the chart restarts it for them."""


class PlatformReload:
    """Watches one file while ``run`` runs; ``on_change`` gets every usable Platform that differs from the last."""

    def __init__(
        self, path: Path, current: Platform, on_change: Callable[[Platform], None], *, poll: float = POLL_SECONDS
    ) -> None:
        self._path = path
        self._current = current
        self._on_change = on_change
        self._poll = poll
        self._seen: bytes | None = None
        self.failed = False
        """True while the file is not usable."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._poll)

    async def look(self) -> None:
        """Look once."""
        try:
            text = await asyncio.to_thread(self._path.read_bytes)
            if text == self._seen:
                return
            await asyncio.sleep(SETTLE_SECONDS)
            if await asyncio.to_thread(self._path.read_bytes) != text:
                return
            if not text.strip():
                raise PlatformError(f"{self._path}: is empty")
            # In a thread, because YAML of a large file takes a while.
            found = await asyncio.to_thread(load_platform, self._path)
        except (PlatformError, OSError) as error:
            if not self.failed or not isinstance(error, OSError):
                logger.error("the Platform file is not usable, so the one before stays in force: %s", error)
            self.failed = True
            self._seen = None if isinstance(error, OSError) else text
            return
        self._seen = text
        if self.failed:
            logger.info("the Platform file is usable again")
            self.failed = False
        if found == self._current:
            return
        later = needs_restart(self._current, found)
        self._current = found
        logger.info("the Platform file changed and is in force", extra={"after_restart": ", ".join(later)})
        if later:
            logger.warning("takes effect after a restart of the operator: %s", ", ".join(later))
        self._on_change(found)


def needs_restart(old: Platform, new: Platform) -> list[str]:
    """Fields among ``AT_START`` in which the two differ. Pure."""
    left, right = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return [path for path in AT_START if _at(left, path) != _at(right, path)]


def _at(data: Any, path: str) -> Any:
    for step in path.split("."):
        data = data.get(step) if isinstance(data, dict) else None
    return data
