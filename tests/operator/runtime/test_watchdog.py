"""The watchdog names what blocks the event loop, and nothing else."""

import asyncio
import logging
import time

import pytest

from tenantplane_operator.runtime.watchdog import Watchdog


def the_culprit(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_blocked_loop_is_told_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    dog = Watchdog(tick=0.02, blocked=0.2)
    dog.start()
    try:
        await asyncio.sleep(0.2)
        assert dog.blocked_total == 0
        with caplog.at_level(logging.WARNING):
            the_culprit(0.8)
            await asyncio.sleep(0.1)
        assert dog.blocked_total == 1
        assert dog.lag_max >= 0.2
        lines = [record for record in caplog.records if "event loop has been blocked" in record.message]
        assert len(lines) == 1
        assert "the_culprit" in vars(lines[0])["stack"]
    finally:
        dog.stop()
