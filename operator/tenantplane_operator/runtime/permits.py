"""Places for work that are lent on when their holder hangs.

At most ``limit`` holders at a time, as with a semaphore. A holder that keeps its place for more than ``slow`` seconds
waits for something, and what waits costs nobody anything: its place is given to the next one, for at most ``overflow``
such holders. So a few that hang never stop the many that do not. First come, first served.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self


class Permit:
    """One place; ``release`` gives it back, once."""

    __slots__ = ("_places", "_timer", "lent", "released")

    def __init__(self, places: "Places") -> None:
        self._places = places
        self._timer: asyncio.TimerHandle | None = None
        self.lent = False
        self.released = False

    def begin(self) -> None:
        """Work begins: from now on it counts as slow when it takes too long."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._places.slow, self._places.lend, self)

    def release(self) -> None:
        """Give the place back."""
        if self.released:
            return
        self.released = True
        if self._timer is not None:
            self._timer.cancel()
        self._places.give_back(self)


class Places:
    """``async with places:`` holds one from begin to end; ``acquire`` leaves both to the caller."""

    def __init__(self, limit: int, *, overflow: int, slow: float) -> None:
        self.slow = slow
        self._free = limit
        self._overflow = overflow
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._due: deque[Permit] = deque()
        self.lent = 0
        """Holders whose place was lent on."""

    async def acquire(self) -> Permit:
        """Wait for a place."""
        if self._free > 0:
            self._free -= 1
            return Permit(self)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free_one()
            else:
                self._waiting.remove(turn)
            raise
        return Permit(self)

    def holding(self) -> "_Held":
        """A place for the time of an ``async with`` block."""
        return _Held(self)

    def lend(self, permit: Permit) -> None:
        """The holder is slow: let somebody else have its place, when not too many are."""
        if permit.released or permit.lent:
            return
        if self.lent >= self._overflow:
            self._due.append(permit)
            return
        permit.lent = True
        self.lent += 1
        self._free_one()

    def give_back(self, permit: Permit) -> None:
        """Called by the permit."""
        if not permit.lent:
            self._free_one()
            return
        self.lent -= 1
        while self._due:
            due = self._due.popleft()
            if not due.released:
                self.lend(due)
                return

    def _free_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class _Held:
    __slots__ = ("_permit", "_places")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._permit: Permit | None = None

    async def __aenter__(self) -> Self:
        self._permit = await self._places.acquire()
        self._permit.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._permit is not None
        self._permit.release()
