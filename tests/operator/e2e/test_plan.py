"""A tenant on the plan that the chart ships, and what the fence of the namespace takes from the plan."""

from typing import Any

import pytest
import yaml
from tests.operator.e2e.world import World, wait

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import parse_platform
from tenantplane_cli.demo.parts import CHART_VALUES

pytestmark = pytest.mark.cluster

SHIPPED: dict[str, Any] = yaml.safe_load(CHART_VALUES.read_text(encoding="utf-8"))["platform"]["operator"]["plans"]
ROLE = "arn:aws:iam::123456789012:role/tenants/{}/chat"
STAR = names.ANNOTATION_ALLOW_PREFIX + "registries"
OUR_KIND = "count/apikeys.tenantplane.dev"


def notes(world: World, kind: str, name: str, ns: str = "") -> dict[str, str]:
    found = world.get(kind, name, ns)
    assert found is not None
    return dict(found["metadata"].get("annotations") or {})


@pytest.mark.slow
def test_the_chart_plan_bounds_a_tenant_and_locks_nobody_out(world: World) -> None:
    plans = {**SHIPPED, "tight": {**SHIPPED["default"], "quota": {"secrets": "1", "configmaps": "0"}}}
    allowed = {"allowedRoleARNs": [ROLE.format("{tenantID}")]}
    with world.operator(plans=plans, aws=allowed, resyncSeconds=3600) as operator:
        world.tenant("shipped", identity={"aws": {"roleARN": ROLE.format("shipped-0001")}})
        world.tenant("tight", plan="tight", identity={"aws": {"roleARN": ROLE.format("shipped-0001")}})
        status = world.await_ready("shipped")["status"]
        # A refused role makes the Tenant Stalled, and leaves all else at work.
        world.await_condition("Tenant", "tight", "IdentityReady", "False")
        assert world.condition("Tenant", "tight", "Stalled")["reason"] == "RoleNotAllowed"
        assert world.condition("Tenant", "shipped", "IdentityReady")["status"] == "True"
        assert status["modelsUsable"] == f"{sum(m['usable'] for m in status['effective']['models'])}/1"
        assert status["effective"]["roleARN"] == ROLE.format("shipped-0001")
        assert (
            status["effective"]["quota"]
            == parse_platform({"operator": {"plans": plans}}).operator.plans["default"].quota
        )

        account = names.CHILD_SERVICE_ACCOUNT
        assert (
            notes(world, "ServiceAccount", account, "tenant-shipped")[names.ANNOTATION_ROLE_ARN]
            == status["effective"]["roleARN"]
        )
        assert names.ANNOTATION_ROLE_ARN not in notes(world, "ServiceAccount", account, "tenant-tight")
        assert STAR not in notes(world, "Namespace", "tenant-shipped")

        # What would widen the fence goes, whoever wrote it.
        world.patch("Namespace", "tenant-shipped", metadata={"annotations": {STAR: "*", "example.com/x": "stays"}})
        forged = {"annotations": {names.ANNOTATION_ROLE_ARN: ROLE.format("shipped-0001")}}
        world.patch("ServiceAccount", account, "tenant-tight", metadata=forged)
        wait(lambda: STAR not in notes(world, "Namespace", "tenant-shipped"), "the allowance is gone", target=2)
        wait(
            lambda: names.ANNOTATION_ROLE_ARN not in notes(world, "ServiceAccount", account, "tenant-tight"),
            "the forged role is gone",
            target=2,
        )
        assert notes(world, "Namespace", "tenant-shipped")["example.com/x"] == "stays"

        # The tenant fills its share; the Secrets of keys that it makes then still find room.
        world.create("Secret", "own", "tenant-tight")
        for name in ("one", "two"):
            world.create("APIKey", name, "tenant-tight", spec={})
        made = ("one", "two", "default")
        _, took = wait(
            lambda: all(world.get("Secret", name, "tenant-tight") is not None for name in made),
            "every key has its Secret",
            target=6,
        )
        print(f"keys of a full namespace after {took:.1f} s")
        wait(operator.idle, "idle")


@pytest.mark.slow
def test_our_own_kinds_are_in_the_quota_once_they_can_be_counted(world: World) -> None:
    with world.operator(plans=SHIPPED, resyncSeconds=3600):
        world.tenant("counted")
        world.await_ready("counted")

        def counted() -> bool:
            quota = world.get("ResourceQuota", names.CHILD_QUOTA, "tenant-counted")
            return quota is not None and OUR_KIND in (quota.get("status") or {}).get("used", {})

        _, took = wait(counted, "APIKeys are counted", target=12)
        print(f"counted after {took:.0f} s")
        # Never refused meanwhile, nor now.
        world.create("APIKey", "later", "tenant-counted", spec={})
        wait(lambda: world.get("Secret", "later", "tenant-counted") is not None, "the key has its Secret", target=3)
