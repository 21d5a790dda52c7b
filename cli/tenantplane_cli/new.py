"""`tenantplane new`: a Tenant to start from, with every field of the schema explained in it.

Guarantees: what it prints applies as it is; fields and descriptions come from the contract's models, so they cannot
drift from what the API server accepts; the tenantID is fresh. A commented-out field becomes valid by deleting the one
`#` in front of its lines. Does not: ask the cluster whether name or plan are free.
"""

from __future__ import annotations

import re
import secrets
import textwrap
from typing import Annotated, Any, Final

import typer

from tenantplane_cli.output import UsageError, say

_WIDTH: Final = 110
_RANDOM: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: people read a tenantID aloud
_RANDOM_CHARS: Final = 8

EXAMPLES: Final[dict[str, Any]] = {
    "tenantID": "example-7k3m9x2p",
    "displayName": "Example Ltd.",
    "plan": "default",
    "namespace.name": "tenant-example",
    "namespace.labels": {"team": "sales"},
    "namespace.annotations": {"example.com/cost-center": "4711"},
    "namespace.podSecurity": "Restricted",
    "access.admins": [
        {"kind": "Group", "name": "example-admins"},
        {"kind": "User", "name": "erin@example.com"},
        {"kind": "ServiceAccount", "name": "ci", "namespace": "build"},
    ],
    "access.editors": [{"kind": "ServiceAccount", "name": "publisher", "namespace": "build"}],
    "access.viewers": [{"kind": "ServiceAccount", "name": "auditor", "namespace": "audit"}],
    "access.workloads": "None",
    "quota": {"requests.cpu": "4", "pods": "20"},
    "containerLimits.default": {"cpu": "500m", "memory": "512Mi"},
    "containerLimits.defaultRequest": {"cpu": "100m", "memory": "128Mi"},
    "containerLimits.max": {"cpu": "4", "memory": "8Gi"},
    "containerLimits.min": {"cpu": "10m"},
    "network.egress.cidrs": ["203.0.113.0/24"],
    "network.egress.namespaces": ["shared-services"],
    "network.ingress.namespaces": ["ingress-nginx"],
    "identity.aws.roleARN": "arn:aws:iam::111122223333:role/tenants/example-7k3m9x2p",
    "models": [{"alias": "default", "ref": {"name": "extractive", "namespace": "tenantplane-models"}}],
    "limits.requests.perMinute": 600,
    "limits.concurrency": 32,
    "auth.apiKeys": [{"name": "default", "owner": "web team", "expiresAt": "2031-12-31T00:00:00Z"}],
    "assistants": [
        {"name": "handbook", "model": "default", "knowledge": ["handbook"], "instructions": "Answer in one paragraph."}
    ],
    "knowledge": [
        {
            "name": "handbook",
            "sources": [
                {"name": "notices", "configMap": {"name": "notices"}},
                {"name": "files", "directory": {"path": "handbook"}},
            ],
        }
    ],
}  # fmt: skip
"""What stands in a commented-out field, by its path in ``spec``; constants of the schema need none."""


def command(
    name: Annotated[str, typer.Argument(help="Name of the Tenant: a DNS label of at most 40 characters.")],
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    plan: Annotated[str | None, typer.Option(help="Plan of the Platform file; its default plan when unset.")] = None,
    namespace: Annotated[str | None, typer.Option(help="The tenant's namespace; tenant-NAME when unset.")] = None,
) -> None:
    """Print a commented Tenant with a fresh tenantID: `tenantplane new acme > acme.yaml`, then `kubectl apply` it."""
    say(render(name, tenant_id=make_tenant_id(name), display_name=display_name, plan=plan, namespace=namespace))


def make_tenant_id(name: str) -> str:
    """A fresh tenantID that people recognise: what fits of the name, and 40 random bits.

    Raises UsageError when the name is no Tenant's name.
    """
    from tenantplane_api.runtime import limits

    if len(name) > limits.NAME_MAX or not re.fullmatch(limits.DNS_LABEL_PATTERN.rstrip("$"), name):
        raise UsageError(
            f"{name!r} cannot be a Tenant's name: lower-case letters, digits and hyphens, "
            f"not at the ends, at most {limits.NAME_MAX}"
        )
    readable = name[: limits.TENANT_ID_MAX - _RANDOM_CHARS - 1].rstrip("-")
    return f"{readable}-{''.join(secrets.choice(_RANDOM) for _ in range(_RANDOM_CHARS))}"


def render(
    name: str,
    *,
    tenant_id: str,
    display_name: str = "",
    plan: str | None = None,
    namespace: str | None = None,
) -> str:
    """The Tenant's YAML. Raises UsageError when an option is not valid by the contract's models."""
    from pydantic import ValidationError

    from tenantplane_api.crd.schema import structural
    from tenantplane_api.crd.tenant import TenantSpec
    from tenantplane_api.runtime import names

    given: dict[str, Any] = {"tenantID": tenant_id}
    if display_name:
        given["displayName"] = display_name
    if plan is not None:
        given["plan"] = plan
    if namespace is not None:
        if names.is_reserved_namespace(namespace):
            raise UsageError("--namespace: `default`, `kube-*` and `tenantplane-*` are reserved")
        given["namespace"] = {"name": namespace}
    try:
        TenantSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    head = [
        f"# A Tenant. Apply it: kubectl apply -f {name}.yaml; then wait: tenantplane status {name}",
        "# A field that is commented out is set by deleting the `#` in front of its lines; its value is an example.",
        f"apiVersion: {names.API_VERSION}",
        f"kind: {names.KIND_TENANT}",
        "metadata:",
        f"  name: {name}",
        "spec:",
    ]
    return "\n".join(head + _fields(structural(TenantSpec), given, "", 2, top=True))


def _fields(schema: dict[str, Any], given: dict[str, Any], path: str, indent: int, *, top: bool = False) -> list[str]:
    """Lines of an object: fields in ``given`` as they are, all others commented out with an example."""
    lines: list[str] = []
    for field, part in schema["properties"].items():
        here = f"{path}.{field}".lstrip(".")
        if top and lines:
            lines.append("")
        lines += _description(part, indent)
        if field in given and isinstance(given[field], dict) and part.get("properties"):
            lines.append(f"{' ' * indent}{field}:")
            lines += _fields(part, given[field], here, indent + 2)
        elif field in given:
            lines.append(f"{' ' * indent}{field}: {_scalar(given[field])}")
        else:
            lines += [line[:indent] + "#" + line[indent:] for line in _example(field, part, here, indent)]
    return lines


def _description(part: dict[str, Any], indent: int) -> list[str]:
    text = part["description"]
    if "enum" in part:
        text += f" One of {', '.join(part['enum'])}."
    if part.get("default", "") != "":
        text += f" Default: {_scalar(part['default'])}."
    return [f"{' ' * indent}# {line}" for line in textwrap.wrap(text, _WIDTH - indent, break_on_hyphens=False)]


def _example(field: str, part: dict[str, Any], path: str, indent: int) -> list[str]:
    """A field with its example, as if it were set."""
    pad = " " * indent
    if part.get("properties") and path not in EXAMPLES:
        lines = [f"{pad}{field}:"]
        for name, inner in part["properties"].items():
            lines += _description(inner, indent + 2)
            lines += _example(name, inner, f"{path}.{name}", indent + 2)
        return lines
    if path in EXAMPLES:
        return [
            f"{pad}{field}:{line}" if n == 0 else line for n, line in enumerate(_value(EXAMPLES[path], part, indent))
        ]
    value = part.get("default", False if part.get("type") == "boolean" else None)
    if value is None:
        raise LookupError(f"{path}: EXAMPLES has no value for it")
    return [f"{pad}{field}: {_scalar(value)}"]


def _value(value: Any, part: dict[str, Any], indent: int) -> list[str]:
    """Lines of a value; the first continues the line of its key."""
    pad = " " * (indent + 2)
    if isinstance(value, dict) and part.get("properties"):
        lines = [""]
        for name, inner in value.items():
            schema = part["properties"][name]
            lines += _description(schema, indent + 2)
            lines += [
                f"{pad}{name}:{line}" if n == 0 else line for n, line in enumerate(_value(inner, schema, indent + 2))
            ]
        return lines
    if isinstance(value, dict):
        return ["", *(f"{pad}{key}: {_scalar(inner)}" for key, inner in value.items())]
    if isinstance(value, list) and part["items"].get("properties"):
        lines = [""]
        for item in value:
            block = _value(item, part["items"], indent + 2)[1:]
            lines += [f"{pad}- {block[0].lstrip()}", *block[1:]]
        return lines
    if isinstance(value, list):
        return [f" [{', '.join(_scalar(item) for item in value)}]"]
    return [f" {_scalar(value)}"]


def _scalar(value: Any) -> str:
    """One YAML scalar on one line, quoted where plain text would mean something else."""
    import yaml

    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("\n...\n").strip()
    )
