"""For ``kopf run -A -m tenantplane_operator.app``: the same operator under kopf's own command line.

The Platform file is named by ``TENANTPLANE_PLATFORM``, the API server by the usual rules (``$KUBECONFIG``, the pod's
ServiceAccount, ``~/.kube/config``). Importing this module registers kopf handlers; nothing else happens until kopf
starts.
"""

import os
from pathlib import Path
from typing import Any, Final

import kopf

from tenantplane_api.runtime.platform import DEFAULT_PLATFORM_PATH, load_platform
from tenantplane_operator.compose import OperatorApp
from tenantplane_operator.runtime.kubeconfig import connect

PLATFORM_VARIABLE: Final = "TENANTPLANE_PLATFORM"

_registry = kopf.get_default_registry()
_running: list[OperatorApp] = []


@kopf.on.startup(registry=_registry, id="start-operator")
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Come up before kopf watches anything; what is raised here ends kopf with that message."""
    platform = load_platform(Path(os.environ.get(PLATFORM_VARIABLE, DEFAULT_PLATFORM_PATH)))
    app = OperatorApp(platform, connect())
    app.configure_kopf(settings, _registry)
    _running.append(app)
    await app.start()


@kopf.on.cleanup(registry=_registry, id="stop-operator")
async def stop(**_: Any) -> None:
    """Drain and close."""
    while _running:
        await _running.pop().stop()
