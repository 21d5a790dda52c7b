"""Runs one step of an index build as a fenced process of its own.

Guarantees: an environment of our own choosing (nothing of the operator's, above all no credentials), user nobody when
the operator is root, resource limits, a session of its own that is killed as a group when time is up or the caller is
cancelled, death with the operator, and bounded output. Does not guarantee isolation from files that nobody may read:
this runner is for one machine; in a cluster, builds are Jobs.
"""

import asyncio
import contextlib
import json
import os
import pwd
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LAUNCH: Final = Path(__file__).with_name("launch.py")
_OUTPUT_MAX: Final = 256 * 1024
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fence:
    """Limits of one step. ``memory_mib`` bounds the address space, ``file_mib`` one file, ``seconds`` wall time."""

    memory_mib: int
    file_mib: int
    seconds: float
    processes: int = 256
    files: int = 256

    def rlimits(self, *, own_user: bool) -> dict[str, int]:
        """Resource limits by name; the number of processes only for a user that is nobody else's."""
        limits = {
            "AS": self.memory_mib * _MIB,
            "CPU": max(1, int(self.seconds) * 4),
            "FSIZE": self.file_mib * _MIB,
            "NOFILE": self.files,
            "CORE": 0,
        }
        if own_user:
            # The kernel counts this per user over the whole machine: on the operator's own user it would hit others.
            limits["NPROC"] = self.processes
        return limits


@dataclass(frozen=True, slots=True)
class Finished:
    """How a step ended. ``code`` is negative for a signal; outputs are cut at 256 KiB."""

    code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool


def unprivileged_user() -> tuple[int, int] | None:
    """uid and gid of nobody when this process is root, else ``None``: only root can step down."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def environment(scratch: Path) -> dict[str, str]:
    """All that a step finds in its environment. One thread per library: the fence counts threads and memory."""
    return {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }


@dataclass(frozen=True, slots=True)
class Step:
    """What to run: a module, or a Python file, with a ``main(arguments)``.

    Before the fence, with our rights: ``preload`` is imported, and ``main(rehearsal)`` called when it is not empty.
    """

    target: str
    arguments: tuple[str, ...]
    preload: tuple[str, ...] = ()
    rehearsal: tuple[str, ...] = ()


async def run_fenced(
    step: Step,
    *,
    fence: Fence,
    scratch: Path,
    user: tuple[int, int] | None,
    umask: int = 0o077,
    extra_environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run ``step`` to its end or its limit.

    Args:
        step: what to run.
        fence: limits.
        scratch: folder that the step may write; its working directory.
        user: uid and gid to run as; ``None`` stays who we are.
        umask: of the step's own files.
        extra_environment: for tests.
    """
    order = {
        "target": step.target,
        "preload": list(step.preload),
        "arguments": list(step.arguments),
        "rehearsal": list(step.rehearsal),
        "limits": fence.rlimits(own_user=user is not None),
        "uid": user[0] if user is not None else None,
        "gid": user[1] if user is not None else None,
        "parent": os.getpid(),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(_LAUNCH),
        json.dumps(order),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=scratch,
        env={**environment(scratch), **(extra_environment or {})},
        start_new_session=True,
        umask=umask,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [asyncio.ensure_future(_read(stream)) for stream in (process.stdout, process.stderr)]
    timed_out = False
    try:
        try:
            async with asyncio.timeout(fence.seconds):
                await process.wait()
        except TimeoutError:
            timed_out = True
    finally:
        # Whatever the step started belongs to its session's group and goes with it, also after a normal end.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        outputs = await asyncio.gather(*readers, return_exceptions=True)
    stdout, stderr = (output if isinstance(output, bytes) else b"" for output in outputs)
    return Finished(code=process.returncode or 0, stdout=stdout, stderr=stderr, timed_out=timed_out)


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Everything up to the bound; the rest is read and dropped, so that the writer never blocks."""
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk[: max(0, _OUTPUT_MAX - len(kept))]
    return bytes(kept)
