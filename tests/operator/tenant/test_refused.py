"""A Tenant whose spec cannot be read: its document stays, or goes once when it is to be suspended."""

from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from tests.operator.apikey.sim import Sim

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.resources import ObjectKey
from tenantplane_operator.tenant.reconcile import reconcile_tenant

ACME = ObjectKey(names.KIND_TENANT, "", "acme")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("stands", ["r1", None])
@pytest.mark.parametrize("tenant_id", ["acme-0001", None])
async def test_a_suspended_tenant_that_cannot_be_read_is_withdrawn_once(
    stands: str | None, tenant_id: str | None, known: bool
) -> None:
    sim = Sim()
    if not known:
        sim.ctx.published.clear()
    publisher = Mock(withdraw=AsyncMock())
    publisher.revision.return_value = stands
    sim.ctx.publisher = publisher
    sim.ctx.deletions = Mock()
    sim.ctx.deletions.held_keys.return_value = []
    spec: dict[str, Any] = {"suspend": True, "assistants": "none"} | ({"tenantID": tenant_id} if tenant_id else {})
    obj = sim.api.objects[ACME]
    sim.user({**obj, "metadata": {**obj["metadata"], "finalizers": [names.FINALIZER]}, "spec": spec}, ACME)
    await reconcile_tenant(sim.ctx, ACME)
    assert publisher.withdraw.await_count == (1 if stands else 0)
    assert "acme" not in sim.ctx.published
    assert "beta" in sim.ctx.published or not known
    assert sim.api.objects[ACME]["status"]["conditions"]
