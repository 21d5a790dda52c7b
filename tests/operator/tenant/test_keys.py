"""Bootstrap keys: ours are made and deleted, the customer's own are neither."""

from typing import Any

import pytest
from tests.operator.tenant.build import ACME, BETA, HASH_A, HASH_B, api_key, parsed, platform

from tenantplane_api.crd.conditions import Reason
from tenantplane_operator.tenant.concern import Concern
from tenantplane_operator.tenant.effective import merge
from tenantplane_operator.tenant.keys import BootstrapKeys, bootstrap_keys, keys_concern
from tenantplane_operator.tenant.manifest import Manifest


def decide(observed: list[Manifest], listed: list[str] | None = None) -> tuple[BootstrapKeys, Concern]:
    spec: dict[str, Any] = {} if listed is None else {"auth": {"apiKeys": [{"name": name} for name in listed]}}
    effective = merge(parsed(spec=spec), platform())
    found = bootstrap_keys(ACME, "tenant-acme", effective=effective, observed=observed)
    return found, keys_concern(found, effective=effective, observed=observed)


def names_of(found: BootstrapKeys) -> list[str]:
    return [item["metadata"]["name"] for item in found.manifests]


def test_without_a_list_there_is_one_key() -> None:
    found, concern = decide([])
    assert names_of(found) == ["default"]
    assert concern.reason == Reason.PROGRESSING


def test_an_empty_list_makes_none_and_deletes_ours() -> None:
    found, concern = decide([api_key(ours=ACME), api_key("own")], listed=[])
    assert found == BootstrapKeys((), ("default",))
    assert concern.reason == Reason.NOT_CONFIGURED


def test_only_what_we_made_is_deleted() -> None:
    observed = [
        api_key("gone", ours=ACME),
        api_key("theirs"),
        api_key("of-beta", ours=BETA),
        api_key("leaving", ours=ACME, metadata={"deletionTimestamp": "now"}),
        api_key("kept", ours=ACME),
    ]
    assert decide(observed, listed=["kept"])[0].obsolete == ("gone",)


def test_a_key_of_the_customer_is_never_taken_over() -> None:
    found, concern = decide([api_key("web")], listed=["web", "other"])
    assert names_of(found) == ["other"]
    assert found.obsolete == ()
    assert concern.reason == Reason.INVALID_SPEC
    assert "APIKey web" in concern.message


def test_the_customers_own_default_key_serves_as_the_default() -> None:
    found, concern = decide([api_key("default")])
    assert found.manifests == ()
    assert concern.ok


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        (("True", "Ready"), Reason.READY),
        (("False", "Revoked"), Reason.READY),
        (("False", "Expired"), Reason.READY),
        (("False", "Progressing"), Reason.PROGRESSING),
        (("False", "SecretConflict"), Reason.SECRET_CONFLICT),
        (("False", "QuotaExceeded"), Reason.QUOTA_EXCEEDED),
        (None, Reason.PROGRESSING),
    ],
)
def test_keys_ready(ready: tuple[str, str] | None, expected: Reason) -> None:
    assert decide([api_key(ours=ACME, ready=ready)])[1].reason == expected


@pytest.mark.parametrize(
    ("ready", "accepted", "expected"),
    [
        (("False", "Progressing"), {HASH_A}, True),
        (("False", "Progressing"), {HASH_B}, False),
        (None, {HASH_A}, True),
        (("False", "KeyTampered"), {HASH_A}, False),
    ],
)
def test_a_key_that_is_in_the_document_of_this_pass_need_not_be_told_of_first(
    ready: tuple[str, str] | None, accepted: set[str], expected: bool
) -> None:
    effective = merge(parsed(spec={}), platform())
    observed = [api_key(ours=ACME, ready=ready)]
    found = bootstrap_keys(ACME, "tenant-acme", effective=effective, observed=observed)
    assert keys_concern(found, effective=effective, observed=observed, accepted=accepted).ok is expected
