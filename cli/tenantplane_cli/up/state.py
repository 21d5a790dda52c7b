"""The state folder of a standalone run: what outlives the process, and how other commands find a running one.

    lock            held by the running `tenantplane up`; the kernel drops it with the process
    up.json         what runs: address, folder, tenants with their state (rewritten at every change)
    keys.json       API keys by tenantID and name, in clear text (0600): standalone has no Secrets
    knowledge.json  state of each index by tenantID
    requests/       one file per tenantID: the time of the last `tenantplane ingest`, read as the annotation
                    `tenantplane.dev/reindex-requested-at`
    documents/      root of directory sources, unless the Platform file names another
    store/          index generations, unless the Platform file names another
    runtime/        compiled documents that the data plane obeys

Guarantees: the folder is 0700 and files with keys 0600; every file is replaced atomically; everything durable is bound
to the tenantID. Does not: encrypt. Whoever may read the folder has the keys.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tenantplane_cli.output import CliError, note

STATE_VARIABLE: Final = "TENANTPLANE_STATE"
_LOCK_ATTEMPTS: Final = 10
_LOCK_SECONDS: Final = 0.05
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar=STATE_VARIABLE,
        help="State folder of `tenantplane up`: work with that standalone run and not with a cluster.",
        show_default=False,
    ),
]


def default_folder() -> Path:
    """``$XDG_STATE_HOME/tenantplane``, as the XDG base directory specification has it."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "tenantplane"


class State:
    """One state folder. Readers need no lock: every file is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self._lock: int | None = None
        self._written: dict[str, bytes] = {}

    @property
    def documents(self) -> Path:
        return self.folder / "documents"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def runtime(self) -> Path:
        return self.folder / "runtime"

    @property
    def requests(self) -> Path:
        return self.folder / "requests"

    @property
    def keys_file(self) -> Path:
        return self.folder / "keys.json"

    def open(self) -> None:
        """Make the folder and become the one that runs on it.

        Raises CliError when another process runs on it, or the folder is readable for others and not ours to close.
        """
        try:
            for path in (self.folder, self.documents, self.store, self.runtime, self.requests):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CliError(f"--state: {self.folder} cannot be used: {error.strerror}; name another folder") from None
        for attempt in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt < _LOCK_ATTEMPTS - 1:
                    time.sleep(_LOCK_SECONDS)  # a reader holds it for a moment to see whether anybody runs
                    continue
                os.close(lock)
                raise CliError(
                    f"another `tenantplane up` runs on {self.folder}: end it, or name another folder by --state"
                ) from None
        self._lock = lock

    def close(self) -> None:
        """No longer the one that runs on it. Idempotent."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.folder / "up.json").unlink()
            os.close(self._lock)
            self._lock = None

    def running(self) -> dict[str, Any] | None:
        """What `up.json` says while a process holds the lock, else None."""
        try:
            lock = os.open(self.folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self.read("up.json") or None
        finally:
            os.close(lock)
        return None

    def read(self, name: str) -> dict[str, Any]:
        """One of the JSON files; empty when it is not there. Raises CliError when it is damaged."""
        path = self.folder / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise CliError(f"{path} cannot be read: {error}") from None
        if not isinstance(value, dict):
            raise CliError(f"{path} is damaged: it holds no JSON object")
        return value

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Replace one of the JSON files when it changed; readable for this user only."""
        data = json.dumps(value, indent=1, ensure_ascii=False).encode()
        if self._written.get(name) != data:
            write_private(self.folder / name, data)
            self._written[name] = data

    def request_reindex(self, tenant_id: str, at: str) -> None:
        """Ask the running process to look at the tenant's documents again. ``at``: RFC 3339."""
        self.requests.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.requests / tenant_id, at.encode())

    def requested(self, tenant_id: str) -> str | None:
        """When the last rebuild was asked for."""
        try:
            return (self.requests / tenant_id).read_text(encoding="utf-8").strip() or None
        except OSError:
            return None


def write_private(path: Path, data: bytes) -> None:
    """Replace a file by ``data`` atomically, 0600."""
    import tempfile  # slow to import, and most commands write nothing

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def choose(state: Path | None, *, cluster_named: bool) -> State | None:
    """The standalone run that a command is for, or None for a cluster.

    A folder that is named wins; then a named kubeconfig or context; then a run on the default folder.
    """
    if state is not None:
        return State(state)
    if cluster_named:
        return None
    default = State(default_folder())
    if default.running() is None:
        return None
    if os.environ.get("KUBECONFIG") or (Path.home() / ".kube" / "config").exists():
        note(f"using the running `tenantplane up` ({default.folder}); --context chooses a cluster")
    return default


def running_or_fail(state: State) -> dict[str, Any]:
    """What runs on the folder. Raises CliError when nothing does."""
    running = state.running()
    if running is None:
        raise CliError(f"no `tenantplane up` runs on {state.folder}: start one, or name its folder by --state")
    return running


def standalone_tenant(running: dict[str, Any], name: str) -> dict[str, Any]:
    """One tenant of a running standalone process. Raises CliError with the names that there are."""
    tenants: dict[str, Any] = running.get("tenants") or {}
    if name not in tenants:
        there = ", ".join(sorted(tenants)) or "none"
        raise CliError(f"there is no tenant {name!r} in {running.get('folder')}; there: {there}")
    found: dict[str, Any] = tenants[name]
    return found
