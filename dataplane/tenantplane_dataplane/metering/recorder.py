"""Usage events on their way out: a bounded queue and one writer thread.

A thread, because stdout may be a pipe whose reader is slow, and that must not stop the event loop. Guarantees: events
are written in the order of ``record``; ``close`` returns when all were written or its time is over; when the queue is
nearly full, ``accepting`` turns false, so that no request is served that could not be accounted for. On SIGKILL what
was not yet written is lost: at most what arrived within ``FLUSH_SECONDS`` and the write that was going on.
"""

import threading
from collections import deque
from typing import BinaryIO, Final, Protocol

import msgspec

from tenantplane_api.runtime.records import UsageEvent
from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.observability.metrics import Metrics

CAPACITY: Final = 65_536
_RESERVE: Final = 8_192
"""Room kept for the requests in flight when no new ones are let in."""
_BATCH: Final = 512
FLUSH_SECONDS: Final = 0.02
"""How long an event may wait for company before it is written: what a SIGKILL can lose."""
_log = get_logger("metering")


class Sink(Protocol):
    """Where events go. Called from one thread only."""

    def write(self, events: list[UsageEvent]) -> None:
        """Write a batch durably enough that a clean exit loses nothing; raise ``OSError`` when it cannot."""
        ...


class JsonLinesSink:
    """One compact JSON object per line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._encoder = msgspec.json.Encoder()

    def write(self, events: list[UsageEvent]) -> None:
        """See ``Sink``."""
        self._stream.write(b"".join(self._encoder.encode(event) + b"\n" for event in events))
        self._stream.flush()


class Recorder:
    """The queue and its writer; start with ``start``, end with ``close``."""

    def __init__(self, sink: Sink, metrics: Metrics, *, capacity: int = CAPACITY) -> None:
        self._sink = sink
        self._metrics = metrics
        self._capacity = capacity
        self._high = max(1, capacity - min(_RESERVE, capacity // 8))
        self._queued: deque[UsageEvent] = deque()
        self._writing = 0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage-writer", daemon=True)

    def start(self) -> None:
        """Start the writer."""
        self._thread.start()

    @property
    def _unwritten(self) -> int:
        return len(self._queued) + self._writing

    @property
    def accepting(self) -> bool:
        """False when new requests must wait until the writer caught up."""
        return self._unwritten < self._high

    def record(self, event: UsageEvent) -> None:
        """Enqueue an event; never blocks. A full queue loses it, counts that, and says so."""
        if self._unwritten >= self._capacity:
            self._metrics.usage_lost.inc()
            _log.error("a usage event was lost: the writer is stuck", extra={"fields": {"request_id": event.id}})
            return
        self._queued.append(event)
        # Waking a thread costs more than the rest of a request's accounting: once per flush, not once per event.
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float) -> bool:
        """Write what is queued and end; ``False`` when ``timeout`` seconds were not enough. Blocks."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            # Events that follow soon share a write; a request to close ends the pause.
            self._closing.wait(FLUSH_SECONDS)
            ending = self._closing.is_set()
            self._wake.clear()
            while self._queued:
                batch = [self._queued.popleft() for _ in range(min(_BATCH, len(self._queued)))]
                self._writing = len(batch)
                self._write(batch)
                self._writing = 0
            self._metrics.usage_queue.set(self._unwritten)
            if ending:
                return

    def _write(self, batch: list[UsageEvent]) -> None:
        try:
            self._sink.write(batch)
        except (OSError, ValueError):
            self._metrics.usage_lost.inc(len(batch))
            _log.error("usage events could not be written", extra={"fields": {"events": len(batch)}})
        else:
            self._metrics.usage_events.inc(len(batch))
