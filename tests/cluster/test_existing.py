"""Clusters of others: the named kubeconfig and kind. Our own control plane poses as both."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from tenantplane_cli.cluster import ClusterError, ClusterUnavailable, open_cluster
from tenantplane_cli.cluster.choose import Context
from tenantplane_cli.cluster.controlplane import OwnControlPlane
from tenantplane_cli.cluster.existing import read_kubeconfig
from tenantplane_cli.rest import Rest

from .test_choose import program

pytestmark = pytest.mark.cluster
HEAD = "{current-context: a, contexts: [{name: a, context: {cluster: c}}], "


def named(kubeconfig: Path) -> Context:
    return Context({**os.environ, "TENANTPLANE_KUBECONFIG": str(kubeconfig)}, False, lambda _path: "no engine")


def test_personas_of_a_foreign_cluster_are_signed_by_it(own: OwnControlPlane) -> None:
    with open_cluster(context=named(own.kubeconfig), progress=lambda _line: None) as cluster:
        assert not cluster.owned
        assert "left as it is" in cluster.choice
        assert (cluster.server, cluster.ca_file.read_bytes()) == (own.server, own.ca_file.read_bytes())
        user = f"csr-{uuid.uuid4().hex[:8]}"
        persona = cluster.persona("someone", user=user, groups=["acme"])
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        with Rest(persona.kubeconfig) as rest:
            me = rest.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)[1]
            assert rest.call("GET", "/api/v1/namespaces")[0] == 403
        assert me["status"]["userInfo"]["username"] == user
        assert set(me["status"]["userInfo"]["groups"]) == {"acme", "system:authenticated"}
        assert cluster.service_account("default", "default").token
        for refused in (cluster.kill_apiserver, cluster.start_apiserver, cluster.pause_apiserver):
            with pytest.raises(ClusterError, match="not ours to kill"):
                refused()
        workdir = cluster.workdir
    assert not workdir.exists()
    with Rest(own.kubeconfig) as rest:  # left as it was, and no request of ours remains
        assert rest.call("GET", "/readyz")[0] == 200
        requests = rest.call("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests")[1]["items"]
        assert [item["metadata"]["name"] for item in requests] == []


def test_persona_that_the_cluster_refuses(own: OwnControlPlane) -> None:
    with open_cluster(context=named(own.kubeconfig), progress=lambda _line: None) as cluster:
        with pytest.raises(ClusterError, match=r"user 'root' cannot be made.*system:masters"):
            cluster.persona("root", groups=["system:masters"])
        assert cluster.persona("root", groups=["harmless"]).groups == ("harmless",)


def test_kubeconfig_of_no_administrator_is_refused(own: OwnControlPlane) -> None:
    weak = own.persona("not-an-administrator")
    with pytest.raises(ClusterUnavailable, match="is not a cluster administrator"):
        open_cluster(context=named(weak.kubeconfig), progress=lambda _line: None)


def test_cluster_that_does_not_answer_is_named(own: OwnControlPlane, tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.write_text(own.kubeconfig.read_text().replace(own.server, "https://127.0.0.1:1"))
    with pytest.raises(ClusterUnavailable, match=r"https://127\.0\.0\.1:1 of .* does not answer"):
        open_cluster(context=named(dead), progress=lambda _line: None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not a kubeconfig"),
        ("kind: Config", "not a kubeconfig with a current context"),
        (HEAD + "clusters: [{name: c, cluster: {server: 'http://h'}}]}", "is not https"),
        (HEAD + "clusters: [{name: c, cluster: {server: 'https://h'}}]}", "names no certificate-authority"),
    ],
)
def test_kubeconfig_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ClusterError, match=message):
        read_kubeconfig(path)


def kind_context(folder: Path) -> Context:
    return Context(
        {**os.environ, "TENANTPLANE_KUBECONFIG": "", "KUBEBUILDER_ASSETS": "", "PATH": str(folder)}, False, _up
    )


def _up(_path: str | None) -> None:
    return None


def test_kind_cluster_is_made_under_a_name_of_its_own_and_deleted(own: OwnControlPlane, tmp_path: Path) -> None:
    """`kind` itself needs Docker; its command line is what is checked here, against a real API."""
    log = tmp_path / "log"
    program(
        tmp_path,
        "kind",
        f'echo "$@" >> {log}; if [ "$1" = create ]; then /bin/cp {own.kubeconfig} "$6"; /bin/chmod 644 "$6"; fi',
    )
    with open_cluster(context=kind_context(tmp_path), progress=lambda _line: None) as cluster:
        assert cluster.owned
        assert cluster.choice.startswith("kind cluster tenantplane-")
        assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
        assert cluster.persona("kind-user").user == "kind-user"
        folder = cluster.workdir
    created, deleted = log.read_text().splitlines()
    name = created.split()[3]
    assert created == f"create cluster --name {name} --kubeconfig {folder}/kind.kubeconfig --wait 180s"
    assert deleted == f"delete cluster --name {name} --kubeconfig {folder}/kind.kubeconfig"
    assert not folder.exists()


def test_kind_that_fails_is_cleaned_up_and_the_next_way_is_tried(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program(tmp_path, "kind", f'echo "$1" >> {log}; [ "$1" = delete ] || {{ echo "no cgroups" >&2; exit 1; }}')
    context = kind_context(tmp_path)
    context = Context({**context.env, "XDG_CACHE_HOME": str(tmp_path / "cache")}, False, context.docker)
    said: list[str] = []
    with pytest.raises(ClusterUnavailable, match="no cgroups"):  # and no Go on this PATH for the next way
        open_cluster(context=context, progress=said.append)
    assert log.read_text().split() == ["create", "delete"]
    assert any("no cgroups" in line for line in said)
