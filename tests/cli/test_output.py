"""What is printed cannot control the terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_cli.output import clean, one_line


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202egnp", "\x08", "\x85", "\u2028"]
)
def test_controls_are_removed(text: str) -> None:
    assert not set(clean(text)) & set("\x1b\x07\r\x9b\u202e\x08\x85\u2028")


def test_text_stays() -> None:
    assert clean("Größe 😀\n\tzwei") == "Größe 😀\n\tzwei"


@given(st.text())
def test_what_is_left_is_printable(text: str) -> None:
    assert all(char in "\n\t" or char.isprintable() or unicodedata.category(char) == "Zs" for char in clean(text))


@given(st.text(), st.integers(2, 50))
def test_one_line_is_one_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line.splitlines()) <= 1
    assert len(line) <= limit
