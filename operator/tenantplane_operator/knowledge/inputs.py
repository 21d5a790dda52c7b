"""What a build may read: copies of the tenant's ConfigMaps and of directories below the tenant's own folder.

Guarantees that a directory source lies inside ``<directoryRoot>/<tenantID>`` without a symbolic link on the way or in
it, and that the build reads a copy: the user it runs as needs no right to the originals, and what changes meanwhile
changes nothing. What the files hold is the indexer's to distrust.
"""

import base64
import binascii
import os
import shutil
import stat
from pathlib import Path

from tenantplane_operator.runtime.resources import Manifest


class InputError(ValueError):
    """Raise when a source cannot be read; the message is for the tenant and names no path of the machine."""


def write_config_map(config_map: Manifest, folder: Path) -> None:
    """One file per key of a ConfigMap.

    Raises:
        InputError: a key is no file name; the API server refuses such keys, so this is a forged object.
    """
    folder.mkdir(mode=0o755)
    for section, decode in (("data", lambda text: text.encode("utf-8")), ("binaryData", _binary)):
        for key, value in sorted((config_map.get(section) or {}).items()):
            if "/" in key or key in (".", "..") or not key:
                raise InputError(f"ConfigMap {config_map['metadata']['name']}: key {key!r} is no file name")
            path = folder / key
            path.write_bytes(decode(str(value)))
            path.chmod(0o644)


def _binary(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise InputError("a binaryData entry is not base64") from None


def resolve_directory(root: Path, relative: str) -> Path:
    """The folder of a directory source.

    Args:
        root: the platform's ``shared.knowledge.directoryRoot``; may itself be reached through links.
        relative: ``<tenantID>/<path>``, from the plan.

    Raises:
        InputError: not there, not a folder, or a link or ``..`` on the way.
    """
    parts = relative.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise InputError("the directory's path is malformed")
    current = Path(os.path.realpath(root))
    shown = "/".join(parts[1:])
    for part in parts:
        current = current / part
        try:
            mode = current.lstat().st_mode
        except OSError:
            raise InputError(
                f"directory {shown!r} does not exist below the tenant's folder: `tenantplane ingest` makes it"
            ) from None
        if not stat.S_ISDIR(mode):
            raise InputError(f"directory {shown!r}: symbolic links and files are refused, it must be a real folder")
    return current


def copy_directory(source: Path, target: Path, *, max_files: int, max_bytes: int) -> None:
    """Copy a tree of plain files.

    Args:
        source: resolved folder.
        target: folder to make.
        max_files, max_bytes: bounds of the whole copy; beyond them nothing is worth copying on.

    Raises:
        InputError: a symbolic link or special file is in it, or it is larger than the bounds.
    """
    files, size = 0, 0

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(source, followlinks=False, onerror=fail):
        here = target / Path(folder).relative_to(source)
        here.mkdir(mode=0o755)
        here.chmod(0o755)
        for name in sorted(folders):
            if (Path(folder) / name).is_symlink():
                raise InputError(f"{_shown(source, folder, name)} is a symbolic link: links are refused")
        for name in sorted(names):
            files += 1
            if files > max_files:
                raise InputError(f"more than {max_files} files: split the source into several indices")
            size += _copy_file(
                Path(folder) / name, here / name, shown=_shown(source, folder, name), left=max_bytes - size
            )


def _shown(source: Path, folder: str, name: str) -> str:
    return repr(str(Path(folder).relative_to(source) / name))


def _copy_file(source: Path, target: Path, *, shown: str, left: int) -> int:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise InputError(f"{shown} cannot be read: it may be a symbolic link, and links are refused") from None
    with os.fdopen(descriptor, "rb") as reader:
        state = os.fstat(reader.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise InputError(f"{shown} is no plain file")
        if state.st_size > left:
            raise InputError("the files are larger than operator.indexer.maxTotalBytes: split the source")
        with target.open("xb") as writer:
            shutil.copyfileobj(reader, writer)
    target.chmod(0o644)
    return state.st_size
