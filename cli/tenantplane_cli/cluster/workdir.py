"""Work directories of clusters: private, and never left for long.

Guarantees: 0700; removed by `remove`; a temporary one whose owner died without doing so is removed when the next one is
made. Does not: touch a folder whose owner lives (it holds a lock that the kernel drops with the process), or delete
files that were in a folder before it was given to us.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "tenantplane-cluster-"
_LOCK = "owner.lock"
_locks: dict[Path, int] = {}


def make(wanted: Path | None) -> Path:
    """An empty private folder: `wanted`, or a temporary one. Raises ValueError when `wanted` holds files."""
    if wanted is None:
        base = Path(tempfile.gettempdir())
        sweep(base)
        return _make_temporary(base)
    folder = wanted.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"workdir {folder} is not empty: it is deleted at stop, so name an empty or a new folder")
    folder.chmod(0o700)
    return folder


def remove(folder: Path) -> None:
    """Delete the folder with everything in it. Idempotent."""
    shutil.rmtree(folder, ignore_errors=True)
    lock = _locks.pop(folder, None)
    if lock is not None:
        os.close(lock)


def sweep(base: Path) -> list[Path]:
    """Remove temporary work directories under `base` whose owner is gone; returns them."""
    removed = []
    for lock_path in base.glob(f"{PREFIX}*/{_LOCK}"):
        folder = lock_path.parent
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            continue
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # its owner has just removed it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        except BlockingIOError:
            pass  # its owner lives
        finally:
            os.close(lock)
    return removed


def _make_temporary(base: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    # Locked before it gets the name that a sweep looks for: there is no moment in which it looks abandoned.
    early = folder / f"{_LOCK}.new"
    lock = os.open(early, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    early.rename(folder / _LOCK)
    _locks[folder] = lock
    return folder
