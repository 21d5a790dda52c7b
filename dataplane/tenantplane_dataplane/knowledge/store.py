"""The store of generations: ``<root>/<tenantID>/<index>/<generation>/``, immutable, verified before it is believed.

Guarantees that a published folder is complete (files, then the manifest, then one atomic rename), that publishing the
same content twice is one generation, and that ``open_verified`` returns only a folder whose manifest is the one the
pointer names, of that tenant and index, with every file's checksum recomputed. It does not guard against somebody who
may write into the store itself: only finalise may.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote, unquote, urlsplit

from tenantplane_api.runtime import limits
from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.indexjob import whole
from tenantplane_api.runtime.manifest import (
    GENERATION_PATTERN,
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    FileEntry,
    IndexManifest,
    ManifestError,
    encode_manifest,
    manifest_sha256,
    verify_manifest,
)
from tenantplane_api.runtime.names import TenantID
from tenantplane_dataplane.knowledge.errors import IndexUnavailable

_READ_SIZE: Final = 1 << 20
_TEMPORARY: Final = ".build-"
_DAMAGED: Final = "-damaged"
_LEFTOVER_SECONDS: Final = 24 * 3600
_TENANT_ID: Final = re.compile(whole(limits.TENANT_ID_PATTERN))
_INDEX: Final = re.compile(whole(limits.DNS_LABEL_PATTERN))
_GENERATION: Final = re.compile(GENERATION_PATTERN)


@dataclass(frozen=True, slots=True)
class VerifiedGeneration:
    """A folder whose files were all checked against its manifest."""

    folder: Path
    manifest: IndexManifest


@dataclass(frozen=True, slots=True)
class Published:
    """What finalise reports: the manifest as it stands in the store, its checksum, the folder's URL."""

    manifest: IndexManifest
    manifest_sha256: str
    prefix: str


class FileStore:
    """A ``file://`` store: one machine, or one volume that operator and data plane share under the same path."""

    def __init__(self, url: str) -> None:
        """Take the root's URL.

        Raises:
            ValueError: it is not an absolute ``file:///`` URL.
        """
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.scheme != "file" or parts.netloc or not path.startswith("/") or parts.query or "\0" in path:
            raise ValueError("store: must be a file:///absolute/path URL")
        self.root: Final = Path(path)

    def prefix(self, tenant_id: TenantID, index: str, generation: str) -> str:
        """URL of a generation's folder."""
        return "file://" + quote(str(self._folder(tenant_id, index, generation)))

    def open_verified(self, tenant_id: TenantID, pointer: IndexPointer) -> VerifiedGeneration:
        """Verify the generation that a tenant's pointer names; reads every byte of it once; blocking.

        Raises:
            IndexUnavailable: it is absent, damaged, or belongs to somebody else.
        """
        folder = self._folder(tenant_id, pointer.name, pointer.generation)
        if pointer.prefix != self.prefix(tenant_id, pointer.name, pointer.generation):
            raise IndexUnavailable(f"index {pointer.name}: the pointer's prefix is not this tenant's folder")
        try:
            data = _read_manifest(folder)
            manifest = verify_manifest(
                data,
                tenant_id=tenant_id,
                index=pointer.name,
                generation=pointer.generation,
                sha256=pointer.manifest_sha256,
            )
            _verify_files(folder, manifest)
        except (OSError, ManifestError) as error:
            raise IndexUnavailable(f"index {pointer.name}: {error}") from error
        if manifest.embedder != pointer.embedder or manifest.dimension != pointer.dimension:
            raise IndexUnavailable(f"index {pointer.name}: embedder or dimension are not what the pointer names")
        return VerifiedGeneration(folder, manifest)

    def publish(
        self, tenant_id: TenantID, index: str, build: Callable[[Path], Callable[[dict[str, FileEntry]], IndexManifest]]
    ) -> Published:
        """Publish a generation.

        Args:
            tenant_id, index: whose it is.
            build: writes the files into the folder it is given and returns a function that makes the sealed manifest
                from their checksums.

        Raises:
            OSError: the store cannot be written right now.
        """
        self._folder(tenant_id, index, "0" * 16)
        parent = self.root / tenant_id / index
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
        try:
            make_manifest = build(temporary)
            manifest = make_manifest({path.name: _seal_file(path) for path in sorted(temporary.iterdir())})
            data = encode_manifest(manifest)
            with (temporary / MANIFEST_NAME).open("xb") as file:
                file.write(data)
            _seal_file(temporary / MANIFEST_NAME)
            _sync_folder(temporary)
            # Readable by the data plane, which may be another user; writable by nobody.
            temporary.chmod(0o755)
            return self._settle(temporary, parent / manifest.generation, manifest, data)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _settle(self, temporary: Path, folder: Path, manifest: IndexManifest, data: bytes) -> Published:
        existing = self._existing(folder, manifest)
        if existing is None:
            if folder.exists():
                # Present but damaged: moved aside, because a folder cannot be renamed over one that is not empty.
                folder.rename(temporary.with_name(temporary.name + _DAMAGED))
            try:
                temporary.rename(folder)
            except OSError:
                existing = self._existing(folder, manifest)  # another build of the same content was faster
                if existing is None:
                    raise
            _sync_folder(folder.parent)
            _remove_leftovers(folder.parent, keep=temporary)
        if existing is not None:
            manifest, data = existing
        prefix = self.prefix(manifest.tenant_id, manifest.index, manifest.generation)
        return Published(manifest, manifest_sha256(data), prefix)

    def _existing(self, folder: Path, manifest: IndexManifest) -> tuple[IndexManifest, bytes] | None:
        with contextlib.suppress(OSError, ManifestError):
            data = _read_manifest(folder)
            found = verify_manifest(
                data, tenant_id=manifest.tenant_id, index=manifest.index, generation=manifest.generation
            )
            _verify_files(folder, found)
            return found, data
        return None

    def _folder(self, tenant_id: TenantID, index: str, generation: str) -> Path:
        """The only place where a path is made of names: each must be one safe component."""
        if not _TENANT_ID.match(tenant_id) or not _INDEX.match(index) or len(index) > limits.NAME_MAX:
            raise IndexUnavailable("tenantID or index: is not a valid name")
        if not _GENERATION.match(generation):
            raise IndexUnavailable("generation: is not a valid name")
        return self.root / tenant_id / index / generation


def _read_manifest(folder: Path) -> bytes:
    with _open(folder / MANIFEST_NAME) as file:
        return file.read(MANIFEST_MAX_BYTES + 1)


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _verify_files(folder: Path, manifest: IndexManifest) -> None:
    for name, entry in manifest.files.items():
        if _entry(folder / name) != entry:
            raise ManifestError(f"files.{name}: size or checksum are not what the manifest says")


def _entry(path: Path) -> FileEntry:
    digest = hashlib.sha256()
    size = 0
    with _open(path) as file:
        while block := file.read(_READ_SIZE):
            digest.update(block)
            size += len(block)
    return FileEntry(sha256=digest.hexdigest(), bytes=size)


def _seal_file(path: Path) -> FileEntry:
    with _open(path) as file:
        os.fsync(file.fileno())
    path.chmod(0o444)
    return _entry(path)


def _remove_leftovers(parent: Path, *, keep: Path) -> None:
    """Remove damaged generations, and what builds that were killed left behind more than a day ago."""
    for folder in parent.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            is_old = time.time() - folder.stat().st_mtime > _LEFTOVER_SECONDS
            if folder != keep and (is_old or folder.name.endswith(_DAMAGED)):
                shutil.rmtree(folder, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
