"""Writes the CustomResourceDefinitions from the models: ``python -m tenantplane_api.crd.generate [--check] FOLDER…``.

The same files go beside the contract (``crds/``), where people look for them, and into the chart, which installs them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from tenantplane_api.crd.apikey import APIKeySpec, APIKeyStatus
from tenantplane_api.crd.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from tenantplane_api.crd.schema import structural
from tenantplane_api.crd.tenant import TenantSpec
from tenantplane_api.crd.tenantstatus import TenantStatus
from tenantplane_api.runtime import limits, names

MAX_BYTES: Final = 200_000
"""Client-side apply stores the whole object in an annotation of at most 262,144 bytes."""


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False, description: str) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": 1} if wide else column


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_READY = _column("Ready", _condition("Ready"), description="Whether it can be used as declared.")
_REASON = _column("Reason", _condition("Ready", "reason"), wide=True, description="Why it is or is not ready.")
_AGE = _column("Age", ".metadata.creationTimestamp", "date", description="Time since creation.")


def _crd(
    *,
    kind: str,
    plural: str,
    short: str,
    scope: str,
    description: str,
    spec: type[BaseModel],
    status: type[BaseModel],
    columns: Sequence[dict[str, Any]],
    subresources: dict[str, Any],
    spec_required: bool = True,
) -> dict[str, Any]:
    schema = {
        "type": "object",
        "description": description,
        "required": ["spec"] if spec_required else [],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this schema."},
            "kind": {"type": "string", "description": "Kind of this object."},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": limits.NAME_MAX, "pattern": limits.DNS_LABEL_PATTERN}
                },
            },
            "spec": structural(spec),
            "status": structural(status),
        },
    }
    if not schema["required"]:
        del schema["required"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}", "labels": {names.LABEL_PART_OF: names.PART_OF}},
        "spec": {
            "group": names.GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["tenantplane"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": list(columns),
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                }
            ],
        },
    }


def custom_resource_definitions() -> list[dict[str, Any]]:
    """The three CRDs as plain dicts, in a fixed order."""
    return [
        _crd(
            kind=names.KIND_TENANT,
            plural=names.PLURAL_TENANTS,
            short="ten",
            scope="Cluster",
            description="One customer: its namespace and fence, keys, models, limits, documents and assistants.",
            spec=TenantSpec,
            status=TenantStatus,
            columns=[
                _READY,
                _column("Plan", ".status.effective.plan", description="Plan in force."),
                _column("Namespace", ".status.namespace", description="The tenant's namespace."),
                _column("Models", ".status.modelsUsable", description="Aliases that are served, of all."),
                _column("Suspended", ".spec.suspend", "boolean", wide=True, description="Whether it is suspended."),
                _column("TenantID", ".spec.tenantID", wide=True, description="Durable identity of the customer."),
                _REASON,
                _AGE,
            ],
            subresources={"status": {}},
        ),
        _crd(
            kind=names.KIND_MODEL_DEPLOYMENT,
            plural=names.PLURAL_MODEL_DEPLOYMENTS,
            short="mdl",
            scope="Namespaced",
            description="A model that tenants use under aliases of their own.",
            spec=ModelDeploymentSpec,
            status=ModelDeploymentStatus,
            columns=[
                _READY,
                _column("Engine", ".spec.engine.type", description="What answers."),
                _column("Sharing", ".spec.sharing.mode", description="Who may use it."),
                _column("Endpoint", ".spec.external.baseURL", wide=True, description="Endpoint of an External engine."),
                _REASON,
                _AGE,
            ],
            subresources={
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                },
            },
        ),
        _crd(
            kind=names.KIND_API_KEY,
            plural=names.PLURAL_API_KEYS,
            short="tpk",
            scope="Namespaced",
            description="A key of one tenant; the key itself is in a Secret, never here.",
            spec=APIKeySpec,
            status=APIKeyStatus,
            columns=[
                _READY,
                _column("Key", ".status.keyID", description="Public id of the key."),
                _column("Owner", ".spec.owner", description="Who answers for the key."),
                _column("Expires", ".spec.expiresAt", "date", wide=True, description="When it stops working."),
                _REASON,
                _AGE,
            ],
            subresources={"status": {}},
            spec_required=False,
        ),
    ]


def render(crd: dict[str, Any]) -> str:
    """One CRD as YAML, with a line that says where it comes from."""
    body = yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated from crds/tenantplane_api/crd by `make crds`; do not edit.\n{body}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write (or with ``--check`` compare) the files in each folder; 1 when something differs or is too large."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    check = "--check" in args
    folders = [Path(a) for a in args if a != "--check"]
    failed = False
    for crd in custom_resource_definitions():
        text = render(crd)
        name = f"{names.GROUP}_{crd['spec']['names']['plural']}.yaml"
        if len(text.encode()) > MAX_BYTES:
            print(f"{name}: {len(text.encode())} bytes, more than {MAX_BYTES}", file=sys.stderr)
            failed = True
        for folder in folders:
            path = folder / name
            if not check:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            elif not path.exists() or path.read_text(encoding="utf-8") != text:
                print(f"{path}: differs from the models: run `make crds`", file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
