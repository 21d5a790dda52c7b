"""Do the programs run, and does what they leave fit together: Deployments, Lease, runtime documents, Tenants, stores.

Guarantees: of runtime documents only metadata is read. Does not: ask the programs themselves; what they say of
themselves stands in their Lease, their Deployments' status and the Tenants' conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from tenantplane_api.crd.conditions import Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.doctor.report import Finding, fail, ok, skip, warn
from tenantplane_cli.keyobjects import condition, is_true
from tenantplane_cli.kube import Kube
from tenantplane_cli.output import one_line
from tenantplane_cli.release import held

_REVISION: Final = re.compile(r"[0-9a-f]{16}")
_SHOWN: Final = 8


def deployments(kube: Kube, platform: Platform) -> Iterator[Finding]:
    """Operator and data plane have as many pods as they should."""
    system = platform.shared.namespaces.system
    for program in (names.COMPONENT_OPERATOR, names.COMPONENT_DATAPLANE):
        name = f"tenantplane-{program}"
        check = f"deployment {name}"
        found = kube.find(f"/apis/apps/v1/namespaces/{system}/deployments/{name}")
        if found is None:
            yield warn(
                check,
                f"is not in namespace {system}",
                f"install the chart with {program}.enabled=true, unless you run the program elsewhere",
            )
            continue
        wanted = int(found["spec"].get("replicas", 1))
        there = int((found.get("status") or {}).get("availableReplicas") or 0)
        if wanted == 0:
            yield warn(check, "is scaled to zero", f"kubectl -n {system} scale deployment {name} --replicas=1")
        elif there < wanted:
            yield (fail if there == 0 else warn)(
                check,
                f"{there} of {wanted} replicas are available",
                f"kubectl -n {system} describe deployment {name}; kubectl -n {system} logs deployment/{name}",
            )
        else:
            yield ok(check, f"{there} of {wanted} replicas are available")


def lease(kube: Kube, platform: Platform, *, now: datetime | None = None) -> Iterator[Finding]:
    """An operator leads, and has said so lately."""
    system, check = platform.shared.namespaces.system, "operator lease"
    found = kube.find(f"/apis/coordination.k8s.io/v1/namespaces/{system}/leases/{names.LEASE_NAME}")
    mend = f"see whether the operator runs: kubectl -n {system} logs deployment/tenantplane-operator"
    spec = (found or {}).get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        yield fail(check, "no operator leads: nothing is reconciled", mend)
        return
    age = ((now or datetime.now(UTC)) - datetime.fromisoformat(str(spec["renewTime"]))).total_seconds()
    bound = float(spec.get("leaseDurationSeconds") or platform.operator.leader_election.lease_seconds)
    told = f"held by {one_line(str(spec['holderIdentity']))}, renewed {age:.0f} s ago"
    if age > bound:
        yield fail(check, f"{told}, which is longer than its {bound:.0f} s: nothing is reconciled", mend)
    else:
        yield ok(check, told)


def runtime_documents(kube: Kube, platform: Platform) -> Iterator[Finding]:
    """Every document belongs to something that exists, and says so of itself."""
    space, check = platform.shared.namespaces.runtime, "runtime documents"
    selector = f"{names.LABEL_COMPONENT}={names.COMPONENT_RUNTIME}"
    found = kube.metadata_items(f"/api/v1/namespaces/{space}/secrets", selector)
    owners = {
        names.tenant_document_name(str(item["metadata"]["name"]))
        for item in kube.metadata_items(f"/apis/{names.API_VERSION}/{names.PLURAL_TENANTS}")
    } | {
        names.model_document_name(str(item["metadata"]["namespace"]), str(item["metadata"]["name"]))
        for item in kube.metadata_items(f"/apis/{names.API_VERSION}/{names.PLURAL_MODEL_DEPLOYMENTS}")
    }
    malformed = [str(item["metadata"]["name"]) for item in found if not _well_formed(item["metadata"])]
    orphans = [str(item["metadata"]["name"]) for item in found if item["metadata"]["name"] not in owners]
    if malformed:
        yield fail(
            check,
            f"{_some(malformed)}: name, label and revision do not fit together: the data plane refuses such documents",
            "let the operator write them again: kubectl annotate tenants --all --overwrite "
            f"{names.ANNOTATION_RECONCILE}=$(date -u +%FT%TZ)",
        )
    if orphans:
        yield warn(
            check,
            f"{_some(orphans)}: there is no such Tenant or ModelDeployment, and it is still served",
            "see whether the operator runs, or holds them back (`tenantplane release`)",
        )
    if not malformed and not orphans:
        yield ok(check, f"{len(found)}, well-formed, none without an owner")


def _well_formed(meta: dict[str, Any]) -> bool:
    labels, name = meta.get("labels") or {}, str(meta["name"])
    revision = (meta.get("annotations") or {}).get(names.ANNOTATION_REVISION, "")
    kind, _, rest = name.partition(".")
    fits = (kind == "t" and rest == labels.get(names.LABEL_TENANT)) or (
        kind == "m" and rest.partition(".")[2] == labels.get(names.LABEL_MODEL)
    )
    return fits and _REVISION.fullmatch(revision) is not None


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{len(items)} ({', '.join(sorted(items)[:_SHOWN])}{more})"


def mass_deletion(kube: Kube, platform: Platform) -> Iterator[Finding]:
    """Nothing waits for a person to say that its deletion was meant."""
    check, system = "mass deletion", platform.shared.namespaces.system
    found = held(kube, system)
    if not found:
        yield ok(check, "nothing is held back")
        return
    where = "" if system == names.NAMESPACE_SYSTEM else f" --system-namespace {system}"
    which = f"{_some([item.name for item in found])}; {found[0].name}: {one_line(found[0].why)}"
    yield warn(
        check,
        f"deletions are held back, and what they would cut is served until somebody says that they were meant: {which}",
        f"see all: tenantplane release{where}; if it was meant: tenantplane release --confirm NAME...{where}; if not: "
        "apply the objects again",
    )


def tenants(kube: Kube) -> Iterator[Finding]:
    """How the Tenants are."""
    check = "tenants"
    found = kube.items(f"/apis/{names.API_VERSION}/{names.PLURAL_TENANTS}")
    # What waits for a person to confirm its deletion is told by `mass_deletion`.
    found = [item for item in found if (condition(item, "Stalled") or {}).get("reason") != Reason.MASS_DELETION_HELD]
    stalled = [item for item in found if _says(item, "Stalled")]
    waiting = [_name(item) for item in found if not is_true(item, "Ready") and item not in stalled]
    served = {_name(item) for item in found if is_true(item, "Ready")}
    if stalled:
        first = condition(stalled[0], "Stalled") or {}
        yield warn(
            check,
            f"stalled: {_some([_name(item) for item in stalled])}; {_name(stalled[0])}: "
            f"{one_line(str(first.get('message', '')))}",
            f"tenantplane status {_name(stalled[0])}",
        )
    if waiting:
        yield warn(check, f"not ready: {_some(waiting)}", f"tenantplane status {sorted(waiting)[0]}")
    if not stalled and not waiting:
        yield ok(check, f"{len(served)}, all ready")


def _name(item: dict[str, Any]) -> str:
    return str(item["metadata"]["name"])


def _says(item: dict[str, Any], kind: str) -> bool:
    return (condition(item, kind) or {}).get("status") == "True"


def stores(platform: Platform) -> Iterator[Finding]:
    """What keeps state outside Kubernetes."""
    knowledge = platform.shared.knowledge
    if knowledge.store is None:
        yield skip(
            "index store", "not configured: Tenants with knowledge are refused", "set shared.knowledge.store if wanted"
        )
    else:
        yield skip("index store", f"{knowledge.store} is a folder of the operator's machine: not to be seen from here")
    yield skip("redis", "not configured: one replica and one worker of the data plane count all limits")
