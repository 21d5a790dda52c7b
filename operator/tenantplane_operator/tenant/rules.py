"""What the schema's CEL rules say about a Tenant, said again in Python.

The API server enforces them at apply; standalone mode has no API server, and an object stored before a rule existed
is not re-validated. Each problem names its field. Rules about *change* (immutability) are not here: they need the old
object, which only the API server has.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tenantplane_api.crd.common import Subject
from tenantplane_api.crd.tenant import TenantSpec
from tenantplane_api.runtime import limits, names
from tenantplane_api.runtime.indexjob import whole

_KEY: Final = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_VALUE: Final = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z")
_QUOTA: Final = re.compile(whole(limits.QUOTA_KEY_PATTERN))


def tenant_problems(spec: TenantSpec) -> list[str]:
    """Everything that the schema's rules would refuse, as ``path: what to do``; empty when valid."""
    return [*_namespace(spec), *_access(spec), *_quota(spec), *_models(spec), *_keys(spec), *_knowledge(spec)]


def _twice(path: str, field: str, values: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    problems = []
    for position, value in enumerate(values):
        if value in seen:
            problems.append(f"{path}[{position}].{field}: {value!r} is listed twice")
        seen.add(value)
    return problems


def _namespace(spec: TenantSpec) -> list[str]:
    if spec.namespace is None:
        return []
    parts: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("labels", spec.namespace.labels),
        ("annotations", spec.namespace.annotations),
    )
    problems = []
    for part, entries in parts:
        for key, value in entries.items():
            where = f"spec.namespace.{part}"
            if not _KEY.match(key):
                problems.append(f"{where}: the key {key!r} is malformed")
            elif names.is_reserved_label_key(key):
                problems.append(f"{where}: the key {key!r} belongs to a reserved domain: choose one of your own")
            elif part == "labels" and not _VALUE.match(value):
                problems.append(f"{where}: the value of {key!r} is malformed")
    return problems


def _access(spec: TenantSpec) -> list[str]:
    if spec.access is None:
        return []
    problems = []
    groups: tuple[tuple[str, Sequence[Subject]], ...] = (
        ("admins", spec.access.admins),
        ("editors", spec.access.editors),
        ("viewers", spec.access.viewers),
    )
    for role, subjects in groups:
        for position, subject in enumerate(subjects):
            where = f"spec.access.{role}[{position}]"
            if (subject.kind == "ServiceAccount") != (subject.namespace is not None):
                problems.append(
                    f"{where}.namespace: a ServiceAccount needs a namespace, a User or Group must not have one"
                )
    return problems


def _quota(spec: TenantSpec) -> list[str]:
    return [f"spec.quota: {key!r} is not a ResourceQuota resource name" for key in spec.quota if not _QUOTA.match(key)]


def _models(spec: TenantSpec) -> list[str]:
    problems = _twice("spec.models", "alias", [model.alias for model in spec.models or []])
    problems += _twice("spec.assistants", "name", [assistant.name for assistant in spec.assistants])
    aliases = None if spec.models is None else {model.alias for model in spec.models}
    indices = {index.name for index in spec.knowledge}
    for position, assistant in enumerate(spec.assistants):
        where = f"spec.assistants[{position}]"
        if aliases is not None and assistant.model is not None and assistant.model not in aliases:
            problems.append(f"{where}.model: {assistant.model!r} is no alias of spec.models")
        problems += [
            f"{where}.knowledge: {name!r} is no index of spec.knowledge"
            for name in assistant.knowledge
            if name not in indices
        ]
        problems += _twice(where, "knowledge", assistant.knowledge)
    return problems


def _keys(spec: TenantSpec) -> list[str]:
    keys = (spec.auth.api_keys if spec.auth else None) or []
    return _twice("spec.auth.apiKeys", "name", [key.name for key in keys])


def _knowledge(spec: TenantSpec) -> list[str]:
    problems = _twice("spec.knowledge", "name", [index.name for index in spec.knowledge])
    for position, index in enumerate(spec.knowledge):
        where = f"spec.knowledge[{position}].sources"
        problems += _twice(where, "name", [source.name for source in index.sources])
        problems += [
            f"{where}[{number}]: exactly one of configMap and directory is needed"
            for number, source in enumerate(index.sources)
            if (source.config_map is None) == (source.directory is None)
        ]
    return problems
