"""The judge of the kill tests sees what it is there for: each wrong thing, put into a sound picture, is told of."""

import base64
import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
from tests.operator.e2e.comparator import Snapshot, differences
from tests.operator.e2e.world import PATHS, World

from tenantplane_api.runtime import documents, keys, names
from tenantplane_api.runtime.names import TenantID, TenantName

Items = dict[str, list[dict[str, Any]]]
TEXT = str(keys.generate_key())


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(name: str, ns: str, data: dict[str, str], **labels: str) -> dict[str, Any]:
    values = {entry: encoded(value) for entry, value in data.items()}
    return {"metadata": {"name": name, "namespace": ns, "labels": labels}, "data": values}


def picture(tenant: str = "acme", text: str = TEXT) -> Items:
    """One tenant with a key, as it stands in a cluster."""
    ns, digest = names.default_namespace(tenant), keys.hash_key(text)
    document = documents.tenant_runtime(
        name=TenantName(tenant),
        namespace=ns,
        tenant_id=TenantID(f"{tenant}-0001"),
        spec=documents.TenantSpec(keys=(documents.KeyEntry(hash=digest, id="abcdefgh", name="default"),)),
    )
    label = {names.LABEL_TENANT: tenant}
    carried = secret(
        names.tenant_document_name(tenant),
        names.NAMESPACE_RUNTIME,
        {names.DOCUMENT_KEY: documents.canonical(document).decode()},
        **label,
    )
    key = {
        "metadata": {"name": "default", "namespace": ns, "uid": tenant},
        "status": {"hash": digest, "secretRef": {"name": "default"}},
    }
    return {
        "Tenant": [{"metadata": {"name": tenant, "uid": tenant}, "spec": {"tenantID": f"{tenant}-0001"}}],
        "Namespace": [{"metadata": {"name": ns, "labels": label}}],
        "APIKey": [key],
        "Secret": [carried, secret("default", ns, {names.SECRET_KEY_API_KEY: text}, **label)],
    }


class Canned:
    """A world that answers lists."""

    def __init__(self, items: Items) -> None:
        self.items = {PATHS[kind].replace("/namespaces/{ns}", ""): found for kind, found in items.items()}

    def call(self, _: str, path: str) -> tuple[int, dict[str, Any]]:
        return 200, {"items": self.items.get(path, [])}


def snapshot(items: Items) -> Snapshot:
    return Snapshot(cast("World", Canned(items)))


def second_key_secret(items: Items) -> None:
    items["Secret"].append(secret("default-2", "tenant-acme", {names.SECRET_KEY_API_KEY: str(keys.generate_key())}))


def orphaned_document(items: Items) -> None:
    items["Tenant"].clear()


def second_namespace(items: Items) -> None:
    space = copy.deepcopy(items["Namespace"][0])
    space["metadata"]["name"] = "tenant-acme-2"
    items["Namespace"].append(space)


def other_text(items: Items) -> None:
    items["Secret"][1]["data"][names.SECRET_KEY_API_KEY] = encoded(str(keys.generate_key()))


def withdrawn(items: Items) -> None:
    del items["Secret"][0]


def lost_secret(items: Items) -> None:
    del items["Secret"][1]


def test_a_sound_picture_has_no_problems() -> None:
    assert snapshot(picture()).problems() == []


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (second_key_secret, "are not those of its live keys"),
        (orphaned_document, "of nobody"),
        (second_namespace, "2 namespaces of acme"),
        (other_text, "are not those of its live keys"),
        (withdrawn, "published hashes"),
        (lost_secret, "are not those of its live keys"),
    ],
)
def test_each_wrong_thing_is_told(harm: Callable[[Items], None], told: str) -> None:
    items = picture()
    harm(items)
    assert [problem for problem in snapshot(items).problems() if told in problem]


def test_two_tenants_with_one_key_are_told() -> None:
    first, second = picture("acme"), picture("beta")
    both = {kind: first[kind] + second[kind] for kind in first}
    assert snapshot(both).problems() == ["2 keys have one text"]


def test_tenants_of_one_fate_compare_equal_and_others_do_not() -> None:
    first, second = (snapshot(picture(name, str(keys.generate_key()))).state(name) for name in ("acme", "beta"))
    assert differences(first, second) == {}
    suspended = picture("beta")
    suspended["Tenant"][0]["spec"]["suspend"] = True
    assert list(differences(first, snapshot(suspended).state("beta"))) == ["Tenant @"]
    more = picture("beta")
    more["ConfigMap"] = [{"metadata": {"name": "left-over", "namespace": "tenant-beta"}}]
    assert list(differences(first, snapshot(more).state("beta"))) == ["ConfigMap left-over"]
    assert "ConfigMap left-over" not in first
