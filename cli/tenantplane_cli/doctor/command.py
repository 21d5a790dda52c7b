"""The command line of `tenantplane doctor`; everything heavy is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption, SystemNamespaceOption
from tenantplane_cli.output import CliError, Format, OutputOption, clean, console, one_line, print_json

if TYPE_CHECKING:
    from tenantplane_api.runtime.platform import Platform
    from tenantplane_cli.doctor.report import Finding
    from tenantplane_cli.kube import Kube

_STYLES: Final = {"OK": "green", "WARN": "yellow", "FAIL": "bold red", "SKIP": "dim"}


def command(
    probe: Annotated[
        bool, typer.Option("--probe", help="Prove with pods that NetworkPolicies are enforced; makes two namespaces.")
    ] = False,
    probe_image: Annotated[
        str | None,
        typer.Option(
            help="Image with Python for --probe; that of the operator's or data plane's Deployment when unset."
        ),
    ] = None,
    probe_timeout: Annotated[float, typer.Option(help="Seconds for pods of --probe to come up.", min=1)] = 90.0,
    platform: Annotated[
        Path | None, typer.Option(help="Platform file, for who may not read the cluster's own.")
    ] = None,
    output: OutputOption = Format.TEXT,
    system_namespace: SystemNamespaceOption = "tenantplane-system",
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Check an installation, and say how to mend what fails. Best as a cluster admin.

    Exit code 0: nothing fails; 1: something fails; 2: there are only warnings. What could not be looked at is SKIP.
    """
    from tenantplane_cli.doctor import report
    from tenantplane_cli.kube import Kube

    findings: list[Finding] = []
    with Kube(kubeconfig, context) as kube:
        for finding in _all(kube, platform, system_namespace, (probe, probe_image, probe_timeout)):
            findings.append(finding)
            if output is Format.TEXT:
                _print(finding)
    code = report.exit_code(findings)
    if output is Format.JSON:
        print_json({"exitCode": code, "findings": [_plain(finding) for finding in findings]})
    else:
        counts = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in report.Verdict}
        console().print(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    sys.exit(code)


def _all(
    kube: Kube, given: Path | None, system_namespace: str, probing: tuple[bool, str | None, float]
) -> Iterator[Finding]:
    """Every check, in the order in which things build on each other."""
    from tenantplane_cli.doctor import fences, install, programs
    from tenantplane_cli.doctor.report import Verdict, run

    reached = list(run("api server", lambda: install.api_server(kube)))
    yield from reached
    if any(finding.verdict is Verdict.FAIL and "does not answer" in finding.text for finding in reached):
        return
    found, told = _platform(kube, given, system_namespace)
    yield told
    checks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("crds", lambda: install.crds(kube)),
        ("rbac", lambda: install.roles(kube)),
        ("operator rights", lambda: install.operator_rights(kube, found)),
        ("namespaces", lambda: install.namespaces(kube, found)),
        ("fences", lambda: fences.present(kube)),
        ("fences in force", lambda: fences.in_force(kube, found)),
        ("deployments", lambda: programs.deployments(kube, found)),
        ("operator lease", lambda: programs.lease(kube, found)),
        ("runtime documents", lambda: programs.runtime_documents(kube, found)),
        ("mass deletion", lambda: programs.mass_deletion(kube, found)),
        ("tenants", lambda: programs.tenants(kube)),
        ("stores", lambda: programs.stores(found)),
    )
    for name, look in checks:
        yield from run(name, look)
    wanted, image, timeout = probing
    if wanted:
        yield from run("network policies", lambda: _probe(kube, found, image, timeout))


def _platform(kube: Kube, given: Path | None, system_namespace: str) -> tuple[Platform, Finding]:
    """The Platform file, and what is to be said of it; defaults where there is none to go by."""
    import msgspec

    from tenantplane_api.runtime.platform import Platform, PlatformError, load_platform
    from tenantplane_cli.doctor.report import fail, ok, skip
    from tenantplane_cli.plan.source import from_cluster

    check = "platform file"
    if given is not None:
        try:
            return load_platform(given), ok(check, f"{given} is valid; the cluster's own was not looked at")
        except PlatformError as error:
            raise CliError(f"--platform: {error}") from None
    default = Platform()
    spaces = msgspec.structs.replace(default.shared.namespaces, system=system_namespace)
    default = msgspec.structs.replace(default, shared=msgspec.structs.replace(default.shared, namespaces=spaces))
    try:
        chosen = from_cluster(kube, system_namespace)
    except CliError as error:
        text = str(error)
        if "you may not read" in text:
            return default, skip(check, text, "run doctor as a cluster admin, or name the file by --platform")
        return default, fail(check, text, "correct `platform` in the chart's values, and upgrade the chart")
    plans = len(chosen.platform.operator.plans)
    return chosen.platform, ok(check, f"{chosen.origin} is valid, {plans} plan{'s' if plans != 1 else ''}")


def _probe(kube: Kube, platform: Platform, image: str | None, timeout: float) -> Iterator[Finding]:
    from tenantplane_cli.doctor.probe import Probe
    from tenantplane_cli.doctor.report import skip

    chosen = image or _image(kube, platform)
    if chosen is None:
        yield skip(
            "network policies",
            "neither program has a Deployment here, whose image could be used",
            "name one with Python by --probe-image",
        )
        return
    yield from Probe(kube, platform, chosen, timeout).look()


def _image(kube: Kube, platform: Platform) -> str | None:
    """The image of one of our programs: nodes can pull it, and it has Python."""
    base = f"/apis/apps/v1/namespaces/{platform.shared.namespaces.system}/deployments"
    for program in ("operator", "dataplane"):
        found = kube.find(f"{base}/tenantplane-{program}")
        if found is not None:
            return str(found["spec"]["template"]["spec"]["containers"][0]["image"])
    return None


def _plain(finding: Finding) -> dict[str, Any]:
    out = {"check": finding.check, "verdict": str(finding.verdict), "text": finding.text}
    return {**out, "mend": finding.mend} if finding.mend else out


def _print(finding: Finding) -> None:
    from rich.text import Text

    line = Text()
    line.append(f"{finding.verdict:<5}", style=_STYLES[finding.verdict])
    line.append(f"{clean(finding.check)}: {one_line(finding.text, 2000)}")
    screen = console()
    screen.print(line, soft_wrap=True)
    if finding.mend:
        screen.print(Text(f"     mend: {one_line(finding.mend, 2000)}", style="bold"), soft_wrap=True)
