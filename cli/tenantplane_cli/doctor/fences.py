"""Are the fences there, sound, and in force.

Guarantees: *in force* is seen and not inferred: by dry runs of what each fence must refuse, made as who it is there
for. A refusal by RBAC is not counted as the fence's. Does not: write; every request is a dry run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.doctor.install import BYPASS, MAY_NOT_ASK, allowed
from tenantplane_cli.doctor.report import Finding, fail, ok, run, skip, warn
from tenantplane_cli.kube import FORBIDDEN, Kube, KubeError, config_map_path, secret_path
from tenantplane_cli.output import one_line

_GROUP: Final = "/apis/admissionregistration.k8s.io/v1"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
OPERATOR_FENCE: Final = "tenantplane-operator-fence"
RUNTIME_FENCE: Final = "tenantplane-runtime-fence"
TENANT_FENCE: Final = "tenantplane-tenant-fence"
_MEND: Final = "upgrade the chart, which brings the policies and their bindings"
_PROBE: Final = "tenantplane-doctor"


def fences() -> tuple[str, ...]:
    """Names of the chart's admission policies."""
    return names.FENCES


def present(kube: Kube) -> Iterator[Finding]:
    """Each policy is there, closed on failure, bound to deny, and its expressions are understood."""
    good = []
    for name in fences():
        check = f"fence {name}"
        policy = kube.find(f"{_GROUP}/validatingadmissionpolicies/{name}")
        if policy is None:
            yield fail(check, "the ValidatingAdmissionPolicy is missing", _MEND)
            continue
        problems = list(_problems(policy, kube.find(f"{_GROUP}/validatingadmissionpolicybindings/{name}")))
        warnings = list(_warnings(policy))
        if problems:
            yield fail(check, "; ".join(problems), _MEND)
        elif warnings:
            yield warn(check, "; ".join(warnings), "upgrade the chart to one that is tested with this Kubernetes")
        else:
            good.append(name)
    if good:
        yield ok("fences", f"{len(good)} of {len(fences())} admission policies are there and bound: {', '.join(good)}")


def _problems(policy: dict[str, Any], binding: dict[str, Any] | None) -> Iterator[str]:
    if policy["spec"].get("failurePolicy", "Fail") != "Fail":
        yield "failurePolicy is not Fail: what it cannot judge passes"
    if binding is None:
        yield "it is not bound, so it refuses nothing"
        return
    spec = binding["spec"]
    if spec.get("policyName") != policy["metadata"]["name"]:
        yield f"its binding names policy {spec.get('policyName')}"
    if "Deny" not in (spec.get("validationActions") or ()):
        yield "its binding does not deny"
    if spec.get("matchResources"):
        yield "its binding is narrowed to some resources"


def _warnings(policy: dict[str, Any]) -> Iterator[str]:
    status = policy.get("status") or {}
    if status.get("observedGeneration") != policy["metadata"].get("generation"):
        yield "the control plane has not looked at its last change yet"
    for each in (status.get("typeChecking") or {}).get("expressionWarnings") or ():
        yield f"{each.get('fieldRef')}: {one_line(str(each.get('warning')), 160)}"


def in_force(kube: Kube, platform: Platform) -> Iterator[Finding]:
    """Each fence refuses what it is there to refuse."""
    spaces = platform.shared.namespaces
    tries = {
        OPERATOR_FENCE: partial(_operator, kube, spaces.system),
        RUNTIME_FENCE: partial(_runtime, kube, spaces.runtime),
        TENANT_FENCE: partial(_tenant, kube),
    }
    for fence, look in tries.items():
        # Each by itself: one that breaks off must not hide what the next one would have said.
        yield from run(f"in force: {fence}", look)


def _operator(kube: Kube, system: str) -> Iterator[Finding]:
    yield _try(
        kube,
        OPERATOR_FENCE,
        "a RoleBinding in kube-system by the operator",
        f"{_RBAC}/namespaces/kube-system/rolebindings",
        _binding(system),
        as_user=f"system:serviceaccount:{system}:{names.SERVICE_ACCOUNT_OPERATOR}",
    )


def _runtime(kube: Kube, space: str) -> Iterator[Finding]:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _PROBE, "namespace": space},
        "type": names.SECRET_TYPE_RUNTIME,
    }
    path = secret_path(space, "").rstrip("/")
    yield _try(kube, RUNTIME_FENCE, "a runtime document by you", path, secret)


def _binding(system: str) -> dict[str, Any]:
    """What the operator itself tries at its start: it would be allowed in a tenant's namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": _PROBE, "namespace": "kube-system"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": names.CLUSTER_ROLE_OPERATOR_NAMESPACE,
        },
        "subjects": [{"kind": "ServiceAccount", "name": names.SERVICE_ACCOUNT_OPERATOR, "namespace": system}],
    }


def _tenant(kube: Kube) -> Iterator[Finding]:
    """A forged mark of ours by an admin of some tenant, whom the fence is there for."""
    check, passing = f"in force: {TENANT_FENCE}", set()
    for space, user in _admins(kube):
        try:
            bypasses = user in passing or allowed(kube, user, ["system:authenticated"], BYPASS)
        except KubeError as error:
            if error.status != FORBIDDEN:
                raise
            yield skip(check, MAY_NOT_ASK, "run as a cluster admin")
            return
        if bypasses:
            passing.add(user)
            continue
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _PROBE, "namespace": space, "labels": {names.LABEL_TENANT: "doctor"}},
        }
        path = config_map_path(space, "").rstrip("/")
        yield _try(kube, TENANT_FENCE, f"our label by {user}, admin of {space}", path, body, as_user=user)
        return
    if passing:
        told = f"everybody whom a Tenant names as admin may pass the fence ({BYPASS}): {', '.join(sorted(passing))}"
        yield skip(check, told, "see whether they should: kubectl auth can-i bypass fence.tenantplane.dev --as USER")
    else:
        yield skip(check, "no Tenant names a user as admin, so there is nobody to try it as")


def _admins(kube: Kube) -> Iterator[tuple[str, str]]:
    """Namespaces of tenants, with users that are admins there."""
    for space in kube.items("/api/v1/namespaces", names.LABEL_TENANT):
        if space["metadata"].get("deletionTimestamp"):
            continue
        name = str(space["metadata"]["name"])
        found = kube.find(f"{_RBAC}/namespaces/{name}/rolebindings/{names.CHILD_ROLE_BINDING_ADMINS}")
        for each in (found or {}).get("subjects") or ():
            if each["kind"] == "User":
                yield name, str(each["name"])


def _try(kube: Kube, fence: str, what: str, path: str, body: dict[str, Any], *, as_user: str | None = None) -> Finding:
    check = f"in force: {fence}"
    try:
        kube.create(path, body, dry_run=True, as_user=as_user)
    except KubeError as error:
        message = str(error)
        if "ValidatingAdmissionPolicy" in message and fence in message:
            return ok(check, f"refuses {what}")
        if error.status == FORBIDDEN and "impersonate" in message:
            return skip(check, "you may not act as others (impersonate), so it was not tried", "run as a cluster admin")
        if error.status == FORBIDDEN:
            return skip(check, f"{what} is refused before the fence is asked: {message}", "run as a cluster admin")
        raise
    return fail(check, f"does NOT refuse {what}", f"{_MEND}; until then do not run the operator")
