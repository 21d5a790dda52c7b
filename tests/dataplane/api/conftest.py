"""Two tenants with real indices of their own, each with an assistant of the same name."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.dataplane.harness import (
    Key,
    Running,
    dataplane,
    eventually,
    external_model,
    extractive_model,
    fake_engine,
    local_platform,
    new_key,
    tenant_document,
)
from tests.dataplane.knowledge.building import Built, build

from tenantplane_api.runtime.documents import AssistantEntry, TenantLimits, TenantRuntime
from tenantplane_api.runtime.names import TenantID
from tenantplane_cli.fakeengine import FakeEngine

ACME_DOCUMENTS: dict[str, str | bytes] = {
    "returns.md": "# Returns\n\n## Deadlines\n\nCustomers of Acme send faulty goods back within 30 days.\n",
    "freezer.txt": "The blast freezer is repaired by Mirella Tosh, extension 4471.\n",
}
GLOBEX_DOCUMENTS: dict[str, str | bytes] = {
    "returns.md": "# Returns\n\n## Deadlines\n\nCustomers of Globex send faulty goods back within 77 days.\n",
    "reactor.txt": "The reactor cooling valve is called canary-omega-9.\n",
}


@dataclass
class AssistantWorld:
    plane: Running
    engine: FakeEngine
    acme: Key
    globex: Key
    documents: dict[str, TenantRuntime]


def _tenant(name: str, key: Key, built: Built, *, limits: TenantLimits | None = None) -> TenantRuntime:
    assistants = [AssistantEntry(name="handbook", knowledge=(built.pointer.name,))]
    if name == "acme":
        assistants.append(AssistantEntry(name="modelled", model="chat", knowledge=(built.pointer.name,)))
        assistants.append(AssistantEntry(name="building", knowledge=("not-built",)))
    return tenant_document(
        name,
        tenant_id=f"{name}-0001",
        keys=[key],
        models={"chat": "tenantplane-models/shared", "extract": "tenantplane-models/extractive"},
        assistants=assistants,
        indexes=[built.pointer],
        limits=limits,
    )


@pytest.fixture
async def assistants(tmp_path: Path) -> AsyncIterator[AssistantWorld]:
    acme_index = build(tmp_path, ACME_DOCUMENTS, tenant_id=TenantID("acme-0001"))
    globex_index = build(tmp_path, GLOBEX_DOCUMENTS, tenant_id=TenantID("globex-0001"))
    acme, globex = new_key(), new_key()
    platform = local_platform(store=tmp_path / "store")
    async with fake_engine() as (engine, url), dataplane(tmp_path / "c", platform=platform, role="all") as plane:
        documents = {"acme": _tenant("acme", acme, acme_index), "globex": _tenant("globex", globex, globex_index)}
        plane.config.write(external_model("shared", url), extractive_model("extractive"), *documents.values())
        await eventually(lambda: len(plane.app.store.current.tenants) == 2)
        yield AssistantWorld(plane, engine, acme, globex, documents)
