"""Plan and spec together: what overrides what, and that every refusal leaves the safe side in force."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.tenant.build import parsed, platform

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime.documents import TenantLimits
from tenantplane_operator.tenant.compile import referenced_namespaces
from tenantplane_operator.tenant.concern import Refused
from tenantplane_operator.tenant.effective import EffectiveTenant, merge

GOLD: dict[str, Any] = {
    "quota": {"requests.cpu": "4", "count/pods": "20"},
    "containerLimits": {"default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "2"}},
    "limits": {"requests": {"perMinute": 600}, "concurrency": 32},
    "models": [{"alias": "default", "ref": {"name": "extractive"}}],
    "workloads": "Restricted",
}


def effective(
    spec: Mapping[str, Any] | None = None, plan: Mapping[str, Any] = GOLD, **sections: Any
) -> EffectiveTenant:
    operator = {"plans": {"gold": dict(plan)}, "defaultPlan": "gold", **sections.pop("operator", {})}
    foreign = sections.pop("foreign", frozenset())
    return merge(parsed(spec=spec), platform(operator=operator, **sections), foreign_namespaces=foreign)


def test_a_plan_is_what_a_bare_tenant_gets() -> None:
    found = effective()
    assert found.plan == "gold"
    assert found.quota == GOLD["quota"]
    assert found.container_limits == {
        "default": {"cpu": "500m"},
        "defaultRequest": {"cpu": "100m"},
        "max": {"cpu": "2"},
    }
    assert found.limits == TenantLimits(requests_per_minute=600, concurrency=32)
    assert [(ref.alias, ref.key) for ref in found.models] == [("default", "tenantplane-models/extractive")]
    assert [key.name for key in found.api_keys] == ["default"]
    assert found.access.workloads
    assert found.pod_security == "Restricted"
    assert found.problems == {}


def test_the_tenant_overrides_field_by_field() -> None:
    found = effective(
        {
            "quota": {"requests.cpu": 8},
            "containerLimits": {"max": {"memory": "1Gi"}},
            "limits": {"concurrency": 4},
            "models": [{"alias": "own", "ref": {"name": "gpt", "namespace": "tenant-acme"}}],
            "access": {"workloads": "None"},
            "auth": {"apiKeys": []},
        }
    )
    assert found.quota == {"requests.cpu": "8", "count/pods": "20"}
    assert found.container_limits["max"] == {"memory": "1Gi"}
    assert found.container_limits["default"] == {"cpu": "500m"}
    assert found.limits == TenantLimits(requests_per_minute=600, concurrency=4)
    assert [(ref.alias, ref.key) for ref in found.models] == [("own", "tenant-acme/gpt")]
    assert found.api_keys == ()
    assert not found.access.workloads


quotas = st.dictionaries(
    st.sampled_from(["requests.cpu", "limits.memory", "pods", "secrets", "count/configmaps"]),
    st.integers(min_value=0, max_value=10**9).map(str),
)
rates = st.none() | st.integers(min_value=1, max_value=1_000_000)


@given(quotas, quotas, rates, rates)
def test_merge_takes_each_value_from_the_tenant_else_from_the_plan(
    base: dict[str, str], own: dict[str, str], base_rate: int | None, own_rate: int | None
) -> None:
    plan: dict[str, Any] = {"quota": base, "limits": {"requests": {"perMinute": base_rate}}}
    found = effective({"quota": own, "limits": {"requests": {"perMinute": own_rate}}}, plan=plan)
    assert found.quota.keys() == base.keys() | own.keys()
    assert all(value == (own[key] if key in own else base[key]) for key, value in found.quota.items())
    assert found.limits.requests_per_minute == (base_rate if own_rate is None else own_rate)


def test_an_unknown_plan_refuses_and_names_the_known_ones() -> None:
    with pytest.raises(Refused) as error:
        effective({"plan": "platinum"})
    assert error.value.concern.reason == Reason.UNKNOWN_PLAN
    assert "spec.plan" in error.value.concern.message
    assert "gold" in error.value.concern.message


def test_hosts_of_a_plan_are_each_tenants_own() -> None:
    hosts = ["*.{tenant}.apps.example", "{tenantID}.example", "shop.example", ".".join(["x" * 63] * 4)]
    found = effective(plan={**GOLD, "allow": {"ingressHosts": hosts, "gateways": ["edge/public"]}})
    # The last one is longer than any name in DNS.
    assert found.allow.ingress_hosts == ("*.acme.apps.example", "acme-0001.example", "shop.example")
    assert found.allow.gateways == ("edge/public",)


@pytest.mark.parametrize(
    ("floor", "wanted", "in_force", "refused"),
    [
        ("Restricted", None, "Restricted", False),
        ("Restricted", "Restricted", "Restricted", False),
        ("Restricted", "Baseline", "Restricted", True),
        ("Restricted", "Privileged", "Restricted", True),
        ("Baseline", None, "Baseline", False),
        ("Baseline", "Restricted", "Restricted", False),
        ("Baseline", "Privileged", "Baseline", True),
        ("Privileged", "Privileged", "Privileged", False),
    ],
)
def test_pod_security_never_falls_below_the_floor(floor: str, wanted: str | None, in_force: str, refused: bool) -> None:
    spec = {"namespace": {"podSecurity": wanted}} if wanted else None
    found = effective(spec, operator={"podSecurityFloor": floor})
    assert found.pod_security == in_force
    problem = found.problems.get(ConditionType.NAMESPACE_READY)
    assert (problem is not None and problem.reason == Reason.POD_SECURITY_BELOW_FLOOR) is refused


@pytest.mark.parametrize(
    ("subject", "admitted"),
    [
        ({"kind": "User", "name": "ann"}, True),
        ({"kind": "Group", "name": "acme-admins"}, True),
        ({"kind": "ServiceAccount", "name": "bot", "namespace": "ci"}, True),
        ({"kind": "Group", "name": "system:authenticated"}, False),
        ({"kind": "Group", "name": "system:masters"}, False),
        ({"kind": "User", "name": "system:serviceaccount:tenant-beta:tenant"}, False),
        ({"kind": "Group", "name": "eks:managed"}, False),
        ({"kind": "User", "name": "eks:load-balancing"}, False),
        ({"kind": "Group", "name": "eks-admins"}, True),
        ({"kind": "Group", "name": "everyone"}, False),
        ({"kind": "User", "name": "everyone"}, False),
        ({"kind": "ServiceAccount", "name": "root", "namespace": "ci"}, False),
    ],
)
def test_denied_subjects_are_left_out_and_reported(subject: dict[str, str], admitted: bool) -> None:
    found = effective(
        {"access": {"admins": [{"kind": "User", "name": "eve"}, subject]}},
        operator={"deniedSubjects": ["everyone", "system:serviceaccount:ci:root"]},
    )
    assert [s.name for s in found.access.admins] == ["eve", subject["name"]][: 2 if admitted else 1]
    problem = found.problems.get(ConditionType.ACCESS_READY)
    assert (problem is None) is admitted
    if problem is not None:
        assert problem.reason == Reason.SUBJECT_DENIED
        assert "spec.access.admins[1]" in problem.message


@pytest.mark.parametrize(
    ("home", "admitted"),
    [
        ("ci", True),
        ("tenant-acme", True),
        ("tenant-beta", False),
        ("tenant-not-there-yet", False),
        ("adopted", False),
        ("kube-system", False),
        ("default", False),
        ("tenantplane-system", False),
        ("tenantplane-jobs", False),
        ("kube-platform", False),
    ],
)
def test_pods_of_others_are_never_let_in(home: str, admitted: bool) -> None:
    """A ServiceAccount is what pods are: of another tenant, of Kubernetes or of the platform."""
    found = effective(
        {"access": {"viewers": [{"kind": "ServiceAccount", "name": "bot", "namespace": home}]}},
        foreign={"adopted"},
        shared={"namespaces": {"system": "kube-platform"}},
    )
    assert len(found.access.viewers) == int(admitted)
    problem = found.problems.get(ConditionType.ACCESS_READY)
    assert (problem is None) is admitted
    if problem is not None:
        assert (problem.reason, problem.permanent) == (Reason.SUBJECT_DENIED, True)
        assert problem.message.startswith("spec.access.viewers[0]: ServiceAccount bot is of ")


def test_a_tenants_own_account_may_be_denied_by_name() -> None:
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": "tenant-acme"}
    denied = {"deniedSubjects": ["system:serviceaccount:tenant-acme:tenant"]}
    assert effective({"access": {"admins": [subject]}}, operator=denied).access.admins == ()


def test_namespaces_of_subjects_are_to_be_looked_up() -> None:
    listed = [("ci", "a"), ("tenant-acme", "b"), ("ops", "c"), ("ci", "d")]
    spec = {"access": {"admins": [{"kind": "ServiceAccount", "name": n, "namespace": ns} for ns, n in listed]}}
    assert referenced_namespaces(parsed(spec=spec)) == ("ci", "ops")
    assert referenced_namespaces(parsed()) == ()


@pytest.mark.parametrize("direction", ["egress", "ingress"])
@pytest.mark.parametrize(
    ("name", "admitted"),
    [
        ("tools", True),
        ("default", True),
        ("tenant-beta", True),
        ("kube-system", False),
        ("kube-public", False),
        ("tenantplane-system", False),
        ("tenantplane-models", False),
        ("tenantplane-other", False),
    ],
)
def test_namespaces_that_no_tenant_is_connected_with(direction: str, name: str, admitted: bool) -> None:
    found = effective({"network": {direction: {"namespaces": ["web", name]}}})
    opened = found.network.egress_namespaces if direction == "egress" else found.network.ingress_namespaces
    assert opened == (("web", name) if admitted else ("web",))
    problem = found.problems.get(ConditionType.NETWORK_READY)
    assert (problem is None) is admitted
    if problem is not None:
        assert (problem.reason, problem.permanent) == (Reason.INVALID_SPEC, True)
        assert problem.message.startswith(f"spec.network.{direction}.namespaces[1]: {name} ")


@pytest.mark.parametrize(
    "cidr", ["192.168.5.0/24", "10.1.0.0/16", "100.64.0.0/24", "fd12::/64", "64:ff9b::c0a8:501/128"]
)
def test_private_ranges_need_to_be_told_from_the_clusters_own(cidr: str) -> None:
    found = effective({"network": {"egress": {"cidrs": [cidr, "8.8.8.0/24"]}}})
    assert found.network.egress_cidrs == ("8.8.8.0/24",)
    assert "shared.network.clusterCIDRs" in found.problems[ConditionType.NETWORK_READY].message
    known = effective(
        {"network": {"egress": {"cidrs": [cidr]}}}, shared={"network": {"clusterCIDRs": ["172.20.0.0/16"]}}
    )
    assert known.network.egress_cidrs == (cidr,)


@pytest.mark.parametrize(
    ("cidr", "admitted"),
    [
        ("8.8.8.0/24", "8.8.8.0/24"),
        ("8.8.8.8/24", "8.8.8.0/24"),
        ("192.168.5.0/24", "192.168.5.0/24"),
        ("2600:1:2::/48", "2600:1:2::/48"),
        ("0.0.0.0/0", None),
        ("::/0", None),
        ("0.0.0.0/1", None),
        ("128.0.0.0/1", None),
        ("::/1", None),
        ("127.0.0.1/32", None),
        ("::1/128", None),
        ("0.0.0.0/32", None),
        ("169.254.169.254/32", None),
        ("169.0.0.0/8", None),
        ("fe80::/64", None),
        ("fd00:ec2::254/128", None),
        ("::ffff:169.254.169.254/128", None),
        ("64:ff9b::a9fe:a9fe/128", None),
        ("64:ff9b::/96", None),
        ("64:ff9b::a00:1/128", None),
        ("100.100.100.200/32", None),
        ("168.63.129.16/32", None),
        ("fd20:ce::254/128", None),
        ("224.0.0.1/32", None),
        ("10.0.0.0/8", None),
        ("10.0.7.0/24", None),
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("fd12::/64", None),
        ("8.8.8.8", None),
        ("nonsense/8", None),
        ("10.1.0.0/99", None),
    ],
)
def test_listed_egress_ranges(cidr: str, admitted: str | None) -> None:
    found = effective(
        {"network": {"egress": {"cidrs": [cidr]}}},
        shared={"network": {"clusterCIDRs": ["10.0.0.0/16", "fd12::/56"]}},
    )
    assert found.network.egress_cidrs == (() if admitted is None else (admitted,))
    problem = found.problems.get(ConditionType.NETWORK_READY)
    assert (problem is None) is (admitted is not None)
    if problem is not None:
        assert problem.message.startswith("spec.network.egress.cidrs[0]: ")
        assert problem.permanent


def test_every_address_is_to_be_asked_for_by_name() -> None:
    problem = effective({"network": {"egress": {"cidrs": ["0.0.0.0/0"]}}}).problems[ConditionType.NETWORK_READY]
    assert "internet: true" in problem.message
