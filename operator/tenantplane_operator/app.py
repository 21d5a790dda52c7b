"""For ``kopf run -A -m tenantplane_operator.app``: the same operator under kopf's own command line.

The Platform file is named by ``TENANTPLANE_PLATFORM``, the API server by the usual rules (``$KUBECONFIG``, the pod's
ServiceAccount, ``~/.kube/config``). Importing this module registers kopf handlers; nothing else happens until kopf
starts.
"""

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any, Final

import kopf

from tenantplane_api.runtime.platform import DEFAULT_PLATFORM_PATH, load_platform
from tenantplane_operator.compose import OperatorApp
from tenantplane_operator.main import EXIT_FAILED, EXIT_LOST
from tenantplane_operator.runtime.kubeconfig import connect

PLATFORM_VARIABLE: Final = "TENANTPLANE_PLATFORM"

_registry = kopf.get_default_registry()
_running: list[OperatorApp] = []
_ending: list[asyncio.Task[None]] = []


@kopf.on.startup(registry=_registry, id="start-operator")
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Come up before kopf watches anything; what is raised here ends kopf with that message."""
    path = Path(os.environ.get(PLATFORM_VARIABLE, DEFAULT_PLATFORM_PATH))
    platform = load_platform(path)
    app = OperatorApp(platform, connect(), platform_path=path)
    app.configure_kopf(settings, _registry)
    _running.append(app)
    await app.start()
    _ending.append(asyncio.create_task(_end_when_failed(app)))


async def _end_when_failed(app: OperatorApp) -> None:
    # kopf would go on watching for an operator that no longer works.
    await app.failed.wait()
    os.kill(os.getpid(), signal.SIGTERM)


@kopf.on.cleanup(registry=_registry, id="stop-operator")
async def stop(**_: Any) -> None:
    """Drain and close. A part that failed decides the exit code, which kopf would make 0."""
    while _running:
        app = _running.pop()
        await app.stop()
        if app.failed.is_set():
            logging.shutdown()
            os._exit(EXIT_LOST if app.lost else EXIT_FAILED)
