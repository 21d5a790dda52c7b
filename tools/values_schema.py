"""Writes ``charts/tenantplane/values.schema.json``: ``python tools/values_schema.py [--check]``.

The section ``platform`` comes from the struct that both programs validate the Platform file with, so that Helm refuses
what they would refuse, before anything is installed. The rest describes the chart's own values. Guarantees that an
unknown key anywhere but in free-form Kubernetes fields is an error; it does not check what spans several fields (the
chart's ``validate.yaml`` and the programs do).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "crds"))  # also before the package is installed

from tenantplane_api.runtime.platform import Platform  # noqa: E402

TARGET: Final = REPOSITORY / "charts" / "tenantplane" / "values.schema.json"

Schema = dict[str, Any]

_BOOL: Final[Schema] = {"type": "boolean"}
_TEXT: Final[Schema] = {"type": "string"}
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
_TEXT_MAP: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_FREE: Final[Schema] = {"type": "object"}  # a Kubernetes type: the API server validates it
_FREE_LIST: Final[Schema] = {"type": "array", "items": {"type": "object"}}


def _closed(required: Sequence[str] = (), /, **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def _subjects() -> Schema:
    """RBAC subjects; groups that would hand the platform to everybody are refused."""
    everybody = ["system:authenticated", "system:unauthenticated", "system:serviceaccounts", "system:anonymous"]
    subject = _closed(
        ["kind", "name"],
        kind={"enum": ["User", "Group", "ServiceAccount"]},
        name={"type": "string", "minLength": 1, "maxLength": 253, "not": {"enum": everybody}},
        namespace=_TEXT,
    )
    # Without its namespace a ServiceAccount's subject is refused by the API server in the middle of an installation.
    subject["if"] = {"properties": {"kind": {"const": "ServiceAccount"}}}
    subject["then"] = {"required": ["namespace"]}
    return {"type": "array", "items": subject}


def _program(**more: Schema) -> Schema:
    return _closed(
        enabled=_BOOL,
        replicas={"type": "integer", "minimum": 0},
        image=_closed(
            ["repository"],
            repository={"type": "string", "minLength": 1},
            tag=_TEXT,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        ),
        serviceAccount=_closed(annotations=_TEXT_MAP),
        resources=_FREE,
        extraArgs={"type": "array", "items": _TEXT},
        podAnnotations=_TEXT_MAP,
        nodeSelector=_TEXT_MAP,
        tolerations=_FREE_LIST,
        affinity=_FREE,
        priorityClassName=_TEXT,
        **more,
    )


def _without_defaults(schema: Schema) -> Schema:
    """The schema without the keyword ``default``, which Helm ignores; a *property* called ``default`` stays."""
    maps = {"properties", "$defs"}
    result: Schema = {}
    for key, value in schema.items():
        if key == "default":
            continue
        if key in maps:
            result[key] = {name: _without_defaults(child) for name, child in value.items()}
        elif isinstance(value, dict):
            result[key] = _without_defaults(value)
        elif isinstance(value, list):
            result[key] = [_without_defaults(item) if isinstance(item, dict) else item for item in value]
        elif key == "description":
            result[key] = " ".join(value.split())
        else:
            result[key] = value
    return result


def values_schema() -> Schema:
    """JSON Schema (draft 7, which every Helm 3 and 4 reads) of the chart's values."""
    (reference,), definitions = msgspec.json.schema_components([Platform], ref_template="#/definitions/{name}")
    platform = {name: _without_defaults(schema) for name, schema in definitions.items()}
    account = _closed(annotations=_TEXT_MAP)
    values = _closed(
        crds=_closed(install=_BOOL),
        namespaces=_closed(
            create=_BOOL,
            createSystem=_BOOL,
            podSecurityVersion={"type": "string", "pattern": r"^(latest|v1\.[0-9]{1,3})$"},
        ),
        access=_closed(platformAdmins=_subjects()),
        # Written into CEL: no quote, no backslash.
        fence=_closed(
            bypassSubjects=_subjects(),
            neverBypass={"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z0-9:@._/+-]{1,253}$"}},
        ),
        networkPolicies=_closed(
            enabled=_BOOL,
            apiServerPorts={"type": "array", "minItems": 1, "items": _PORT},
            metricsFrom=_FREE_LIST,
            upstreamEgress=_FREE_LIST,
        ),
        jobs=_closed(quota=_TEXT_MAP, containerDefaults=_closed(requests=_FREE, limits=_FREE), serviceAccount=account),
        models=_closed(extractive=_closed(create=_BOOL)),
        platform=reference,
        imagePullSecrets=_FREE_LIST,
        operator=_program(),
        dataplane=_program(
            service=_closed(
                type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port=_PORT, annotations=_TEXT_MAP
            ),
            internalPort=_PORT,
            configDirectorySize=_TEXT,
        ),
    )
    values["properties"]["global"] = {"type": "object"}  # Helm puts it there when the chart is another's dependency
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Generated by tools/values_schema.py; do not edit.",
        "title": "Values of the tenantplane chart",
        **values,
        "definitions": platform,
    }


def render() -> str:
    """The file's text."""
    return json.dumps(values_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the file, or with ``--check`` return 1 when it is not up to date."""
    text = render()
    if "--check" in arguments:
        if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET.relative_to(REPOSITORY)} is not up to date: run `make schema`", file=sys.stderr)
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
