"""Aliases: who may name which model, and that nobody learns of models that are not theirs."""

import pytest
from tests.operator.tenant.build import model

from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import ModelKey
from tenantplane_operator.tenant.effective import AliasRef
from tenantplane_operator.tenant.manifest import Manifest
from tenantplane_operator.tenant.models import ResolvedModels, models_concern, observed_model, resolve

SHARED = names.NAMESPACE_MODELS


def ask(key: str, *models: Manifest, tenant: str = "acme") -> ResolvedModels:
    observed = [observed_model(obj) for obj in models]
    return resolve(
        [AliasRef("chat", ModelKey(key))],
        tenant=tenant,
        namespace=f"tenant-{tenant}",
        shared_namespace=SHARED,
        observed={item.key: item for item in observed},
    )


EVERYBODY, ONLY_ACME, NOBODY = {"mode": "AllTenants"}, {"mode": "Selected", "tenants": ["acme"]}, {"mode": "Private"}


@pytest.mark.parametrize(
    ("tenant", "key", "sharing", "outcome"),
    [
        ("acme", f"{SHARED}/gpt", EVERYBODY, None),
        ("acme", f"{SHARED}/gpt", ONLY_ACME, None),
        ("beta", f"{SHARED}/gpt", EVERYBODY, None),
        ("beta", f"{SHARED}/gpt", ONLY_ACME, "ModelNotShared"),
        ("acme", f"{SHARED}/gpt", NOBODY, "ModelNotShared"),
        ("acme", "tenant-acme/own", NOBODY, None),
        ("beta", "tenant-acme/own", NOBODY, "ModelNotShared"),
        ("beta", "tenant-acme/own", EVERYBODY, "ModelNotShared"),
        ("beta", "kube-system/any", EVERYBODY, "ModelNotShared"),
    ],
)
def test_sharing(tenant: str, key: str, sharing: dict[str, object], outcome: str | None) -> None:
    found = ask(key, model(key, sharing=sharing), tenant=tenant)
    assert [problem.reason for problem in found.problems] == ([] if outcome is None else [outcome])
    assert [entry.model for entry in found.aliases] == ([key] if outcome is None else [])
    assert found.usable == {"chat": outcome is None}


def test_a_foreign_model_and_none_at_all_look_the_same() -> None:
    there = ask("tenant-beta/secret-plan", model("tenant-beta/secret-plan"))
    absent = ask("tenant-beta/secret-plan")
    assert there == absent


@pytest.mark.parametrize(
    ("obj", "reason", "published"),
    [
        (None, "ModelNotFound", False),
        (model(sharing=EVERYBODY, deleting=True), "ModelNotFound", False),
        (model(sharing=EVERYBODY, available=None), "ModelNotReady", True),
        (model(sharing=EVERYBODY, available=("False", "host x is not allowed")), "ModelNotReady", True),
    ],
)
def test_a_model_that_does_not_work(obj: Manifest | None, reason: str, published: bool) -> None:
    found = ask(f"{SHARED}/gpt", *([] if obj is None else [obj]))
    assert [problem.reason for problem in found.problems] == [reason]
    assert bool(found.aliases) is published
    concern = models_concern(found, assistants=[])
    assert (concern.status, concern.reason) == ("False", reason)
    assert not concern.permanent


def test_concern() -> None:
    good = ask(f"{SHARED}/gpt", model(sharing=EVERYBODY))
    assert models_concern(good, assistants=[("help", "chat"), ("plain", None)]).reason == "Ready"
    assert models_concern(ResolvedModels((), (), {}), assistants=[]).reason == "NotConfigured"
    missing = models_concern(good, assistants=[("help", "gone")])
    assert missing.reason == "ModelNotFound"
    assert "assistant help" in missing.message


def test_aliases_are_sorted() -> None:
    shared = observed_model(model(sharing=EVERYBODY))
    found = resolve(
        [AliasRef("z", shared.key), AliasRef("a", shared.key)],
        tenant="acme",
        namespace="tenant-acme",
        shared_namespace=SHARED,
        observed={shared.key: shared},
    )
    assert [entry.alias for entry in found.aliases] == ["a", "z"]
