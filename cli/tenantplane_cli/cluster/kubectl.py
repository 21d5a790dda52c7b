"""Server-side apply by kubectl, as a user would do it. Not for the operator, which has its own client."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tenantplane_cli.cluster.model import Cluster, ClusterError

_APPLY_SECONDS = 300.0


def kubectl_apply(
    cluster: Cluster,
    objects: Sequence[dict[str, Any]],
    *,
    kubeconfig: Path | None = None,
    arguments: Sequence[str] = (),
) -> None:
    """`kubectl apply --server-side` of objects, as the cluster's administrator unless `kubeconfig` names somebody.

    Raises ClusterError with kubectl's own words.
    """
    if not objects:
        return
    command = [cluster.kubectl, "--kubeconfig", kubeconfig or cluster.kubeconfig, "apply", "--server-side"]
    try:
        done = subprocess.run(
            [*(str(part) for part in command), *arguments, "--filename=-"],
            input=yaml.safe_dump_all(objects),
            capture_output=True,
            text=True,
            timeout=_APPLY_SECONDS,
            check=False,
            # kubectl keeps discovery per host and port, and an earlier cluster may have had this port.
            env={**os.environ, "KUBECACHEDIR": str(cluster.workdir / "kubectl-cache")},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"kubectl apply: {error}") from None
    if done.returncode != 0:
        raise ClusterError(f"kubectl apply: {done.stderr.strip()}")
