"""The command line as processes: run to the end, or started and ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from typer.testing import CliRunner

from tenantplane_cli.cluster.process import end, spawn
from tenantplane_cli.main import app
from tenantplane_cli.output import CliError

TENANTPLANE = Path(sys.executable).with_name("tenantplane")
DEADLINE = 60.0


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the developer's own configuration takes part."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("TENANTPLANE_STATE", "KUBECONFIG"))}
    return {**keep, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **more}


def tenantplane(
    *arguments: str | Path, env: dict[str, str], timeout: float = 120.0, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [str(TENANTPLANE), *(str(argument) for argument in arguments)],
        env=env,
        input=stdin,
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def here(*arguments: str | Path, home: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command to its end within this process, which saves seconds of imports; it fails as by `main`."""
    unset = {name: None for name in os.environ if name.startswith(("TENANTPLANE_STATE", "KUBECONFIG"))}
    env = {**unset, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
    words = [str(argument) for argument in arguments]
    done = CliRunner().invoke(app, words, env=env, input=stdin)
    if isinstance(done.exception, CliError):
        error = done.exception
        return subprocess.CompletedProcess(words, error.code, done.stdout, f"{done.stderr}error: {error}\n")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


class Running:
    """A command that stays up, with everything that it printed; it dies with the test."""

    def __init__(self, *arguments: str | Path, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.popen = spawn([TENANTPLANE, *arguments], stdout=file, env=env)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, pattern: str, *, timeout: float = DEADLINE) -> re.Match[str]:
        """Wait until the output has ``pattern``."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = [match for match in [re.search(pattern, self.text, re.MULTILINE)] if match is not None]
            return bool(found)

        until(look, lambda: f"no {pattern!r} in:\n{self.text}", timeout=timeout, alive=self.popen)
        return found[0]

    def interrupt(self, number: signal.Signals = signal.SIGINT, *, timeout: float = DEADLINE) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self.popen, grace=20.0)


def until(
    holds: Callable[[], bool],
    otherwise: Callable[[], str],
    *,
    timeout: float = DEADLINE,
    alive: subprocess.Popen[bytes] | None = None,
) -> None:
    """Wait until ``holds``, or fail with what ``otherwise`` says."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        if alive is not None and alive.poll() is not None:
            assert holds(), f"ended with {alive.returncode}; {otherwise()}"
            return
        time.sleep(0.1)


def descendants(pid: int) -> set[int]:
    """All processes below ``pid`` now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    layer = {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer} - found
        found |= layer
    return found


def running(pids: Sequence[int] | set[int]) -> list[int]:
    """Those that still run; a zombie does not."""
    alive = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            alive.append(pid)
    return alive
