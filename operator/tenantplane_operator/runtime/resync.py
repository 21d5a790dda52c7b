"""The periodic LIST of everything: finds what watches missed, and heals what nobody reported.

A watch that broke for long never reports the deletions inside the gap; only a complete list does. Guarantees that a
list that failed, was cut short or whose kind is not served changes nothing: an error is never an empty list.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.resources import key_of

logger = logging.getLogger(__name__)

_SLICE: Final = 200


@dataclass(frozen=True, slots=True)
class Listed:
    """One list to keep: a kind, server-side selection, and whether only metadata may enter the cache."""

    kind: str
    label_selector: str | None = None
    namespace: str | None = None
    metadata_only: bool = False


class Resync:
    """Lists all kinds once at the start and then every ``seconds`` with jitter."""

    def __init__(
        self,
        api: KubeApi,
        cache: Cache,
        lists: Sequence[Listed],
        *,
        seconds: float,
        requeue: Callable[[], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._cache = cache
        self._lists = lists
        self._seconds = seconds
        self._requeue = requeue
        self._draw = draw
        self._complete_at: float | None = None
        self.failures = 0

    @property
    def synced(self) -> bool:
        """True when every kind was listed completely at least once."""
        return all(listed.kind in self._cache.synced for listed in self._lists)

    def since_complete(self) -> float | None:
        """Seconds since all lists succeeded in one pass."""
        if self._complete_at is None:
            return None
        return asyncio.get_running_loop().time() - self._complete_at

    async def once(self) -> bool:
        """List every kind; True when all succeeded. A kind that failed keeps what is known of it."""
        complete = True
        for listed in self._lists:
            before = self._cache.uids(listed.kind)
            try:
                items = await self._api.list_all(
                    listed.kind,
                    namespace=listed.namespace,
                    label_selector=listed.label_selector,
                    metadata_only=listed.metadata_only,
                )
            except ApiError as error:
                complete = False
                self.failures += 1
                logger.warning("listing %s failed: %s", listed.kind, error.message)
                continue
            seen = set()
            for number, item in enumerate(items):
                if number % _SLICE == _SLICE - 1:
                    # Thousands of objects in one go would block the event loop.
                    await asyncio.sleep(0)
                seen.add(key_of(item))
                self._cache.put(item)
            gone = self._cache.drop_missing(listed.kind, seen, before=before)
            if gone:
                logger.info("%d %s were gone without an event", len(gone), listed.kind)
        if complete:
            self._complete_at = asyncio.get_running_loop().time()
        return complete

    async def first(self, *, pause: float = 1.0) -> None:
        """List until every kind was listed once: nothing may be decided on half a picture."""
        while True:
            if await self.once():
                return
            await asyncio.sleep(pause)

    async def run(self) -> None:
        """Repeat until cancelled."""
        while True:
            # Jitter keeps the lists of several programs apart; half a period of it also after a common restart.
            await asyncio.sleep(self._seconds * (0.75 + 0.5 * self._draw()))
            await self.once()
            self._requeue()
