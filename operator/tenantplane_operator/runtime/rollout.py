"""A change that touches many objects, brought to them at a bounded rate.

Guarantees that no more than ``per_second`` keys are woken, and none while enough that was woken still waits, so that a
change of a plan neither floods the API server nor delays what somebody just edited. Does not survive the process:
after a restart everything is looked at anyway.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_TICK: Final = 0.1
_BACKLOG: Final = 32
"""Woken keys that may wait at a time."""


class RollOut(Generic[K]):
    """Wakes keys while ``run`` runs; ``wake`` puts one on the queue, ``backlog`` tells how many wait there."""

    def __init__(self, wake: Callable[[K], None], *, backlog: Callable[[], int]) -> None:
        self._wake = wake
        self._backlog = backlog
        self._keys: dict[K, None] = {}
        self._per_second = 1.0
        self._begun = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Keys whose turn is still to come."""
        return len(self._keys)

    def begin(self, keys: Iterable[K], *, per_second: float) -> None:
        """Wake ``keys`` one after the other; those of an earlier change that wait keep their place."""
        self._keys |= dict.fromkeys(keys)
        self._per_second = per_second
        self._begun.set()

    def stop(self) -> None:
        """Forget what waits."""
        self._keys.clear()

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._begun.wait()
            self._begun.clear()
            due = loop.time()
            while self._keys:
                if self._backlog() >= _BACKLOG:
                    await asyncio.sleep(_TICK)
                    due = loop.time()
                    continue
                # A slow loop catches up by at most one tick, so that a pause is no burst afterwards.
                due = max(due, loop.time() - _TICK)
                while self._keys and due <= loop.time():
                    key = next(iter(self._keys))
                    del self._keys[key]
                    self._wake(key)
                    due += 1.0 / self._per_second
                await asyncio.sleep(max(0.0, due - loop.time()))
