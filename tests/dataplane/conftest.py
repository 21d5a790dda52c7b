"""Two tenants over one data plane and one fake engine: the smallest world in which isolation can fail."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.dataplane.harness import Key, Running, dataplane, external_model, fake_engine, new_key, tenant_document

from tenantplane_api.runtime.documents import ModelRuntime, TenantRuntime
from tenantplane_cli.fakeengine import FakeEngine


@dataclass
class World:
    """``acme`` may use models ``shared`` and ``acme-only``; ``globex`` only ``shared``, under another alias."""

    plane: Running
    engine: FakeEngine
    acme: Key
    globex: Key
    documents: dict[str, TenantRuntime]
    models: dict[str, ModelRuntime]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fake_engine(models=("fake-chat", "fake-secret-7b")) as (engine, url):
        acme, globex = new_key("acme-key"), new_key("globex-key")
        models = {
            "shared": external_model("shared", url),
            "private": external_model("acme-only", url, shared_with=["acme"], served_name="fake-secret-7b"),
        }
        tenants = {
            "acme": tenant_document(
                "acme",
                keys=[acme],
                models={"chat": "tenantplane-models/shared", "acme-canary": "tenantplane-models/acme-only"},
            ),
            "globex": tenant_document("globex", keys=[globex], models={"talk": "tenantplane-models/shared"}),
        }
        directory = tmp_path / "config"
        async with dataplane(directory) as plane:
            plane.config.write(*models.values(), *tenants.values())
            await plane.app.store._rescan()
            yield World(plane, engine, acme, globex, tenants, models)
