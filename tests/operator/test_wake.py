"""Which reconciles a change wakes, and that bookkeeping wakes none."""

import asyncio
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import Mock

import pytest
from tests.operator.runtime.objects import obj

from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import model_key
from tenantplane_operator.context import Context
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.queue import Done, Result, WorkQueue
from tenantplane_operator.runtime.resources import Manifest, ObjectKey
from tenantplane_operator.wake import Waker, document_owner


def tenant(name: str, tenant_id: str = "", *, version: int = 1, **rest: Any) -> Manifest:
    spec = {"tenantID": tenant_id or f"{name}-0001"}
    return obj("Tenant", name, ns="", uid=name, version=version, tenant=None, spec=spec, **rest)


class Rig:
    """A cache, a waker and a queue without workers."""

    def __init__(self) -> None:
        async def reconcile(_: ObjectKey) -> Result:
            return Done()

        self.waker = Waker()
        self.cache = Cache(index_label=names.LABEL_TENANT, on_change=self.waker.changed)
        self.queue: WorkQueue[ObjectKey] = WorkQueue(reconcile)
        services: dict[str, Any] = dict.fromkeys(
            ("platform", "api", "applier", "recorder", "publisher", "builds", "kinds"), cast("Any", None)
        )
        services["deletions"] = Mock()
        self.ctx = Context(cache=self.cache, queue=self.queue, **services)
        self.waker.ctx = self.ctx

    def woken(self, change: Callable[[], object]) -> set[str]:
        """Kind and name of what a change wakes."""
        self.queue._dirty.clear()
        for lane in self.queue._ready.values():
            lane.clear()
        change()
        return {f"{key.kind} {key.name}" for key in self.queue._dirty}


@pytest.fixture
async def rig() -> Rig:
    await asyncio.sleep(0)
    return Rig()


async def test_our_own_status_wakes_nobody(rig: Rig) -> None:
    assert rig.woken(lambda: rig.cache.put(tenant("acme"))) == {"Tenant acme"}
    assert rig.woken(lambda: rig.cache.put(tenant("acme", version=2, status={"a": 1}))) == set()
    assert rig.woken(lambda: rig.cache.put(tenant("acme", "other-0001", version=3))) == {"Tenant acme"}


async def test_rivals_hear_of_each_other(rig: Rig) -> None:
    rig.cache.put(tenant("older", "same-0001"))
    rig.cache.put(tenant("stranger"))
    assert rig.woken(lambda: rig.cache.put(tenant("younger", "same-0001"))) == {"Tenant younger", "Tenant older"}
    assert rig.woken(lambda: rig.cache.remove(ObjectKey("Tenant", "", "older"))) == {"Tenant older", "Tenant younger"}


async def test_a_quotas_usage_wakes_nobody_but_its_spec_does(rig: Rig) -> None:
    rig.cache.put(obj("ResourceQuota", spec={"hard": {}}))
    used = obj("ResourceQuota", spec={"hard": {}}, status={"used": {"pods": "1"}}, version=2)
    assert rig.woken(lambda: rig.cache.put(used)) == set()
    edited = obj("ResourceQuota", spec={"hard": {"pods": "1"}}, version=3)
    assert rig.woken(lambda: rig.cache.put(edited)) == {"Tenant acme"}


async def test_a_child_that_lost_its_label_wakes_who_had_it(rig: Rig) -> None:
    rig.cache.put(obj("NetworkPolicy"))
    key = ObjectKey("NetworkPolicy", "ns", "a")
    assert rig.woken(lambda: rig.cache.remove(key, obj("NetworkPolicy", tenant=None, version=2))) == {"Tenant acme"}


async def test_a_keys_status_wakes_its_tenant_and_not_itself(rig: Rig) -> None:
    rig.cache.put(obj("Namespace", "ns", ns="", uid="n"))
    rig.cache.put(obj("APIKey", "k", uid="k", spec={}))
    hashed = obj("APIKey", "k", uid="k", version=2, spec={}, status={"hash": "sha256:x"})
    assert rig.woken(lambda: rig.cache.put(hashed)) == {"Tenant acme"}
    assert "sha256:x" in rig.ctx.hashes.outside("elsewhere")
    assert "sha256:x" not in rig.ctx.hashes.outside("ns")
    gone = rig.woken(lambda: rig.cache.remove(ObjectKey("APIKey", "ns", "k"), hashed))
    assert gone == {"Tenant acme", "APIKey k"}
    assert "sha256:x" not in rig.ctx.hashes.outside("elsewhere")
    assert list(rig.ctx.gone_keys) == [ObjectKey("APIKey", "ns", "k")]


async def test_a_model_wakes_its_users_when_it_matters_to_them(rig: Rig) -> None:
    rig.ctx.model_users[model_key("ns", "m")].add("acme")
    rig.cache.put(obj("ModelDeployment", "m", spec={"sharing": {"mode": "AllTenants"}}))
    said = obj("ModelDeployment", "m", version=2, spec={"sharing": {"mode": "AllTenants"}}, status={"replicas": 0})
    assert rig.woken(lambda: rig.cache.put(said)) == set()
    private = obj("ModelDeployment", "m", version=3, spec={"sharing": {"mode": "Private"}})
    assert rig.woken(lambda: rig.cache.put(private)) == {"ModelDeployment m", "Tenant acme"}


async def test_a_namespace_that_changes_hands_wakes_who_lives_there(rig: Rig) -> None:
    rig.cache.put(obj("APIKey", "k", uid="k", spec={}))
    rig.cache.put(tenant("beta", metadata={}))
    space = obj("Namespace", "ns", ns="", uid="n", tenant="acme")
    assert rig.woken(lambda: rig.cache.put(space)) == {"Tenant acme", "APIKey k"}
    relabelled = obj("Namespace", "ns", ns="", uid="n", version=2, tenant="acme", metadata={"annotations": {"x": "y"}})
    assert rig.woken(lambda: rig.cache.put(relabelled)) == {"Tenant acme"}
    given = obj("Namespace", "ns", ns="", uid="n", version=3, tenant="beta")
    assert rig.woken(lambda: rig.cache.put(given)) == {"Tenant acme", "Tenant beta", "APIKey k"}


def test_documents_name_their_owner() -> None:
    assert document_owner("t.acme") == ObjectKey("Tenant", "", "acme")
    assert document_owner("m.ns.big") == ObjectKey("ModelDeployment", "ns", "big")
    for other in ("t.", "m.x", "x.y", "t", ""):
        assert document_owner(other) is None


async def test_our_own_finalizer_wakes_nobody_and_its_loss_does(rig: Rig) -> None:
    rig.cache.put(tenant("acme"))

    def held(version: int, **spec: Any) -> Manifest:
        found = tenant("acme", version=version)
        found["metadata"]["finalizers"] = [names.FINALIZER]
        found["spec"] |= spec
        return found

    assert rig.woken(lambda: rig.cache.put(held(2))) == set()
    assert rig.woken(lambda: rig.cache.put(tenant("acme", version=3))) == {"Tenant acme"}
    # With it comes somebody's edit.
    assert rig.woken(lambda: rig.cache.put(held(4, suspend=True))) == {"Tenant acme"}


async def test_an_apikey_that_we_just_made_wakes_only_itself(rig: Rig) -> None:
    rig.cache.put(tenant("acme"))
    rig.cache.put(obj("Namespace", "tenant-acme", ns="", uid="ns", tenant="acme"))

    def key(name: str, version: int, *, ours: bool, **rest: Any) -> Manifest:
        made = obj("APIKey", name, ns="tenant-acme", uid=name, version=version, tenant="acme", **rest)
        if not ours:
            del made["metadata"]["labels"][names.LABEL_MANAGED_BY]
        return made

    assert rig.woken(lambda: rig.cache.put(key("default", 2, ours=True))) == {"APIKey default"}
    told = key("default", 3, ours=True, status={"hash": "sha256:1"})
    assert rig.woken(lambda: rig.cache.put(told)) == {"Tenant acme"}
    assert rig.woken(lambda: rig.cache.put(key("web", 4, ours=False))) == {"APIKey web", "Tenant acme"}
