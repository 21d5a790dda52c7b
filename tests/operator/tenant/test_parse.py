"""What never met an API server is refused with the field's path; what did is taken as it is."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.operator.tenant.build import parsed, tenant

from tenantplane_api.crd.conditions import Reason
from tenantplane_operator.tenant.concern import Refused
from tenantplane_operator.tenant.parse import format_time, later, parse_tenant, parse_time

INDEX = {"name": "handbook", "sources": [{"name": "docs", "configMap": {"name": "docs"}}]}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"tenantID": "short"}, "spec.tenantID: "),
    ({"tenantID": "UPPER-CASE-1"}, "spec.tenantID: "),
    ({"tenantID": "acme-0001\n"}, "spec.tenantID: "),
    ({"plan": "Not A Name"}, "spec.plan: "),
    ({"quota": {"requests.cpu": "-1"}}, "spec.quota.requests.cpu: "),
    ({"quota": {"requests.cpu": -1}}, "spec.quota.requests.cpu: "),
    ({"quota": {"nonsense": "1"}}, "spec.quota: 'nonsense'"),
    (
        {"models": [{"alias": "a", "ref": {"name": "m"}}, {"alias": "a", "ref": {"name": "n"}}]},
        "spec.models[1].alias: ",
    ),
    ({"models": [{"alias": "assistant/x", "ref": {"name": "m"}}]}, "spec.models[0].alias: "),
    ({"models": [{"alias": "a", "ref": {"name": "M"}}]}, "spec.models[0].ref.name: "),
    ({"namespace": {"labels": {"app.kubernetes.io/name": "x"}}}, "spec.namespace.labels: "),
    ({"namespace": {"labels": {"tenantplane.dev/tenant": "beta"}}}, "spec.namespace.labels: "),
    ({"namespace": {"annotations": {"sub.istio.io/x": "1"}}}, "spec.namespace.annotations: "),
    ({"namespace": {"labels": {"-bad": "x"}}}, "spec.namespace.labels: "),
    ({"namespace": {"labels": {"ok": "not ok"}}}, "spec.namespace.labels: "),
    ({"namespace": {"podSecurity": "None"}}, "spec.namespace.podSecurity: "),
    ({"access": {"admins": [{"kind": "User", "name": "a", "namespace": "b"}]}}, "spec.access.admins[0].namespace: "),
    ({"access": {"viewers": [{"kind": "ServiceAccount", "name": "a"}]}}, "spec.access.viewers[0].namespace: "),
    ({"assistants": [{"name": "a", "knowledge": ["gone"]}]}, "spec.assistants[0].knowledge: 'gone'"),
    ({"models": [], "assistants": [{"name": "a", "model": "gone"}]}, "spec.assistants[0].model: 'gone'"),
    ({"assistants": [{"name": "a"}, {"name": "a"}]}, "spec.assistants[1].name: "),
    ({"auth": {"apiKeys": [{"name": "a"}, {"name": "a"}]}}, "spec.auth.apiKeys[1].name: "),
    ({"knowledge": [INDEX, INDEX]}, "spec.knowledge[1].name: "),
    ({"knowledge": [{"name": "k", "sources": []}]}, "spec.knowledge[0].sources: "),
    ({"knowledge": [{"name": "k", "sources": [{"name": "s"}]}]}, "spec.knowledge[0].sources[0]: exactly one"),
    (
        {"knowledge": [{"name": "k", "sources": [{"name": "s", "directory": {"path": "../beta"}}]}]},
        "spec.knowledge[0].sources[0].directory.path: ",
    ),
    (
        {"knowledge": [{"name": "k", "sources": [{"name": "s", "directory": {"path": "/etc"}}]}]},
        "spec.knowledge[0].sources[0].directory.path: ",
    ),
    ({"limits": {"concurrency": 0}}, "spec.limits.concurrency: "),
    ({"suspend": "perhaps"}, "spec.suspend: "),
]


@pytest.mark.parametrize(("spec", "message"), BAD)
def test_an_invalid_spec_names_the_field(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as error:
        parse_tenant(tenant(spec=spec))
    concern = error.value.concern
    assert concern.reason == Reason.INVALID_SPEC
    assert concern.message.startswith(message)
    assert concern.permanent


@pytest.mark.parametrize("name", ["", "Acme", "a/../b", "acme.beta", "acme\n", "-acme", "a" * 41, None, 7])
def test_a_name_that_could_not_be_a_tenants_is_refused(name: object) -> None:
    obj = tenant()
    obj["metadata"]["name"] = name
    with pytest.raises(Refused) as error:
        parse_tenant(obj)
    assert error.value.concern.message.startswith("metadata.name: ")


@pytest.mark.parametrize("spec", [None, [], "text", 7])
def test_a_spec_that_is_no_object(spec: object) -> None:
    with pytest.raises(Refused):
        parse_tenant({"metadata": {"name": "acme"}, "spec": spec})


def test_values_are_not_repeated_in_messages() -> None:
    with pytest.raises(Refused) as error:
        parse_tenant(tenant(spec={"tenantID": "s3cret Value"}))
    assert "s3cret" not in error.value.concern.message


def test_a_status_that_cannot_be_read_is_observed_again() -> None:
    assert parsed(status={"knowledge": "broken"}).status.knowledge == []


def test_the_default_namespace_comes_from_the_name() -> None:
    assert parsed("beta").namespace == "tenant-beta"
    assert parsed(spec={"namespace": {"labels": {}}}).namespace == "tenant-acme"
    assert parsed(spec={"namespace": {"name": "own"}}).namespace == "own"


def test_times_are_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert format_time(datetime(2027, 1, 31, 12, tzinfo=east)) == "2027-01-31T10:00:00Z"
    assert format_time(datetime(2027, 1, 31, 12)) == "2027-01-31T12:00:00Z"  # noqa: DTZ001 -- what YAML readers give
    assert parse_time("2027-01-31T12:00:00Z") == datetime(2027, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59Z"),
        ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00Z"),
        ("0900-01-01T00:00:00Z", "0900-01-01T00:00:00Z"),
    ],
)
def test_a_time_that_its_zone_takes_out_of_the_calendar_is_the_nearest_in_it(text: str, seen: str) -> None:
    assert format_time(parse_time(text)) == seen
    assert parse_time(format_time(parse_time(text))) == parse_time(text)
    for by in (timedelta(hours=1), timedelta(days=1)):
        assert later(parse_time(text), by) >= parse_time(text)


def test_a_creation_time_that_yaml_has_parsed() -> None:
    obj = tenant()
    obj["metadata"]["creationTimestamp"] = datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_tenant(obj).created == "2026-01-01T00:00:00Z"
