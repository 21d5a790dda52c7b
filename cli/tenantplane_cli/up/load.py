"""A folder of YAML as the API server would have taken it: valid objects, and problems that name file and field.

Guarantees: one invalid object never hides another; on a reload an object that became invalid stays in force as it last
was, as it would in a cluster, where the API server refuses the change; unknown fields are refused, as `kubectl apply`
refuses them. Does not: follow symbolic links out of the folder, or read ConfigMaps and Secrets it does not need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from tenantplane_api.crd.apikey import APIKeySpec
from tenantplane_api.crd.modeldeployment import ModelDeploymentSpec
from tenantplane_api.crd.schema import structural
from tenantplane_api.crd.tenant import TenantSpec
from tenantplane_api.runtime import names
from tenantplane_operator.apikey.parse import parse_api_key
from tenantplane_operator.modeldeployment.parse import parse_model
from tenantplane_operator.tenant.concern import Refused
from tenantplane_operator.tenant.parse import parse_tenant

PLATFORM_FILE: Final = "platform.yaml"
FILE_MAX_BYTES: Final = 4 << 20
FILES_MAX: Final = 5000
_SUFFIXES: Final = (".yaml", ".yml")
_NOT_ENTERED: Final = frozenset({"documents", "node_modules", "__pycache__"})
_OURS: Final = {
    names.KIND_TENANT: (structural(TenantSpec), parse_tenant),
    names.KIND_MODEL_DEPLOYMENT: (structural(ModelDeploymentSpec), parse_model),
    names.KIND_API_KEY: (structural(APIKeySpec), parse_api_key),
}
_CORE: Final = frozenset({"ConfigMap", "Secret", "Namespace"})
_WITHOUT_NAMESPACE: Final = frozenset({names.KIND_TENANT, "Namespace"})


class Key(NamedTuple):
    """Which object; ``namespace`` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True)
class Problem:
    """What is wrong, where. ``kept``: an earlier version of the object stays in force."""

    where: str
    message: str
    kept: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (" (the previous version stays in force)" if self.kept else "")


@dataclass
class Loaded:
    """Objects by key, problems, and what was passed over because it is no Kubernetes object."""

    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    origin: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind, by name."""
        return [self.objects[key] for key in sorted(self.objects) if key.kind == kind]


def load(folder: Path, previous: Loaded | None = None) -> Loaded:
    """Read the folder.

    Args:
        folder: where the YAML is; sub-folders are read too, but for those called ``documents`` and hidden ones.
        previous: the outcome of the last time, for what stays in force.
    """
    out = Loaded()
    previous = previous or Loaded()
    for path in _files(folder, out):
        shown = str(path.relative_to(folder))
        try:
            documents = _documents(path)
        except (OSError, ValueError, yaml.YAMLError) as error:
            _keep_file(shown, f"is not YAML: {_yaml_message(error)}", previous, out)
            continue
        for position, document in enumerate(documents):
            where = shown if len(documents) == 1 else f"{shown} (document {position + 1})"
            take(document, shown, where, previous, out)
    return out


def _files(folder: Path, out: Loaded) -> Iterator[Path]:
    found: list[Path] = []
    for root, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_ENTERED)
        found += [
            Path(root) / name
            for name in files
            if name.endswith(_SUFFIXES)
            and not name.startswith(".")
            and not (Path(root) == folder and name == PLATFORM_FILE)
        ]
    if len(found) > FILES_MAX:
        out.problems.append(Problem(str(folder), f"holds more than {FILES_MAX} YAML files: name a smaller folder"))
    yield from sorted(found)[:FILES_MAX]


def _documents(path: Path) -> list[Any]:
    if path.is_symlink() or not path.is_file():
        raise ValueError("symbolic links and special files are not read")
    if path.stat().st_size > FILE_MAX_BYTES:
        raise ValueError(f"larger than {FILE_MAX_BYTES} bytes")
    with path.open(encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document is not None]


def take(document: Any, file: str, where: str, previous: Loaded, out: Loaded) -> None:
    """Put one YAML document into ``out``, as an object or as a problem.

    Args:
        document: what the YAML says.
        file: the file it is from.
        where: file and position, for people.
        previous: the outcome of the last time, for what stays in force.
        out: what is added to.
    """
    if not isinstance(document, dict) or not {"apiVersion", "kind", "metadata", "spec"} & document.keys():
        out.ignored.append(f"{where}: no Kubernetes object")
        return
    if document.get("kind") == "List" and isinstance(document.get("items"), list):
        for item in document["items"]:
            take(item, file, where, previous, out)
        return
    key = _key(document)
    if isinstance(key, str):
        out.problems.append(Problem(where, key))
        return
    if key in out.objects:
        out.problems.append(Problem(where, f"{key} is there twice, in {out.origin[key]} too: keep one"))
        return
    wrong = _wrong(key, document, previous)
    if wrong == "":
        out.ignored.append(f"{where}: {key}: not for a standalone run")
        return
    if wrong is None:
        out.objects[key], out.origin[key] = document, file
        return
    kept = key in previous.objects
    if kept:
        out.objects[key], out.origin[key] = previous.objects[key], file
    out.problems.append(Problem(f"{where}: {key}", wrong, kept))


def _key(document: dict[str, Any]) -> Key | str:
    """Which object, or what keeps it from being one."""
    kind, meta = document.get("kind"), document.get("metadata")
    if not isinstance(kind, str) or not isinstance(document.get("apiVersion"), str):
        return "apiVersion and kind are needed"
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        return f"{kind}: metadata.name is needed"
    namespace = meta.get("namespace", "")
    if kind in _WITHOUT_NAMESPACE:
        return Key(kind, "", meta["name"])
    if (kind in _OURS or kind in _CORE) and (not isinstance(namespace, str) or not namespace):
        return f"{kind} {meta['name']}: metadata.namespace is needed"
    return Key(kind, str(namespace), meta["name"])


def _wrong(key: Key, document: dict[str, Any], previous: Loaded) -> str | None:
    """What is wrong with an object; ``None`` for nothing, empty for a kind that means nothing here."""
    if key.kind in _CORE and document["apiVersion"] == "v1":
        return None
    if key.kind not in _OURS:
        return ""
    if document["apiVersion"] != names.API_VERSION:
        return f"apiVersion: must be {names.API_VERSION}"
    schema, parse = _OURS[key.kind]
    unknown = list(unknown_fields(document.get("spec") or {}, schema, "spec"))
    if unknown:
        return f"{unknown[0]}: there is no such field"
    try:
        parse(document)
    except Refused as error:
        return error.concern.message
    before = previous.objects.get(key)
    identity = None if before is None else before["spec"].get("tenantID")
    if key.kind == names.KIND_TENANT and identity not in (None, document["spec"].get("tenantID")):
        return "spec.tenantID: cannot be changed: another customer needs another Tenant"
    return None


def unknown_fields(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Paths in ``value`` that the schema does not have."""
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name in schema["properties"]:
                yield from unknown_fields(inner, schema["properties"][name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(value, list) and "items" in schema:
        for position, inner in enumerate(value):
            yield from unknown_fields(inner, schema["items"], f"{path}[{position}]")


def _keep_file(file: str, message: str, previous: Loaded, out: Loaded) -> None:
    """A file that cannot be read, perhaps because it is just being written: what it held stays."""
    kept = [key for key, origin in previous.origin.items() if origin == file and key not in out.objects]
    for key in kept:
        out.objects[key], out.origin[key] = previous.objects[key], file
    out.problems.append(Problem(file, message, bool(kept)))


def _yaml_message(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {text}" if mark is not None else str(text)
