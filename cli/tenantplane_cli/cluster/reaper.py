"""Launcher: binds a helper process's life to that of its owner, then becomes that process.

Run as a *file* (`python -I -S reaper.py OWNER_PID PROGRAM ARG…`), so that nothing but the standard library is
imported and the start costs a few hundredths of a second.

Guarantees (Linux): when the owner dies, by SIGKILL too, the kernel kills the program (prctl(2), PR_SET_PDEATHSIG,
which survives execve(2)); an owner that died before the call is noticed by the changed parent id.
Does not guarantee: anything about processes which the program itself forks (a parent-death signal is not inherited),
nor anything on kernels without prctl, where the program runs without that tie.

The signal fires when the *thread* that forked ends, not the whole owner: `process.spawn` therefore starts every
program from one thread that lives as long as the owner does.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
EXIT_ORPHANED = 125


def main(argv: list[str]) -> None:
    owner, command = int(argv[1]), argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != owner:
        os._exit(EXIT_ORPHANED)
    # The interpreter ignores these two for itself, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execv(command[0], command)  # noqa: S606 - replacing itself with an argument list is this file's purpose


if __name__ == "__main__":
    main(sys.argv)
