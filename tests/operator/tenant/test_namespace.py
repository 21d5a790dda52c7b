"""The Namespace: what the tenant fence reads there is the plan's and nobody else's."""

import copy
from typing import Any

from tests.operator.tenant.build import parsed, platform

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.apply import differs, with_hash
from tenantplane_operator.tenant.compile import Observed, compile_tenant
from tenantplane_operator.tenant.manifest import Manifest

PREFIX = names.ANNOTATION_ALLOW_PREFIX


def applied(allow: dict[str, Any], spec: dict[str, Any] | None = None) -> Manifest:
    place = platform(operator={"plans": {"default": {"allow": allow}}})
    manifest = compile_tenant(parsed(spec=spec), place, Observed()).children[0].manifest
    assert manifest["kind"] == "Namespace"
    return manifest


def allowances(manifest: Manifest) -> dict[str, str]:
    notes: dict[str, str] = manifest["metadata"]["annotations"]
    return {key.removeprefix(PREFIX): value for key, value in notes.items() if key.startswith(PREFIX)}


def test_the_plans_allowances_and_no_others() -> None:
    plan = {"registries": ["a.example/", "b.example/x"], "tolerations": ["gpu"], "imagePullPolicies": ["IfNotPresent"]}
    assert allowances(applied(plan)) == {
        "registries": "a.example/,b.example/x",
        "tolerations": "gpu",
        "image-pull-policies": "IfNotPresent",
    }
    # One that is no longer in the plan is not in what is applied; server-side apply then removes it.
    assert allowances(applied({})) == {"image-pull-policies": "Always"}


def test_a_tenant_cannot_write_itself_an_allowance() -> None:
    spec = {"namespace": {"annotations": {"example.com/allow-registries": "*"}}}
    assert allowances(applied({}, spec=spec)) == {"image-pull-policies": "Always"}


def test_an_allowance_that_somebody_left_is_drift() -> None:
    """Removed by the applier; see ``runtime.compare``."""
    wanted = with_hash(applied({"registries": ["a.example/"]}))
    live = copy.deepcopy(wanted)
    live["metadata"]["annotations"] |= {"team": "blue"}
    assert not differs(wanted, live), "a foreign annotation is not ours to remove"
    for left in ({PREFIX + "tolerations": "*"}, {PREFIX + "registries": "*"}):
        assert differs(wanted, copy.deepcopy(live) | {"metadata": _with(live, left)})


def _with(live: Manifest, notes: dict[str, str]) -> Manifest:
    return {**live["metadata"], "annotations": {**live["metadata"]["annotations"], **notes}}
