"""Keys that change their text on a real API server: by request, by age, by Secret, and over crashes."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import environment, tenantplane
from tests.operator.e2e.world import Object, Operator, World, wait

from tenantplane_api.runtime import keys, names
from tenantplane_api.runtime.documents import KeyEntry
from tenantplane_cli.rest import Rest

pytestmark = pytest.mark.cluster
NS, OTHER = "tenant-rota", "tenant-rotb"
ROTATE, RECONCILE, REVOKE = names.ANNOTATION_ROTATE, names.ANNOTATION_RECONCILE, names.ANNOTATION_REVOKE


@pytest.fixture(scope="module", autouse=True)
def tenants(world: World, operator: Operator) -> None:
    for name in ("rota", "rotb"):
        admins = [{"kind": "User", "name": f"{name}-admin"}]
        world.tenant(name, access={"admins": admins}, auth={"apiKeys": []})
    for name in ("rota", "rotb"):
        world.await_ready(name)


def person(world: World, tenant: str) -> Rest:
    return Rest(world.cluster.persona(f"{tenant}-admin").kubeconfig)


def stored(world: World, name: str, ns: str = NS) -> Object:
    found = world.get("APIKey", name, ns)
    assert found is not None
    return found


def make(world: World, name: str, ns: str = NS, **spec: Any) -> str:
    """An APIKey that works; its text."""
    world.create("APIKey", name, ns, spec=spec)
    world.await_condition("APIKey", name, "Ready", "True", ns=ns)
    return world.key_text(name, ns)


def entries(world: World, tenant: str = "rota") -> dict[str, KeyEntry]:
    """The tenant's document: entries by hash."""
    document = world.document(tenant)
    return {entry.hash: entry for entry in document.spec.keys} if document is not None else {}


def request(world: World, name: str, annotation: str, text: str, ns: str = NS, rest: Rest | None = None) -> None:
    world.patch("APIKey", name, ns, rest=rest, metadata={"annotations": {annotation: text}})


def answered(world: World, name: str, annotation: str, text: str, ns: str = NS) -> Object:
    """Wait until a request is answered; the object."""
    short = annotation.partition("/")[2]

    def there() -> bool:
        return bool(stored(world, name, ns).get("status", {}).get("handledRequests", {}).get(short) == text)

    wait(there, f"{name}: {short}={text} is answered", target=2)
    return stored(world, name, ns)


def settled(world: World, name: str, tenant: str = "rota", ns: str = NS) -> str:
    """Wait until the text in the Secret is the one that is published; that text."""

    def both() -> str:
        text = world.key_text(name, ns)
        fits = bool(text) and keys.hash_key(text) in entries(world, tenant)
        return text if fits and stored(world, name, ns)["status"].get("hash") == keys.hash_key(text) else ""

    return wait(both, f"{name}: the Secret's text is published", target=2)[0]


def given(world: World, name: str, text: str, ns: str = NS) -> None:
    """A user's Secret, made or changed."""
    if world.get("Secret", name, ns) is None:
        world.create("Secret", name, ns, stringData={"key": text})
    else:
        world.patch("Secret", name, ns, stringData={"key": text})


def from_secret(name: str, key: str = "key", **rest: Any) -> Object:
    return {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}, **rest}


def test_a_tenants_admin_rotates_its_own_key_and_no_other(world: World, operator: Operator) -> None:
    old = make(world, "asked", owner="crm", rotation={"grace": "2h"})
    own, stranger = person(world, "rota"), person(world, "rotb")
    refused = world.call(
        "PATCH",
        world.path("APIKey", "asked", NS),
        {"metadata": {"annotations": {ROTATE: "2026-11-01T00:00:00Z"}}},
        rest=stranger,
        content_type="application/merge-patch+json",
    )
    assert refused[0] == 403, refused
    assert world.key_text("asked", NS) == old
    request(world, "asked", ROTATE, "2026-11-01T10:00:00.5Z", rest=own)
    found = answered(world, "asked", ROTATE, "2026-11-01T10:00:00.5Z")
    new = settled(world, "asked")
    assert new != old
    # Both are accepted: the old one until its grace ends.
    known = entries(world)
    previous = found["status"]["previous"]
    assert [entry["hash"] for entry in previous] == [keys.hash_key(old)]
    until = datetime.fromisoformat(previous[0]["acceptedUntil"])
    assert timedelta(minutes=119) < until - datetime.now(UTC) <= timedelta(hours=2, seconds=1)
    assert known[keys.hash_key(old)].expires_at == int(until.timestamp())
    assert known[keys.hash_key(old)].owner == "crm"
    assert known[keys.hash_key(new)].expires_at is None
    assert world.condition("APIKey", "asked", "Ready", NS)["status"] == "True"
    # Answered once: looking again changes nothing, and an idle operator writes nothing.
    wait(operator.idle, "idle")
    before = stored(world, "asked")["metadata"]["resourceVersion"]
    operator_epoch = stored(world, "asked")["status"]["lastRotatedAt"]
    request(world, "asked", RECONCILE, "2026-11-01T10:01:00Z")
    again = answered(world, "asked", RECONCILE, "2026-11-01T10:01:00Z")
    assert before != again["metadata"]["resourceVersion"]
    assert world.key_text("asked", NS) == new
    assert again["status"]["lastRotatedAt"] == operator_epoch
    # A rotation during a rotation: three are accepted, the document says which is which.
    request(world, "asked", ROTATE, "2026-11-01T11:00:00Z", rest=own)
    answered(world, "asked", ROTATE, "2026-11-01T11:00:00Z")
    third = settled(world, "asked")
    assert {keys.hash_key(text) for text in (old, new, third)} <= entries(world).keys()
    # What is no time is no request, and is told.
    request(world, "asked", ROTATE, "soon", rest=own)
    answered(world, "asked", ROTATE, "soon")
    assert world.key_text("asked", NS) == third
    told = [e for e in world.events("KeyRotated") if e["regarding"]["name"] == "asked"]
    assert len(told) == 2
    assert all(keys.parse_key(text).key_id in json.dumps(told) for text in (old, new, third))


def test_an_aged_key_is_replaced_and_the_old_one_ends_with_its_grace(world: World) -> None:
    old = make(world, "aged", rotation={"interval": "1h", "grace": "3s"})
    found = stored(world, "aged")
    age = datetime.fromisoformat(found["status"]["nextRotationAt"]) - datetime.fromisoformat(
        found["status"]["lastRotatedAt"]
    )
    assert age == timedelta(hours=1)
    # An hour ago: only the clock is not real.
    status, answer = world.call(
        "PATCH",
        world.path("APIKey", "aged", NS) + "/status",
        {"status": {"lastRotatedAt": (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}},
        content_type="application/merge-patch+json",
    )
    assert status == 200, answer
    request(world, "aged", RECONCILE, "2026-11-01T10:00:00Z")
    wait(lambda: world.key_text("aged", NS) not in ("", old), "a new text", target=2)
    new = settled(world, "aged")
    old_hash = keys.hash_key(old)
    # Out of status and document, without anybody asking.
    wait(lambda: old_hash not in entries(world), "the old text is out of the document", target=4)
    wait(lambda: "previous" not in stored(world, "aged")["status"], "and of the status", target=1)
    assert keys.hash_key(new) in entries(world)


def test_revocation_takes_the_texts_in_their_grace_along(world: World) -> None:
    old = make(world, "burnt")
    world.delete("Secret", "burnt", NS)
    request(world, "burnt", RECONCILE, "2026-11-01T10:00:00Z")
    wait(lambda: world.key_text("burnt", NS) not in ("", old), "a deleted Secret is a rotation", target=2)
    new = settled(world, "burnt")
    assert {keys.hash_key(old), keys.hash_key(new)} <= entries(world).keys()
    request(world, "burnt", REVOKE, "2026-11-01T11:00:00Z", rest=person(world, "rota"))
    gone = {keys.hash_key(old), keys.hash_key(new)}
    wait(lambda: not gone & entries(world).keys(), "all its hashes are out", target=1)
    wait(lambda: world.get("Secret", "burnt", NS) is None, "the Secret is gone")
    world.await_condition("APIKey", "burnt", "Published", "False", "Revoked", ns=NS)
    wait(lambda: "previous" not in stored(world, "burnt")["status"], "nothing in its grace")
    request(world, "burnt", ROTATE, "2026-11-01T12:00:00Z")
    request(world, "burnt", RECONCILE, "2026-11-01T12:00:00Z")
    answered(world, "burnt", RECONCILE, "2026-11-01T12:00:00Z")
    assert world.get("Secret", "burnt", NS) is None
    # Restored without status, the wish still in it: refused, and nothing is made.
    world.delete("APIKey", "burnt", NS)
    world.create("APIKey", "burnt", NS, spec={"revoked": True})
    world.await_condition("APIKey", "burnt", "Ready", "False", "Revoked", ns=NS)
    assert stored(world, "burnt")["status"]["revokedAt"]
    assert world.get("Secret", "burnt", NS) is None


def test_expiry_comes_at_its_second_and_can_be_put_off(world: World) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=4)).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = make(world, "brief", expiresAt=soon)
    world.await_condition("APIKey", "brief", "Ready", "False", "Expired", ns=NS, target=5)
    assert datetime.now(UTC) >= datetime.fromisoformat(soon)
    told = lambda: [e["regarding"]["name"] for e in world.events("KeyExpired")].count("brief")  # noqa: E731
    assert wait(told, "the expiry is told")[0] == 1
    world.patch("APIKey", "brief", NS, spec={"expiresAt": "2099-01-01T00:00:00Z"})
    world.await_condition("APIKey", "brief", "Ready", "True", ns=NS)
    assert world.key_text("brief", NS) == text
    assert entries(world)[keys.hash_key(text)].expires_at == 4070908800


def test_a_key_from_a_users_secret(world: World) -> None:
    first, second = keys.generate_key(), keys.generate_key()
    own = person(world, "rota")
    world.create("APIKey", "byo", NS, rest=own, spec=from_secret("mine", rotation={"grace": "1h"}))
    world.await_condition("APIKey", "byo", "Ready", "False", "SecretNotFound", ns=NS)
    given(world, "mine", f"{first.text}\n")
    # Nobody asked: it is looked for every few seconds while something is wrong.
    said = world.await_condition("APIKey", "byo", "Stalled", "True", "KeyRejected", ns=NS, target=3)
    assert "white space" in said["message"]
    given(world, "mine", first.text)
    world.await_condition("APIKey", "byo", "Ready", "True", ns=NS, target=3)
    assert entries(world)[first.digest].id == first.key_id
    secret = world.get("Secret", "mine", NS)
    assert secret is not None
    given(world, "mine", second.text)
    request(world, "byo", RECONCILE, "2026-11-01T10:00:00Z")
    found = answered(world, "byo", RECONCILE, "2026-11-01T10:00:00Z")
    assert found["status"]["hash"] == second.digest
    wait(lambda: {first.digest, second.digest} <= entries(world).keys(), "both are accepted")
    # A wrong checksum, told without a character of the text.
    given(world, "mine", second.text[:-1] + ("a" if second.text[-1] != "a" else "b"))
    request(world, "byo", RECONCILE, "2026-11-01T10:01:00Z")
    found = answered(world, "byo", RECONCILE, "2026-11-01T10:01:00Z")
    stalled = world.condition("APIKey", "byo", "Stalled", NS)
    assert stalled["reason"] == "KeyRejected"
    assert "checksum" in stalled["message"]
    assert second.text[12:40] not in json.dumps(found)
    assert {entry["hash"] for entry in found["status"]["previous"]} == {first.digest, second.digest}
    # The Secret is the user's, at revocation and deletion, too.
    world.patch("APIKey", "byo", NS, spec={"revoked": True})
    wait(lambda: not {first.digest, second.digest} & entries(world).keys(), "both are out", target=1)
    world.delete("APIKey", "byo", NS)
    left = world.get("Secret", "mine", NS)
    assert left is not None
    assert left["metadata"]["uid"] == secret["metadata"]["uid"]
    assert [f.get("manager") for f in left["metadata"]["managedFields"]].count("tenantplane") == 0


def test_one_text_opens_one_tenant(world: World) -> None:
    text = keys.generate_key()
    given(world, "shared", text.text)
    given(world, "shared", text.text, OTHER)
    world.create("APIKey", "winner", NS, spec=from_secret("shared", rotation={"grace": "5s"}))
    world.await_condition("APIKey", "winner", "Ready", "True", ns=NS)
    world.create("APIKey", "loser", OTHER, spec=from_secret("shared"))
    world.create("APIKey", "twin", NS, spec=from_secret("shared"))
    for name, ns in (("loser", OTHER), ("twin", NS)):
        world.await_condition("APIKey", name, "Stalled", "True", "KeyRejected", ns=ns)
    # A generated Secret is not one to take a key from either.
    make(world, "made")
    world.create("APIKey", "thief", NS, spec=from_secret("made", names.SECRET_KEY_API_KEY))
    world.await_condition("APIKey", "thief", "Stalled", "True", "KeyRejected", ns=NS)
    world.delete("APIKey", "twin", NS)
    assert text.digest in entries(world)
    assert text.digest not in entries(world, "rotb")
    # In its grace it is still the first one's.
    given(world, "shared", keys.generate_key().text)
    request(world, "winner", RECONCILE, "2026-11-01T10:00:00Z")
    answered(world, "winner", RECONCILE, "2026-11-01T10:00:00Z")
    request(world, "loser", RECONCILE, "2026-11-01T10:00:00Z", OTHER)
    answered(world, "loser", RECONCILE, "2026-11-01T10:00:00Z", OTHER)
    assert world.condition("APIKey", "loser", "Ready", OTHER)["reason"] == "KeyRejected"
    assert text.digest not in entries(world, "rotb")
    # And after that, without being asked, the other's.
    wait(lambda: text.digest in entries(world, "rotb"), "the loser has it", target=6)
    assert text.digest not in entries(world)
    world.await_condition("APIKey", "loser", "Ready", "True", ns=OTHER)


@pytest.mark.slow
def test_the_command_line_as_a_tenants_admin(world: World, tmp_path: Path) -> None:
    env = environment(tmp_path)
    own = world.cluster.persona("rota-admin").kubeconfig

    def run(*arguments: str, code: int = 0) -> str:
        done = tenantplane("keys", *arguments, "--kubeconfig", own, env=env)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    run("create", "cli", "-n", NS, "--owner", "ci", "--expires", "30d", "--rotate-every", "7d", "--grace", "2h")
    spec = stored(world, "cli")["spec"]
    assert spec["rotation"] == {"interval": "168h", "grace": "2h"}
    assert spec["owner"] == "ci"
    old = run("get", "cli", "-n", NS, "--show").strip()
    assert old == world.key_text("cli", NS)
    new = run("rotate", "cli", "-t", "rota", "--show").strip()
    assert new not in ("", old)
    assert {keys.hash_key(old), keys.hash_key(new)} <= entries(world).keys()
    told = run("rotate", "cli", "-t", "rota")
    assert f"{keys.parse_key(new).key_id} → " in told
    assert stored(world, "cli")["spec"] == spec
    rows = {row["name"]: row for row in json.loads(run("list", "-n", NS, "-o", "json"))}
    assert rows["cli"]["state"] == "Ready"
    assert [entry["keyID"] for entry in rows["cli"]["previous"]][-1] == keys.parse_key(old).key_id
    assert "sha256:" not in json.dumps(rows)
    assert "STILL ACCEPTED" in run("list", "-n", NS)
    # Nobody to ask: nothing is done.
    assert "say --yes" in run("revoke", "cli", "-n", NS, code=2)
    assert not stored(world, "cli")["status"].get("revokedAt")
    run("revoke", "cli", "-n", NS, "--yes")
    assert not {keys.hash_key(old), keys.hash_key(new)} & entries(world).keys()
    assert "was revoked at" in run("rotate", "cli", "-n", NS, code=1)
    given(world, "from-cli", keys.generate_key().text)
    run("create", "byo-cli", "-n", NS, "--from-secret", "from-cli/key")
    assert run("get", "byo-cli", "-n", NS, "--show").strip().startswith("tp_")
    assert "comes from Secret from-cli" in run("rotate", "byo-cli", "-n", NS, code=1)
    # The other tenant's: the verb that is missing is named, and that the namespace was only assumed.
    for arguments, verb in (
        (("list",), "list"),
        (("create", "x"), "create"),
        (("rotate", "loser"), "get"),
        (("revoke", "loser", "--yes"), "get"),
    ):
        said = run(*arguments, "-t", "rotb", code=1)
        assert f'cannot {verb} resource "apikeys"' in said
        assert "--namespace" in said
    assert "name the tenant by --tenant" in run("list", code=2)
    nobody = tenantplane("keys", "list", "-t", "nobody", "--kubeconfig", world.cluster.kubeconfig, env=env)
    assert nobody.returncode == 1
    assert "nobody" in nobody.stderr


@pytest.mark.slow
def test_a_restart_goes_on_from_any_step(world: World, operator: Operator) -> None:
    """What a SIGKILL between two steps leaves, made by hand: each is continued, and nothing is done twice."""
    texts = {name: make(world, name) for name in ("deleted", "posted", "stated", "vanished", "asis")}
    duel = keys.generate_key()
    given(world, "duel", duel.text)
    given(world, "duel", duel.text, OTHER)
    world.create("APIKey", "zz-first", NS, spec=from_secret("duel"))
    world.await_condition("APIKey", "zz-first", "Ready", "True", ns=NS)
    world.create("APIKey", "aa-second", OTHER, spec=from_secret("duel"))
    world.await_condition("APIKey", "aa-second", "Ready", "False", "KeyRejected", ns=OTHER)
    wait(operator.idle, "idle")
    operator.kill()
    asked = "2026-11-01T10:00:00Z"
    for name in ("deleted", "posted", "stated"):
        request(world, name, ROTATE, asked)
    # The Secret deleted, the new one not made.
    world.delete("Secret", "deleted", NS)
    # The new Secret made, the status not written; and the status written, the document not.
    fresh = {name: keys.generate_key() for name in ("posted", "stated")}
    for name, text in fresh.items():
        replace_secret(world, name, text, asked)
    old = stored(world, "stated")["status"]
    status = {
        **{part: old[part] for part in ("observedGeneration", "secretRef", "conditions")},
        "hash": fresh["stated"].digest,
        "keyID": fresh["stated"].key_id,
        "lastRotatedAt": old["lastRotatedAt"],
        "previous": [{"hash": old["hash"], "keyID": old["keyID"], "acceptedUntil": "2099-01-01T00:00:00Z"}],
        "handledRequests": {"rotate-requested-at": asked},
    }
    code, answer = world.call(
        "PATCH",
        world.path("APIKey", "stated", NS) + "/status",
        {"status": status},
        content_type="application/merge-patch+json",
    )
    assert code == 200, answer
    world.delete("APIKey", "vanished", NS)
    started = world.start(resyncSeconds=3600)
    for name in ("deleted", "posted", "stated"):
        answered(world, name, ROTATE, asked)
    now = {name: settled(world, name) for name in ("deleted", "posted", "stated", "asis")}
    assert now["deleted"] != texts["deleted"]
    assert {name: now[name] for name in fresh} == {name: text.text for name, text in fresh.items()}
    assert now["asis"] == texts["asis"]
    known = entries(world)
    for name in ("deleted", "posted", "stated"):
        assert keys.hash_key(texts[name]) in known, name
    wait(lambda: world.get("Secret", "vanished", NS) is None, "the Secret of a key that is gone")
    assert keys.hash_key(texts["vanished"]) not in entries(world)
    # The older publication has the text, before and after, whatever the order of names.
    assert duel.digest in known
    assert duel.digest not in entries(world, "rotb")
    assert world.condition("APIKey", "aa-second", "Ready", OTHER)["reason"] == "KeyRejected"
    wait(started.idle, "idle")
    versions = {
        name: stored(world, name)["metadata"]["resourceVersion"] for name in ("deleted", "posted", "stated", "asis")
    }
    started.stop()
    again = world.start(resyncSeconds=3600)
    wait(again.idle, "idle")
    assert versions == {name: stored(world, name)["metadata"]["resourceVersion"] for name in versions}
    assert now == {name: world.key_text(name, NS) for name in now}
    world.delete("APIKey", "zz-first", NS)
    wait(lambda: duel.digest in entries(world, "rotb"), "the loser recovers", target=2)
    log = "".join(run.log.read_text(encoding="utf-8") for run in world.operators)
    events = json.dumps(world.call("GET", "/apis/events.k8s.io/v1/events")[1])
    for told in (*texts.values(), *now.values(), duel.text):
        assert told[12:] not in log
        assert told[12:] not in events


def replace_secret(world: World, name: str, text: keys.ApiKeyText, asked: str) -> None:
    """As the operator replaces it; as cluster admin, who may write what is ours."""
    before = world.get("Secret", name, NS)
    assert before is not None
    meta = before["metadata"]
    world.delete("Secret", name, NS)
    notes = {
        names.ANNOTATION_TENANT_ID: meta["annotations"][names.ANNOTATION_TENANT_ID],
        names.ANNOTATION_KEY_ID: text.key_id,
        names.ANNOTATION_KEY_HASH: text.digest,
        names.ANNOTATION_KEY_REQUEST: asked,
    }
    data = {**before["data"], names.SECRET_KEY_API_KEY: base64.b64encode(text.text.encode()).decode()}
    world.create("Secret", name, NS, metadata={"labels": meta["labels"], "annotations": notes}, data=data)
