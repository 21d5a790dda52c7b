"""APIKeys on a real API server: made once, published after read-back, refused within a second, never seen in text."""

import base64
import json

import pytest
from tests.operator.e2e.world import Operator, World, wait

from tenantplane_api.runtime import keys, names

pytestmark = pytest.mark.cluster
NS = "tenant-keys"


@pytest.fixture(scope="module", autouse=True)
def tenant(world: World, operator: Operator) -> None:
    world.tenant("keys")
    world.await_ready("keys")


def ready_key(world: World, name: str, ns: str = NS, **spec: object) -> str:
    """Make an APIKey and wait until it works; its text."""
    world.create("APIKey", name, ns, spec=spec)
    world.await_condition("APIKey", name, "Ready", "True", ns=ns)
    return world.key_text(name, ns)


def test_a_key_is_made_and_published(world: World) -> None:
    text = ready_key(world, "made", owner="ops")
    parsed = keys.parse_key(text)
    key = world.get("APIKey", "made", NS)
    assert key is not None
    assert key["status"]["hash"] == parsed.digest
    assert key["status"]["keyID"] == parsed.key_id
    assert key["status"]["publishedRevision"]
    assert parsed.digest in world.hashes("keys")
    secret = world.get("Secret", "made", NS)
    assert secret is not None
    assert base64.b64decode(secret["data"]["baseURL"]).decode().endswith("/v1")
    assert not secret["metadata"].get("ownerReferences")


def test_a_revoked_key_is_out_within_a_second_and_stays_out(world: World, operator: Operator) -> None:
    text = ready_key(world, "revoked")
    digest = keys.hash_key(text)
    world.patch("APIKey", "revoked", NS, spec={"revoked": True})
    _, took = wait(lambda: digest not in world.hashes("keys"), "the hash is out of the document", target=1)
    print(f"revoked after {took:.2f} s")
    wait(lambda: world.get("Secret", "revoked", NS) is None, "the Secret is gone")
    key = world.await_condition("APIKey", "revoked", "Ready", "False", "Revoked", ns=NS)
    assert key
    wait(operator.idle, "idle")
    stored = world.get("APIKey", "revoked", NS)
    assert stored is not None
    since = stored["status"]["revokedAt"]
    world.patch("APIKey", "revoked", NS, metadata={"annotations": {names.ANNOTATION_RECONCILE: "2027-01-01T00:00:00Z"}})
    wait(operator.idle, "idle")
    stored = world.get("APIKey", "revoked", NS)
    assert stored is not None
    assert stored["status"]["revokedAt"] == since
    assert digest not in world.hashes("keys")


def test_revocation_by_request_is_the_same(world: World) -> None:
    digest = keys.hash_key(ready_key(world, "asked"))
    world.patch("APIKey", "asked", NS, metadata={"annotations": {names.ANNOTATION_REVOKE: "2027-01-01T00:00:00Z"}})
    wait(lambda: digest not in world.hashes("keys"), "the hash is out of the document", target=1)
    wait(lambda: world.get("Secret", "asked", NS) is None, "the Secret is gone")


def test_a_deleted_apikey_takes_hash_and_secret_along(world: World) -> None:
    digest = keys.hash_key(ready_key(world, "gone"))
    world.delete("APIKey", "gone", NS)
    wait(lambda: digest not in world.hashes("keys"), "the hash is out of the document", target=1)
    wait(lambda: world.get("Secret", "gone", NS) is None, "the Secret is gone")


def test_a_secret_of_somebody_else_is_left_alone(world: World) -> None:
    world.create("Secret", "theirs", NS, stringData={"apiKey": "do not touch"})
    world.create("APIKey", "theirs", NS, spec={})
    world.await_condition("APIKey", "theirs", "Stalled", "True", "SecretConflict", ns=NS)
    assert world.key_text("theirs", NS) == "do not touch"


def reconcile(world: World, name: str, ns: str = NS) -> None:
    """Ask for a look at an object."""
    stamp = f"2027-01-01T00:00:{len(name):02d}Z"
    world.patch("APIKey", name, ns, metadata={"annotations": {names.ANNOTATION_RECONCILE: stamp}})


def test_an_edited_secret_is_not_believed(world: World) -> None:
    text = ready_key(world, "edited")
    forged = keys.generate_key().text
    world.patch("Secret", "edited", NS, stringData={"apiKey": forged})
    reconcile(world, "edited")
    world.await_condition("APIKey", "edited", "Ready", "False", "KeyTampered", ns=NS)
    assert keys.hash_key(forged) not in world.hashes("keys")
    assert keys.hash_key(text) in world.hashes("keys")


def test_a_deleted_secret_is_a_new_key(world: World) -> None:
    world.create("APIKey", "rotated", NS, spec={"rotation": {"grace": "0s"}})
    world.await_condition("APIKey", "rotated", "Ready", "True", ns=NS)
    old = world.key_text("rotated", NS)
    world.delete("Secret", "rotated", NS)
    reconcile(world, "rotated")

    def renewed() -> bool:
        text = world.key_text("rotated", NS)
        return bool(text) and text != old and world.hashes("keys") >= {keys.hash_key(text)}

    wait(renewed, "a new key is published", target=2)
    # Without a grace the old one goes with the document that brings the new one.
    assert keys.hash_key(old) not in world.hashes("keys")


def test_an_expired_key_is_not_ready(world: World) -> None:
    world.create("APIKey", "expired", NS, spec={"expiresAt": "2020-01-01T00:00:00Z"})
    world.await_condition("APIKey", "expired", "Ready", "False", "Expired", ns=NS)
    assert world.get("Secret", "expired", NS) is None


def test_a_key_outside_a_tenant_gets_nothing(world: World) -> None:
    world.create("Namespace", "nobodys")
    world.create("APIKey", "lost", "nobodys", spec={})
    world.await_condition("APIKey", "lost", "Stalled", "True", "NotInATenant", ns="nobodys")
    assert world.items("Secret", "nobodys") == []


def test_a_key_of_another_tenant_is_rejected(world: World) -> None:
    text = ready_key(world, "first")
    world.tenant("copycat", auth={"apiKeys": []})
    world.await_ready("copycat")
    source = world.get("Secret", "first", NS)
    assert source is not None
    # What only a cluster admin could forge: the other tenant's key under our labels.
    meta = source["metadata"]
    world.create(
        "Secret",
        "first",
        "tenant-copycat",
        metadata={
            "labels": {**meta["labels"], names.LABEL_TENANT: "copycat"},
            "annotations": {**meta["annotations"], names.ANNOTATION_TENANT_ID: "copycat-0001"},
        },
        data=source["data"],
    )
    world.create("APIKey", "first", "tenant-copycat", spec={})
    world.await_condition("APIKey", "first", "Stalled", "True", "KeyRejected", ns="tenant-copycat")
    assert keys.hash_key(text) not in world.hashes("copycat")
    assert keys.hash_key(text) in world.hashes("keys")


def test_a_key_is_revoked_although_the_tenant_is_broken(world: World) -> None:
    world.tenant("typo")
    world.await_ready("typo")
    digest = keys.hash_key(ready_key(world, "leaked", "tenant-typo"))
    world.patch("Tenant", "typo", spec={"plan": "no-such-plan"})
    world.await_condition("Tenant", "typo", "Stalled", "True", "UnknownPlan")
    assert digest in world.hashes("typo")
    world.patch("APIKey", "leaked", "tenant-typo", spec={"revoked": True})
    wait(lambda: digest not in world.hashes("typo"), "the hash is out of the document", target=1)
    document = world.document("typo")
    assert document is not None
    assert document.spec.plan == "default"
    assert len(document.spec.keys) == 1
    late = keys.hash_key(ready_key(world, "late", "tenant-typo"))
    assert late in world.hashes("typo")


def test_bootstrap_keys_follow_the_tenant(world: World) -> None:
    world.tenant("boot", auth={"apiKeys": [{"name": "one"}, {"name": "two", "owner": "crm"}]})
    world.await_ready("boot")
    world.patch("Tenant", "boot", spec={"auth": {"apiKeys": [{"name": "one"}]}})
    wait(lambda: world.get("APIKey", "two", "tenant-boot") is None, "the key is removed")
    wait(lambda: len(world.hashes("boot")) == 1, "its hash is out")
    world.patch("Tenant", "boot", spec={"auth": {"apiKeys": [{"name": "one"}, {"name": "three"}]}})
    wait(lambda: len(world.hashes("boot")) == 2, "a key that is added later works, too")


def test_no_text_of_a_key_is_anywhere_but_in_its_secret(world: World, operator: Operator) -> None:
    texts = {world.key_text(item["metadata"]["name"], NS) for item in world.items("APIKey", NS)}
    secrets = {text for text in texts if text.startswith("tp_")}
    assert secrets
    seen = operator.log.read_text(encoding="utf-8")
    for path in (world.path("Tenant"), world.path("APIKey", ns=NS), world.path("ConfigMap", ns=NS)):
        seen += json.dumps(world.admin.call("GET", path)[1])
    seen += json.dumps(world.admin.call("GET", "/apis/events.k8s.io/v1/events")[1])
    documents = world.admin.call("GET", world.path("Secret", ns=names.NAMESPACE_RUNTIME))[1]["items"]
    seen += "".join(base64.b64decode(item["data"][names.DOCUMENT_KEY]).decode() for item in documents)
    for text in secrets:
        assert text not in seen
        assert text[12:] not in seen
