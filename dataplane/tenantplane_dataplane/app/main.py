"""``tenantplane-dataplane``: ``serve`` and ``watch``.

Exit codes: 0 after a requested stop, 2 for a wrong invocation or Platform file, 1 for anything else.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from tenantplane_api.runtime.platform import DEFAULT_PLATFORM_PATH, PlatformError, load_platform
from tenantplane_dataplane.observability.logs import get_logger, setup_logging

_ROLES: Final = ("gateway", "assistants", "all")
_log = get_logger("app")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tenantplane-dataplane", description=__doc__.splitlines()[0])
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve chat")
    serve.add_argument("--platform", type=Path, default=Path(DEFAULT_PLATFORM_PATH), help="the Platform file")
    serve.add_argument("--host", default="0.0.0.0", help="address of the public port")  # noqa: S104 - behind a Service
    serve.add_argument("--port", type=int, default=8080, help="public port; 0 takes a free one")
    serve.add_argument("--internal-host", default="0.0.0.0", help="address of the internal port")  # noqa: S104
    serve.add_argument("--internal-port", type=int, default=8081, help="health and /metrics; 0 takes a free one")
    serve.add_argument("--role", choices=_ROLES, default="all")
    serve.add_argument("--workers", type=int, default=1, help="must be 1 until limits can be shared through Redis")
    serve.add_argument("--config-dir", type=Path, help="obey this directory and start no watcher")
    serve.add_argument("--watch-dir", type=Path, help="where the watcher keeps documents")
    serve.add_argument("--kubeconfig", type=Path, help="for the watcher; default: the pod's ServiceAccount")
    watch = commands.add_parser("watch", help="fill a directory from runtime Secrets (started by serve)")
    watch.add_argument("--directory", type=Path, required=True)
    watch.add_argument("--namespace", required=True)
    watch.add_argument("--kubeconfig", type=Path)
    watch.add_argument("--parent-pid", type=int, help="end when this process ends")
    return parser


def _fail(message: str) -> NoReturn:
    print(f"tenantplane-dataplane: {message}", file=sys.stderr)
    raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    arguments = _parser().parse_args(argv)
    setup_logging(level=arguments.log_level)
    if arguments.command == "watch":
        _watch(arguments)
    else:
        _serve(arguments)


def _watch(arguments: argparse.Namespace) -> None:
    # Only here: no worker needs to know Kubernetes.
    from tenantplane_dataplane.watcher.run import run_watcher

    asyncio.run(
        run_watcher(
            directory=arguments.directory,
            namespace=arguments.namespace,
            kubeconfig=arguments.kubeconfig,
            parent_pid=arguments.parent_pid,
        )
    )


def _serve(arguments: argparse.Namespace) -> None:
    from tenantplane_dataplane.app.serve import serve
    from tenantplane_dataplane.config.directory import ConfigDirectoryError

    if arguments.workers != 1:
        _fail(
            "--workers must be 1: without Redis every worker would count limits for itself, and a tenant would get "
            "its limits once per worker"
        )
    try:
        platform = load_platform(arguments.platform)
    except PlatformError as error:
        _fail(str(error))
    if arguments.config_dir is not None and arguments.kubeconfig is not None:
        _fail("--config-dir and --kubeconfig exclude each other: with a directory there is no watcher")

    async def run(directory: Path, watcher: Sequence[str] | None) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(
            platform,
            directory,
            host=arguments.host,
            port=arguments.port,
            internal_host=arguments.internal_host,
            internal_port=arguments.internal_port,
            role=arguments.role,
            watcher=watcher,
            stop=stop,
        )

    try:
        if arguments.config_dir is not None:
            _loop_run(run(arguments.config_dir, None))
            return
        with _watch_directory(arguments) as directory:
            _loop_run(run(directory, _watch_command(arguments, directory, platform.shared.namespaces.runtime)))
    except (ConfigDirectoryError, OSError) as error:
        _log.error("cannot serve", extra={"fields": {"problem": str(error)}})
        raise SystemExit(1) from None


@contextmanager
def _watch_directory(arguments: argparse.Namespace) -> Iterator[Path]:
    """Where the watcher keeps documents.

    In a pod the same folder after every restart of the container: with the API server away, it serves on from what is
    there. Beside others on one machine a folder of its own, removed at the end.
    """
    if arguments.watch_dir is None and arguments.kubeconfig is not None:
        with tempfile.TemporaryDirectory(prefix="tenantplane-") as temporary:
            yield Path(temporary)
        return
    directory = arguments.watch_dir or Path(tempfile.gettempdir()) / "tenantplane-documents"
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    yield directory


def _watch_command(arguments: argparse.Namespace, directory: Path, namespace: str) -> list[str]:
    command = [sys.executable, "-m", "tenantplane_dataplane.app.main", "--log-level", arguments.log_level, "watch"]
    command += ["--directory", str(directory), "--namespace", namespace, "--parent-pid", str(os.getpid())]
    if arguments.kubeconfig is not None:
        command += ["--kubeconfig", str(arguments.kubeconfig)]
    return command


def _loop_run(coroutine: "object") -> None:
    """Run on uvloop where there is one: half of the CPU per request."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)  # type: ignore[arg-type]
    else:
        uvloop.run(coroutine)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
