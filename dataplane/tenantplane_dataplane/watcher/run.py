"""The watcher process: credentials, one connection pool, one reflector; ends with its parent."""

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

import aiohttp

from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.watcher.credentials import from_kubeconfig, in_cluster
from tenantplane_dataplane.watcher.mirror import Mirror
from tenantplane_dataplane.watcher.reflector import Reflector

_PR_SET_PDEATHSIG: Final = 1
_log = get_logger("watcher")


def end_with_parent(parent: int) -> None:
    """Ask the kernel (prctl(2), PR_SET_PDEATHSIG) to end this process when its parent ends, however that happens.

    Raises:
        SystemExit: the parent is gone already.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before the kernel knew of our wish.
    if os.getppid() != parent:
        raise SystemExit(0)


async def run_watcher(*, directory: Path, namespace: str, kubeconfig: Path | None, parent_pid: int | None) -> None:
    """Fill ``directory`` for ever.

    Raises:
        CredentialsError: there is no usable way to the API server.
        ConfigDirectoryError: the directory must not be trusted.
    """
    if parent_pid is not None:
        end_with_parent(parent_pid)
    mirror = Mirror(directory)
    credentials = in_cluster() if kubeconfig is None else from_kubeconfig(kubeconfig)
    context = True if credentials.ssl_context is None else credentials.ssl_context
    connector = aiohttp.TCPConnector(limit=4, ssl=context)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        _log.info("watching", extra={"fields": {"namespace": namespace}})
        await Reflector(session, credentials, namespace, mirror).run()
