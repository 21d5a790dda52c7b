"""Ways out of a tenant's namespace, tried by everybody who is in it, in both directions. The table is in `attempts_*`.

The last tests take guards away one by one and see what then gets through: a guard that nothing depends on is not
tested.
"""

from __future__ import annotations

import itertools

import pytest
from tests.chart.kube import Answer, fence_down, until
from tests.isolation.attempts import Attempt, api_key, model, service
from tests.isolation.attempts_rights import control_attempts, foreign_attempts, identity_attempts
from tests.isolation.attempts_workloads import network_attempts, pods_attempts, storage_attempts
from tests.isolation.conftest import Place, Side
from tests.isolation.people import (
    API_KEYS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    FENCE,
    MODELS,
    PODS,
    RBAC,
    SECRETS,
    SERVICES,
    Person,
    obj,
    pod,
    policy_of,
    refused_by,
    template,
    url,
    workload,
)

from tenantplane_api.runtime import names

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ATTEMPTS = {
    **pods_attempts(),
    **storage_attempts(),
    **network_attempts(),
    **identity_attempts(),
    **control_attempts(),
    **foreign_attempts(),
}


@pytest.fixture(scope="module", autouse=True)
def furniture(place: Place) -> None:
    """On both sides: a pod and a Deployment of ours, as an engine's would be, and a few things of the tenant's own."""
    ours = {
        names.LABEL_TENANT: "x",
        names.LABEL_MODEL: "m",
        names.LABEL_COMPONENT: "model",
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }
    for side in (place.own, place.other):
        engine = workload(DEPLOYMENTS, template(labels=ours), "ours")
        engine["metadata"]["labels"] = ours
        engine["spec"] |= {"replicas": 0, "selector": {"matchLabels": {names.LABEL_MODEL: "m"}}}
        own = workload(DEPLOYMENTS, template(), "theirs")
        own["spec"]["replicas"] = 0
        key, local = api_key(), model()
        key["metadata"]["name"] = local["metadata"]["name"] = "theirs"
        for who, resource, item in (
            (place.cluster_admin, DEPLOYMENTS, engine),
            (place.cluster_admin, PODS, pod("ours", labels=ours)),
            (side.admin, DEPLOYMENTS, own),
            (side.admin, PODS, pod("theirs")),
            (side.admin, SERVICES, service("web")),
            (side.admin, API_KEYS, key),
            (side.admin, MODELS, local),
        ):
            answer = who.make(resource, side.space, item, dry=False)
            assert answer.ok, answer.body
        until(
            lambda side=side: bool(  # type: ignore[misc]
                side.admin.look(DEPLOYMENTS, side.space, "ours", "scale").body.get("status", {}).get("selector")
            ),
            "the Deployment can be scaled",
        )


def expected(attempt: Attempt, who: Person, side: Side) -> str:
    """Who must refuse this person."""
    if who is side.mallory:
        return attempt.mallory
    # A ServiceAccount that the Tenant names as admin is one in every respect.
    return attempt.admin if who in (side.admin, side.robot) else RBAC


@pytest.mark.parametrize("name", ATTEMPTS)
def test_nobody_gets_out(place: Place, name: str) -> None:
    attempt = ATTEMPTS[name]
    # What looks at the neighbour is tried in both directions.
    for side, other in place.both_ways if "neighbour" in name else place.both_ways[:1]:
        for who in (side.admin, side.robot, side.mallory, side.editor, side.viewer, side.idle, place.stranger):
            answer = attempt.act(who, side, other)
            assert refused_by(answer) == expected(attempt, who, side), (who.user, answer.body)
        if attempt.instead is not None:
            fine = attempt.instead(side.admin, side, other)
            assert fine.ok, fine.body


def test_impersonation(place: Place) -> None:
    """As anybody: the neighbour's admin, the operator, a group that may do everything."""
    side, cluster = place.own, place.world.cluster
    operator = f"system:serviceaccount:{names.NAMESPACE_SYSTEM}:{names.SERVICE_ACCOUNT_OPERATOR}"
    for name, persona in (("admin", side.admin.user), ("mallory", side.mallory.user)):
        for headers in (
            {"Impersonate_User": place.other.admin.user},
            {"Impersonate_User": operator},
            {"Impersonate_User": side.admin.user, "Impersonate_Group": "system:masters"},
        ):
            masked = Person(cluster.persona(persona, user=persona), **headers)
            answer = masked.look(SECRETS, place.other.space)
            assert refused_by(answer) == RBAC, (name, answer.body)
            assert "impersonate" in answer.message
    # The ServiceAccounts of the namespace are mallory's to impersonate, and no more than she is.
    robot = Person(
        cluster.persona(side.mallory.user, user=side.mallory.user),
        Impersonate_User=f"system:serviceaccount:{side.space}:{names.CHILD_SERVICE_ACCOUNT}",
    )
    assert robot.look(CONFIG_MAPS, side.space).ok
    assert refused_by(robot.look(CONFIG_MAPS, place.other.space)) == RBAC


def test_a_right_to_everything_in_a_namespace_is_no_bypass(place: Place) -> None:
    side = place.own
    assert side.mallory.can("delete", "", "resourcequotas", namespace=side.space)
    assert not side.mallory.can("bypass", names.GROUP, "fence")
    forged = obj("v1", "ConfigMap", "probe", labels={names.LABEL_TENANT: "x"})
    assert refused_by(side.mallory.make(CONFIG_MAPS, side.space, forged)) == FENCE


def test_readers_read_and_do_not_write(place: Place) -> None:
    item = obj("v1", "ConfigMap", "probe")
    for side, other in place.both_ways:
        for who, writes, secrets in (
            (side.admin, True, True),
            (side.editor, True, False),
            (side.viewer, False, False),
            (side.idle, False, False),
        ):
            assert who.make(CONFIG_MAPS, side.space, item).ok == writes, who.user
            assert who.look(SECRETS, side.space).ok == secrets, who.user
            assert who.look(CONFIG_MAPS, side.space).ok == (who is not side.idle), who.user
            assert who.look(PODS, side.space).ok == (who is not side.idle), who.user
            assert who.make(PODS, side.space, pod("x")).ok == (who is side.admin), who.user
            for act in (who.make(CONFIG_MAPS, other.space, item), who.look(SECRETS, other.space)):
                assert refused_by(act) == RBAC


def test_exec_into_a_model_s_pod_is_the_known_opening(place: Place) -> None:
    """Admission sees no labels for `exec`: at home it is let through to the (absent) kubelet, next door it is not."""
    for side, other in place.both_ways:
        for name in ("ours", "theirs"):
            run = f"{url(PODS, side.space, name, 'exec')}?command=id&stdout=true"
            answer = side.admin.ask("POST", run, dry=False)
            assert answer.status == 400, answer.body
            assert "does not have a host assigned" in answer.message
        assert refused_by(side.admin.ask("POST", run.replace(side.space, other.space), dry=False)) == RBAC
        assert refused_by(side.editor.ask("POST", run, dry=False)) == RBAC


def policies(place: Place) -> list[str]:
    """Names of the policies of the tenant fence."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    found = [item["metadata"]["name"] for item in place.cluster_admin.ask("GET", path).body["items"]]
    return sorted(name for name in found if name.startswith("tenantplane-tenant-"))


def refused_alone(place: Place) -> dict[str, list[str]]:
    """Rows of the table by the policy that the server names; empty for a policy that no row is refused by."""
    acts = {name: attempt.act for name, attempt in ATTEMPTS.items() if attempt.mallory == FENCE}
    seen = {name: policy_of(act(place.own.mallory, place.own, place.other)) for name, act in acts.items()}
    return {policy: [name for name, by in seen.items() if by == policy] for policy in policies(place)}


def falls_through(place: Place, policy: str, rows: list[str]) -> list[str]:
    """Rows that succeed while that policy is down."""

    def tried(name: str) -> Answer:
        return ATTEMPTS[name].act(place.own.mallory, place.own, place.other)

    with fence_down(place.cluster_admin, policy, lambda: tried(rows[0])):
        until(lambda: policy_of(tried(rows[0])) != policy, f"{policy} is down")
        return [name for name in rows if not refused_by(tried(name))]


def test_what_a_policy_refused_gets_through_without_it(place: Place) -> None:
    rows = refused_alone(place)
    pods = falls_through(place, "tenantplane-tenant-pods-fence", rows["tenantplane-tenant-pods-fence"])
    assert "Pod with another scheduler" in pods
    assert "Pod with an image volume from elsewhere" in pods
    boundary = falls_through(place, "tenantplane-tenant-boundary-fence", rows["tenantplane-tenant-boundary-fence"])
    assert {"forged EndpointSlice", "forged ControllerRevision", "NetworkPolicy that opens"} <= set(boundary)


def test_every_policy_of_the_fence_is_needed(place: Place) -> None:
    """One policy down at a time: something gets through each time, so no row of the table rests on luck."""
    rows = refused_alone(place)
    unused = [policy for policy, names_ in rows.items() if not names_]
    # The kinds of this one are not in a cluster without the Gateway API.
    assert unused in ([], ["tenantplane-tenant-gateway-fence"])
    for policy, names_ in rows.items():
        assert not names_ or falls_through(place, policy, names_), policy


def test_the_table_says_something_new_in_every_row() -> None:
    assert len(ATTEMPTS) > 100
    guards = set(itertools.chain.from_iterable((a.admin, a.mallory) for a in ATTEMPTS.values()))
    assert guards >= {RBAC, FENCE}
