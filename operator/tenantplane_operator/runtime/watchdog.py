"""Tells when something blocks the event loop, and what.

A thread asks the loop for a sign of life ten times a second. Time without one is lag; when it lasts for longer than
``BLOCKED`` seconds, the stack of the loop's thread is logged once, so that the line says which call it is. Counted in
the thread's own ticks: a process that is stopped, or a machine without a free core, is not taken for a blocked loop.
Cannot see which part of a long chain of short callbacks is slow.
"""

import asyncio
import logging
import sys
import threading
import traceback
from typing import Final

logger = logging.getLogger(__name__)

TICK: Final = 0.1
BLOCKED: Final = 1.0


class Watchdog:
    """Watches the loop on which ``start`` was called."""

    def __init__(self, *, tick: float = TICK, blocked: float = BLOCKED) -> None:
        self._tick = tick
        self._blocked = blocked
        self._answered = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.lag_max = 0.0
        """Longest time without a sign of life so far, in seconds."""
        self.blocked_total = 0
        """How often it was longer than the bound."""

    def start(self) -> None:
        """Begin; the running loop's thread is the one that is watched."""
        loop, ident = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(target=self._watch, args=(loop, ident), name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; returns at once."""
        self._over.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        while not self._over.wait(self._tick):
            self._answered.clear()
            try:
                loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:
                return
            missed, told = 0, False
            while not self._answered.wait(self._tick) and not self._over.is_set():
                missed += 1
                lag = missed * self._tick
                self.lag_max = max(self.lag_max, lag)
                if lag >= self._blocked and not told:
                    told = True
                    self.blocked_total += 1
                    frame = sys._current_frames().get(ident)
                    stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
                    logger.warning("the event loop has been blocked for %.1f s", lag, extra={"stack": stack})
