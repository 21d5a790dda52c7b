"""Plan and spec together: what overrides what, and that every refusal leaves the safe side in force."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.tenant.build import parsed, platform

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime.documents import TenantLimits
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
    return merge(parsed(spec=spec).spec, platform(operator=operator, **sections))


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
