"""The private directory between whoever knows the documents and the worker that obeys them: names, marker, privacy."""

import os
import re
import stat
from pathlib import Path
from typing import Final

DOCUMENT_FILE: Final = re.compile(r"(?:t\.[a-z0-9-]+|m\.[a-z0-9-]+\.[a-z0-9-]+)\.json\Z", re.ASCII)
"""Files that are documents; everything else in the directory is ignored."""

SYNCED_MARKER: Final = ".synced"
"""Written by whoever fills the directory once everything that existed at its start is there."""


class ConfigDirectoryError(Exception):
    """Raise when the directory must not be trusted; the message says what to do."""


def check_directory(directory: Path) -> None:
    """Require a private directory.

    Raises:
        ConfigDirectoryError: it is missing, a symlink, somebody else's, or open to others.
    """
    try:
        info = directory.lstat()
    except OSError as error:
        raise ConfigDirectoryError(f"{directory}: {error.strerror}") from None
    if not stat.S_ISDIR(info.st_mode):
        raise ConfigDirectoryError(f"{directory}: is not a directory")
    if info.st_uid not in (0, os.geteuid()):
        raise ConfigDirectoryError(f"{directory}: belongs to another user")
    if info.st_mode & 0o077:
        raise ConfigDirectoryError(f"{directory}: is open to others (mode {info.st_mode & 0o777:o}): chmod 700 it")
