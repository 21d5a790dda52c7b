"""The reconcile of APIKeys around the decision: what is looked at again, told once, and recorded in any case."""

import base64
import copy
from typing import Any

import pytest
from tests.operator.apikey.sim import Sim, new_object

from tenantplane_api.runtime import keys, limits, names
from tenantplane_operator.runtime.resources import Manifest, ObjectKey
from tenantplane_operator.tenant import document

KEY = ObjectKey(names.KIND_API_KEY, "tenant-acme", "made")
OTHER = ObjectKey(names.KIND_API_KEY, "tenant-acme", "other")


class Publisher:
    """Says what stands."""

    def __init__(self, stands: str | None) -> None:
        self.stands = stands

    def revision(self, _: str) -> str | None:
        return self.stands


class Recorder:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def record(self, _: object, __: str, reason: str, ___: str) -> None:
        self.told.append(reason)


def stored(sim: Sim, key: ObjectKey = KEY) -> Manifest:
    return sim.api.objects[key]


def edited(sim: Sim, key: ObjectKey = KEY, *, notes: dict[str, str] | None = None, **spec: Any) -> None:
    obj = copy.deepcopy(stored(sim, key))
    obj["metadata"].setdefault("annotations", {}).update(notes or {})
    obj["spec"] |= spec
    sim.user(obj, key)


def ready(sim: Sim, key: ObjectKey = KEY) -> tuple[str, str]:
    found = next(c for c in stored(sim, key)["status"]["conditions"] if c["type"] == "Ready")
    return found["status"], found["reason"]


@pytest.fixture
def sim() -> Sim:
    sim = Sim()
    sim.user(new_object(KEY, spec={}), KEY)
    sim.settle()
    assert ready(sim) == ("True", "Ready")
    return sim


@pytest.mark.parametrize("stands", [None, "r1"])
def test_a_key_of_a_tenant_of_which_nothing_is_published_is_revoked_all_the_same(sim: Sim, stands: str | None) -> None:
    """After a withdrawal nothing is known to be published, and that is no reason to wait for it."""
    sim.ctx.publisher = Publisher(stands)  # type: ignore[assignment]
    sim.ctx.published.pop("acme")
    edited(sim, revoked=True)
    sim.reconcile(KEY)
    # With a document of which is not known what is in it, the tenant's own reconcile comes first.
    assert ("revokedAt" in stored(sim)["status"]) is (stands is None)


def test_a_refused_text_is_read_again_without_anybody_saying_so(sim: Sim) -> None:
    secret = ObjectKey("Secret", "tenant-acme", "mine")
    mine = ObjectKey("Secret", "tenant-acme", "made")
    sim.user(new_object(secret, data={"k": sim.api.objects[mine]["data"][names.SECRET_KEY_API_KEY]}), secret)
    sim.user(new_object(OTHER, spec={"valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}), OTHER)
    sim.settle()
    assert ready(sim, OTHER) == ("False", "KeyRejected")
    assert OTHER in sim.due
    text = base64.b64encode(keys.generate_key().text.encode()).decode()
    sim.user(new_object(secret, data={"k": text}), secret)
    sim.now = sim.due[OTHER]
    sim.settle()
    assert ready(sim, OTHER) == ("True", "Ready")
    assert OTHER not in sim.due


def test_a_request_that_is_none_is_told_once(sim: Sim) -> None:
    sim.ctx.recorder = recorder = Recorder()  # type: ignore[assignment]
    edited(sim, notes={names.ANNOTATION_ROTATE: "tomorrow"})
    sim.settle()
    assert recorder.told == ["InvalidRequest"]
    # The status changes for other reasons: that is no news of the request.
    for text in ("1", "2", "3"):
        edited(sim, notes={names.ANNOTATION_RECONCILE: text})
        sim.settle()
        assert stored(sim)["status"]["handledRequests"]["reconcile-requested-at"] == text
    assert recorder.told == ["InvalidRequest"]
    edited(sim, notes={names.ANNOTATION_ROTATE: "yesterday"})
    sim.settle()
    assert recorder.told == ["InvalidRequest"] * 2


@pytest.mark.parametrize("how", ["spec", "request"])
def test_a_revocation_is_recorded_although_the_rest_is_invalid(sim: Sim, how: str) -> None:
    edited(sim, rotation={"grace": "9999h"})
    if how == "spec":
        edited(sim, revoked=True)
    else:
        edited(sim, notes={names.ANNOTATION_REVOKE: "2026-11-01T00:00:00Z"})
    sim.settle()
    assert ready(sim) == ("False", "InvalidSpec")
    when = stored(sim)["status"]["revokedAt"]
    assert not sim.documents["acme"]
    # The wish taken back with the fault mended: what was revoked stays so.
    obj = copy.deepcopy(stored(sim))
    obj["spec"], obj["metadata"]["annotations"] = {}, {}
    sim.user(obj, KEY)
    sim.settle()
    assert ready(sim) == ("False", "Revoked")
    assert stored(sim)["status"]["revokedAt"] == when


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+01:00"])
def test_odd_times_end_no_pass(sim: Sim, end: str) -> None:
    edited(sim, expiresAt=end, notes={names.ANNOTATION_ROTATE: end})
    sim.user(new_object(OTHER, spec={}), OTHER)
    sim.settle()
    edited(sim, OTHER, revoked=True)
    sim.settle()
    assert ready(sim) == (("True", "Ready") if end.startswith("9") else ("False", "Expired"))
    assert {entry.name for entry in sim.documents["acme"]} == {"made"}


def test_one_new_key_does_not_wake_all_others(sim: Sim) -> None:
    for number in range(20):
        key = ObjectKey(names.KIND_API_KEY, "tenant-acme", f"k{number}")
        sim.user(new_object(key, spec={}), key)
    sim.settle()
    sim.user(new_object(OTHER, spec={}), OTHER)
    sim.reconcile(OTHER)
    sim.queue.keys.clear()
    sim.publish("acme")
    assert list(sim.queue.keys) == [OTHER]
    # A replaced text that leaves the document wakes its key, too.
    edited(sim, notes={names.ANNOTATION_ROTATE: "2026-11-01T00:00:00Z"})
    sim.settle()
    assert stored(sim)["status"]["previous"]
    edited(sim, revoked=True)
    sim.queue.keys.clear()
    sim.publish("acme")
    assert list(sim.queue.keys) == [KEY]
    # Nothing known of what was published: everybody is asked.
    sim.ctx.published.pop("acme")
    sim.queue.keys.clear()
    sim.publish("acme")
    assert len(sim.queue.keys) == 22


def test_a_key_for_which_there_is_no_room_says_so_and_comes_in_when_there_is(
    sim: Sim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RUNTIME_KEYS_MAX", 1)
    monkeypatch.setattr(document, "_ENTRY_MAX", document.KEYS_BYTES_MAX)
    sim.user(new_object(OTHER, spec={}), OTHER)
    sim.settle()
    assert ready(sim) == ("True", "Ready")
    assert ready(sim, OTHER) == ("False", "QuotaExceeded")
    edited(sim, revoked=True)
    sim.settle()
    assert ready(sim, OTHER) == ("True", "Ready")
