"""Policies that are not ours: which open something, how often anybody looks, and that all who have some hear of it."""

import asyncio
from typing import Any, cast

import pytest

from tenantplane_api.crd.conditions import TENANT_CONCERNS, ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.resources import Manifest
from tenantplane_operator.strangers import Watch
from tenantplane_operator.tenant.concern import failed, ok
from tenantplane_operator.tenant.strangers import NONE, Strangers, is_strange, with_strangers

OPEN: dict[str, Any] = {"ingress": [{}]}
OURS = {names.LABEL_TENANT: "acme", names.LABEL_MANAGED_BY: names.MANAGED_BY}


def policy(name: str, space: str = "a", *, labels: dict[str, str] | None = None, **spec: Any) -> Manifest:
    meta = {"name": name, "namespace": space, "labels": labels or {}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def binding(name: str, space: str = "a", **labels: str) -> Manifest:
    meta = {"name": name, "namespace": space, "labels": labels}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta}


class Api:
    """Lists what it has, and remembers for what it was asked."""

    def __init__(self, *objects: Manifest) -> None:
        self.objects = list(objects)
        self.asked: list[str] = []
        self.broken = False

    async def list_all(
        self, kind: str, *, namespace: str | None = None, label_selector: str | None = None, metadata_only: bool = False
    ) -> list[Manifest]:
        self.asked.append(f"{kind} {namespace or '*'}")
        await asyncio.sleep(0)
        if self.broken:
            raise ApiError("away", status=503)
        return [
            obj
            for obj in self.objects
            if obj["kind"] == kind
            and namespace in (None, obj["metadata"]["namespace"])
            and not (label_selector and names.LABEL_TENANT in obj["metadata"]["labels"])
        ]


class Rig:
    """A watch of namespaces ``a`` and ``b``; ``kube-system`` is no tenant's."""

    def __init__(self, *objects: Manifest) -> None:
        self.api, self.watch, self.woken = Api(*objects), Watch(), list[str]()

    def wake(self, space: str) -> bool:
        self.woken.append(space)
        return space in ("a", "b")

    async def of(self, space: str = "a", *, epoch: int = 1, asked: str | None = None) -> Strangers:
        return await self.watch.of(cast("KubeApi", self.api), space, epoch=epoch, asked=asked, wake=self.wake)


@pytest.mark.parametrize(
    ("obj", "strange"),
    [
        (policy("x", ingress=[{}]), True),
        (policy("x", egress=[{}]), True),
        (policy("x", labels={names.LABEL_TENANT: "acme"}, ingress=[{}]), True),
        (policy("x", labels=OURS, ingress=[{}]), False),
        # Denies more, and opens nothing.
        (policy("x", podSelector={}, policyTypes=["Ingress", "Egress"]), False),
        (binding("x"), True),
    ],
)
def test_what_is_strange(obj: Manifest, strange: bool) -> None:
    assert is_strange(obj) is strange


def test_what_is_told() -> None:
    fine = dict.fromkeys(TENANT_CONCERNS, ok(Reason.APPLIED))
    assert with_strangers(fine, NONE) == fine
    out = with_strangers(fine, Strangers(tuple(f"p{i}" for i in range(12)), ("who",)))
    network, access = out[ConditionType.NETWORK_READY], out[ConditionType.ACCESS_READY]
    assert (network.status, network.reason) == ("False", "ForeignPolicies")
    assert "p0, p1" in network.message
    assert "and 2 more" in network.message
    assert access.ok
    assert "who" in access.message
    worse = {**fine, ConditionType.NETWORK_READY: failed(Reason.INVALID_SPEC, "x")}
    assert with_strangers(worse, Strangers(("p",)))[ConditionType.NETWORK_READY].reason == "InvalidSpec"


async def test_one_list_for_all_tenants_and_one_more_for_who_came_or_asks() -> None:
    rig = Rig(policy("left", "b", **OPEN), policy("x", "kube-system", **OPEN), binding("who", "a"))
    # All at once, as after a start: one of them lists, nobody waits for it, and who has some is woken.
    first, *others = await asyncio.gather(*(rig.of(space) for space in ("a", "b", "c", "d")))
    assert rig.api.asked == ["NetworkPolicy *", "RoleBinding *"]
    assert first == Strangers((), ("who",))
    assert set(others) == {NONE}
    assert {"b", "kube-system"} <= set(rig.woken)
    assert (await rig.of("b")).policies == ("left",)
    for _ in range(5):
        await rig.of("a")
        await rig.of("c")
    assert len(rig.api.asked) == 2
    rig.watch.doubt("c")
    rig.api.objects.append(policy("prepared", "c", labels={names.LABEL_TENANT: "other"}, **OPEN))
    assert (await rig.of("c")).policies == ("prepared",)
    assert rig.api.asked[2:] == ["NetworkPolicy c", "RoleBinding c"]
    rig.api.objects.clear()
    assert await rig.of("b", asked="now") == NONE
    assert await rig.of("b", asked="now") == NONE
    assert rig.api.asked[4:] == ["NetworkPolicy b", "RoleBinding b"]


async def test_what_only_a_closer_look_finds_is_not_forgotten_at_the_resync() -> None:
    rig = Rig(policy("posing", "a", labels={names.LABEL_TENANT: "acme"}, **OPEN))
    assert await rig.of() == NONE
    rig.watch.doubt("a")
    assert (await rig.of()).policies == ("posing",)
    assert (await rig.of(epoch=2)).policies == ("posing",)
    rig.api.objects.clear()
    assert await rig.of(epoch=3) == NONE


async def test_what_could_not_be_looked_at_is_at_the_next_pass() -> None:
    rig = Rig(policy("left", "a", **OPEN))
    rig.api.broken = True
    assert await rig.of() == NONE
    rig.watch.doubt("a")
    with pytest.raises(ApiError):
        await rig.of()
    rig.api.broken = False
    assert (await rig.of()).policies == ("left",)
