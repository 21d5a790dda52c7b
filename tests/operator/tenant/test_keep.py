"""What stays published of a Tenant that cannot be compiled: never more than is read, never a key that was revoked."""

from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import msgspec
import pytest
from tests.operator.tenant.build import api_key, parsed

from tenantplane_api.runtime import limits
from tenantplane_api.runtime.documents import AssistantEntry, KeyEntry, TenantLimits, TenantRuntime, canonical
from tenantplane_api.runtime.names import Revision
from tenantplane_operator.context import Context
from tenantplane_operator.tenant.document import accepted_keys, compile_document
from tenantplane_operator.tenant.keep import fits, keep_published, renewed


def made(number: int, **spec: Any) -> dict[str, Any]:
    when = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
    return api_key(
        f"key-{number:034d}", digest=f"sha256:{number:064x}", spec=spec, metadata={"creationTimestamp": when}
    )


def entries(*objects: dict[str, Any]) -> tuple[KeyEntry, ...]:
    return accepted_keys(objects, namespace="tenant-acme")


def published(keys: tuple[KeyEntry, ...], *, spare: int) -> TenantRuntime:
    """A document with these keys that is ``spare`` bytes below its bound."""
    bare = compile_document(parsed(), plan="gold", keys=keys, models=[], indexes=[], rates=TenantLimits())

    def filled(text: str) -> TenantRuntime:
        entry = AssistantEntry(name="a", model="m", knowledge=(), instructions=text)
        return msgspec.structs.replace(bare, spec=msgspec.structs.replace(bare.spec, assistants=(entry,)))

    rest = limits.RUNTIME_DOCUMENT_MAX_BYTES - spare - len(canonical(filled("-"))) + 1
    made = filled("-" * rest)
    assert len(canonical(made)) == limits.RUNTIME_DOCUMENT_MAX_BYTES - spare
    return made


def test_keys_that_do_not_fit_any_more_wait_and_a_revocation_passes() -> None:
    old = [made(i, owner="x" * 128) for i in range(100)]
    document = published(entries(*old), spare=4000)
    old[7]["spec"]["revoked"] = True
    flood = [made(i, owner="x" * 128) for i in range(100, 200)]
    now = renewed(document, entries(*old, *flood))
    assert fits(now)
    assert [entry.name for entry in now.spec.keys] == [f"key-{i:034d}" for i in range(100) if i != 7]
    # Where there is room, everything new is in it.
    few = entries(*old, *flood[:3])
    assert renewed(document, few).spec.keys == few


def test_an_end_that_is_new_holds_although_nothing_else_does() -> None:
    old = [made(i) for i in range(100)]
    document = published(entries(*old), spare=1000)
    old[3]["spec"] |= {"expiresAt": "2026-02-01T00:00:00Z", "owner": "somebody else"}
    now = renewed(document, entries(*old, *(made(i) for i in range(100, 200))))
    assert fits(now)
    assert len(now.spec.keys) == 100
    assert (now.spec.keys[3].expires_at, now.spec.keys[3].owner) == (1769904000, "")


def test_ends_that_take_the_last_room_cost_keys_and_not_the_bound() -> None:
    old = [made(i) for i in range(100)]
    document = published(entries(*old), spare=0)
    for key in old:
        key["spec"]["expiresAt"] = "2026-02-01T00:00:00Z"
    wanted = entries(*old)
    now = renewed(document, wanted)
    assert fits(now)
    assert 80 < len(now.spec.keys) < 100
    assert set(now.spec.keys) < set(wanted)


class Publisher:
    """One document that stands."""

    def __init__(self, document: TenantRuntime) -> None:
        self.document = document

    def revision(self, _: str) -> str:
        return "r"

    async def read_tenant(self, _: str) -> TenantRuntime:
        return self.document

    async def publish(self, document: TenantRuntime) -> tuple[Revision, bool]:
        self.document = document
        return Revision("r"), True


@pytest.mark.parametrize("spare", [0, 4000])
async def test_what_is_kept_is_published_within_the_bound_and_held_keys_too(spare: int) -> None:
    """The whole way, with an APIKey that is gone and held."""
    old = [made(i, owner="x" * 128) for i in range(100)]
    publisher, held = Publisher(published(entries(*old), spare=spare)), AsyncMock(return_value="held")
    flood = [made(i, owner="x" * 128) for i in range(100, 200)]
    revoked = {**old[7], "spec": {"revoked": True}}
    ctx = Mock(publisher=publisher)
    ctx.cache.in_namespace.return_value = [*old[:7], revoked, *old[9:], *flood]
    ctx.cache.get.side_effect = lambda key: revoked if key.name == revoked["metadata"]["name"] else None
    ctx.hashes.outside.return_value = frozenset()
    ctx.deletions.verdict = held
    ctx.deletions.settle = AsyncMock()
    ctx.deletions.returned.return_value = False
    now = await keep_published(cast("Context", ctx), "acme")
    assert now is not None
    assert fits(publisher.document)
    assert f"sha256:{7:064x}" not in now.hashes
    assert f"sha256:{8:064x}" in now.hashes
    assert len(now.hashes) >= 99


async def test_a_held_key_for_which_there_is_no_room_does_not_break_the_bound() -> None:
    old = [made(i, owner="x" * 128) for i in range(100)]
    publisher = Publisher(published(entries(*old), spare=0))
    ctx = Mock(publisher=publisher)
    # One is gone and held, and a new one of its size has its place.
    ctx.cache.in_namespace.return_value = [*old[1:], made(100, owner="x" * 128)]
    ctx.cache.get.return_value = None
    ctx.hashes.outside.return_value = frozenset()
    ctx.deletions.verdict, ctx.deletions.settle = AsyncMock(return_value="held"), AsyncMock()
    now = await keep_published(cast("Context", ctx), "acme")
    assert now is not None
    assert fits(publisher.document)
    assert len(now.hashes) == 100
