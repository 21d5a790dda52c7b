"""Copies a folder of documents into a directory source: what the indexer will be given, and nothing else.

Guarantees: only regular files are read, each opened without following links, through descriptors of its parent, so that
nothing outside the folder can be brought in by renaming; links, hidden and unsupported files are reported and not
copied; a file appears in the target whole or not at all; files that are no longer in the folder are removed; what did
not change is not written. Does not guarantee that two runs at the same time on one target leave either's state.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tenantplane_cli.output import CliError, clean

SUFFIXES: Final = frozenset({".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml"})
"""Endings that the indexer reads; a test compares them with the indexer's."""
DEPTH_MAX: Final = 16
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOCK: Final = 1 << 20
_TEMPORARY: Final = ".tenantplane-new-"


@dataclass(frozen=True)
class Bounds:
    """What one folder may hold; bytes."""

    files: int = 20_000
    file_bytes: int = 10 << 20
    total_bytes: int = 1 << 30


@dataclass
class Copied:
    """What happened. ``skipped`` holds (relative path, reason)."""

    files: int = 0
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    bytes: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """One file to copy: its path below the folder, as bytes, and its size when it was listed."""

    parts: tuple[bytes, ...]
    size: int


def scan(folder: Path, bounds: Bounds, report: Copied) -> list[Found]:
    """The files of ``folder`` to copy, in order.

    Raises CliError when the folder is not there or is over a bound: a partial copy would look complete.
    """
    root = _open_folder(folder)
    found: list[Found] = []
    total = 0
    try:
        for item in _walk(root, (), report):
            total += item.size
            if item.size > bounds.file_bytes:
                raise CliError(
                    f"{shown(item.parts)} is larger than {bounds.file_bytes} bytes: leave it out or split it"
                )
            if len(found) >= bounds.files:
                raise CliError(f"{folder} holds more than {bounds.files} documents: split it over several indices")
            if total > bounds.total_bytes:
                raise CliError(f"{folder} holds more than {bounds.total_bytes} bytes: split it over several indices")
            found.append(item)
    finally:
        os.close(root)
    return found


def copy(
    folder: Path, target: Path, *, bounds: Bounds, report: Copied, on_file: Callable[[], None] = lambda: None
) -> None:
    """Make ``target`` hold exactly the documents of ``folder``.

    Args:
        folder: where the documents are.
        target: folder of the source; made when it is not there. Its parent's permission bits are kept for what is made.
        bounds: limits, checked again while reading: a file may grow meanwhile.
        report: filled in.
        on_file: called after each file.

    Raises CliError.
    """
    found = scan(folder, bounds, report)
    source_root, target_root = folder.resolve(), _resolved(target)
    if target_root == source_root or target_root in source_root.parents or source_root in target_root.parents:
        raise CliError(f"{folder} and the index's own folder lie inside one another: name the folder you edit")
    mode = _make_target(target)
    source, destination = _open_folder(folder), _open_folder(target)
    try:
        _sweep(destination)
        for item in found:
            _copy_one(source, destination, item, bounds, report, mode)
            report.files += 1
            on_file()
        report.removed = _remove_others(destination, (), {item.parts for item in found})
    except OSError as error:
        raise CliError(f"{target}: {error.strerror} ({clean(str(error.filename or ''))})") from None
    finally:
        os.close(source)
        os.close(destination)


def shown(parts: tuple[bytes, ...]) -> str:
    """A path for people, whatever bytes it is made of."""
    text = b"/".join(parts).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _resolved(target: Path) -> Path:
    return target.resolve(strict=False)


def _open_folder(folder: Path) -> int:
    try:
        return os.open(folder, _FOLDER)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and folder.is_symlink():
            raise CliError(f"{folder} is a symbolic link: name the folder itself") from None
        raise CliError(f"{folder}: {error.strerror}: name a folder of documents that you may read") from None


def _walk(folder: int, parts: tuple[bytes, ...], report: Copied) -> Iterator[Found]:
    if len(parts) > DEPTH_MAX - 1:
        raise CliError(f"{shown(parts)}: folders nest deeper than {DEPTH_MAX - 1}")
    with os.scandir(folder) as entries:
        listed = sorted(os.fsencode(entry.name) for entry in entries)
    for name in listed:
        here = (*parts, name)
        if name.startswith(b"."):
            report.skipped.append((shown(here), "hidden"))
            continue
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(facts.st_mode):
            report.skipped.append((shown(here), "symbolic link"))
        elif stat.S_ISDIR(facts.st_mode):
            child = os.open(name, _FOLDER, dir_fd=folder)
            try:
                yield from _walk(child, here, report)
            finally:
                os.close(child)
        elif not stat.S_ISREG(facts.st_mode):
            raise CliError(f"{shown(here)} is no regular file: remove it from the folder")
        elif _suffix(name) not in SUFFIXES:
            report.skipped.append((shown(here), "unsupported type"))
        else:
            yield Found(here, facts.st_size)


def _suffix(name: bytes) -> str:
    _, dot, ending = name.rpartition(b".")
    return "." + ending.decode("ascii", "replace").lower() if dot else ""


def _make_target(target: Path) -> int:
    """Make the folder below what exists; returns the permission bits for what is made in it."""
    existing = target
    while not existing.exists() and not existing.is_symlink():
        existing = existing.parent
    mode = stat.S_IMODE(existing.stat().st_mode) & 0o777
    missing = [path for path in (target, *target.parents) if path != existing and existing in path.parents]
    try:
        for path in reversed(missing):
            path.mkdir()
            made = os.open(path, _FOLDER)
            try:
                _set_mode(made, mode)
            finally:
                os.close(made)
    except OSError as error:
        raise CliError(f"{target} cannot be made: {error.strerror}; who may write the platform's documents?") from None
    return mode


def _set_mode(folder: int, mode: int) -> None:
    """The bits, and the set-group-id bit as the parent handed it down."""
    os.fchmod(folder, mode | (os.fstat(folder).st_mode & stat.S_ISGID))


def _copy_one(source: int, target: int, item: Found, bounds: Bounds, report: Copied, mode: int) -> None:
    with contextlib.ExitStack() as stack:
        folder = _descend(source, item.parts[:-1], stack)
        goal = _descend(target, item.parts[:-1], stack, make=mode)
        name = item.parts[-1]
        reading = os.open(name, _FILE, dir_fd=folder)
        stack.callback(os.close, reading)
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise CliError(f"{shown(item.parts)} is no regular file any more")
        if _same(reading, goal, name):
            report.unchanged += 1
            report.bytes += item.size
            return
        temporary = os.fsencode(_TEMPORARY + hashlib.sha256(name).hexdigest()[:24])
        writing = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=goal
        )
        try:
            size = _pump(reading, writing, bounds.file_bytes, item)
            os.fchmod(writing, mode & 0o666)
            os.fsync(writing)
            if _is_folder(goal, name):
                _remove_tree(goal, name)
            os.rename(temporary, name, src_dir_fd=goal, dst_dir_fd=goal)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=goal)
            raise
        finally:
            os.close(writing)
        report.written += 1
        report.bytes += size


def _descend(root: int, parts: tuple[bytes, ...], stack: contextlib.ExitStack, *, make: int | None = None) -> int:
    """Descriptor of a folder below ``root``, component by component, links refused."""
    current = root
    for part in parts:
        try:
            child = os.open(part, _FOLDER, dir_fd=current)
        except OSError as error:
            if make is None or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=current)  # a file or a link where the folder belongs
            os.mkdir(part, dir_fd=current)
            child = os.open(part, _FOLDER, dir_fd=current)
            _set_mode(child, make)
        stack.callback(os.close, child)
        current = child
    return current


def _same(reading: int, goal: int, name: bytes) -> bool:
    """True when the target has the same bytes already; leaves ``reading`` at its beginning."""
    try:
        other = os.open(name, _FILE, dir_fd=goal)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(other).st_mode) or os.fstat(other).st_size != os.fstat(reading).st_size:
            return False
        while True:
            block = os.read(reading, _BLOCK)
            if block != os.read(other, _BLOCK):
                return False
            if not block:
                return True
    finally:
        os.close(other)
        os.lseek(reading, 0, os.SEEK_SET)


def _pump(reading: int, writing: int, bound: int, item: Found) -> int:
    size = 0
    while block := os.read(reading, _BLOCK):
        size += len(block)
        if size > bound:
            raise CliError(f"{shown(item.parts)} is larger than {bound} bytes: leave it out or split it")
        view = memoryview(block)
        while view:
            view = view[os.write(writing, view) :]
    return size


def _is_folder(parent: int, name: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _sweep(folder: int) -> None:
    """Remove half-written files of a run that was killed."""
    for _, folders, files, descriptor in os.fwalk(b".", dir_fd=folder, follow_symlinks=False):
        del folders
        for name in files:
            if name.startswith(os.fsencode(_TEMPORARY)):
                os.unlink(name, dir_fd=descriptor)


def _remove_others(folder: int, parts: tuple[bytes, ...], wanted: set[tuple[bytes, ...]]) -> int:
    """Remove every file that is not wanted, and folders that are then empty; returns the number of files."""
    removed = 0
    with os.scandir(folder) as entries:
        listed = [os.fsencode(entry.name) for entry in entries]
    for name in listed:
        here = (*parts, name)
        if _is_folder(folder, name):
            child = os.open(name, _FOLDER, dir_fd=folder)
            try:
                removed += _remove_others(child, here, wanted)
                with os.scandir(child) as rest:
                    empty = next(rest, None) is None
            finally:
                os.close(child)
            if empty:
                os.rmdir(name, dir_fd=folder)
        elif here not in wanted:
            os.unlink(name, dir_fd=folder)
            removed += 1
    return removed


def _remove_tree(parent: int, name: bytes) -> None:
    shutil.rmtree(os.fsdecode(name), dir_fd=parent)
