"""How the operator starts: fenced or not at all, patient with what is not there yet, clear about what is wrong."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.operator.e2e.world import World, run, wait

from tenantplane_api.runtime import names
from tenantplane_cli.cluster import install_chart
from tenantplane_cli.cluster.process import end, spawn
from tenantplane_cli.rest import Rest

pytestmark = pytest.mark.cluster
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_BINDINGS = f"{_ADMISSION}/validatingadmissionpolicybindings"
FENCE = "tenantplane-operator-fence"


@pytest.fixture
def unfenced(world: World) -> Iterator[None]:
    """The operator's fence taken down for one test."""
    status, _ = world.admin.call("DELETE", f"{_BINDINGS}/{FENCE}")
    assert status == 200
    try:
        wait(lambda: binding_in_kube_system(world)[0] == 201, "the fence is down", target=2)
        yield
    finally:
        install_chart(world.cluster, progress=lambda _: None)
        wait(lambda: binding_in_kube_system(world)[0] != 201, "the fence is up again", target=2)


def binding_in_kube_system(world: World) -> tuple[int, str]:
    """What the operator's own user gets when it tries to bind itself in kube-system (dry run)."""
    account = world.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
    body = {
        "metadata": {"name": "attempt"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": names.CLUSTER_ROLE_OPERATOR_NAMESPACE,
        },
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": names.SERVICE_ACCOUNT_OPERATOR,
                "namespace": names.NAMESPACE_SYSTEM,
            }
        ],
    }
    with Rest(account.kubeconfig) as rest:
        status, answer = rest.call("POST", world.path("RoleBinding", ns="kube-system"), body, query={"dryRun": "All"})
    return status, str(answer.get("message"))


def test_the_fence_refuses_what_the_operator_tries(world: World) -> None:
    # A policy acts some moments after it was installed, which may have been just now.
    wait(lambda: binding_in_kube_system(world)[0] in (403, 422), "the fence refuses", target=2)
    assert FENCE in binding_in_kube_system(world)[1]


def test_without_its_fence_the_operator_does_not_start(world: World, unfenced: None) -> None:
    started = world.spawn()
    assert started.process.wait(60) == 3
    last = [line for line in started.lines() if line["level"] == "critical"][-1]
    assert FENCE in last["message"]
    assert "kube-system" in last["message"]
    assert world.get("RoleBinding", "tenantplane-fence-check", "kube-system") is None


@pytest.mark.slow
def test_a_stranger_is_not_mistaken_for_a_fenced_operator(world: World) -> None:
    stranger = world.cluster.persona("stranger-operator")
    argv = [
        sys.executable, "-m", "tenantplane_operator.main", "run", "--platform", str(world.platform_file()),
        "--kubeconfig", str(stranger.kubeconfig), "--probe-port", "0",
    ]  # fmt: skip
    done = run(argv)
    assert done.returncode == 3, done.stderr
    assert "not by the admission policy" in done.stderr


def test_the_operator_cannot_read_secrets_that_are_not_its_business(world: World) -> None:
    world.create("Namespace", "private")
    world.create("Secret", "private", "private", stringData={"a": "b"})
    account = world.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
    with Rest(account.kubeconfig) as rest:
        for path in (
            world.path("Secret", "private", "private"),
            world.path("Secret", ns="kube-system"),
            "/api/v1/secrets",
            world.path("Secret", ns=names.NAMESPACE_SYSTEM),
        ):
            assert rest.call("GET", path)[0] == 403, path
        assert rest.call("DELETE", world.path("Namespace", "private"))[0] in (403, 422)
        assert rest.call("GET", world.path("Secret", ns=names.NAMESPACE_RUNTIME))[0] == 200
    assert world.get("Namespace", "private") is not None


def test_wrong_files_are_named(world: World, tmp_path: Path) -> None:
    main = [sys.executable, "-m", "tenantplane_operator.main", "run"]
    bad = tmp_path / "platform.yaml"
    bad.write_text("operator: {workers: many}\n")
    done = run([*main, "--platform", str(bad)])
    assert done.returncode == 2
    assert "operator.workers" in done.stderr
    done = run([*main, "--platform", str(world.platform_file()), "--kubeconfig", str(tmp_path / "none")])
    assert done.returncode == 2
    assert "none" in done.stderr


@pytest.mark.slow
def test_an_api_server_that_is_not_there_is_waited_for(world: World, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
    )
    log = tmp_path / "log"
    argv = [
        sys.executable, "-m", "tenantplane_operator.main", "run", "--platform", str(world.platform_file()),
        "--kubeconfig", str(kubeconfig), "--probe-port", "0",
    ]  # fmt: skip
    with log.open("wb") as output:
        process = spawn(argv, stdout=output, env=dict(os.environ))
    try:
        wait(lambda: b"waiting for our custom resource definitions" in log.read_bytes(), "it waits", target=3)
        assert process.poll() is None
    finally:
        end(process)
    assert process.returncode == 0


@pytest.mark.slow
def test_kopf_run_is_the_same_operator(world: World, tmp_path: Path) -> None:
    account = world.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
    log = tmp_path / "log"
    kopf = str(Path(sys.executable).with_name("kopf"))
    environment = {
        **os.environ,
        "KUBECONFIG": str(account.kubeconfig),
        "TENANTPLANE_PLATFORM": str(world.platform_file(probePort=0)),
    }
    with log.open("wb") as output:
        process = spawn([kopf, "run", "-A", "-m", "tenantplane_operator.app"], stdout=output, env=environment)
    try:
        world.tenant("bykopf")
        try:
            world.await_ready("bykopf", target=4)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text()[-4000:]}") from None
    finally:
        end(process, grace=40)
    assert process.returncode == 0, log.read_text()[-4000:]
