"""Server-sent events: pieces may be cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_cli import sse
from tenantplane_cli.sse import Event

STREAM = (
    "\ufeff: a comment\n\n"
    'data: {"text": "grüß 😀"}\n\n'
    "event: done\r\ndata: one\r\ndata:two\r\n\r\n"
    "data\r\rid: 7\rdata:  three\r\r"
    "event: nothing\n\n"
    "data: [DONE]\n\n"
    "data: cut off"
).encode()
EVENTS = [
    Event("message", '{"text": "grüß 😀"}'),
    Event("done", "one\ntwo"),
    Event("message", ""),
    Event("message", " three"),
    Event("message", "[DONE]"),
]


def test_whole_stream() -> None:
    assert list(sse.parse([STREAM])) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert list(sse.parse(pieces)) == EVENTS


def test_byte_by_byte() -> None:
    assert list(sse.parse(bytes([byte]) for byte in STREAM)) == EVENTS


@pytest.mark.parametrize("line", [b"data: x\n", b"data: " + b"y" * 1000])
def test_an_endless_event_is_refused(line: bytes) -> None:
    with pytest.raises(sse.EventTooLarge):
        list(sse.parse(line for _ in range(3_000_000)))


@given(st.binary(max_size=400))
def test_any_bytes_end(data: bytes) -> None:
    for event in sse.parse([data]):
        assert isinstance(event.data, str)
