"""Walks the input folders of a build as hostile ground.

Guarantees that nothing outside a source's folder is read, whatever is renamed meanwhile: every component is opened
relative to its open parent with ``O_NOFOLLOW``, and what was opened is what is checked. Symbolic links, special files
and files over the limits end the build with a message that names them; hidden entries are skipped. The order is the
order of the raw names, so that it is the same everywhere.

The one symbolic link understood, and never followed, is a kubelet's ``..data`` in a ``configMap`` source: its target
must be a plain name in the same folder, which is then opened like any other.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenantplane_api.runtime.indexjob import BuildLimits, JobSource
from tenantplane_dataplane.knowledge.errors import BadInputError
from tenantplane_dataplane.knowledge.identity import distinguished, document_id

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Folders on the way need only be passable, not readable.
_ANCESTOR: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KUBELET_DATA: Final = b"..data"
_ENTRIES_PER_FILE: Final = 8
_READ_SIZE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that was read: its safe id, its lower-case ending without dot, its bytes."""

    document: str
    source: str
    name: str
    suffix: str
    data: bytes


@dataclass(slots=True)
class WalkReport:
    """What was passed over, as (document id, reason), and how much was read."""

    files: int = 0
    total_bytes: int = 0
    entries: int = 0
    skipped: list[tuple[str, str]] | None = None

    def skip(self, document: str, reason: str) -> None:
        """Remember a file that will not be in the index."""
        if self.skipped is None:
            self.skipped = []
        self.skipped.append((document, reason))


class SourceWalker:
    """Reads the supported files of several sources under one set of limits.

    ``suffixes`` are the endings to read; in a ``configMap`` source a key without an ending is read as text.
    """

    def __init__(self, limits: BuildLimits, suffixes: frozenset[str]) -> None:
        self._limits = limits
        self._suffixes = suffixes
        self._ids: set[str] = set()
        self.report = WalkReport()

    def walk(self, source: JobSource, root: int) -> Iterator[SourceFile]:
        """Files of one source, in order; ``root`` is its open folder, from ``open_root``.

        Raises:
            BadInputError: something in the folder is refused.
            OSError: reading failed for a reason that may pass.
        """
        yield from self._folder(source, root, ())

    @staticmethod
    def open_root(source: JobSource) -> int:
        """Open a source's folder; the descriptor is the caller's to close.

        Apart from ``walk``, so that rights can be dropped in between: the folders above a source need not be passable
        for whoever reads it.

        Raises:
            BadInputError: it is missing, or a symbolic link stands in its path.
        """
        *ancestors, last = [part for part in source.path.split("/") if part] or ["."]
        parent = os.open("/", _ANCESTOR)
        try:
            # Component by component: O_NOFOLLOW alone guards only the last one.
            for part in ancestors:
                child = os.open(part, _ANCESTOR, dir_fd=parent)
                os.close(parent)
                parent = child
            root = os.open(last, _FOLDER, dir_fd=parent)
        except OSError as error:
            raise _refusal(error, f"sources[{source.name}].path") from error
        finally:
            os.close(parent)
        if source.kind != "configMap":
            return root
        try:
            target = os.readlink(_KUBELET_DATA, dir_fd=root)
        except OSError:
            return root  # a plain folder, copied by the operator
        try:
            if b"/" in target or not target.startswith(b"..") or target == b"..":
                raise BadInputError("symlink_refused", f"{source.name}/..data: does not point to a folder beside it")
            return os.open(target, _FOLDER, dir_fd=root)
        except OSError as error:
            raise _refusal(error, f"{source.name}/..data") from error
        finally:
            os.close(root)

    def _folder(self, source: JobSource, folder: int, parts: tuple[bytes, ...]) -> Iterator[SourceFile]:
        if len(parts) > self._limits.max_depth:
            raise BadInputError(
                "too_deep", f"{_shown(source, parts)}: folders nest deeper than {self._limits.max_depth}"
            )
        for name in self._names(folder):
            path = (*parts, name)
            if name.startswith(b"."):
                self.report.skip(_shown(source, path), "hidden")
                continue
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                raise BadInputError("symlink_refused", f"{_shown(source, path)}: symbolic links are not read")
            if stat.S_ISDIR(mode):
                yield from self._subfolder(source, folder, path)
            elif not stat.S_ISREG(mode):
                raise BadInputError("special_file_refused", f"{_shown(source, path)}: is not a regular file")
            elif (suffix := self._suffix(source, name)) is None:
                self.report.skip(_shown(source, path), "unsupported type")
            else:
                yield self._file(source, folder, path, suffix)

    def _names(self, folder: int) -> list[bytes]:
        names: list[bytes] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self.report.entries += 1
                if self.report.entries > self._limits.max_files * _ENTRIES_PER_FILE:
                    count = self.report.entries - 1
                    raise BadInputError("too_many_files", f"more than {count} entries: split the sources")
                names.append(os.fsencode(entry.name))
        return sorted(names)

    def _subfolder(self, source: JobSource, folder: int, path: tuple[bytes, ...]) -> Iterator[SourceFile]:
        try:
            child = os.open(path[-1], _FOLDER, dir_fd=folder)
        except OSError as error:
            raise _refusal(error, _shown(source, path)) from error
        try:
            yield from self._folder(source, child, path)
        finally:
            os.close(child)

    def _suffix(self, source: JobSource, name: bytes) -> str | None:
        _, dot, ending = name.rpartition(b".")
        if not dot:
            return "txt" if source.kind == "configMap" else None
        suffix = ending.decode("ascii", "replace").lower()
        return suffix if suffix in self._suffixes else None

    def _file(self, source: JobSource, folder: int, path: tuple[bytes, ...], suffix: str) -> SourceFile:
        shown = _shown(source, path)
        if self.report.files >= self._limits.max_files:
            raise BadInputError(
                "too_many_files", f"{shown}: is one more than limits.maxFiles = {self._limits.max_files}"
            )
        try:
            descriptor = os.open(path[-1], _FILE, dir_fd=folder)
        except OSError as error:
            raise _refusal(error, shown) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadInputError("special_file_refused", f"{shown}: is not a regular file")
            data = self._read(descriptor, shown)
        finally:
            os.close(descriptor)
        self.report.files += 1
        self.report.total_bytes += len(data)
        identifier = shown if shown not in self._ids else distinguished(shown, b"/".join(path))
        self._ids.add(identifier)
        return SourceFile(identifier, source.name, os.fsdecode(path[-1]), suffix, data)

    def _read(self, descriptor: int, shown: str) -> bytes:
        # Read, not stat: a file that grows meanwhile must not pass.
        room = min(self._limits.max_file_bytes, self._limits.max_total_bytes - self.report.total_bytes)
        parts: list[bytes] = []
        size = 0
        while block := os.read(descriptor, min(_READ_SIZE, room + 1 - size)):
            parts.append(block)
            size += len(block)
            if size > self._limits.max_file_bytes:
                raise BadInputError("file_too_large", f"{shown}: is larger than {self._limits.max_file_bytes} bytes")
            if size > room:
                raise BadInputError(
                    "input_too_large", f"{shown}: all files are together over {self._limits.max_total_bytes} bytes"
                )
        return b"".join(parts)


def _shown(source: JobSource, path: tuple[bytes, ...]) -> str:
    return document_id(source.name, path)


def _refusal(error: OSError, shown: str) -> Exception:
    """What opening told: a link, a wrong type or nothing at all is the input's fault, the rest may pass."""
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return BadInputError("symlink_refused", f"{shown}: symbolic links are not read")
    if error.errno == errno.ENOTDIR:
        return BadInputError("symlink_refused", f"{shown}: a symbolic link or a file is in the place of a folder")
    if error.errno == errno.ENOENT:
        return BadInputError("source_not_found", f"{shown}: does not exist")
    if error.errno == errno.EACCES:
        return BadInputError("permission_denied", f"{shown}: may not be read by the build")
    if error.errno == errno.ENXIO:
        return BadInputError("special_file_refused", f"{shown}: is not a regular file")
    return error
