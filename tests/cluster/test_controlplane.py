"""The built control plane is a real Kubernetes API, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from tenantplane_cli.cluster import Cluster, ClusterError
from tenantplane_cli.cluster.controlplane import OwnControlPlane, StartError
from tenantplane_cli.cluster.workdir import make, sweep
from tenantplane_cli.rest import Rest

from .test_choose import program
from .test_process import alive, wait_for

pytestmark = pytest.mark.cluster


@pytest.fixture
def rest(cluster: Cluster) -> Iterator[Rest]:
    with Rest(cluster.kubeconfig) as made:
        yield made


@pytest.fixture
def namespace(rest: Rest) -> Iterator[str]:
    name = f"provider-{uuid.uuid4().hex[:8]}"
    status, answer = rest.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert status == 201, answer
    yield name
    rest.call("DELETE", f"/api/v1/namespaces/{name}")


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def test_choice_is_told_and_version_is_stamped(cluster: Cluster, rest: Rest) -> None:
    assert cluster.choice
    assert cluster.server.startswith("https://")
    assert cluster.ca_file.read_text().startswith("-----BEGIN CERTIFICATE-----")
    version = rest.call("GET", "/version")[1]
    assert version["gitVersion"].startswith("v1.")
    done = subprocess.run(
        [cluster.kubectl, "--kubeconfig", cluster.kubeconfig, "get", "namespace", "default", "-o", "name"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "namespace/default"


def test_namespace_deletion_finishes(rest: Rest, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    assert rest.call("POST", f"{path}/configmaps", config_map("some"))[0] == 201
    assert rest.call("DELETE", path)[0] == 200
    wait_for(lambda: rest.call("GET", path)[0] == 404, 60)


def test_quota_is_enforced(rest: Rest, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/secrets": "1"}}}
    assert rest.call("POST", f"{path}/resourcequotas", quota)[0] == 201
    wait_for(lambda: "hard" in rest.call("GET", f"{path}/resourcequotas/q")[1].get("status", {}), 60)
    assert rest.call("POST", f"{path}/secrets", {"metadata": {"name": "one"}})[0] == 201
    status, answer = rest.call("POST", f"{path}/secrets", {"metadata": {"name": "two"}})
    assert status == 403
    assert "exceeded quota" in answer["message"]


def test_owner_references_are_collected(rest: Rest, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = rest.call("POST", path, config_map("owner"))[1]
    child = config_map("child")
    child["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    ]
    assert rest.call("POST", path, child)[0] == 201
    assert rest.call("DELETE", f"{path}/owner")[0] == 200
    wait_for(lambda: rest.call("GET", f"{path}/child")[0] == 404, 60)


def test_personas_are_real_users(cluster: Cluster, rest: Rest) -> None:
    group = f"readers-{uuid.uuid4().hex[:8]}"
    reader = cluster.persona(f"reader-{group}", groups=[group, "others"])
    stranger = cluster.persona("stranger")
    binding = {
        "metadata": {"name": group},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    assert rest.call("POST", path, binding)[0] == 201
    try:
        with Rest(reader.kubeconfig) as allowed, Rest(stranger.kubeconfig) as denied:
            wait_for(lambda: allowed.call("GET", "/api/v1/namespaces")[0] == 200)
            status, answer = denied.call("GET", "/api/v1/namespaces")
            assert status == 403
            assert 'User "stranger" cannot list' in answer["message"]
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            me = allowed.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)[1]
            assert me["status"]["userInfo"]["username"] == reader.user
            assert {group, "others", "system:authenticated"} == set(me["status"]["userInfo"]["groups"])
    finally:
        rest.call("DELETE", f"{path}/{group}")


def test_persona_names_stand_for_one_user(cluster: Cluster) -> None:
    first = cluster.persona("same", groups=["g"])
    assert cluster.persona("same") is first
    assert first.token is None
    assert stat.S_IMODE(first.kubeconfig.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="persona 'same' is already 'same'"):
        cluster.persona("same", user="other")
    with pytest.raises(ValueError, match="persona 'same' is already 'same'"):
        cluster.persona("same", groups=["h"])
    with pytest.raises(ValueError, match="1 to 64 characters"):
        cluster.persona("x" * 65)
    # Names that look alike as file names are different users in different files.
    slash, dash = cluster.persona("a/../b"), cluster.persona("a-b")
    assert slash.kubeconfig != dash.kubeconfig
    assert slash.kubeconfig.parent == dash.kubeconfig.parent


def test_service_account_has_its_own_rights_only(cluster: Cluster, rest: Rest, namespace: str) -> None:
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    assert rest.call("POST", accounts, {"metadata": {"name": "app"}})[0] == 201
    binding = {
        "metadata": {"name": "app"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "app", "namespace": namespace}],
    }
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
    assert rest.call("POST", roles, binding)[0] == 201
    app = cluster.service_account(namespace, "app")
    assert app.user == f"system:serviceaccount:{namespace}:app"
    assert app.token
    assert app.token not in repr(app)
    assert stat.S_IMODE(app.kubeconfig.stat().st_mode) == 0o600
    with Rest(app.kubeconfig) as own:
        wait_for(lambda: own.call("GET", f"/api/v1/namespaces/{namespace}/configmaps")[0] == 200)
        status, answer = own.call("GET", "/api/v1/namespaces/default/configmaps")
        assert status == 403
        assert app.user in answer["message"]


def test_service_account_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="ServiceAccount default/nobody does not exist"):
        cluster.service_account("default", "nobody")


def test_killed_api_server_comes_back_with_its_data(own: OwnControlPlane) -> None:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    with Rest(own.kubeconfig, timeout=5.0) as rest:
        assert rest.call("POST", "/api/v1/namespaces/default/configmaps", config_map(name, k="v"))[0] == 201
        before = own.pids()["kube-apiserver"]
        own.kill_apiserver()
        assert not alive(before)
        with pytest.raises((OSError, HTTPError)):
            rest.call("GET", "/readyz")
        own.start_apiserver()
        assert own.pids()["kube-apiserver"] != before
        assert rest.call("GET", f"/api/v1/namespaces/default/configmaps/{name}")[1]["data"] == {"k": "v"}
        # The controllers have found their way back too.
        space = f"/api/v1/namespaces/{name}"
        assert rest.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})[0] == 201
        wait_for(lambda: rest.call("GET", f"{space}/serviceaccounts/default")[0] == 200, 120)
        rest.call("DELETE", space)


def test_paused_api_server_answers_nothing_until_resumed(own: OwnControlPlane) -> None:
    with Rest(own.kubeconfig, timeout=1.0) as rest:
        own.pause_apiserver()
        try:
            with pytest.raises((OSError, HTTPError)):
                rest.call("GET", "/readyz")
        finally:
            own.resume_apiserver()
        wait_for(lambda: answers(rest), 60)


def answers(rest: Rest) -> bool:
    try:
        return rest.call("GET", "/readyz")[0] == 200
    except (OSError, HTTPError):
        return False


def test_credentials_are_private_and_storage_is_closed(own: OwnControlPlane) -> None:
    """Only the API server's own certificate opens etcd: a persona's, and none, do not."""
    assert stat.S_IMODE(own.workdir.stat().st_mode) == 0o700
    keys = [*own.workdir.glob("pki/*.key"), *own.workdir.glob("**/*.kubeconfig")]
    assert len(keys) >= 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    flags = own._processes["kube-apiserver"].argv
    url = next(str(flag).split("=", 1)[1] for flag in flags if str(flag).startswith("--etcd-servers="))
    assert connects(url, own.workdir / "pki", "etcd-client")
    issued = own._certify("mallory", ("system:masters",))
    issued.write(own.workdir / "pki", "mallory")
    assert not connects(url, own.workdir / "pki", "mallory")
    assert not connects(url, own.workdir / "pki", None)


def connects(url: str, pki: Path, stem: str | None) -> bool:
    import ssl
    import urllib.request

    context = ssl.create_default_context(cafile=str(pki / "etcd-ca.crt"))
    if stem is not None:
        context.load_cert_chain(pki / f"{stem}.crt", pki / f"{stem}.key")
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


OWNER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.cluster.conftest import own_context
from tenantplane_cli.cluster import open_cluster
cluster = open_cluster(progress=lambda line: None, context=own_context(dict(os.environ)))
print(cluster.workdir, *cluster.pids().values(), flush=True)
{then}
"""


def run_owner(then: str, tmp_path: Path) -> tuple[subprocess.Popen[str], Path, list[int]]:
    root = str(Path(__file__).resolve().parents[2])
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then), root],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert owner.stdout is not None
    folder, *pids = owner.stdout.readline().split()
    return owner, Path(folder), [int(pid) for pid in pids]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "then"), [("forgotten", "raise SystemExit(3)"), ("killed", "time.sleep(600)")])
def test_nothing_is_left(how: str, then: str, tmp_path: Path) -> None:
    owner, folder, pids = run_owner(then, tmp_path)
    try:
        assert len(pids) == 3
        if how == "killed":
            assert all(alive(pid) for pid in pids)
            owner.send_signal(signal.SIGKILL)
        owner.wait(60)
        wait_for(lambda: not any(alive(pid) for pid in pids))
        if how == "killed":
            assert sweep(tmp_path) == [folder]  # what the next `open_cluster` does first
        assert not folder.exists()
    finally:
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)
        owner.kill()
        owner.communicate()


@pytest.mark.slow
def test_command_line_keeps_a_cluster_until_interrupted(own: OwnControlPlane, tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path), "KUBEBUILDER_ASSETS": str(tmp_path), "TENANTPLANE_KUBECONFIG": ""}
    for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
        (tmp_path / name).symlink_to(own._binaries[name])
    command = [sys.executable, "-m", "tenantplane_cli.cluster", "up"]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True)
    try:
        assert up.stdout is not None
        assert up.stdout.readline() == f"cluster: control plane of KUBEBUILDER_ASSETS ({tmp_path})\n"
        kubeconfig = Path(up.stdout.readline().strip().removeprefix("export KUBECONFIG="))
        with Rest(kubeconfig) as rest:
            assert rest.call("GET", "/readyz")[0] == 200
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
        assert list(tmp_path.glob("tenantplane-cluster-*")) == []
    finally:
        up.kill()
        up.communicate()


def test_a_proxy_in_the_environment_is_not_asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is never behind a proxy; Go's clients know that by themselves."""
    if not cluster.server.startswith("https://127.0.0.1:"):
        pytest.skip("this cluster is not on loopback")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Rest(cluster.kubeconfig) as rest:
        assert rest.call("GET", "/readyz")[0] == 200


def test_failed_start_tells_the_last_log_lines_and_leaves_nothing(own: OwnControlPlane, tmp_path: Path) -> None:
    binaries = dict(own._binaries)
    binaries["kube-apiserver"] = program(tmp_path, "kube-apiserver", "echo unknown flag >&2; exit 7")
    broken = OwnControlPlane(make(tmp_path / "w"), choice="broken", binaries=binaries, kubectl=lambda: own.kubectl)
    try:
        with pytest.raises(StartError, match=r"kube-apiserver ended with status 7(.|\n)*unknown flag"):
            broken.start()
        assert broken.pids() == {}
    finally:
        broken.stop()
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_port_that_was_taken_meanwhile_is_tried_again(
    own: OwnControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race between choosing a port and binding it cannot be timed, so the first choice is made a bad one."""
    from tenantplane_cli.cluster import controlplane

    taken = int(own.server.rsplit(":", 1)[1])
    choose: Callable[[int], list[int]] = controlplane._free_ports
    calls: list[int] = []

    def first_taken(count: int) -> list[int]:
        calls.append(count)
        ports = choose(count)
        return [taken, *ports[1:]] if len(calls) == 1 else ports

    monkeypatch.setattr(controlplane, "_free_ports", first_taken)
    started = time.monotonic()
    second = OwnControlPlane(make(tmp_path / "w"), choice="second", binaries=own._binaries, kubectl=lambda: own.kubectl)
    with second:
        second.start()
        assert len(calls) == 2
        assert time.monotonic() > started
        with Rest(second.kubeconfig) as rest:
            assert rest.call("GET", "/readyz")[0] == 200
