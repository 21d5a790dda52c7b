"""Runs one step of an index build inside the limits that the operator sets. Started as a script, never imported.

``python -I launch.py ORDER`` with ORDER as JSON: ``target`` (a module or a file, with a ``main(arguments)``),
``preload`` (modules to import first), ``rehearsal`` and ``arguments`` (of two calls of it), ``limits`` (resource name
to number), ``uid`` and ``gid`` (or null) and ``parent`` (the process that must not outlive us). Standard library only.

The program is imported *before* the user changes and before anything untrusted is touched: the interpreter may live
where nobody cannot read, for example below root's home. Programs import late, so with ``rehearsal`` it is first called
once with those arguments, on a harmless sample of the caller's. From then on the process has neither the rights nor
the limits to come back.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import json
import os
import resource
import signal
import sys
from types import ModuleType

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# Codecs are looked up by name when first used; afterwards there may be no way to read them.
_CODECS = tuple(
    f"encodings.{name}"
    for name in (
        "utf_8",
        "utf_8_sig",
        "utf_16",
        "utf_16_le",
        "utf_16_be",
        "utf_32",
        "latin_1",
        "ascii",
        "cp1252",
        "idna",
    )
)
# What the standard library itself imports only when something goes wrong or is told.
_LATE = ("locale", "gettext", "traceback", "linecache", "tokenize", "warnings", "textwrap", "shutil", "html.entities")


def main(order: dict[str, object]) -> int:
    """Import, fence, run; the step's exit code."""
    for name in (*_CODECS, *_LATE):
        importlib.import_module(name)
    for name in _strings(order["preload"]):
        importlib.import_module(name)
    program = _load(str(order["target"]))
    rehearsal = _strings(order["rehearsal"])
    if rehearsal:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123 -- no pathlib here
            program.main(rehearsal)
    _fence(order)
    return int(program.main(_strings(order["arguments"])) or 0)


def _strings(value: object) -> list[str]:
    if not isinstance(value, list):
        sys.exit("launch: a list is expected")
    return [str(item) for item in value]


def _load(target: str) -> ModuleType:
    if not target.endswith(".py"):
        return importlib.import_module(target)
    spec = importlib.util.spec_from_file_location("launched", target)
    if spec is None or spec.loader is None:
        sys.exit(f"launch: {target} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fence(order: dict[str, object]) -> None:
    if order["uid"] is not None and order["gid"] is not None:
        os.setgroups([])
        gid, uid = int(str(order["gid"])), int(str(order["uid"]))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    limits = order["limits"]
    for name, value in limits.items() if isinstance(limits, dict) else ():
        which = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(which)
        bound = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(which, (bound, bound))
    libc = ctypes.CDLL(None, use_errno=True)
    # After the change of user, which would clear the death signal.
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_PDEATHSIG, int(signal.SIGKILL))):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            sys.exit("launch: prctl failed")
    if os.getppid() != int(str(order["parent"])):
        # The operator died between starting us and the lines above: nobody would ever end us.
        sys.exit("launch: the operator is gone")


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
