"""Ids survive whatever a sender calls a file."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_dataplane.knowledge.identity import (
    DOCUMENT_ID_MAX,
    chunk_id,
    clean_text,
    distinguished,
    document_id,
    is_clean_text,
    is_safe_document_id,
    one_line,
)

PARTS = st.lists(
    st.binary(min_size=1, max_size=255).filter(lambda part: b"/" not in part and b"\0" not in part),
    min_size=1,
    max_size=5,
)


@given(PARTS)
def test_ids_are_safe_whatever_the_names(parts: list[bytes]) -> None:
    identifier = document_id("docs", parts)
    assert is_safe_document_id(identifier)
    assert identifier == unicodedata.normalize("NFC", identifier)
    assert len(identifier) <= DOCUMENT_ID_MAX
    assert identifier.startswith("docs/")


@given(st.lists(st.text(st.characters(codec="ascii"), min_size=1, max_size=20), min_size=2, max_size=2, unique=True))
def test_different_ascii_names_have_different_ids(names: list[str]) -> None:
    one, other = (document_id("docs", [name.encode()]) for name in names)
    assert one != other


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([b"..", b"..", b"x"], "docs/%2E%2E/%2E%2E/x"),
        ([b"a\nb.md"], "docs/a%0Ab.md"),
        ([b"a\x00b"], "docs/a%00b"),
        ([b"100%.md"], "docs/100%25.md"),
        ([b"\xff.md"], "docs/%FF.md"),
        (["\u202egpj.md".encode()], "docs/%E2%80%AEgpj.md"),
        ([b"a/b"], "docs/a%2Fb"),
        ([b"a\\..\\b"], "docs/a%5C..%5Cb"),
        (["cafe\u0301.md".encode()], "docs/caf\u00e9.md"),
    ],
)
def test_adversarial_names(parts: list[bytes], expected: str) -> None:
    assert document_id("docs", parts) == expected


def test_long_names_stay_apart() -> None:
    one, other = (document_id("docs", [b"x" * 250 + tail]) for tail in (b"1", b"2"))
    assert one != other
    assert len(one) == len(other) == DOCUMENT_ID_MAX
    assert is_safe_document_id(distinguished("docs/a.md", b"raw"))


@pytest.mark.parametrize(
    "identifier", ["docs", "docs/", "/x", "docs/../x", "docs/./x", "docs/a\nb", "docs/a\\b", "a//b"]
)
def test_unsafe_ids_are_recognised(identifier: str) -> None:
    assert not is_safe_document_id(identifier)


def test_chunk_ids_do_not_collide_over_field_borders() -> None:
    fields = {"tenant_id": "acme-0001", "index": "ab", "document": "c/d", "content": "e"}
    base = chunk_id(**fields)
    assert len(base) == 16
    assert base != chunk_id(**fields | {"index": "a", "document": "bc/d"})
    assert base != chunk_id(**fields | {"tenant_id": "acme-0002"})


@given(st.text())
def test_cleaned_text_is_clean(text: str) -> None:
    assert is_clean_text(clean_text(text))
    line = one_line(text, 20)
    assert len(line) <= 20
    assert one_line(line, 20) == line
    assert "\n" not in line
