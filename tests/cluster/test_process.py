"""Helper processes end with their owner, and only with their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tenantplane_cli.cluster import process
from tenantplane_cli.cluster.process import Process, end, spawn
from tenantplane_cli.cluster.reaper import EXIT_ORPHANED
from tenantplane_cli.cluster.workdir import make, remove, sweep

SLEEP = "/bin/sleep"


def alive(pid: int) -> bool:
    """A zombie is not alive: it waits for a parent, not for work."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def become(child: subprocess.Popen[bytes], program: str) -> None:
    """Wait until the launcher has become the program."""
    wait_for(lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(program.encode()))


def test_dies_with_a_killed_owner() -> None:
    script = (
        "import subprocess, time; from tenantplane_cli.cluster.process import spawn;"
        f"print(spawn(['{SLEEP}', '600'], stdout=subprocess.DEVNULL).pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    pid = None
    try:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(SLEEP.encode()))
        owner.send_signal(signal.SIGKILL)
        wait_for(lambda: not alive(pid))
    finally:
        if pid is not None and alive(pid):
            os.kill(pid, signal.SIGKILL)
        owner.kill()
        owner.communicate()


def test_outlives_the_thread_that_asked_for_it() -> None:
    """A parent-death signal follows the forking thread; a helper must not die with a worker thread."""
    made: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        made.append(spawn([SLEEP, "600"], stdout=subprocess.DEVNULL))
        become(made[0], SLEEP)  # the tie is made before this thread ends, or there would be nothing to see

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    child = made[0]
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
    finally:
        end(child)
    assert child.returncode == -signal.SIGTERM


def test_owner_that_is_gone_already_is_noticed() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(process._REAPER), "1", SLEEP, "600"], check=False, timeout=30
    )
    assert done.returncode == EXIT_ORPHANED


def test_session_and_signals_of_its_own() -> None:
    script = f"{sys.executable} -c 'import signal; print(signal.getsignal(signal.SIGPIPE).value)'"
    child = spawn(["/bin/sh", "-c", f"{script}; exec {SLEEP} 600"], stdout=subprocess.DEVNULL)
    try:
        assert os.getsid(child.pid) == child.pid
        become(child, SLEEP)
        ignored = next(
            line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if line.startswith("SigIgn")
        )
        assert int(ignored.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0
    finally:
        end(child)


def test_end_of_a_paused_and_of_a_stubborn_process(tmp_path: Path) -> None:
    paused = spawn([SLEEP, "600"], stdout=subprocess.DEVNULL)
    become(paused, SLEEP)
    paused.send_signal(signal.SIGSTOP)
    end(paused)
    assert paused.returncode == -signal.SIGTERM
    ready = tmp_path / "ready"
    stubborn = spawn(
        ["/bin/sh", "-c", f"trap '' TERM; touch {ready}; while :; do {SLEEP} 1; done"], stdout=subprocess.DEVNULL
    )
    wait_for(ready.exists)
    end(stubborn, grace=0.2)
    assert stubborn.returncode == -signal.SIGKILL


def test_process_starts_again_and_keeps_its_log(tmp_path: Path) -> None:
    made = Process("echo", ["/bin/sh", "-c", "echo line; exit 3"], log=tmp_path / "log", env={}, cwd=tmp_path)
    assert made.log_tail() == "(no log)"
    for _ in range(2):
        made.start()
        wait_for(lambda: not made.running)
    assert made.returncode == 3
    assert made.log_tail() == "line\nline"
    assert made.log_tail(1) == "line"


def test_program_that_is_not_there(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none", Path("sleep")):
        with pytest.raises(FileNotFoundError, match="not an absolute path of an executable"):
            spawn([wrong], stdout=subprocess.DEVNULL)


def test_sweep_takes_only_folders_of_dead_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living = make(None)
    assert living.stat().st_mode & 0o777 == 0o700
    script = "from tenantplane_cli.cluster.workdir import make; print(make(None), flush=True); import os; os._exit(9)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    dead = Path(done.stdout.strip())
    foreign = tmp_path / "tenantplane-cluster-without-lock"
    foreign.mkdir()
    assert dead.is_dir()
    assert sweep(tmp_path) == [dead]
    assert living.is_dir()
    assert foreign.is_dir()
    assert not dead.exists()
    remove(living)
    assert not living.exists()
