"""Secrets in, files out.

Guarantees: a file is replaced as a whole (written beside, then renamed), mode 0600; nothing is written when nothing
changed; a Secret whose label and name disagree becomes a file that no reader accepts, so that its tenant is answered
503 instead of being served by a document that may be another's. Contents are verified by whoever reads the files.
"""

import base64
import binascii
import contextlib
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_dataplane.config.directory import DOCUMENT_FILE, SYNCED_MARKER, check_directory
from tenantplane_dataplane.observability.logs import get_logger

INVALID: Final = b'{"invalid":"see the log of the watcher"}'
_TEMPORARY: Final = ".new-"
_log = get_logger("watcher")


def document_of(secret: Mapping[str, Any]) -> bytes:
    """The document in a runtime Secret, or ``INVALID`` when the Secret contradicts itself."""
    metadata = secret["metadata"]
    name, labels = metadata["name"], metadata.get("labels") or {}
    problem = None
    data: Any
    if secret.get("type") != names.SECRET_TYPE_RUNTIME:
        problem = "it is of another type"
    elif name.startswith("t.") and names.tenant_document_name(labels.get(names.LABEL_TENANT, "")) != name:
        problem = "its name and its label disagree"
    data = (secret.get("data") or {}).get(names.DOCUMENT_KEY)
    if problem is None and data is None:
        problem = f"it has no {names.DOCUMENT_KEY}"
    if problem is None:
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, TypeError, ValueError):
            problem = "its data is not base64"
    _log.error("a runtime Secret is refused", extra={"fields": {"secret": name, "problem": problem}})
    return INVALID


class Mirror:
    """The directory as a copy of the Secrets. Made once; removes what an interrupted write left behind."""

    def __init__(self, directory: Path) -> None:
        check_directory(directory)
        self._directory = directory
        for leftover in directory.glob(f"{_TEMPORARY}*"):
            leftover.unlink(missing_ok=True)

    def put(self, secret: Mapping[str, Any]) -> str | None:
        """Write one Secret; returns its name, or ``None`` when its name is none of ours."""
        name = str(secret["metadata"]["name"])
        file_name = f"{name}.json"
        if not DOCUMENT_FILE.match(file_name):
            _log.error("a runtime Secret has a name that none of ours has", extra={"fields": {"secret": name}})
            return None
        self._write(file_name, document_of(secret))
        return name

    def remove(self, name: str) -> None:
        """The Secret is gone."""
        if DOCUMENT_FILE.match(f"{name}.json"):
            (self._directory / f"{name}.json").unlink(missing_ok=True)

    def prune(self, existing: Container[str]) -> int:
        """Remove documents whose Secrets are not among ``existing``, which must be a complete list; how many."""
        gone = [
            path
            for path in self._directory.iterdir()
            if DOCUMENT_FILE.match(path.name) and path.name.removesuffix(".json") not in existing
        ]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def mark_synced(self) -> None:
        """Say that everything that exists is there."""
        self._write(SYNCED_MARKER, b"")

    def _write(self, file_name: str, data: bytes) -> None:
        path = self._directory / file_name
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == data:
                return
        temporary = self._directory / f"{_TEMPORARY}{file_name}"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
