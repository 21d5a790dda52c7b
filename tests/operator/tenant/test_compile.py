"""The front door: nothing leaks from one tenant to another, bad input is a concern, equal input is equal output."""

import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.tenant.build import ACME, BETA, HASH_A, HASH_B, api_key, model, namespace, parsed, platform

from tenantplane_api.crd.conditions import TENANT_CONCERNS, ConditionType, Reason
from tenantplane_api.runtime import documents, names
from tenantplane_operator.tenant import document
from tenantplane_operator.tenant.compile import (
    PRUNABLE,
    Compiled,
    Observed,
    Publication,
    compile_tenant,
    referenced_config_maps,
    referenced_models,
    refused_spec,
)
from tenantplane_operator.tenant.concern import failed
from tenantplane_operator.tenant.models import observed_model

SHARED = observed_model(model(sharing={"mode": "Selected", "tenants": ["acme"]}))
SPEC: dict[str, Any] = {
    "models": [{"alias": "chat", "ref": {"name": "gpt"}}],
    "assistants": [{"name": "help", "model": "chat", "knowledge": ["handbook"]}],
    "knowledge": [{"name": "handbook", "sources": [{"name": "docs", "configMap": {"name": "docs"}}]}],
}
PLACE = platform(shared={"knowledge": {"store": "file:///srv"}}, operator={"indexer": {"runner": "Subprocess"}})


def compiled(name: str = "acme", spec: dict[str, Any] = SPEC, **facts: Any) -> Compiled:
    owner = {"acme": ACME, "beta": BETA}[name]
    observed = {"namespace": namespace(f"tenant-{name}", owner=owner), "models": {SHARED.key: SHARED}, **facts}
    return compile_tenant(parsed(name, spec=spec), PLACE, Observed(**observed))


def test_everything_at_once() -> None:
    out = compiled(api_keys=[api_key(ours=ACME)], config_maps={"docs": "d"})
    assert set(out.concerns) == set(TENANT_CONCERNS)
    assert out.publication is Publication.PUBLISH
    assert out.document is not None
    assert [entry.hash for entry in out.document.spec.keys] == [HASH_A]
    assert [entry.alias for entry in out.document.spec.models] == ["chat"]
    assert [plan.index for plan in out.builds] == ["handbook"]
    # Named, though there is no generation yet: the data plane refuses the request, not the document.
    assert out.document.spec.assistants[0].knowledge == ("handbook",)
    assert out.document.spec.indexes == ()
    assert {str(kind): out.concerns[kind].reason for kind in TENANT_CONCERNS} == {
        "NamespaceReady": "Applied",
        "QuotaReady": "NotConfigured",
        "NetworkReady": "Applied",
        "AccessReady": "Applied",
        "IdentityReady": "NotConfigured",
        "KeysReady": "Ready",
        "ModelsReady": "Ready",
        "KnowledgeReady": "Building",
        "RuntimePublished": "Published",
    }


def test_the_same_yaml_for_another_tenant_gets_none_of_the_first_ones_things() -> None:
    keys = [api_key(ours=ACME), api_key("b", digest=HASH_B, where="tenant-beta")]
    acme, beta = compiled("acme", api_keys=keys), compiled("beta", api_keys=keys)
    assert acme.document is not None
    assert beta.document is not None
    assert [entry.hash for entry in acme.document.spec.keys] == [HASH_A]
    assert [entry.hash for entry in beta.document.spec.keys] == [HASH_B]
    assert [entry.alias for entry in acme.document.spec.models] == ["chat"]
    assert beta.document.spec.models == ()
    assert beta.concerns[ConditionType.MODELS_READY].reason == Reason.MODEL_NOT_SHARED
    assert "acme" not in documents.canonical(beta.document).decode()
    assert "acme" not in str([child.manifest for child in beta.children])


def test_the_same_input_is_the_same_output() -> None:
    assert compiled(api_keys=[api_key()]) == compiled(api_keys=[api_key()])


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"namespace": namespace("tenant-acme", owner=BETA)}, "NamespaceConflict"),
        ({"namespace": namespace("tenant-acme")}, "AdoptionNotConsented"),
        ({"tenants": [parsed("old", spec={"tenantID": "acme-0001"}, created="2020-01-01T00:00:00Z").claim]},
         "DuplicateTenantID"),
        ({"namespace": namespace("tenant-acme", owner=ACME, terminating=True)}, "Waiting"),
    ],
)  # fmt: skip
def test_who_may_not_write_the_namespace_writes_and_serves_nothing(facts: dict[str, Any], reason: str) -> None:
    out = compiled(api_keys=[api_key()], **facts)
    assert out.concerns[ConditionType.NAMESPACE_READY].reason == reason
    assert (out.children, out.document, out.builds, out.obsolete_keys) == ((), None, (), ())
    assert out.publication is Publication.WITHDRAW
    assert out.ownership is None


def test_an_unknown_plan_keeps_what_stands_unless_the_tenant_is_to_be_suspended() -> None:
    out = compiled(spec={**SPEC, "plan": "none"})
    assert out.concerns[ConditionType.RUNTIME_PUBLISHED].reason == Reason.UNKNOWN_PLAN
    assert (out.publication, out.children) == (Publication.KEEP, ())
    assert compiled(spec={**SPEC, "plan": "none", "suspend": True}).publication is Publication.WITHDRAW
    assert refused_spec(failed(Reason.INVALID_SPEC, "x"), suspended=True).publication is Publication.WITHDRAW


def test_a_document_that_is_too_large_is_not_published_and_the_last_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "check_size", partial(document.check_size, maximum=200))
    out = compiled()
    assert out.concerns[ConditionType.RUNTIME_PUBLISHED].reason == Reason.RUNTIME_CONFIG_TOO_LARGE
    assert (out.publication, out.document) == (Publication.KEEP, None)
    assert out.children != ()
    assert compiled(spec={**SPEC, "suspend": True}).publication is Publication.WITHDRAW


def test_a_refused_part_leaves_the_rest_at_work() -> None:
    out = compiled(
        spec={
            "access": {"admins": [{"kind": "Group", "name": "system:authenticated"}]},
            "network": {"egress": {"cidrs": ["169.254.169.254/32"]}},
            "namespace": {"podSecurity": "Privileged"},
        }
    )
    assert out.concerns[ConditionType.ACCESS_READY].reason == Reason.SUBJECT_DENIED
    assert out.concerns[ConditionType.NETWORK_READY].reason == Reason.INVALID_SPEC
    assert out.concerns[ConditionType.NAMESPACE_READY].reason == Reason.POD_SECURITY_BELOW_FLOOR
    assert out.publication is Publication.PUBLISH
    text = str([child.manifest for child in out.children])
    assert "system:authenticated" not in text
    assert "169.254.169.254" not in text
    assert "privileged" not in text


def test_a_suspended_tenant_keeps_its_keys_and_says_so() -> None:
    out = compiled(spec={**SPEC, "suspend": True}, api_keys=[api_key()])
    assert out.document is not None
    assert out.document.spec.suspended
    assert out.document.spec.keys


def test_what_is_referenced() -> None:
    tenant = parsed(spec=SPEC)
    assert referenced_config_maps(tenant) == ("docs",)
    assert referenced_models(tenant, PLACE) == ("tenantplane-models/gpt",)
    assert referenced_models(parsed(spec={**SPEC, "plan": "none"}), PLACE) == ()


def test_what_is_pruned_is_what_is_made_and_never_a_namespace_or_a_secret() -> None:
    kinds = {kind for _, kind in PRUNABLE}
    assert not kinds & {"Namespace", "Secret", "APIKey", "PersistentVolumeClaim"}
    made = {(str(child.manifest["apiVersion"]), str(child.manifest["kind"])) for child in compiled().children}
    assert {pair for pair in made if pair[1] not in ("Namespace", "APIKey")} <= set(PRUNABLE)


names_of_tenants = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)


@given(names_of_tenants, names_of_tenants)
def test_two_tenants_never_share_a_namespace_or_a_document(one: str, two: str) -> None:
    """Adversarial names: dots and slashes cannot be in them, so no two names meet in what is made of them."""
    first, second = (parsed(name, spec={"tenantID": "fixed-0001"}) for name in (one, two))
    if one != two:
        assert first.namespace != second.namespace
        assert names.tenant_document_name(one) != names.tenant_document_name(two)
    assert len(first.namespace) <= 63


def test_builders_are_importable_without_any_client() -> None:
    code = (
        "import sys\n"
        "import tenantplane_operator.tenant.compile, tenantplane_operator.tenant.status\n"
        "import tenantplane_operator.tenant.status_configmap\n"
        "import tenantplane_operator.apikey.state, tenantplane_operator.modeldeployment.state\n"
        "print(sorted({'kopf', 'aiohttp', 'kubernetes', 'boto3'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
