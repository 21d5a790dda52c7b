"""What is to be planned: objects of a file, a folder or standard input, and the Platform that they are compiled for.

Guarantees: an object that the schema refuses is a problem that names file and field, and never half a plan; which
Platform was taken is told. Does not: guess a Platform for a cluster. A plan against other quotas than the operator's
would be wrong without showing it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform, PlatformError, load_platform, parse_platform
from tenantplane_cli.output import CliError
from tenantplane_cli.up.load import FILE_MAX_BYTES, PLATFORM_FILE, Loaded, load, take

if TYPE_CHECKING:
    from tenantplane_cli.kube import Kube

STDIN: Final = "-"
PLATFORM_CONFIG_MAP: Final = "tenantplane-platform"
PLATFORM_KEY: Final = "platform.yaml"
_PLANNED: Final = frozenset({names.KIND_TENANT, names.KIND_API_KEY, names.KIND_MODEL_DEPLOYMENT})


@dataclass(frozen=True)
class ChosenPlatform:
    """A Platform and where it is from, for people."""

    platform: Platform
    origin: str


def read(source: str) -> Loaded:
    """Objects of a file, of all YAML files of a folder, or of standard input (``-``).

    Raises CliError: it cannot be read, or holds nothing of ours.
    """
    path = Path(source)
    if source != STDIN and path.is_dir():
        loaded = load(path)
    else:
        name = "standard input" if source == STDIN else source
        loaded = Loaded()
        for position, document in enumerate(_documents(source, name)):
            take(document, name, f"{name} (document {position + 1})", Loaded(), loaded)
    if not loaded.problems and not any(key.kind in _PLANNED for key in loaded.objects):
        raise CliError(f"{source}: there is no Tenant, APIKey or ModelDeployment of {names.API_VERSION} in it")
    return loaded


def _documents(source: str, name: str) -> list[Any]:
    try:
        if source == STDIN:
            data = sys.stdin.buffer.read(FILE_MAX_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(FILE_MAX_BYTES + 1)
        if len(data) > FILE_MAX_BYTES:
            raise CliError(f"{name}: larger than {FILE_MAX_BYTES} bytes")
        return [document for document in yaml.safe_load_all(data.decode("utf-8")) if document is not None]
    except OSError as error:
        raise CliError(f"{name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"{name}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise CliError(f"{name}: is not YAML: {getattr(error, 'problem', None) or 'malformed'}{where}") from None


def choose_platform(
    given: Path | None, source: str, kube: Kube | None, *, system_namespace: str = names.NAMESPACE_SYSTEM
) -> ChosenPlatform:
    """The Platform to plan for: the file that was named, else the cluster's, else the folder's, else the built-in.

    Raises CliError: the one that counts cannot be read or is not valid.
    """
    if given is not None:
        return _from_file(given)
    if kube is not None:
        return from_cluster(kube, system_namespace)
    beside = Path(source) / PLATFORM_FILE
    if source != STDIN and beside.is_file():
        return _from_file(beside)
    return ChosenPlatform(_built_in(), "built-in defaults, with one plan without a quota; name yours: --platform")


def _built_in() -> Platform:
    """Defaults for who has no Platform file at hand; that indices can be built somewhere is taken for granted."""
    from tenantplane_cli.up.platformfile import default_platform

    platform = default_platform()
    replace = msgspec.structs.replace
    knowledge = replace(platform.shared.knowledge, store="file:///store", directory_root="/documents")
    return replace(platform, shared=replace(platform.shared, knowledge=knowledge))


def _from_file(path: Path) -> ChosenPlatform:
    try:
        return ChosenPlatform(load_platform(path), str(path))
    except PlatformError as error:
        text = str(error)
        raise CliError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def from_cluster(kube: Kube, system_namespace: str) -> ChosenPlatform:
    """The Platform file that the chart installed.

    Raises CliError: it is not there, may not be read, or is not valid.
    """
    from tenantplane_cli.kube import FORBIDDEN, KubeError, NotFound, config_map_path

    where = f"ConfigMap {system_namespace}/{PLATFORM_CONFIG_MAP}"
    try:
        found = kube.get(config_map_path(system_namespace, PLATFORM_CONFIG_MAP))
    except NotFound:
        raise CliError(
            f"there is no {where}: install the chart, name its namespace by --system-namespace, or name a Platform "
            "file by --platform"
        ) from None
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        raise CliError(f"you may not read {where}: name the Platform file by --platform, or use --offline") from None
    text = (found.get("data") or {}).get(PLATFORM_KEY)
    try:
        return ChosenPlatform(parse_platform(yaml.safe_load(text or "")), where)
    except yaml.YAMLError:
        raise CliError(f"{where}: {PLATFORM_KEY} is not YAML") from None
    except PlatformError as error:
        raise CliError(f"{where}: {error}") from None
