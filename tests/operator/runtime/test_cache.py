"""The cache: newer wins, the dead stay dead, a list prunes only what it may."""

import pytest
from tests.operator.runtime.objects import obj

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of

KEY = ObjectKey("ConfigMap", "ns", "a")


def make() -> tuple[Cache, list[tuple[ObjectKey, bool, bool]]]:
    seen: list[tuple[ObjectKey, bool, bool]] = []

    def changed(key: ObjectKey, old: Manifest | None, new: Manifest | None) -> None:
        seen.append((key, old is not None, new is not None))

    return Cache(index_label=names.LABEL_TENANT, on_change=changed), seen


def test_an_older_state_never_replaces_a_newer_one() -> None:
    cache, seen = make()
    assert cache.put(obj(version=10, data={"x": "new"}))
    assert not cache.put(obj(version=9, data={"x": "old"}))
    assert (cache.get(KEY) or {})["data"] == {"x": "new"}
    assert len(seen) == 1


def test_the_same_state_twice_is_no_news() -> None:
    cache, seen = make()
    cache.put(obj(version=10))
    cache.put(obj(version=10))
    assert len(seen) == 1


def test_our_own_answers_are_no_news_but_are_kept() -> None:
    cache, seen = make()
    cache.put(obj(version=10), notify=False)
    assert cache.get(KEY) is not None
    cache.put(obj(version=10))
    assert seen == []


def test_a_late_event_does_not_bring_back_a_deleted_object() -> None:
    cache, _ = make()
    cache.put(obj(version=10))
    cache.remove(KEY, obj(version=12))
    assert not cache.put(obj(version=11))
    assert cache.get(KEY) is None
    # A new object of the same name is another one.
    assert cache.put(obj(uid="u2", version=13))


def test_an_object_that_lost_and_regained_its_label_comes_back() -> None:
    cache, _ = make()
    cache.put(obj(version=10))
    cache.remove(KEY, obj(version=11))
    assert cache.put(obj(version=12))
    assert cache.get(KEY) is not None


def test_deletion_of_an_earlier_object_leaves_the_new_one() -> None:
    cache, _ = make()
    cache.put(obj(uid="u1", version=10))
    cache.put(obj(uid="u2", version=12))
    assert not cache.remove(KEY, obj(uid="u1", version=11))
    assert cache.get(KEY) is not None


def test_a_complete_list_prunes_what_is_gone_but_not_what_is_new() -> None:
    cache, seen = make()
    cache.put(obj(name="stays", uid="1"))
    cache.put(obj(name="gone", uid="2"))
    cache.put(obj("Secret", "other", uid="3"))
    before = cache.uids("ConfigMap")
    cache.put(obj(name="new", uid="4", version=50))  # appeared while the list was being read
    gone = cache.replace_all("ConfigMap", [obj(name="stays", uid="1")], before=before)
    assert gone == [ObjectKey("ConfigMap", "ns", "gone")]
    assert {key_of(item).name for item in cache.of_kind("ConfigMap")} == {"stays", "new"}
    assert len(list(cache.of_kind("Secret"))) == 1
    assert cache.synced == {"ConfigMap"}
    assert seen[-1] == (ObjectKey("ConfigMap", "ns", "gone"), True, False)


def test_objects_are_found_by_tenant_and_by_namespace() -> None:
    cache, _ = make()
    cache.put(obj(name="a", uid="1", tenant="acme"))
    cache.put(obj(name="b", uid="2", tenant="beta", ns="other"))
    cache.put(obj(name="c", uid="3", tenant=None))
    assert [key_of(item).name for item in cache.labelled("acme")] == ["a"]
    assert [key_of(item).name for item in cache.in_namespace("ConfigMap", "ns")] == ["a", "c"]
    cache.put(obj(name="a", uid="1", tenant="beta", version=2))
    assert list(cache.labelled("acme")) == []
    assert [key_of(item).name for item in cache.labelled("beta")] == ["a", "b"]
    cache.remove(ObjectKey("ConfigMap", "ns", "a"))
    assert [key_of(item).name for item in cache.in_namespace("ConfigMap", "ns")] == ["c"]


def test_managed_fields_are_not_kept() -> None:
    cache, _ = make()
    cache.put(obj(metadata={"managedFields": [{"manager": "x"}]}))
    assert "managedFields" not in (cache.get(KEY) or {})["metadata"]


def test_a_write_that_the_watch_saw_before_its_answer_is_no_news() -> None:
    cache, seen = make()
    with cache.writing(KEY):
        cache.put(obj(version=10))
        cache.put(obj(version=10), notify=False)
    assert seen == []
    assert cache.get(KEY) is not None


def test_an_edit_during_a_write_is_told_when_the_write_ended() -> None:
    cache, seen = make()
    with cache.writing(KEY):
        cache.put(obj(version=10))
        cache.put(obj(version=11))
        assert seen == []
        assert not cache.put(obj(version=10), notify=False)
    assert seen == [(KEY, False, True)]
    with cache.writing(KEY):
        cache.put(obj(version=12), notify=False)
        cache.put(obj(version=13))
    assert seen[1:] == [(KEY, True, True)]


def test_what_was_seen_during_a_write_that_failed_is_told() -> None:
    cache, seen = make()

    def write() -> None:
        with cache.writing(KEY):
            cache.put(obj(version=10))
            raise OSError("away")

    with pytest.raises(OSError, match="away"):
        write()
    assert seen == [(KEY, False, True)]


def test_an_answer_that_is_news_is_told_once() -> None:
    cache, seen = make()
    with cache.writing(KEY), cache.writing(KEY):
        cache.put(obj(version=10))
        cache.put(obj(version=10))
    assert seen == [(KEY, False, True)]


def test_a_deletion_during_a_write_is_told_at_once() -> None:
    cache, seen = make()
    cache.put(obj(version=9))
    with cache.writing(KEY):
        cache.remove(KEY, obj(version=10))
        assert seen[1:] == [(KEY, True, False)]
        cache.put(obj(uid="u2", version=11), notify=False)
    assert len(seen) == 2
