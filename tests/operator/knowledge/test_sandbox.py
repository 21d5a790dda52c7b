"""The fence around a build step: identity, environment, limits, and an end that leaves nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenantplane_operator.knowledge.runner import Workspace
from tenantplane_operator.knowledge.sandbox import Fence, Finished, Step, run_fenced, unprivileged_user

PROGRAMS = str(Path(__file__).with_name("programs.py"))
FENCE = Fence(memory_mib=1024, file_mib=8, seconds=30)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")


@pytest.fixture
async def scratch() -> AsyncIterator[Path]:
    """A folder that the step may write, whoever it runs as."""
    async with Workspace(unprivileged_user()) as folder:
        yield folder


async def fenced(scratch: Path, *arguments: str, fence: Fence = FENCE) -> Finished:
    return await run_fenced(Step(PROGRAMS, arguments), fence=fence, scratch=scratch, user=unprivileged_user())


def gone(pid: int) -> bool:
    """True when a process is dead; a zombie that its reaper has not collected yet counts as dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


async def test_identity_environment_and_limits(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    done = await fenced(scratch, "tell")
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["session"]
    assert told["cwd"] == str(scratch)
    assert set(told["environment"]) <= {
        "HOME", "TMPDIR", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONDONTWRITEBYTECODE",
        "PYTHONNOUSERSITE", "LC_CTYPE",
    }  # fmt: skip
    assert told["limits"] == {"AS": 1024 << 20, "NOFILE": 256, "CORE": 0}
    if os.geteuid() == 0:
        assert told["uid"] != 0
        assert told["groups"] == []


@needs_root
async def test_what_nobody_may_not_read_stays_unread_and_there_is_no_way_back(scratch: Path) -> None:
    secret = scratch / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert (await fenced(scratch, "read", str(secret))).code == 1
    secret.chmod(0o644)
    assert (await fenced(scratch, "read", str(secret))).code == 0
    assert (await fenced(scratch, "sudo")).code == 7


async def test_memory_and_file_size_are_bounded(scratch: Path) -> None:
    hungry = await fenced(scratch, "memory")
    assert hungry.code == 1
    assert b"MemoryError" in hungry.stderr
    greedy = await fenced(scratch, "disk")
    assert greedy.code != 0
    assert (scratch / "large").stat().st_size <= 8 << 20


async def test_time_is_up_for_the_whole_group(scratch: Path) -> None:
    started = time.monotonic()
    done = await fenced(scratch, "hang", str(scratch / "pid"), fence=Fence(memory_mib=1024, file_mib=8, seconds=1.5))
    assert done.timed_out
    assert time.monotonic() - started < 15
    child = int((scratch / "pid").read_text())
    for _ in range(100):
        if gone(child):
            break
        await asyncio.sleep(0.05)
    assert gone(child)


async def test_a_cancelled_build_leaves_no_process(scratch: Path) -> None:
    task = asyncio.create_task(fenced(scratch, "hang", str(scratch / "pid")))
    for _ in range(200):
        if (scratch / "pid").exists() and (scratch / "pid").read_text():
            break
        await asyncio.sleep(0.05)
    child = int((scratch / "pid").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):
        if gone(child):
            break
        await asyncio.sleep(0.05)
    assert gone(child)


async def test_output_is_bounded_and_never_blocks(scratch: Path) -> None:
    done = await fenced(scratch, "noise")
    assert done.code == 0
    assert done.stdout == b"done\n"
    assert len(done.stderr) == 256 * 1024


async def test_a_killed_operator_takes_its_builds_along(scratch: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from tenantplane_operator.knowledge.sandbox import *\n"
        f"asyncio.run(run_fenced(Step({PROGRAMS!r}, ('hang', {str(scratch / 'pid')!r})), "
        f"fence=Fence(memory_mib=1024, file_mib=8, seconds=60), scratch=Path({str(scratch)!r}), "
        "user=unprivileged_user()))\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        deadline = time.monotonic() + 20
        while not ((scratch / "pid").exists() and (scratch / "pid").read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        child = int((scratch / "pid").read_text())
        step = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    finally:
        owner.kill()
        owner.wait()
    deadline = time.monotonic() + 10
    while not gone(step) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(step)
    # The grandchild lost its parent and is not what the kernel's promise covers; it ends with the test.
    if not gone(child):
        os.kill(child, signal.SIGKILL)
