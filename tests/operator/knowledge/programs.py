"""Steps for the sandbox's tests: what a hostile or broken indexer may try. Loaded by the launcher, never imported."""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    what, *rest = arguments
    if what == "tell":
        limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in ("AS", "NOFILE", "CORE")}
        told = {
            "uid": os.getuid(),
            "groups": os.getgroups(),
            "session": os.getsid(0) == os.getpid(),
            "environment": sorted(os.environ),
            "cwd": str(Path.cwd()),
            "limits": limits,
        }
        print(json.dumps(told))
    elif what == "read":
        Path(rest[0]).read_bytes()
    elif what == "memory":
        bytearray(8 << 30)
    elif what == "disk":
        with Path("large").open("wb") as file:
            for _ in range(100_000):
                file.write(b"x" * 65_536)
    elif what == "hang":
        # With a child that ignores SIGTERM and would outlive a kill of its parent alone.
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            Path(rest[0]).write_text(str(os.getpid()))
            time.sleep(600)
        time.sleep(600)
    elif what == "noise":
        for _ in range(2000):
            sys.stderr.write("x" * 1000 + "\n")
        print("done")
    elif what == "sudo":
        try:
            os.setuid(0)
        except PermissionError:
            return 7
        print(os.getuid())
    return 0
