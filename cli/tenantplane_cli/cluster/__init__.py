"""One provider of a real Kubernetes API for tests, demo and benchmarks.

    with open_cluster() as cluster:
        install_chart(cluster)
        admin_of_a = cluster.persona("admin-a", groups=["tenant-a-admins"])

`open_cluster` tries the cluster of TENANTPLANE_KUBECONFIG, KUBEBUILDER_ASSETS, kind, and a control plane built from the
pinned Go modules in `tools/controlplane`; see `choose`. Needs the `cryptography` package.
"""

from tenantplane_cli.cluster.chart import PROGRAMS_DISABLED, helm_binary, install_chart
from tenantplane_cli.cluster.choose import open_cluster
from tenantplane_cli.cluster.model import Cluster, ClusterError, ClusterUnavailable, Persona
from tenantplane_cli.cluster.toolchain import ToolError

__all__ = [
    "PROGRAMS_DISABLED",
    "Cluster",
    "ClusterError",
    "ClusterUnavailable",
    "Persona",
    "ToolError",
    "helm_binary",
    "install_chart",
    "open_cluster",
]
