"""For developers and for make: `python -m tenantplane_cli.cluster build` and `… up`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from tenantplane_cli.cluster import ClusterUnavailable, ToolError, helm_binary, open_cluster, toolchain


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tenantplane_cli.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build control plane, etcd and Helm into the cache, or find them there")
    up = commands.add_parser("up", help="start a cluster and keep it until Ctrl-C")
    up.add_argument("--scheduler", action="store_true", help="run kube-scheduler too")
    arguments = parser.parse_args()
    try:
        return _build() if arguments.command == "build" else _up(arguments.scheduler)
    except (ClusterUnavailable, ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _say(line: str) -> None:
    print(line, flush=True)


def _build() -> int:
    for component in (toolchain.CONTROL_PLANE, toolchain.ETCD):
        folder = toolchain.ensure(component, _say)
        _say(f"{component.title} {component.version}: {folder}")
    _say(f"Helm: {helm_binary(_say)}")
    return 0


def _up(scheduler: bool) -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with open_cluster(progress=_say, scheduler=scheduler) as cluster:
        _say(f"export KUBECONFIG={cluster.kubeconfig}")
        _say(f"kubectl: {cluster.kubectl}\nCtrl-C ends it")
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
