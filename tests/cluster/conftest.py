"""A control plane of our own for tests that kill, pause or pose as somebody else's cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantplane_cli.cluster import Cluster, open_cluster
from tenantplane_cli.cluster.choose import Context
from tenantplane_cli.cluster.controlplane import OwnControlPlane

HIDDEN = ("TENANTPLANE_KUBECONFIG", "KUBEBUILDER_ASSETS")


def own_context(env: dict[str, str]) -> Context:
    """The environment of this machine in which only the built control plane is left to choose."""
    env = {name: value for name, value in env.items() if name not in HIDDEN}
    return Context(env, scheduler=False, docker=lambda _path: "not for this test")


@pytest.fixture(scope="session")
def own(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnControlPlane]:
    """The session's cluster where it is ours, else one more."""
    if isinstance(cluster, OwnControlPlane):
        yield cluster
        return
    import os

    folder: Path = tmp_path_factory.mktemp("own") / "cluster"
    with open_cluster(workdir=folder, context=own_context(dict(os.environ))) as opened:
        assert isinstance(opened, OwnControlPlane)
        yield opened
