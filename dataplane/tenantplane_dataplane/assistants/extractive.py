"""The extractive answerer: answers with sentences of the evidence, word for word, and nothing else.

It stands in where there is no model. Guarantees that every sentence of an answer stands in a passage and is cited to
it; picks at most three units (sentences, list items, table rows) by how much of the question's weight they cover
themselves and through the headings above them. It does not reason, add up or rephrase.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantplane_dataplane.assistants.citations import marked, without_markers
from tenantplane_dataplane.knowledge.chunk import sentences
from tenantplane_dataplane.knowledge.retrieve import QUERY_TERMS_MAX, QUESTION_MAX, Passage
from tenantplane_dataplane.knowledge.tokenizer import STOP_WORDS, terms, words

UNITS_MAX: Final = 3
NO_EVIDENCE: Final = "I could not find anything about this in the documents that I have, so I cannot answer it."
NO_DOCUMENTS: Final = (
    "I have no documents: this model only quotes what stands in the conversation, and nothing there answers the "
    'question. Ask an assistant that has knowledge, for example model "assistant/<name>".'
)

_CONTEXT: Final = 0.55  # worth of a term that only a heading above the unit has
_PREFIX: Final = 0.6  # worth of a term that shares a long beginning with one of the unit
_PREFIX_LENGTH: Final = 5
_ENOUGH: Final = 0.72  # of the best unit's score, to be said too
_LIST_MAX: Final = 10
_MIN_SCORE: Final = 0.2
_CONVERSATION_MAX: Final = 60_000
_ITEM: Final = re.compile(r"^\s*(?:[-*+\u2022\u2013]|\d{1,3}[.)])\s+")
_ROW: Final = re.compile(r"^[^|]{1,80}: .+ \| ")
_QUANTITY: Final = re.compile(
    r"\b(how (many|much|long|often|far|fast|old|big|large|high|soon|late)|when|at what time|price|cost|fee|rate|share"
    r"|percent|percentage|number|temperature|maximum|minimum|limit|deadline)\b",
    re.I,
)
_DEFINITION: Final = re.compile(r"^\s*what (?:is|are|does|do|is meant by)\b(.+?)(?:mean|stand for)?\s*\??\s*$", re.I)
_PERSON: Final = re.compile(r"\bwho(m|se)?\b", re.I)
_NAME: Final = re.compile(r"(?<!^)(?<![.!?:] )\b[A-Z][a-z]+ [A-Z][a-z]+\b")


@dataclass(frozen=True, slots=True)
class _Unit:
    """A quotable piece: ``passage`` and ``order`` say where it stands, ``context`` the terms of the headings above."""

    passage: int
    order: int
    text: str
    own: frozenset[str]
    context: frozenset[str]
    is_line: bool


@dataclass(frozen=True, slots=True)
class Extract:
    """An answer and the numbers of the passages it quotes, in order; ``passages`` empty: nothing to say."""

    answer: str
    passages: tuple[int, ...]


def extract_answer(question: str, passages: Sequence[Passage], weights: Mapping[str, float]) -> Extract:
    """Answer a question from passages.

    Args:
        question: the user's.
        passages: best first; the markers count from 1 in this order.
        weights: idf of the question's terms, from retrieval.
    """
    units = [unit for number, passage in enumerate(passages, start=1) for unit in _units(number, passage)]
    chosen = _choose(question, units, weights, len(passages))
    if not chosen:
        return Extract("", ())
    quoted = [(unit, _with_list(unit, units)) for unit in chosen]
    pieces = [marked(text, [unit.passage]) for unit, text in quoted]
    block = any(unit.is_line or "\n" in text for unit, text in quoted)
    return Extract(("\n" if block else " ").join(pieces), tuple(dict.fromkeys(unit.passage for unit in chosen)))


def _units(number: int, passage: Passage) -> Iterator[_Unit]:
    headings = set(passage.section.split(" > "))
    base = frozenset(terms(f"{passage.title} {passage.section}"))
    context = base
    order = 0
    blocks = [block for block in passage.text.split("\n\n") if block.strip()]
    for position, block in enumerate(blocks):
        lines = block.split("\n")
        if len(lines) == 1 and (lines[0].strip() in headings or _looks_like_heading(lines[0], position, blocks)):
            context = base | frozenset(terms(lines[0]))
            continue
        for line in lines:
            is_line = len(lines) > 1 or bool(_ITEM.match(line) or _ROW.match(line))
            spans = [(0, len(line))] if is_line else sentences(line)
            for start, end in spans:
                text = without_markers(line[start:end]).strip()
                own = frozenset(terms(text))
                if own:
                    yield _Unit(number, order, text, own, context, is_line)
                    order += 1


def _looks_like_heading(line: str, position: int, blocks: Sequence[str]) -> bool:
    text = line.strip()
    is_short = len(text) <= 80 and not text.endswith((".", "!", "?", ":", ";")) and " | " not in text
    return is_short and not _ITEM.match(text) and position + 1 < len(blocks)


def _choose(question: str, units: Sequence[_Unit], weights: Mapping[str, float], passages: int) -> list[_Unit]:
    total = sum(weights.values())
    if not units or total <= 0:
        return []
    wants_number, wants_name = bool(_QUANTITY.search(question)), bool(_PERSON.search(question))
    defined = _DEFINITION.match(question)
    subject = terms(defined.group(1)) if defined else []

    def score(unit: _Unit) -> float:
        value = sum(weight * _worth(term, unit) for term, weight in weights.items()) / total
        if value <= 0:
            return 0.0
        if wants_number and any(char.isdigit() for char in unit.text):
            value += 0.1
        if wants_name and _NAME.search(unit.text):
            value += 0.1
        if subject and terms(_ITEM.sub("", unit.text))[: len(subject)] == subject:
            value += 0.2  # "What is X?" is best answered by what begins with X
        if unit.text.endswith("?"):
            value *= 0.6  # a question in the text repeats the user's words and answers nothing
        # Retrieval's own order breaks near-ties; very long units would win by sheer size.
        return value + 0.12 * (1 - (unit.passage - 1) / passages) - 0.0015 * max(0, len(unit.own) - 40)

    scores = {unit: score(unit) for unit in units}
    ranked = sorted(units, key=lambda unit: (-scores[unit], unit.passage, unit.order))
    best = scores[ranked[0]]
    if best < _MIN_SCORE:
        return []
    chosen: list[_Unit] = []
    for unit in ranked:
        if len(chosen) == UNITS_MAX or scores[unit] < _ENOUGH * best:
            break
        if not any(unit.text in other.text or other.text in unit.text for other in chosen):
            chosen.append(unit)
    first = chosen[0]
    chosen.sort(key=lambda unit: (unit.passage != first.passage, unit.passage, unit.order))
    return chosen


def _worth(term: str, unit: _Unit) -> float:
    if term in unit.own:
        return 1.0
    if len(term) > _PREFIX_LENGTH and any(_akin(term, other) for other in unit.own):
        return _PREFIX
    return _CONTEXT if term in unit.context else 0.0


def _akin(one: str, other: str) -> bool:
    """calibrat(e) and calibrat(ion): a long common beginning and not much behind it."""
    shared = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        shared += 1
    return shared >= _PREFIX_LENGTH and shared * 3 >= 2 * max(len(one), len(other))


def _with_list(unit: _Unit, units: Sequence[_Unit]) -> str:
    """The unit's text; one that announces a list brings the list with it."""
    if not unit.text.endswith(":"):
        return unit.text
    after = [other for other in units if other.passage == unit.passage and other.order > unit.order]
    items: list[str] = []
    for other in after[:_LIST_MAX]:
        if not other.is_line:
            break
        items.append(other.text)
    return "\n".join([unit.text, *items])


def extractive_reply(messages: Sequence[Mapping[str, object]]) -> str:
    """Answer plain chat without documents: with sentences of the conversation's other messages, or not at all.

    Args:
        messages: OpenAI-style; the last user message is the question. Only what system and users said is quoted, not
            what an assistant made of it.
    """
    texts = [(str(message.get("role")), _content(message.get("content"))) for message in messages]
    last = max((i for i, (role, _) in enumerate(texts) if role == "user"), default=-1)
    if last < 0:
        return NO_DOCUMENTS
    question = texts[last][1]
    question = question[:QUESTION_MAX]
    sources = [text for i, (role, text) in enumerate(texts) if i != last and role in ("system", "developer", "user")]
    passages = [
        Passage(f"message-{i}", f"message/{i}", "", "", "message", text, 1.0, "conversation")
        for i, text in enumerate(_latest(sources), start=1)
    ]
    units = [unit for number, passage in enumerate(passages, start=1) for unit in _units(number, passage)]
    weights = _weights(question, units)
    total = sum(weights.values())
    covered = max((sum(w for t, w in weights.items() if t in unit.own) for unit in units), default=0.0)
    if not total or covered < 0.3 * total:
        return NO_DOCUMENTS
    chosen = _choose(question, units, weights, len(passages))
    return "\n".join(_with_list(unit, units) for unit in chosen) or NO_DOCUMENTS


def _latest(texts: Sequence[str]) -> list[str]:
    """The latest texts that together are small enough to be read while others wait, oldest first."""
    kept: list[str] = []
    room = _CONVERSATION_MAX
    for text in reversed(texts):
        if text.strip() and room > 0:
            kept.append(text[:room])
            room -= len(text)
    return kept[::-1]


def _content(content: object) -> str:
    """Text of a message: a string, or OpenAI's list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def _weights(question: str, units: Sequence[_Unit]) -> dict[str, float]:
    frequency = Counter(term for unit in units for term in unit.own)
    asked = list(dict.fromkeys(terms(question)))[:QUERY_TERMS_MAX]
    return {term: math.log(1.0 + (len(units) + 1) / (frequency[term] + 0.5)) for term in asked}


def content_words(question: str) -> int:
    """Number of words in a question that carry content."""
    return sum(1 for word in words(question) if word not in STOP_WORDS)
