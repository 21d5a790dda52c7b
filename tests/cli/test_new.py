"""`tenantplane new`: what it prints applies as it is, and shows every field of the schema."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.crd.schema import structural
from tenantplane_api.crd.tenant import TenantSpec
from tenantplane_api.runtime import limits
from tenantplane_cli import new
from tenantplane_cli.cluster import Cluster
from tenantplane_cli.output import UsageError
from tenantplane_cli.up.load import unknown_fields
from tenantplane_operator.tenant.parse import parse_tenant

COMMENTED = re.compile(r"^( *)#(?! \S)", re.MULTILINE)
"""A commented-out line: its `#` is followed by the field, or by the deeper indentation of a nested one."""


def uncommented(text: str) -> str:
    return COMMENTED.sub(r"\1", text)


def paths(schema: dict[str, Any], path: str = "") -> list[str]:
    """Every field of the schema, items of lists included."""
    found = []
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        found += [here, *paths(part, here), *paths(part.get("items", {}), here)]
    return found


def present(value: Any, path: str = "") -> set[str]:
    if isinstance(value, list):
        return {found for item in value for found in present(item, path)}
    if not isinstance(value, dict):
        return set()
    out = set()
    for name, inner in value.items():
        here = f"{path}.{name}".lstrip(".")
        out |= {here, *present(inner, here)}
    return out


@pytest.mark.parametrize("options", [{}, {"display_name": "A: #1", "plan": "large", "namespace": "team-a"}])
def test_output_is_a_valid_tenant(options: dict[str, str]) -> None:
    found = yaml.safe_load(new.render("acme", tenant_id=new.make_tenant_id("acme"), **options))
    parsed = parse_tenant(found)
    assert parsed.name == "acme"
    assert parsed.spec.display_name == options.get("display_name", "")
    assert parsed.spec.plan == options.get("plan")
    assert parsed.namespace == options.get("namespace", "tenant-acme")
    assert set(found["spec"]) == {"tenantID", *(["displayName", "plan", "namespace"] if options else [])}


def test_every_field_of_the_schema_is_shown_with_its_description() -> None:
    text = new.render("acme", tenant_id="acme-12345678")
    whole = yaml.safe_load(uncommented(text))
    assert sorted(set(paths(structural(TenantSpec))) - present(whole["spec"])) == []
    flat = " ".join(re.sub(r"^ *#? *#", "", line).strip() for line in text.splitlines())
    for field, part in structural(TenantSpec)["properties"].items():
        assert " ".join(part["description"].split()) in " ".join(flat.split()), field


def test_everything_uncommented_is_valid_too() -> None:
    whole = yaml.safe_load(uncommented(new.render("acme", tenant_id="acme-12345678")))
    assert list(unknown_fields(whole["spec"], structural(TenantSpec), "spec")) == []
    parse_tenant(whole)


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True))
def test_tenant_ids_obey_the_pattern_and_are_fresh(name: str) -> None:
    first, second = new.make_tenant_id(name), new.make_tenant_id(name)
    assert re.fullmatch(limits.TENANT_ID_PATTERN.rstrip("$"), first)
    assert first != second


@pytest.mark.parametrize("name", ["", "Acme", "a_b", "-a", "a-", "a" * 41, "a\n", "é"])
def test_a_name_that_the_schema_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a Tenant's name"):
        new.make_tenant_id(name)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"namespace": "kube-system"}, "reserved"), ({"namespace": "A"}, "namespace.name"), ({"plan": "X"}, "plan")],
)
def test_a_wrong_option_names_the_field(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        new.render("acme", tenant_id="acme-12345678", **options)


@pytest.mark.cluster
def test_a_real_api_server_takes_it_bare_and_with_every_field(cluster: Cluster) -> None:
    crd = new.__file__.rsplit("/cli/", 1)[0] + "/crds/tenantplane.dev_tenants.yaml"
    kubectl = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig)]
    subprocess.run(
        [*kubectl, "apply", "--server-side", "--force-conflicts", "-f", crd], check=True, capture_output=True
    )
    wait = [*kubectl, "wait", "--for=condition=Established", "--timeout=60s", "-f", crd]
    subprocess.run(wait, check=True, capture_output=True)
    text = new.render("render-test", tenant_id="render-test-12345678")
    for manifest in (text, uncommented(text)):
        done = subprocess.run(
            [*kubectl, "create", "--dry-run=server", "--validate=strict", "-f", "-"],
            input=manifest,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
