"""Citations: ``[n]`` markers in an answer, and the passages that they stand for.

Guarantees that every marker that reaches a client resolves to a passage of this request; markers that a model made up
are removed while the answer streams, and the text streamed is the text returned.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from tenantplane_dataplane.assistants.types import Citation
from tenantplane_dataplane.knowledge.retrieve import Passage

SNIPPET_MAX: Final = 240

_MARKER: Final = re.compile(r"(?<![ \t])[ \t]*\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
# What may still become a marker with the next piece: blanks, or an open bracket with nothing but numbers in it.
_PENDING: Final = re.compile(r"(?<![ \t])[ \t]*(?:\[[\d,;\s]{0,40})?\Z")


class MarkerFilter:
    """Filters a stream of text; ``used`` collects the numbers of the markers that were let through, in order."""

    def __init__(self, passages: int) -> None:
        self._passages = passages
        self._held = ""
        self.used: list[int] = []

    def feed(self, text: str) -> str:
        """The part of the stream that can be sent after this piece; holds back less than 50 characters."""
        text = self._held + text
        match = _PENDING.search(text)
        cut = match.start() if match else len(text)
        self._held = text[cut:]
        return self._filter(text[:cut])

    def finish(self) -> str:
        """What was held back at the end of the stream."""
        text, self._held = self._held, ""
        return self._filter(text)

    def _filter(self, text: str) -> str:
        return _MARKER.sub(self._resolve, text)

    def _resolve(self, match: re.Match[str]) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", match.group(1))]
        known = [number for number in dict.fromkeys(numbers) if 1 <= number <= self._passages]
        self.used.extend(number for number in known if number not in self.used)
        blanks = match.group()[: match.group().index("[")]
        return blanks + "".join(f"[{number}]" for number in known) if known else ""


def without_markers(text: str) -> str:
    """The text without anything that looks like a marker: for quoting documents, whose own [1] means nothing here."""
    return _MARKER.sub("", text)


def citations(passages: Sequence[Passage], used: Sequence[int]) -> tuple[Citation, ...]:
    """Citations for the markers used, in order of use; all passages, unmarked, when the answer cites none."""
    if used:
        return tuple(_citation(passages[number - 1], number) for number in used)
    return tuple(_citation(passage, None) for passage in passages)


def _citation(passage: Passage, marker: int | None) -> Citation:
    return Citation(
        index=passage.index,
        document=passage.document,
        title=passage.title,
        section=passage.section,
        chunk_ids=(passage.chunk_id,),
        snippet=snippet(passage.text),
        marker=marker,
    )


def snippet(text: str) -> str:
    """The beginning of a text on one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= SNIPPET_MAX:
        return line
    return line[:SNIPPET_MAX].rsplit(" ", 1)[0] + "\u2026"


def marked(text: str, numbers: Iterable[int]) -> str:
    """The text with markers behind it."""
    return text + " " + "".join(f"[{number}]" for number in numbers)
