"""The Platform file: every mistake is an error that starts with the path of the wrong field."""

from pathlib import Path
from typing import Any

import pytest

from tenantplane_api.runtime.platform import (
    Allowances,
    PlatformError,
    allow_annotations,
    load_platform,
    parse_platform,
)


def test_an_empty_file_is_all_defaults() -> None:
    platform = parse_platform(None)
    assert platform.plan(None) is not None
    assert platform.plan("gold") is None
    assert platform.shared.namespaces.runtime == "tenantplane-runtime"


@pytest.mark.parametrize(
    ("data", "start"),
    [
        ({"operator": {"workers": "many"}}, "operator.workers:"),
        ({"operator": {"workres": 3}}, "operator:"),
        ({"operators": {}}, "the file:"),
        ({"operator": {"plans": {"gold": {}}}}, "operator.defaultPlan:"),
        ({"operator": {"plans": {"default": {"quota": {"pods": "-1"}}}}}, "operator.plans"),
        ({"operator": {"plans": {"default": {"quota": {"bananas": "1"}}}}}, "operator.plans.default.quota:"),
        (
            {"operator": {"plans": {"default": {"quota": {"limits.hugepages-2Mi": "1"}}}}},
            "operator.plans.default.quota:",
        ),
        ({"shared": {"namespaces": {"runtime": "tenantplane-system"}}}, "shared.namespaces:"),
        ({"shared": {"namespaces": {"runtime": "elsewhere"}}}, "shared.namespaces:"),
        ({"shared": {"knowledge": {"store": "file:///x"}}}, "shared.knowledge.store:"),
        ({"shared": {"knowledge": {"store": "ftp://x"}}}, "shared.knowledge.store:"),
        ({"shared": {"knowledge": {"directoryRoot": "relative"}}}, "shared.knowledge.directoryRoot:"),
        ({"shared": {"network": {"clusterCIDRs": ["10.0.0.0/8", "999.0.0.0/8"]}}}, "shared.network.clusterCIDRs[1]:"),
        ({"shared": {"network": {"clusterCIDRs": ["10.0.0.0/8", "0.0.0.0/0"]}}}, "shared.network.clusterCIDRs:"),
        ({"shared": {"network": {"clusterCIDRs": ["128.0.0.0/1", "0.0.0.0/1"]}}}, "shared.network.clusterCIDRs:"),
        ({"shared": {"network": {"clusterCIDRs": ["::/1", "8000::/1"]}}}, "shared.network.clusterCIDRs:"),
        (["a list"], "the file:"),
        (
            {"operator": {"plans": {"default": {"models": [{"alias": "a", "ref": {"name": "b"}}] * 2}}}},
            "operator.plans.default.models:",
        ),
    ],
)
def test_mistakes_name_their_field(data: Any, start: str) -> None:
    with pytest.raises(PlatformError) as caught:
        parse_platform(data)
    assert str(caught.value).startswith(start), str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="cannot be read"):
        load_platform(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [", encoding="utf-8")
    with pytest.raises(PlatformError, match="is not YAML"):
        load_platform(bad)


def test_allowances_travel_as_annotations() -> None:
    plan = parse_platform(
        {
            "operator": {
                "plans": {
                    "default": {
                        "allow": {
                            "registries": ["registry.example/acme/"],
                            "imagePullPolicies": ["Always", "IfNotPresent"],
                        }
                    }
                }
            }
        }
    ).operator.plans["default"]
    assert allow_annotations(plan.allow) == {
        "tenantplane.dev/allow-registries": "registry.example/acme/",
        "tenantplane.dev/allow-image-pull-policies": "Always,IfNotPresent",
    }
    # Nothing is allowed that is not said, but for pulling images always.
    assert allow_annotations(Allowances()) == {"tenantplane.dev/allow-image-pull-policies": "Always"}


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("*", True),
        ("shop.example", True),
        ("*.{tenant}.apps.example", True),
        ("{tenantID}.example", True),
        # A part of a label: of a tenant `x` it could be what a whole one is of a tenant `x-app`.
        ("{tenant}-app.example", False),
        ("app-{tenantID}.example", False),
        ("{tenant}{tenantID}.example", False),
        ("{plan}.example", False),
        ("{tenant.example", False),
        ("a,b", False),
        ("", False),
    ],
)
def test_a_host_of_a_plan_may_be_each_tenants_own(host: str, good: bool) -> None:
    data = {"operator": {"plans": {"default": {"allow": {"ingressHosts": [host]}}}}}
    if good:
        assert parse_platform(data).operator.plans["default"].allow.ingress_hosts == (host,)
    else:
        with pytest.raises(PlatformError, match="ingressHosts"):
            parse_platform(data)


@pytest.mark.parametrize("entry", ["{tenant}.example/", "a,b", "", "a b", "a\n", "x" * 257])
def test_an_allowance_cannot_smuggle_another_in(entry: str) -> None:
    with pytest.raises(PlatformError, match="registries"):
        parse_platform({"operator": {"plans": {"default": {"allow": {"registries": [entry]}}}}})


@pytest.mark.parametrize(
    "election",
    [
        {"leaseSeconds": 5, "renewSeconds": 5, "retrySeconds": 1},
        {"leaseSeconds": 5, "renewSeconds": 3, "retrySeconds": 3},
    ],
)
def test_a_leader_must_have_given_up_before_its_lease_may_be_taken(election: dict[str, int]) -> None:
    with pytest.raises(PlatformError, match=r"operator.leaderElection: retrySeconds"):
        parse_platform({"operator": {"leaderElection": election}})


@pytest.mark.parametrize(
    ("arn", "good"),
    [
        ("arn:aws:iam::123456789012:role/acme", True),
        ("arn:aws-cn:iam::123456789012:role/tenants/{tenantID}/*", True),
        ("arn:aws:iam::*:role/acme", False),
        ("arn:aws:iam::123456789012:user/acme", False),
        ("*", False),
        ("arn:aws:iam::123456789012:role/a*b", False),
    ],
)
def test_roles_that_tenants_may_bring(arn: str, good: bool) -> None:
    data = {"operator": {"aws": {"allowedRoleARNs": [arn]}}}
    if good:
        assert parse_platform(data).operator.aws.allowed_role_arns == (arn,)
    else:
        with pytest.raises(PlatformError, match=r"operator.aws.allowedRoleARNs"):
            parse_platform(data)
