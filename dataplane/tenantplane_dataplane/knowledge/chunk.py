"""Chunks: contiguous slices of a document's text, cut at headings and sentences, sized in estimated tokens.

Guarantees: every chunk is ``text[start:end]`` of its document; no word of a document is lost; no chunk exceeds
``max_tokens`` unless one single word does; a chunk does not run over a heading, except that neighbouring sections of a
few words are put together under the heading that they share. Neighbours inside a section overlap by whole sentences.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenantplane_api.runtime.indexjob import Chunking
from tenantplane_dataplane.knowledge.blocks import Block, ParsedDocument
from tenantplane_dataplane.knowledge.tokenizer import estimate_tokens

_TINY_SECTION: Final = 48
_JOINED_MAX: Final = 64
_SENTENCE_END: Final = re.compile(
    r"[.!?\u2026][\"'\u201d\u2019)\]]*\s+(?=[\"'\u201c\u2018(\[]?[A-Z0-9\u00c0-\u00de])|[\u3002\uff01\uff1f]\s*"
)
_ABBREVIATIONS: Final = frozenset(
    """
    e.g i.e etc vs no nos dr mr mrs ms prof st fig figs cf approx incl excl al inc ltd co corp p pp vol ed sec ch
    art min max est dept tel ca resp jan feb mar apr jun jul aug sep sept oct nov dec
    """.split()  # noqa: SIM905
)
_LAST_WORD: Final = re.compile(r"([\w.]+)$")


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """One chunk: ``text[start:end]`` under the headings ``section``; ``tokens`` estimated."""

    section: tuple[str, ...]
    start: int
    end: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is never cut unless it is too large alone: a sentence, a list item, a table row, a line of code."""

    start: int
    end: int
    tokens: int
    heading: bool


def sentences(text: str) -> list[tuple[int, int]]:
    """Offsets of the sentences of running text; abbreviations, initials and list numbers do not end one."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if text[match.start()] == "." and _is_abbreviation(text[start : match.start()]):
            continue
        end = start + len(text[start : match.end()].rstrip())
        if end > start:
            spans.append((start, end))
        start = match.end()
    end = len(text.rstrip())
    if end > start:
        spans.append((start, end))
    return spans


def _is_abbreviation(before: str) -> bool:
    match = _LAST_WORD.search(before[-24:])
    if match is None:
        return False
    word = match.group(1)
    # A single capital is an initial; a number or letter alone numbers the sentence.
    return (
        word.lower() in _ABBREVIATIONS
        or (len(word) == 1 and word.isupper())
        or (word == before.strip() and len(word.split(".")[-1]) <= 2)
    )


def chunk(document: ParsedDocument, sizes: Chunking) -> list[ChunkSpan]:
    """The chunks of a document in reading order; none for a document without text."""
    chunks: list[ChunkSpan] = []
    for section, units in _sections(document, sizes):
        chunks.extend(_fill(document.text, section, units, sizes))
    return chunks


def _sections(document: ParsedDocument, sizes: Chunking) -> Iterator[tuple[tuple[str, ...], list[_Unit]]]:
    """Runs of units that may share chunks: one section each, tiny neighbours and bare headings joined to the next."""
    path: tuple[str, ...] = ()
    units: list[_Unit] = []
    for section, fresh in _raw_sections(document, sizes):
        shared = _common(path, section)
        joins = 0 < len(units) <= _JOINED_MAX and (_is_bare(units) or (bool(shared) and _tiny(units) and _tiny(fresh)))
        if not joins:
            if units:
                yield path, units
            path, units = section, fresh
        else:
            path = section if _is_bare(units) and section[: len(path)] == path else shared
            units = units + fresh
    if units:
        yield path, units


def _raw_sections(document: ParsedDocument, sizes: Chunking) -> Iterator[tuple[tuple[str, ...], list[_Unit]]]:
    path: tuple[str, ...] | None = None
    units: list[_Unit] = []
    for block in document.blocks:
        if units and (block.section != path or block.kind == "heading"):
            yield path or (), units
            units = []
        path = block.section
        units.extend(_units(document.text, block, sizes.max_tokens))
    if units:
        yield path or (), units


def _is_bare(units: list[_Unit]) -> bool:
    return all(unit.heading for unit in units)


def _tiny(units: list[_Unit]) -> bool:
    return sum(unit.tokens for unit in units) < _TINY_SECTION


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    length = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        length += 1
    return left[:length]


def _units(text: str, block: Block, max_tokens: int) -> Iterator[_Unit]:
    content = text[block.start : block.end]
    if block.kind == "lines":
        spans = [(match.start(), match.end()) for match in re.finditer(r"[^\n]+", content)]
    elif block.kind == "heading":
        spans = [(0, len(content))]
    else:
        spans = sentences(content)
    for start, end in spans:
        for piece_start, piece_end in _pieces(content, start, end, max_tokens):
            tokens = estimate_tokens(content[piece_start:piece_end])
            yield _Unit(block.start + piece_start, block.start + piece_end, tokens, block.kind == "heading")


def _pieces(content: str, start: int, end: int, max_tokens: int) -> Iterator[tuple[int, int]]:
    """The span itself, or, when it is larger than a chunk may be, runs of its words."""
    if estimate_tokens(content[start:end]) <= max_tokens:
        yield start, end
        return
    piece_start = piece_end = -1
    words = 0
    for match in re.finditer(r"\S+", content[start:end]):
        word_start, word_end = start + match.start(), start + match.end()
        if words and ((words + 1) * 4 > max_tokens * 3 or word_end - piece_start > max_tokens * 6):
            yield piece_start, piece_end
            words = 0
        if not words:
            piece_start = word_start
        piece_end = word_end
        words += 1
        while piece_end - piece_start > max_tokens * 6:  # one endless word: cut it
            yield piece_start, piece_start + max_tokens * 6
            piece_start += max_tokens * 6
    if words:
        yield piece_start, piece_end


def _fill(text: str, section: tuple[str, ...], units: list[_Unit], sizes: Chunking) -> Iterator[ChunkSpan]:
    first = 0
    while first < len(units):
        last, tokens = first, units[first].tokens
        while last + 1 < len(units) and tokens < sizes.target_tokens:
            grown = estimate_tokens(text[units[first].start : units[last + 1].end])
            if grown > sizes.max_tokens:
                break
            last, tokens = last + 1, grown
        start, end = units[first].start, units[last].end
        yield ChunkSpan(section, start, end, estimate_tokens(text[start:end]))
        if last + 1 == len(units):
            return
        first = _overlap(units, first, last, sizes.overlap_tokens)


def _overlap(units: list[_Unit], first: int, last: int, overlap_tokens: int) -> int:
    """Where the next chunk begins: some whole units before the end of this one, always beyond its beginning."""
    start, tokens = last + 1, 0
    while start - 1 > first and tokens + units[start - 1].tokens <= overlap_tokens and not units[start - 1].heading:
        start -= 1
        tokens += units[start].tokens
    return start
