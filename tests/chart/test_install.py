"""Helm on a real cluster: first installation, upgrade, uninstallation; both programs' pods under Pod Security."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.chart.kube import Actor, manifest, until

from tenantplane_api.runtime import names
from tenantplane_cli.cluster import Cluster, helm_binary, open_cluster
from tenantplane_cli.cluster.chart import CHART

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]


@dataclass(frozen=True)
class Release:
    """A bare cluster and Helm, with a home of its own, as its administrator."""

    cluster: Cluster
    admin: Actor
    home: Path

    def helm(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(helm_binary()), *arguments, "-n", names.NAMESPACE_SYSTEM, f"--kubeconfig={self.cluster.kubeconfig}"],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            env={"PATH": os.defpath, "HOME": str(self.home)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, *arguments: str) -> str:
        return self.helm("upgrade", "--install", "tenantplane", str(CHART), "--create-namespace", *arguments)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    with open_cluster() as cluster:
        if not cluster.owned:
            pytest.fail("this test installs and uninstalls the chart: it needs a cluster of its own")
        admin = Actor(cluster.persona("admin", user="kubernetes-admin", groups=["system:masters"]))
        yield Release(cluster, admin, tmp_path_factory.mktemp("helm"))


def _uid(release: Release, kind: str, namespace: str, name: str) -> str:
    answer = release.admin.get(kind, namespace, name)
    assert answer.ok, answer.body
    return str(answer.body["metadata"]["uid"])


def test_install_upgrade_and_uninstall_lose_no_customer(release: Release) -> None:
    """In one test because each step starts from the one before."""
    said = release.install()
    assert "kubectl label namespace tenantplane-system" in said
    assert "Nobody but cluster administrators may write Tenants yet" in said
    model = _uid(release, "ModelDeployment", names.NAMESPACE_MODELS, "extractive")

    # Both programs' pods are admitted in a namespace that enforces `restricted`, with the default values.
    restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    assert release.admin.merge("Namespace", "", names.NAMESPACE_SYSTEM, restricted).ok
    until(lambda: len(release.admin.get("Pod", names.NAMESPACE_SYSTEM).body["items"]) == 2, "two pods are made")
    for pod in release.admin.get("Pod", names.NAMESPACE_SYSTEM).body["items"]:
        copy = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "copy", "namespace": names.NAMESPACE_SYSTEM}}
        answer = release.admin.create({**copy, "spec": pod["spec"]}, dry=True)
        assert answer.ok, answer.body

    tenant = manifest("Tenant", "acme", spec={"tenantID": "acme-00000001"})
    assert release.admin.create(tenant).ok
    customer = _uid(release, "Tenant", "", "acme")

    release.install('--set-json=access.platformAdmins=[{"kind":"Group","name":"platform-team"}]')
    assert _uid(release, "ModelDeployment", names.NAMESPACE_MODELS, "extractive") == model
    annotations = release.admin.get("ModelDeployment", names.NAMESPACE_MODELS, "extractive").body["metadata"][
        "annotations"
    ]
    assert "helm.sh/hook" not in annotations, "the upgrade took the hook's object over"
    assert Actor(release.cluster.persona("petra", groups=["platform-team"])).can("create", names.GROUP, "tenants")

    release.helm("uninstall", "tenantplane")
    assert _uid(release, "Tenant", "", "acme") == customer
    assert _uid(release, "ModelDeployment", names.NAMESPACE_MODELS, "extractive") == model
    assert release.admin.get("Namespace", "", names.NAMESPACE_RUNTIME).ok
    assert release.admin.get("ServiceAccount", names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR).status == 404

    release.install("--set=operator.enabled=false,dataplane.enabled=false")
    assert _uid(release, "Tenant", "", "acme") == customer
    assert _uid(release, "ModelDeployment", names.NAMESPACE_MODELS, "extractive") == model
