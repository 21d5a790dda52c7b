"""Server-sent events from bytes as they arrive.

The wire format is the HTML standard's, section "Interpreting an event stream": UTF-8, lines end in LF, CR or CRLF, a
blank line dispatches, a colon at the beginning is a comment. Guarantees: pieces may be cut anywhere, inside a character
too; one event is bounded. An event that the end of the stream cuts off is not delivered, as the standard says.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

EVENT_MAX: Final = 4 << 20
"""Characters of one event; more is not a chat."""


class Event(NamedTuple):
    """One event. ``name`` is ``message`` when the stream names none; ``data`` joins its lines with LF."""

    name: str
    data: str


class EventTooLarge(ValueError):  # noqa: N818 - says what is the case
    """Raise when one event is larger than ``EVENT_MAX``."""


def parse(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Events of a stream. Raises EventTooLarge."""
    data: list[str] = []
    name, size = "", 0
    for line in _lines(pieces):
        if not line:
            if data:
                yield Event(name or "message", "\n".join(data))
            name, data, size = "", [], 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            size += len(value) + 1
            if size > EVENT_MAX:
                raise EventTooLarge(f"an event is larger than {EVENT_MAX} characters")
            data.append(value)


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest, first, after_cr = "", True, False
    for piece in pieces:
        text = decoder.decode(piece)
        if not text:
            continue
        if first:
            text, first = text.removeprefix("\ufeff"), False
        if after_cr:
            text = text.removeprefix("\n")  # the second half of a CRLF that was cut in two
        after_cr = text.endswith("\r")
        rest += text
        if len(rest) > EVENT_MAX + 16:
            raise EventTooLarge(f"a line is longer than {EVENT_MAX} characters")
        if "\n" not in text and "\r" not in text:
            continue
        *lines, rest = rest.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        yield from lines
