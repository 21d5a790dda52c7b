"""What the operator does when nothing changes (nothing), and when the API server or the operator itself goes away."""

import signal
from pathlib import Path

import pytest
import yaml
from tests.operator.e2e.world import Operator, TimeoutFailure, World, wait

from tenantplane_api.runtime import names

pytestmark = pytest.mark.cluster
WRITES = ("apply", "status", "delete", "patch", "replace")


def writes(operator: Operator) -> dict[str, float]:
    """Counts of writing requests by verb; Events, which tell of what happened, are creates."""
    counted = operator.metric("api_requests_total")
    return {verb: counted[verb] for verb in WRITES if verb in counted}


@pytest.fixture(scope="module")
def settled(world: World) -> list[str]:
    """Three Tenants with everything that needs no build, Ready, and the operator that made them stopped."""
    found = ["still", "quiet", "calm"]
    with world.operator() as first:
        for name in found:
            world.tenant(
                name,
                access={"admins": [{"kind": "User", "name": f"{name}-admin"}]},
                network={"egress": {"internet": True}, "ingress": {"namespaces": ["monitoring"]}},
            )
        for name in found:
            world.await_ready(name)
        wait(first.idle, "idle")
    return found


def test_a_restart_over_unchanged_tenants_writes_nothing(world: World, settled: list[str]) -> None:
    before = {name: world.versions(f"tenant-{name}", name) for name in settled}
    with world.operator(resyncSeconds=3600) as second:
        wait(lambda: second.metric("reconcile_total").get("done", 0) >= 2 * len(settled), "all were looked at")
        wait(second.idle, "idle")
        assert writes(second) == {}
        # The one create is the dry run that proves the fence.
        assert second.metric("api_requests_total")["create"] == 1
        assert second.metric("reconcile_total").keys() == {"done"}
    assert {name: world.versions(f"tenant-{name}", name) for name in settled} == before


@pytest.mark.slow
def test_resyncs_write_nothing_and_list_everything(world: World, settled: list[str]) -> None:
    before = {name: world.versions(f"tenant-{name}", name) for name in settled}
    with world.operator(resyncSeconds=5) as second:
        lists = second.metric("api_requests_total")["list"]
        wait(lambda: second.metric("api_requests_total")["list"] >= 3 * lists, "two resyncs", target=14)
        wait(second.idle, "idle")
        assert writes(second) == {}
    assert {name: world.versions(f"tenant-{name}", name) for name in settled} == before


def test_kopf_leaves_no_trace(world: World, settled: list[str]) -> None:
    for name in settled:
        tenant = world.get("Tenant", name)
        assert tenant is not None
        assert tenant["metadata"]["finalizers"] == [names.FINALIZER]
        assert not [key for key in tenant["metadata"].get("annotations", {}) if "kopf" in key]
        managers = {entry["manager"] for entry in tenant["metadata"]["managedFields"]}
        assert {names.MANAGER_STATUS, names.MANAGER_FINALIZER} <= managers
        assert not [manager for manager in managers if "kopf" in manager]


@pytest.mark.slow
def test_an_edit_of_a_config_map_is_found_at_resync(world: World, settled: list[str]) -> None:
    source = {"name": "text", "configMap": {"name": "text"}}
    world.create("ConfigMap", "text", "tenant-calm", data={"a.txt": "A crate holds twelve bottles."})
    with world.operator(resyncSeconds=5):
        world.patch("Tenant", "calm", spec={"knowledge": [{"name": "notes", "sources": [source]}]})
        world.await_ready("calm")

        def generation() -> str:
            document = world.document("calm")
            return document.spec.indexes[0].generation if document is not None and document.spec.indexes else ""

        world.await_condition("Tenant", "calm", "KnowledgeReady", "True", "Ready", target=1)
        first, _ = wait(generation, "the first index", target=6)
        world.patch("ConfigMap", "text", "tenant-calm", data={"a.txt": "A crate holds six bottles."})
        wait(lambda: generation() not in ("", first), "the edited text is indexed", target=8)


def test_documents_stand_while_the_operator_is_down(world: World, settled: list[str]) -> None:
    with world.operator() as second:
        wait(second.idle, "idle")
        second.kill()
    for name in settled:
        assert world.document(name) is not None


@pytest.mark.slow
def test_the_api_server_goes_away_and_comes_back(world: World, settled: list[str]) -> None:
    if not world.cluster.owned:
        pytest.skip("the API server is not ours to kill")
    with world.operator(resyncSeconds=3600) as second:
        world.cluster.kill_apiserver()
        try:
            wait(lambda: second.get("/healthz")[0] == 200, "alive without an API server")
        finally:
            world.cluster.start_apiserver()
        world.patch("Tenant", settled[0], spec={"displayName": "after the outage"})

        def seen() -> bool:
            document = world.document(settled[0])
            return document is not None and document.spec.display_name == "after the outage"

        try:
            wait(seen, "the change is seen after the outage", target=6)
        except TimeoutFailure as error:
            raise TimeoutFailure(f"{error}\n{second.tail()}\n{second.get('/metrics')[1]}") from None
        assert second.process.poll() is None


@pytest.mark.slow
def test_a_changed_plan_reaches_everybody_at_a_bounded_rate_and_edits_go_first(
    world: World, settled: list[str]
) -> None:
    def minute(name: str) -> int | None:
        document = world.document(name)
        return document.spec.limits.requests_per_minute if document is not None else None

    with world.operator(resyncSeconds=3600, rolloutPerSecond=0.3) as second:
        path = Path(second.argv[second.argv.index("--platform") + 1])
        platform = yaml.safe_load(path.read_text(encoding="utf-8"))
        wait(second.idle, "idle")
        platform["operator"]["defaultPlan"] = "none such"
        path.write_text(yaml.safe_dump(platform), encoding="utf-8")
        wait(lambda: second.metric("platform_reload_failed") == {"": 1}, "a bad file is noticed")
        assert second.get("/readyz")[0] == 200
        platform["operator"]["defaultPlan"] = "default"
        platform["operator"]["plans"]["default"]["limits"] = {"requests": {"perMinute": 321}}
        path.write_text(yaml.safe_dump(platform), encoding="utf-8")
        wait(lambda: second.metric("queue_rollout")[""] > 0, "the roll-out begins")
        world.patch("Tenant", settled[-1], spec={"displayName": "fresh"})
        wait(lambda: minute(settled[-1]) == 321, "a fresh edit is served with the new plan")
        assert second.metric("queue_rollout")[""] > 0, "the roll-out was over before the edit was served"
        assert second.metric("platform_reload_failed") == {"": 0}
        for name in settled:
            wait(lambda name=name: minute(name) == 321, f"{name} has the new plan", target=4)  # type: ignore[misc]
    with world.operator(resyncSeconds=3600) as third:
        # The old file again: a restart brings it to all as well.
        for name in settled:
            wait(lambda name=name: minute(name) == 600, f"{name} has the old plan", target=2)  # type: ignore[misc]
        assert third.metric("event_loop_lag_max_seconds")[""] < 1


def test_sigterm_is_graceful(world: World, settled: list[str]) -> None:
    second = world.start()
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(30) == 0
    assert "Traceback" not in second.log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_rights_that_come_late_after_an_outage_are_waited_for(world: World, settled: list[str]) -> None:
    if not world.cluster.owned:
        pytest.skip("the API server is not ours to kill")
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    with world.operator(resyncSeconds=3600) as second:
        status, binding = world.call("GET", f"{path}/tenantplane-operator")
        assert status == 200
        assert world.call("DELETE", f"{path}/tenantplane-operator")[0] == 200
        try:
            world.cluster.kill_apiserver()
            world.cluster.start_apiserver()

            def refused() -> bool:
                log = second.log.read_text(encoding="utf-8")
                return "is forbidden" in log or "answered 403" in log

            wait(refused, "it was refused", target=3)
        finally:
            clean = {"name": "tenantplane-operator", "labels": binding["metadata"].get("labels") or {}}
            body = {"metadata": clean, "roleRef": binding["roleRef"], "subjects": binding["subjects"]}
            assert world.call("POST", path, body)[0] == 201
        world.patch("Tenant", settled[1], spec={"displayName": "rights are back"})

        def seen() -> bool:
            document = world.document(settled[1])
            return document is not None and document.spec.display_name == "rights are back"

        wait(seen, "the change is seen", target=6)
        assert second.process.poll() is None
