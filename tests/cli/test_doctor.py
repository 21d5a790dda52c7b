"""`tenantplane doctor`: what it concludes from what it is told, and that one broken check hides no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.doctor import fences, programs
from tenantplane_cli.doctor.report import Finding, Verdict, ok, run
from tenantplane_cli.kube import KubeError
from tenantplane_cli.output import CliError


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (KubeError(403, "no"), Verdict.SKIP),
        (KubeError(0, "away"), Verdict.FAIL),
        (CliError("there is no ConfigMap"), Verdict.FAIL),
        (KeyError("spec"), Verdict.FAIL),
        (ValueError("Invalid isoformat string"), Verdict.FAIL),
    ],
)
def test_a_check_that_breaks_off_is_a_finding_whatever_broke_it(error: Exception, verdict: Verdict) -> None:
    def look() -> Iterator[Finding]:
        yield ok("x", "the first half")
        raise error

    first, second = run("x", look)
    assert (first.verdict, second.check, second.verdict) == (Verdict.OK, "x", verdict)
    assert second.text
    assert second.mend


def test_a_damaged_lease_ends_its_own_check_only() -> None:
    class Kube:
        def find(self, _: str) -> dict[str, Any]:
            return {"spec": {"holderIdentity": "a", "renewTime": "yesterday"}}

    kube: Any = Kube()
    (found,) = run("operator lease", lambda: programs.lease(kube, Platform()))
    assert (found.check, found.verdict) == ("operator lease", Verdict.FAIL)


class Fenced:
    """An API server with one tenant whose admins are ann and bob; fences refuse who does not hold `bypass`."""

    def __init__(self, *bypass: str, broken: bool = False, may_ask: bool = True) -> None:
        self.bypass = bypass
        self.broken = broken
        self.may_ask = may_ask
        self.tried: list[str | None] = []

    def items(self, _: str, selector: str = "") -> list[dict[str, Any]]:
        return [{"metadata": {"name": "tenant-a", "labels": {selector: "a"}}}]

    def find(self, _: str) -> dict[str, Any]:
        return {"subjects": [{"kind": kind, "name": name} for kind, name in (("User", "ann"), ("User", "bob"))]}

    def create(
        self, path: str, body: dict[str, Any], *, dry_run: bool = False, as_user: str | None = None
    ) -> dict[str, Any]:
        if body["kind"] == "SubjectAccessReview":
            if not self.may_ask:
                raise KubeError(403, "no")
            asked = body["spec"]
            assert asked["resourceAttributes"] == {"verb": "bypass", "group": names.GROUP, "resource": "fence"}
            return {"status": {"allowed": asked["user"] in self.bypass}}
        assert dry_run
        kind = body["kind"]
        if kind == "RoleBinding" and self.broken:
            raise KubeError(503, "away")
        if kind == "ConfigMap":
            self.tried.append(as_user)
            if as_user in self.bypass:
                return body
        raise KubeError(403, f"ValidatingAdmissionPolicy {' '.join(names.FENCES)} denied request")


def in_force(kube: Any) -> dict[str, Finding]:
    return {each.check.removeprefix("in force: "): each for each in fences.in_force(kube, Platform())}


def test_a_fence_is_tried_as_somebody_whom_it_is_there_for() -> None:
    nobody, one, both = Fenced(), Fenced("ann"), Fenced("ann", "bob")
    found = [in_force(kube)[fences.TENANT_FENCE] for kube in (nobody, one, both)]
    # Who may pass the fence proves nothing about it: not that it is open, nor that it is shut.
    assert [each.verdict for each in found] == [Verdict.OK, Verdict.OK, Verdict.SKIP]
    assert [kube.tried for kube in (nobody, one, both)] == [["ann"], ["bob"], []]
    assert "ann, bob" in found[2].text
    assert in_force(Fenced(may_ask=False))[fences.TENANT_FENCE].verdict is Verdict.SKIP


def test_a_try_that_breaks_off_hides_no_other() -> None:
    found = in_force(Fenced(broken=True))
    assert found[fences.OPERATOR_FENCE].verdict is Verdict.FAIL
    assert found[fences.RUNTIME_FENCE].verdict is found[fences.TENANT_FENCE].verdict is Verdict.OK


class Holding:
    """An API server on which deletions wait for a person."""

    def __init__(self, data: dict[str, str], *tenants: dict[str, Any]) -> None:
        self.data = data
        self.tenants = tenants

    def items(self, _: str) -> list[dict[str, Any]]:
        return list(self.tenants)

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/tenantplane-system/configmaps/tenantplane-held"
        return {"data": self.data}


def tenant(name: str, *conditions: tuple[str, str, str]) -> dict[str, Any]:
    told = [{"type": kind, "status": status, "reason": why, "message": "so many"} for kind, status, why in conditions]
    return {"metadata": {"name": name}, "spec": {}, "status": {"conditions": told}}


HELD = "MassDeletionHeld"


@pytest.mark.parametrize(
    ("data", "tenants", "named"),
    [
        ({"held.m.models.big": "ModelDeployment models/big since 2026-01-01T00:00:00Z: so many"}, [], "m.models.big"),
        ({}, [tenant("acme", (HELD, "True", HELD), ("Stalled", "True", HELD), ("Ready", "False", HELD))], "acme"),
        ({"release.t.old": "2026-01-01T00:00:00Z"}, [tenant("acme", ("Ready", "True", "Ready"))], None),
    ],
)
def test_what_is_held_back_is_a_warning_that_says_how_to_release(
    data: dict[str, str], tenants: list[dict[str, Any]], named: str | None
) -> None:
    kube: Any = Holding(data, *tenants)
    (found,) = run("mass deletion", lambda: programs.mass_deletion(kube, Platform()))
    if named is None:
        assert found.verdict is Verdict.OK
        return
    assert found.verdict is Verdict.WARN
    assert named in found.text
    assert "tenantplane release --confirm" in found.mend
    # Told once, and not as a Tenant that does not work.
    assert [each.verdict for each in programs.tenants(kube)] == [Verdict.OK]
