"""The command line of `tenantplane plan`; everything heavy is imported when it runs."""

from __future__ import annotations

import contextlib
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption, SystemNamespaceOption
from tenantplane_cli.output import EXIT_FAILED, CliError, note, print_json, say

if TYPE_CHECKING:
    from tenantplane_api.runtime.platform import Platform
    from tenantplane_cli.kube import Kube
    from tenantplane_cli.plan.compare import Plan
    from tenantplane_cli.plan.facts import Facts
    from tenantplane_cli.up.load import Loaded

EXIT_CHANGES: Final = 2


class PlanFormat(StrEnum):
    """How a plan is printed."""

    YAML = "yaml"
    DIFF = "diff"
    JSON = "json"


def command(
    file: Annotated[str, typer.Argument(help="YAML file, folder of YAML, or - for standard input.", metavar="FILE|-")],
    platform: Annotated[
        Path | None,
        typer.Option(help="Platform file to plan for; the cluster's own, or built-in defaults, when unset."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no cluster, whatever the kubeconfig says.")] = False,
    output: Annotated[
        PlanFormat | None,
        typer.Option(
            "--output",
            "-o",
            help="yaml of every child, diff against the cluster, or json.",
            show_default="diff with a cluster, yaml without",
        ),
    ] = None,
    system_namespace: SystemNamespaceOption = "tenantplane-system",
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show every object that the operator would make of a file, and with a cluster what would change there.

    Exit code 0: nothing would change; 2: something would; 1: an error, an object that the operator would refuse, or one
    that could not be compared.
    """
    if offline and (kubeconfig or context):
        raise CliError("--offline asks no cluster: leave --kubeconfig and --context out, or --offline")
    from tenantplane_cli.plan.compare import Action
    from tenantplane_cli.plan.facts import InCluster, Offline
    from tenantplane_cli.plan.source import choose_platform, read

    loaded = read(file)
    with contextlib.ExitStack() as stack:
        kube = _connect(offline, kubeconfig, context, stack)
        if kube is None and output is PlanFormat.DIFF:
            raise CliError("-o diff needs a cluster to compare with: name one by --kubeconfig, or use -o yaml")
        chosen = choose_platform(platform, file, kube, system_namespace=system_namespace)
        spaces = chosen.platform.shared.namespaces
        facts: Facts = Offline() if kube is None else InCluster(kube, runtime_namespace=spaces.runtime)
        plans = _plans(loaded, facts, chosen.platform)
        where = "offline: nothing was compared" if kube is None else f"compared with {kube.server}"
        if isinstance(facts, InCluster) and not facts.asked_server:
            where += "; you may not try the operator's writes, so changes are computed here and not by the API server"
    problems = [str(problem) for problem in loaded.problems]
    _print(plans, output, chosen.origin, where, facts, problems)
    for problem in problems:
        note(f"error: {problem}")
    refused = any(plan.outlook.stalled for plan in plans)
    if refused:
        note("error: the operator would refuse it: see STALLED at the top")
    unknown = [str(change.key) for plan in plans for change in plan.changes if change.action is Action.UNKNOWN]
    unread = unknown if facts.online else []
    if unread:
        note(f"error: not compared, because you may not read it: {', '.join(unread)}; plan as somebody who may")
    if problems or refused or unread:
        sys.exit(EXIT_FAILED)
    if any(change.counts for plan in plans for change in plan.changes):
        sys.exit(EXIT_CHANGES)


def _print(
    plans: list[Plan], output: PlanFormat | None, origin: str, where: str, facts: Facts, problems: list[str]
) -> None:
    from tenantplane_cli.plan import render

    wanted = output or (PlanFormat.DIFF if facts.online else PlanFormat.YAML)
    if wanted is PlanFormat.JSON:
        print_json(render.as_json(plans, origin=origin, online=facts.online, denied=facts.denied, problems=problems))
        return
    for line in render.comments(plans, origin, where, facts.denied):
        say(line)
    if wanted is PlanFormat.YAML:
        for text in render.as_yaml(plans):
            say(text)
    else:
        for line in render.as_diff(plans, colour=render.wants_colour()):
            print(line)
    note(render.summary(plans))


def _connect(offline: bool, kubeconfig: Path | None, context: str | None, stack: contextlib.ExitStack) -> Kube | None:
    """The cluster, ``None`` where none is named anywhere."""
    if offline:
        return None
    known = os.environ.get("KUBECONFIG") or (Path.home() / ".kube" / "config").is_file()
    if not known and kubeconfig is None and context is None:
        return None
    from tenantplane_cli.kube import Kube

    return stack.enter_context(Kube(kubeconfig, context))


def _plans(loaded: Loaded, facts: Facts, platform: Platform) -> list[Plan]:
    from tenantplane_api.runtime import names
    from tenantplane_cli.plan import predict
    from tenantplane_cli.plan.compare import compare
    from tenantplane_cli.plan.known import Known
    from tenantplane_operator.tenant.concern import Refused

    known = Known(loaded, facts)
    outlooks = {
        names.KIND_TENANT: predict.tenant_outlook,
        names.KIND_MODEL_DEPLOYMENT: predict.model_outlook,
        names.KIND_API_KEY: predict.key_outlook,
    }
    plans = []
    for kind, outlook in outlooks.items():
        for obj in loaded.of(kind):
            try:
                plans.append(compare(obj, outlook(obj, known, platform), known))
            except Refused as error:
                raise CliError(f"{kind} {obj['metadata']['name']}: {error.concern.message}") from None
    return plans
