"""Helper processes that end with their owner.

Guarantees: each process has a session of its own (a Ctrl-C at the terminal does not reach it before its owner has
decided what to do), is killed by the kernel when the owner dies (see `reaper`), writes stdout and stderr to one log
file, and is ended by its pid, never by a name. Does not guarantee: restarts; a process that ends stays ended.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_REAPER = Path(__file__).with_name("reaper.py")


class _Spawner:
    """One thread that forks every helper: a parent-death signal is tied to the forking thread, so that thread must
    live exactly as long as the owner. A daemon thread parked on a queue does."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="tenantplane-spawner", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._jobs.get()()

    def call(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        done = threading.Event()
        started: list[subprocess.Popen[bytes]] = []
        failed: list[BaseException] = []

        def job() -> None:
            try:
                started.append(start())
            except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread below
                failed.append(error)
            finally:
                done.set()

        self._jobs.put(job)
        done.wait()
        if failed:
            raise failed[0]
        return started[0]


_spawner: _Spawner | None = None
_spawner_lock = threading.Lock()


def spawn(
    argv: Sequence[str | Path],
    *,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int = subprocess.STDOUT,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` (first item: an absolute path) in a session of its own; it dies when this process dies.

    Raises FileNotFoundError when the program does not exist: the launcher's own failure would only be an exit code.
    """
    global _spawner
    program = Path(argv[0])
    if not program.is_absolute() or not os.access(program, os.X_OK):
        raise FileNotFoundError(f"{program} is not an absolute path of an executable file")
    with _spawner_lock:
        if _spawner is None or _spawner.pid != os.getpid():  # a forked child has no such thread
            _spawner = _Spawner()
        spawner = _spawner
    command = [sys.executable, "-I", "-S", str(_REAPER), str(os.getpid()), *(str(part) for part in argv)]
    return spawner.call(
        lambda: subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    )


def end(process: subprocess.Popen[bytes], *, grace: float = 5.0) -> None:
    """End a process: SIGTERM, `grace` seconds to comply, SIGKILL. Returns when it is reaped. Idempotent."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)  # a paused process would not see SIGTERM
        process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Process:
    """A named program with a log file, which can be started again with the same arguments."""

    def __init__(self, name: str, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self._env = dict(env)
        self._cwd = cwd
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._popen is None else self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        """Raises RuntimeError when it already runs."""
        if self.running:
            raise RuntimeError(f"{self.name} already runs (pid {self.pid})")
        with self.log.open("ab") as log:
            self._popen = spawn(self.argv, stdout=log, env=self._env, cwd=self._cwd)

    def signal(self, number: signal.Signals) -> None:
        """Raises RuntimeError when it does not run."""
        if self._popen is None or self._popen.poll() is not None:
            raise RuntimeError(f"{self.name} does not run")
        self._popen.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end, without waiting. No error when it does not run."""
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL and wait: when this returns, the process is gone. No error when it does not run."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()

    def end(self, *, grace: float = 5.0) -> None:
        if self._popen is not None:
            end(self._popen, grace=grace)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the log, for an error message."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 64 * 1024))
                text = log.read().decode(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
