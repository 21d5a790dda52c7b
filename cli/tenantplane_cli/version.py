"""`tenantplane version`: this client, and the cluster's CRDs when one is named and can be reached."""

from __future__ import annotations

import platform
from typing import Any

from tenantplane_api.version import __version__
from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption
from tenantplane_cli.output import Format, OutputOption, print_json, say


def command(
    output: OutputOption = Format.TEXT,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show the versions of the client and, with --kubeconfig or --context, of the CRDs in the cluster."""
    facts: dict[str, Any] = {"client": __version__, "python": platform.python_version()}
    if kubeconfig is not None or context is not None:
        facts["cluster"] = _cluster(kubeconfig, context)
    if output is Format.JSON:
        print_json(facts)
        return
    say(f"tenantplane {facts['client']} (Python {facts['python']})")
    if "cluster" in facts:
        served = ", ".join(f"{kind} {version}" for kind, version in facts["cluster"]["served"].items())
        say(f"cluster: Kubernetes {facts['cluster']['kubernetes']}; {served or 'no CRDs of tenantplane are installed'}")


def _cluster(kubeconfig: KubeconfigOption, context: ContextOption) -> dict[str, Any]:
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import Kube, NotFound

    with Kube(kubeconfig, context) as kube:
        kubernetes = kube.get("/version").get("gitVersion", "unknown")
        try:
            resources = kube.get(f"/apis/{names.API_VERSION}").get("resources", [])
        except NotFound:
            resources = []
    served = {item["kind"]: names.VERSION for item in resources if "/" not in item["name"]}
    return {"kubernetes": kubernetes, "served": served}
