"""`tenantplane release`: confirm deletions that the operator holds, because too many came at once or a CRD went.

Guarantees: without `--confirm` nothing is changed, and what waits is listed; a request confirms only deletions that are
held now. Does not: delete anything itself, or wait until it is done.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption, SystemNamespaceOption
from tenantplane_cli.output import CliError, Format, OutputOption, UsageError, note, print_json, say

if TYPE_CHECKING:
    from tenantplane_cli.kube import Kube

_SINCE: Final = re.compile(r" since ([0-9T:-]+Z)")


@dataclass(frozen=True)
class Held:
    """One thing that waits. ``name`` is what a person names it by: a Tenant, or a document of something that is gone.

    ``since`` is RFC 3339 text, ``why`` is the operator's own. Released by an annotation on the Tenant when ``tenant``,
    else by an entry of the ConfigMap.
    """

    name: str
    since: str
    why: str
    tenant: bool


def command(
    tenants: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="What to release, as the list without --confirm names it."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Release everything that is held now.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Do it; without, only list what is held.")] = False,
    output: OutputOption = Format.TEXT,
    system_namespace: SystemNamespaceOption = "tenantplane-system",
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Let deletions go on that the operator holds: access is cut then, and namespaces with policy Delete are deleted.

    Up to max(5, 10 %) deletions of a kind within ten minutes go through at once (Platform, operator.massDeletion);
    beyond it, and whenever one of our CRDs is deleted, the operator waits for this command.
    """
    from tenantplane_cli.kube import Kube

    names = list(tenants or ())
    if confirm and bool(names) == everything:
        raise UsageError("release --confirm needs names or --all, and not both")
    with Kube(kubeconfig, context) as kube:
        found = held(kube, system_namespace)
        if not confirm:
            chosen = [item for item in found if not names or item.name in names]
            _show(chosen, output)
            return
        chosen = found if everything else _chosen(found, names)
        for item in chosen:
            _release(kube, item, system_namespace)
    if output is Format.JSON:
        print_json([{"name": item.name, "released": True} for item in chosen])
    elif not chosen:
        say("nothing is held")
    else:
        for item in chosen:
            say(f"{item.name} released")


def held(kube: Kube, system_namespace: str) -> list[Held]:
    """Everything that waits for a release."""
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import NotFound, config_map_path

    out: list[Held] = []
    for tenant in _tenants(kube):
        told = next((c for c in (tenant.get("status") or {}).get("conditions") or () if _is_hold(c)), None)
        if told is not None:
            since = str(tenant["metadata"].get("deletionTimestamp") or told.get("lastTransitionTime") or "")
            out.append(Held(tenant["metadata"]["name"], since, str(told.get("message", "")), tenant=True))
    try:
        data = kube.get(config_map_path(system_namespace, names.CONFIG_MAP_HELD)).get("data") or {}
    except NotFound:
        raise CliError(
            f"there is no ConfigMap {system_namespace}/{names.CONFIG_MAP_HELD}: name the namespace of the chart by "
            "--system-namespace, and upgrade the chart if it is an older one"
        ) from None
    shown = {item.name for item in out}
    for entry, why in sorted(data.items()):
        document = entry.removeprefix(names.HELD_PREFIX)
        # Keys that a live Tenant lost are released at that Tenant.
        if entry != document and document.removeprefix("t.") not in shown:
            out.append(Held(document, max(_SINCE.findall(str(why)), default=""), str(why), tenant=False))
    return out


def _is_hold(condition: dict[str, Any]) -> bool:
    return condition.get("type") == "MassDeletionHeld" and condition.get("status") == "True"


def _tenants(kube: Kube) -> list[dict[str, Any]]:
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import NotFound

    try:
        return kube.items(f"/apis/{names.API_VERSION}/{names.PLURAL_TENANTS}")
    except NotFound:
        # The very case: the CRD is away.
        return []


def _chosen(found: list[Held], wanted: list[str]) -> list[Held]:
    by_name = {item.name: item for item in found} | {
        item.name.removeprefix("t."): item for item in found if item.name.startswith("t.")
    }
    missing = [name for name in wanted if name not in by_name]
    if missing:
        there = ", ".join(sorted(item.name for item in found)) or "nothing"
        raise CliError(f"not held: {', '.join(missing)}; held now: {there}")
    return list(dict.fromkeys(by_name[name] for name in wanted))


def _release(kube: Kube, item: Held, system_namespace: str) -> None:
    from tenantplane_api.runtime import names
    from tenantplane_cli.kube import config_map_path, tenant_path

    now = _not_before(item.since)
    if item.tenant:
        kube.merge(tenant_path(item.name), {"metadata": {"annotations": {names.ANNOTATION_RELEASE: now}}})
    else:
        entry = names.RELEASE_PREFIX + item.name
        kube.merge(config_map_path(system_namespace, names.CONFIG_MAP_HELD), {"data": {entry: now}})


def _not_before(since: str) -> str:
    """Now, or when the deletion was asked for, where this machine's clock is behind the server's."""
    now = datetime.now(UTC)
    try:
        asked = datetime.fromisoformat(since.replace("Z", "+00:00"))
    except ValueError:
        asked = now
    return max(now, asked).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _show(found: list[Held], output: Format) -> None:
    if output is Format.JSON:
        print_json([{"name": item.name, "since": item.since, "message": item.why} for item in found])
        return
    if not found:
        say("nothing is held")
        return
    for item in found:
        say(f"{item.name}: {item.why}")
    note("to let it be cut: tenantplane release --confirm NAME..., or --all")
