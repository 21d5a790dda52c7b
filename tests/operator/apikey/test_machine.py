"""Whatever happens in whatever order, with crashes between any two requests: who is let in, and who never is."""

import base64
import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.operator.apikey.sim import TENANTS, Sim, new_object

from tenantplane_api.runtime import keys, limits, names
from tenantplane_api.runtime.documents import KeyEntry
from tenantplane_operator.runtime.resources import Manifest, ObjectKey

GRACE = timedelta(minutes=10)
POOL = [keys.generate_key() for _ in range(3)]
"""Texts that users bring; the same ones in both tenants."""
FORGED = keys.generate_key()
MADE = [ObjectKey(names.KIND_API_KEY, f"tenant-{tenant}", "made") for tenant in TENANTS]
GIVEN = [ObjectKey(names.KIND_API_KEY, f"tenant-{tenant}", "given") for tenant in TENANTS]
ROTATION: dict[str, Any] = {"rotation": {"grace": "10m"}}
FROM = {**ROTATION, "valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}
any_made, any_key = st.sampled_from(MADE), st.sampled_from([*MADE, *GIVEN])


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Machine(RuleBasedStateMachine):
    """Users, time and crashes against the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.sim = Sim()
        self.owed: dict[ObjectKey, dict[str, datetime | None]] = {}
        self.asked = 0
        self.dead: set[ObjectKey] = set()
        """Keys whose revocation was told: whatever is wished for later, they stay so."""
        for key in (*MADE, *GIVEN):
            spec = FROM if key in GIVEN else {"rotation": {"grace": "10m", "interval": "24h"}}
            self.sim.user(new_object(key, spec=spec), key)
            self.sim.queue.add(key)
        self.sim.settle()
        self.note()

    # What is owed: a text that was let in is, until it was replaced and its grace is over.

    def note(self) -> None:
        """After anything: what is current is owed for good, what was current from now on for its grace."""
        for key in (*MADE, *GIVEN):
            obj = self.sim.api.objects.get(key)
            owed = self.owed.setdefault(key, {})
            if obj is None or self.revoked(obj):
                owed.clear()
                if obj is not None and (obj.get("status") or {}).get("revokedAt"):
                    self.dead.add(key)
                continue
            status = obj.get("status") or {}
            current = status.get("hash")
            for digest, until in list(owed.items()):
                if digest != current and until is None:
                    owed[digest] = self.sim.now + GRACE
                elif until is not None and until <= self.sim.now:
                    del owed[digest]
            late = sorted(((until, digest) for digest, until in owed.items() if until is not None), key=lambda x: x[0])
            for _, digest in late[: max(0, len(late) - limits.PREVIOUS_KEYS_MAX)]:
                del owed[digest]
            if current:
                owed[current] = None

    def revoked(self, obj: Manifest) -> bool:
        meta = obj["metadata"]
        return bool(
            ObjectKey(obj["kind"], meta["namespace"], meta["name"]) in self.dead
            or (obj.get("spec") or {}).get("revoked")
            or names.ANNOTATION_REVOKE in (obj["metadata"].get("annotations") or {})
            or (obj.get("status") or {}).get("revokedAt")
        )

    def change(self, key: ObjectKey, edit: Callable[[Manifest], None]) -> None:
        obj = copy.deepcopy(self.sim.api.objects.get(key))
        if obj is not None:
            edit(obj)
            self.sim.user(obj, key)

    # Rules.

    @rule(key=any_key)
    def rotate(self, key: ObjectKey) -> None:
        self.asked += 1
        at = f"2026-11-01T00:00:00.{self.asked:06d}Z"
        self.change(
            key, lambda obj: obj["metadata"].setdefault("annotations", {}).update({names.ANNOTATION_ROTATE: at})
        )

    @rule(key=any_made)
    def delete_secret(self, key: ObjectKey) -> None:
        self.sim.user(None, ObjectKey("Secret", key.namespace, key.name))

    @rule(key=any_made)
    def edit_secret(self, key: ObjectKey) -> None:
        secret = ObjectKey("Secret", key.namespace, key.name)
        self.change(secret, lambda obj: obj["data"].update({names.SECRET_KEY_API_KEY: encoded(FORGED.text)}))

    @rule(tenant=st.sampled_from(TENANTS), number=st.integers(0, len(POOL) - 1))
    def bring(self, tenant: str, number: int) -> None:
        secret = ObjectKey("Secret", f"tenant-{tenant}", "mine")
        self.sim.user(new_object(secret, data={"k": encoded(POOL[number].text)}), secret)

    @rule(tenant=st.sampled_from(TENANTS))
    def take_back(self, tenant: str) -> None:
        self.sim.user(None, ObjectKey("Secret", f"tenant-{tenant}", "mine"))

    @rule(key=any_key, by_request=st.booleans())
    def revoke(self, key: ObjectKey, by_request: bool) -> None:
        def edit(obj: Manifest) -> None:
            if by_request:
                obj["metadata"].setdefault("annotations", {})[names.ANNOTATION_REVOKE] = "2026-11-01T00:00:00Z"
            else:
                obj["spec"]["revoked"] = True

        self.change(key, edit)

    @rule(key=any_key)
    def wish_it_were_not_revoked(self, key: ObjectKey) -> None:
        def edit(obj: Manifest) -> None:
            if (obj.get("status") or {}).get("revokedAt"):
                obj["spec"].pop("revoked", None)
                (obj["metadata"].get("annotations") or {}).pop(names.ANNOTATION_REVOKE, None)

        self.change(key, edit)

    @rule(key=any_key)
    def restore(self, key: ObjectKey) -> None:
        """From a backup: the same object with a new UID and without status."""
        obj = copy.deepcopy(self.sim.api.objects.get(key))
        if obj is not None:
            self.sim.user(None, key)
            obj["metadata"] = {k: v for k, v in obj["metadata"].items() if k in ("name", "namespace", "annotations")}
            if self.revoked(obj):
                obj["spec"]["revoked"] = True
            self.sim.user({**obj, "status": {}}, key)
            self.dead.discard(key)
            self.owed[key] = {}

    @rule(key=any_key)
    def delete(self, key: ObjectKey) -> None:
        if key in self.sim.api.objects:
            self.sim.user(None, key)
            self.dead.discard(key)
            self.owed[key] = {}

    @rule(key=any_key)
    def create(self, key: ObjectKey) -> None:
        if key not in self.sim.api.objects:
            self.sim.user(new_object(key, spec=copy.deepcopy(FROM if key in GIVEN else ROTATION)), key)

    @rule(minutes=st.sampled_from([1, 5, 9, 11, 60 * 25]))
    def time_passes(self, minutes: int) -> None:
        self.sim.now += timedelta(minutes=minutes)
        self.note()

    @rule(key=any_key, crash_in=st.sampled_from([None, 1, 2, 3, 4]), lost=st.booleans())
    def look(self, key: ObjectKey, crash_in: int | None, lost: bool) -> None:
        # Secrets are not watched: this is the look that a resync or a request brings.
        self.sim.ctx.epoch += 1
        self.sim.reconcile(key, crash_in=crash_in, lost=lost)
        self.note()

    @rule(tenant=st.sampled_from(TENANTS))
    def publish(self, tenant: str) -> None:
        self.sim.publish(tenant)
        self.check(tenant)

    @rule()
    def come_to_rest(self) -> None:
        self.sim.ctx.epoch += 1
        for key in self.sim.api_keys():
            self.sim.queue.add(key)
        self.sim.settle()
        self.note()
        made = +self.sim.api.made
        versions = {key: obj["metadata"]["resourceVersion"] for key, obj in self.sim.api.objects.items()}
        for key in self.sim.api_keys():
            self.sim.queue.add(key)
        self.sim.settle()
        # Nothing is done twice, and looking again writes nothing.
        assert made == self.sim.api.made
        assert versions == {key: obj["metadata"]["resourceVersion"] for key, obj in self.sim.api.objects.items()}
        for tenant in TENANTS:
            self.check(tenant)
        for key in MADE:
            obj = self.sim.api.objects.get(key)
            if obj is not None:
                self.rested(key, obj)

    def rested(self, key: ObjectKey, obj: Manifest) -> None:
        """A key that we make, when there is nothing left to do."""
        secret = self.sim.api.objects.get(ObjectKey("Secret", key.namespace, key.name))
        if self.revoked(obj):
            assert secret is None
            assert obj["status"]["revokedAt"]
            return
        assert secret is not None
        text = base64.b64decode(secret["data"][names.SECRET_KEY_API_KEY]).decode()
        if text != FORGED.text:
            assert keys.hash_key(text) in {entry.hash for entry in self.current(key)}, "what is in the Secret works"
            asked = (obj["metadata"].get("annotations") or {}).get(names.ANNOTATION_ROTATE)
            answered = obj["status"].get("handledRequests", {}).get("rotate-requested-at")
            assert asked is None or asked == answered

    # What must hold.

    def current(self, key: ObjectKey) -> list[KeyEntry]:
        found = self.sim.documents[key.namespace.removeprefix("tenant-")]
        now = self.sim.now.timestamp()
        return [e for e in found if e.name == key.name and (e.expires_at is None or e.expires_at > now)]

    def check(self, tenant: str) -> None:
        """Of a document that was just published."""
        for key in (*MADE, *GIVEN):
            if key.namespace != f"tenant-{tenant}":
                continue
            obj = self.sim.api.objects.get(key)
            accepted = {entry.hash for entry in self.current(key)}
            if obj is None or self.revoked(obj):
                assert not accepted, "revoked or gone, and accepted"
            else:
                missing = {digest for digest, until in self.owed[key].items() if until is None or until > self.sim.now}
                assert missing <= accepted, "given out, in its time, and refused"

    @invariant()
    def one_text_opens_one_tenant(self) -> None:
        now = self.sim.now.timestamp()
        acme, beta = (
            {entry.hash for entry in self.sim.documents[name] if entry.expires_at is None or entry.expires_at > now}
            for name in TENANTS
        )
        assert not acme & beta

    @invariant()
    def a_forged_text_opens_nothing(self) -> None:
        for entries in self.sim.documents.values():
            assert FORGED.digest not in {entry.hash for entry in entries}

    @invariant()
    def no_status_holds_a_text(self) -> None:
        said = repr([self.sim.api.objects[key].get("status") for key in self.sim.api_keys()])
        for secret in [obj for key, obj in self.sim.api.objects.items() if key.kind == "Secret"]:
            for value in secret["data"].values():
                assert base64.b64decode(value).decode() not in said


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)


# What the machine may take long to come upon.


def bring(sim: Sim, tenant: str) -> ObjectKey:
    secret = ObjectKey("Secret", f"tenant-{tenant}", "mine")
    sim.user(new_object(secret, data={"k": encoded(POOL[0].text)}), secret)
    key = ObjectKey(names.KIND_API_KEY, f"tenant-{tenant}", "given")
    sim.user(new_object(key, spec=copy.deepcopy(FROM)), key)
    sim.queue.add(key)
    return key


def holders(sim: Sim) -> list[str]:
    return [name for name in TENANTS if POOL[0].digest in {entry.hash for entry in sim.documents[name]}]


def test_the_loser_has_the_text_when_it_is_out_of_the_winners_document_and_not_before() -> None:
    sim = Sim()
    winner = bring(sim, "acme")
    sim.settle()
    loser = bring(sim, "beta")
    sim.settle()
    assert holders(sim) == ["acme"]
    sim.user(None, winner)
    # The winner's APIKey is gone, its tenant's document not yet replaced.
    sim.reconcile(loser)
    sim.publish("beta")
    assert holders(sim) == ["acme"]
    sim.publish("acme")
    assert loser in sim.queue.keys, "it is told"
    sim.settle()
    assert holders(sim) == ["beta"]


def test_two_that_both_have_it_from_a_backup_are_told_apart_before_any_key_is_looked_at() -> None:
    sim = Sim()
    held = [bring(sim, name) for name in TENANTS]
    for key, since in zip(held, ("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"), strict=True):
        status = {"hash": POOL[0].digest, "keyID": POOL[0].key_id, "lastRotatedAt": since}
        sim.user({**sim.api.objects[key], "status": status}, key)
    sim.restart()
    assert holders(sim) == ["beta"]
    sim.settle()
    assert holders(sim) == ["beta"]
    assert "hash" not in sim.api.objects[held[0]]["status"]


def test_an_edit_that_nobody_has_seen_yet_is_kept_as_evidence() -> None:
    sim = Sim()
    key = MADE[0]
    sim.user(new_object(key, spec={"rotation": {"interval": "1h"}}), key)
    sim.settle()
    secret = ObjectKey("Secret", key.namespace, key.name)
    edited = copy.deepcopy(sim.api.objects[secret])
    edited["data"][names.SECRET_KEY_API_KEY] = encoded(FORGED.text)
    sim.user(edited, secret)
    sim.now += timedelta(hours=1)
    sim.settle()
    assert sim.api.objects[secret]["data"] == edited["data"]
    ready = {c["type"]: c["reason"] for c in sim.api.objects[key]["status"]["conditions"]}
    assert ready["Ready"] == "KeyTampered"
    assert len(sim.documents["acme"]) == 1
