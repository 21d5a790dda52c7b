"""``tenantplane-operator run``: the operator as a program.

Exit codes: 0 stopped by a signal; 2 wrong invocation, Platform file or kubeconfig; 3 the operator's fence is not in
force; 4 another operator leads, so this one starts anew as its follower; 1 anything else, after which a restart is the
right answer.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import kopf

from tenantplane_api.runtime.platform import DEFAULT_PLATFORM_PATH, PlatformError, load_platform
from tenantplane_operator.compose import OperatorApp
from tenantplane_operator.fencecheck import FenceError
from tenantplane_operator.runtime.kubeconfig import KubeconfigError, connect
from tenantplane_operator.runtime.logs import setup_logging

logger = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNFENCED: Final = 3
EXIT_LOST: Final = 4

_STEADY_SECONDS: Final = 60.0
_FAILURES_MAX: Final = 10
"""How often in a row watching may end within ``_STEADY_SECONDS`` before the process gives up and is restarted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    setup_logging(options.log_level)
    try:
        platform = load_platform(options.platform)
        connection = connect(options.kubeconfig)
    except (PlatformError, KubeconfigError) as error:
        print(f"tenantplane-operator: {error}", file=sys.stderr)
        return EXIT_USAGE

    async def run() -> int:
        asyncio.get_running_loop().set_exception_handler(_unhandled)
        return await serve(
            OperatorApp(platform, connection, probe_port=options.probe_port, platform_path=options.platform)
        )

    return asyncio.run(run())


def _unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited; that kopf's cut watches do not like to be closed is no news to anybody."""
    if str(context.get("message", "")).startswith("an error occurred during closing of asynchronous generator"):
        logger.debug("a watch was closed while it ended", extra={"error": type(context.get("exception")).__name__})
        return
    loop.default_exception_handler(context)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tenantplane-operator", description="The operator of tenantplane.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="reconcile until stopped")
    run.add_argument("--platform", type=Path, default=Path(DEFAULT_PLATFORM_PATH), help="the Platform file")
    run.add_argument("--kubeconfig", type=Path, help="default: $KUBECONFIG, the pod's ServiceAccount, ~/.kube/config")
    run.add_argument("--probe-port", type=int, help="port of /healthz, /readyz, /metrics; 0 for any; default: platform")
    run.add_argument("--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO")
    return parser


async def serve(app: OperatorApp) -> int:
    """Run the operator until a signal or a failure; the exit code."""
    stop = asyncio.Event()
    _on_signals(stop)
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    starting: asyncio.Future[Any] = asyncio.ensure_future(app.start())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await app.stop()
        return EXIT_OK
    try:
        starting.result()
    except FenceError as error:
        logger.critical("%s", error)
        await app.stop()
        return EXIT_UNFENCED
    code = await _watch(app, stop, stopping)
    await app.stop()
    return EXIT_LOST if app.lost else code


async def _watch(app: OperatorApp, stop: asyncio.Event, stopping: asyncio.Future[Any]) -> int:
    """Watch until told to stop; the exit code. Watching that breaks is begun anew, with everything looked at again."""
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[Any] = asyncio.ensure_future(app.failed.wait())
    failures = 0
    try:
        while True:
            since = loop.time()
            await _watch_once(app, stop, stopping, broken, again=failures > 0)
            if stop.is_set() or app.failed.is_set():
                return EXIT_OK if stop.is_set() else EXIT_FAILED
            # kopf waits for an API server that is away and gives up on some answers, such as 404 while a CRD is new.
            failures = failures + 1 if loop.time() - since < _STEADY_SECONDS else 1
            if failures > _FAILURES_MAX:
                return EXIT_FAILED
            await asyncio.wait({stopping, broken}, timeout=min(15.0, 0.5 * 2.0**failures))
            # kopf never watches a kind that is not served when it starts.
            served: asyncio.Future[Any] = asyncio.ensure_future(app.wait_until_served())
            await asyncio.wait({stopping, broken, served}, return_when=asyncio.FIRST_COMPLETED)
            served.cancel()
    finally:
        broken.cancel()
        stopping.cancel()


async def _watch_once(
    app: OperatorApp,
    stop: asyncio.Event,
    stopping: asyncio.Future[Any],
    broken: asyncio.Future[Any],
    *,
    again: bool,
) -> None:
    registry = kopf.OperatorRegistry()
    settings = kopf.OperatorSettings()
    app.configure_kopf(settings, registry)
    ready, end = asyncio.Event(), asyncio.Event()
    watching: asyncio.Future[Any] = asyncio.ensure_future(
        kopf.operator(registry=registry, settings=settings, clusterwide=True, ready_flag=ready, stop_flag=end)
    )
    started: asyncio.Future[Any] = asyncio.ensure_future(ready.wait())
    await asyncio.wait({watching, stopping, broken, started}, return_when=asyncio.FIRST_COMPLETED)
    # kopf takes the signals for itself while it starts; ours must come first, to drain before the watches end.
    _on_signals(stop)
    if again and started.done():
        await app.look_again()
    await asyncio.wait({watching, stopping, broken}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        logger.info("stopping")
        await app.drain()
    if watching.done() and not watching.cancelled():
        logger.warning("watching ended and begins anew", exc_info=watching.exception())
    end.set()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await asyncio.wait_for(watching, timeout=20.0)
    started.cancel()
    _on_signals(stop)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


if __name__ == "__main__":
    sys.exit(main())
