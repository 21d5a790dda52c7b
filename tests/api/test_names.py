"""Names: reserved ones are recognised, and no two objects share a document name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime import names
from tenantplane_api.runtime.errors import ERRORS, ErrorCode, error_body
from tenantplane_api.runtime.records import new_request_id

LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@given(LABEL, LABEL, LABEL, LABEL)
def test_model_document_names_never_meet(ns1: str, n1: str, ns2: str, n2: str) -> None:
    same = names.model_document_name(ns1, n1) == names.model_document_name(ns2, n2)
    assert same == ((ns1, n1) == (ns2, n2))
    assert names.tenant_document_name(n1) != names.model_document_name(ns1, n1)


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-x", "tenantplane-system", "tenantplane-x"])
def test_reserved_namespaces(name: str) -> None:
    assert names.is_reserved_namespace(name)
    assert not names.is_reserved_namespace("tenant-" + name)


@pytest.mark.parametrize(
    ("key", "reserved"),
    [
        ("kubernetes.io/metadata.name", True),
        ("pod-security.kubernetes.io/enforce", True),
        ("x.k8s.io/a", True),
        ("tenantplane.dev/tenant", True),
        ("argocd.argoproj.io/instance", True),
        ("team", False),
        ("example.com/team", False),
        ("notkubernetes.io/x", False),
    ],
)
def test_reserved_label_keys(key: str, reserved: bool) -> None:
    assert names.is_reserved_label_key(key) is reserved


def test_every_error_code_has_an_answer() -> None:
    assert set(ERRORS) == set(ErrorCode)
    for code in ErrorCode:
        body = error_body(code, request_id="req_1")["error"]
        assert isinstance(body, dict)
        assert set(body) == {"message", "type", "param", "code", "request_id"}
        assert 400 <= ERRORS[code].status <= 599


def test_request_ids_are_uuid7_and_sort_by_time() -> None:
    first, second = new_request_id(now_ms=1_700_000_000_000), new_request_id(now_ms=1_700_000_000_001)
    assert first < second
    digits = first.removeprefix("req_")
    assert len(digits) == 32
    assert digits[12] == "7"
    assert digits[16] in "89ab"
    assert len({new_request_id() for _ in range(1000)}) == 1000
