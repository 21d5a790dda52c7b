"""Promises of the whole: changes reach callers within a second, each part may be down, nobody sees another tenant."""

import pytest
from tests.operator.e2e.world import wait
from tests.system.stack import SECRETS, TENANTS, Stack

from tenantplane_api.runtime import names

pytestmark = pytest.mark.cluster


def question(tenant: str) -> str:
    return f"What is the {'lighthouse' if tenant == 'north' else 'harbour'} code?"


@pytest.mark.parametrize(("mine", "other"), [TENANTS, TENANTS[::-1]])
def test_each_tenant_has_its_own_and_nothing_of_the_other(stack: Stack, mine: str, other: str) -> None:
    ids = {model["id"] for model in stack.models(mine).body["data"]}
    assert ids == {f"{mine}-chat", f"assistant/{mine}-desk"}
    right = stack.ask(mine, question(mine))
    assert SECRETS[mine].split()[-1] in right.body["answer"]
    assert [citation["document"] for citation in right.body["citations"]] == ["notes/code.md"]
    leaked = stack.ask(mine, question(other))
    assert leaked.status == 200
    assert SECRETS[other].split()[-1] not in str(leaked.body)
    foreign = stack.ask(mine, question(other), assistant=f"{other}-desk")
    assert (foreign.status, foreign.code) == (404, "model_not_found")
    assert other not in foreign.body["error"]["message"]


def test_a_change_is_effective_without_a_restart(stack: Stack) -> None:
    stack.world.patch("Tenant", "north", spec={"suspend": True})
    _, took = wait(lambda: stack.models("north").code == "tenant_suspended", "north is suspended", target=1)
    assert stack.models("south").status == 200
    stack.world.patch("Tenant", "north", spec={"suspend": False})
    _, back = wait(lambda: stack.models("north").status == 200, "north is back", target=1)
    print(f"effective after {took:.2f} s, and back after {back:.2f} s")


def test_a_revoked_key_is_refused_and_only_that_one(stack: Stack) -> None:
    space = names.default_namespace("south")
    stack.world.create("APIKey", "leaked", space, spec={"owner": "intern"})
    text, _ = wait(lambda: stack.world.key_text("leaked", space), "the key is made", target=2)
    wait(lambda: stack.models("south", key=text).status == 200, "the key works", target=1)
    stack.world.patch("APIKey", "leaked", space, spec={"revoked": True})
    _, took = wait(lambda: stack.models("south", key=text).status == 401, "the key is refused", target=1)
    assert stack.models("south").status == 200
    print(f"refused after {took:.2f} s")


def test_chat_goes_on_while_the_operator_is_down(stack: Stack) -> None:
    before = stack.served()
    stack.kill_operator()
    try:
        assert stack.served() == before
        # Through a restart of the data plane as well: what it needs is in Kubernetes, not in the operator.
        stack.kill_dataplane()
        stack.start_dataplane()
        assert stack.served() == before
    finally:
        stack.start_operator()
    assert stack.served() == before


def test_deleting_a_tenant_cuts_it_and_the_same_yaml_takes_it_back(stack: Stack) -> None:
    before, live = stack.served(), stack.world.get("Tenant", "south")
    assert live is not None
    stack.world.delete("Tenant", "south")
    _, took = wait(lambda: stack.models("south").status == 401, "south is cut", target=1)
    assert stack.models("north").status == 200
    wait(lambda: stack.world.get("Tenant", "south") is None, "the Tenant is gone", target=3)
    space = stack.world.get("Namespace", names.default_namespace("south"))
    assert space is not None
    assert "deletionTimestamp" not in space["metadata"]
    assert stack.world.get("NetworkPolicy", names.CHILD_NETWORK_POLICY_DENY, names.default_namespace("south"))
    stack.world.create("Tenant", "south", spec=live["spec"])
    stack.world.await_ready("south", target=6)
    # With the same key: it stands in the namespace that was kept.
    wait(lambda: stack.served() == before, "south chats as before", target=2)
    print(f"cut after {took:.2f} s")
