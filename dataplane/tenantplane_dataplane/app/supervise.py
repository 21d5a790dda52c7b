"""Keeps one helper process running: the watcher.

Guarantees: started again with growing pauses when it ends; asked to end, then killed, when the supervising task is
cancelled. What it filled stays in force while it is away. That it never outlives this process is the helper's own
doing (it asks the kernel for a signal at its parent's death), because the start of a process cannot promise it here.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.observability.metrics import Metrics

_BACKOFF_FIRST: Final = 0.5
_BACKOFF_MAX: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 5.0
_log = get_logger("supervise")


async def supervise(command: Sequence[str], metrics: Metrics) -> None:
    """Run ``command`` for ever; end it when cancelled."""
    loop = asyncio.get_running_loop()
    pause = _BACKOFF_FIRST
    while True:
        started = loop.time()
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        metrics.watcher_restarts.inc()
        if loop.time() - started > _HEALTHY_SECONDS:
            pause = _BACKOFF_FIRST
        _log.error("the watcher ended and is started again", extra={"fields": {"exit": code, "pause": pause}})
        await asyncio.sleep(pause)
        pause = min(_BACKOFF_MAX, pause * 2)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
