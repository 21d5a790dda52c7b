"""`tenantplane status`: what the operator says about a tenant, as a tree; exit code 0 only when it is Ready.

Does not: ask the data plane. With a state folder it shows what the standalone process says of itself, and what of the
YAML that process does not enforce.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Annotated, Final

import typer

from tenantplane_cli.keys import NamespaceOption
from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption
from tenantplane_cli.output import EXIT_FAILED, Format, OutputOption, UsageError, console, note, print_json, say
from tenantplane_cli.status.render import print_table, print_tree
from tenantplane_cli.status.standalone import standalone_views
from tenantplane_cli.status.view import View
from tenantplane_cli.up.state import StateOption, choose

_POLL_SECONDS: Final = 0.5
_WATCH_SECONDS: Final = 2.0
Look = Callable[[], list[View]]


def command(
    tenant: Annotated[str | None, typer.Argument(help="Name of the Tenant; all in short when left out.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for Ready.", min=0)] = 0.0,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show every change until Ctrl-C.")] = False,
    output: OutputOption = Format.TEXT,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show a tenant and all that belongs to it as a tree. Exit code 0 only when it is Ready."""
    if watch and (wait or output is Format.JSON):
        raise UsageError("--watch goes with neither --wait nor -o json")
    if namespace is not None and tenant is None:
        raise UsageError("--namespace is the namespace of one tenant: name the tenant too")
    standalone = choose(state, cluster_named=bool(kubeconfig or context))
    if standalone is not None:
        _run(lambda: standalone_views(standalone, tenant), tenant, wait, watch, output)
        return
    from tenantplane_cli.kube import Kube
    from tenantplane_cli.status.observe import cluster_views

    with Kube(kubeconfig, context) as kube:
        _run(lambda: cluster_views(kube, tenant, namespace), tenant, wait, watch, output)


def _run(look: Look, tenant: str | None, wait: float, watch: bool, output: Format) -> None:
    if watch:
        _watch(look, tenant)
        return
    views = _until(look, wait)
    if output is Format.JSON:
        values = [view.as_json() for view in views]
        print_json(values[0] if tenant is not None else values)
    else:
        _print(views, tenant)
    if not all(view.ready for view in views):
        sys.exit(EXIT_FAILED)


def _print(views: list[View], tenant: str | None) -> None:
    if tenant is not None:
        print_tree(views[0])
    elif views:
        print_table(views)
    else:
        say("there are no Tenants; make one: tenantplane new NAME > tenant.yaml && kubectl apply -f tenant.yaml")


def _until(look: Look, wait: float) -> list[View]:
    from tenantplane_cli.patience import Patience

    deadline = time.monotonic() + wait
    patience = Patience(deadline)
    while True:
        views = patience.ask(look)
        if views is not None and (all(view.ready for view in views) or patience.over):
            return views
        time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _watch(look: Look, tenant: str | None) -> None:
    """Print again whenever something is different."""
    from tenantplane_cli.patience import Patience

    # A wrong server or name ends the first look; once something was seen, only the person ends it.
    before: list[View] | None = None
    patience = Patience(time.monotonic())
    screen = console()
    while True:
        now = patience.ask(look)
        if now is not None and now != before:
            if screen.is_terminal:
                screen.clear()
            elif before is not None:
                say()
            _print(now, tenant)
            if screen.is_terminal:
                note("watching; Ctrl-C ends")
            sys.stdout.flush()
            before = now
            patience = Patience(math.inf)
        time.sleep(_WATCH_SECONDS)
