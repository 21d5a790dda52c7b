"""Hybrid retrieval in one index: vectors and BM25, fused by rank, gated by relevance, diversified.

* Fusion: reciprocal rank fusion, ``sum(weight / (60 + rank))`` (Cormack, Clarke, Büttcher, SIGIR 2009).
* Gate: the *coverage* of a chunk is the part of the question's idf weight whose terms it has. A question whose best
  chunk covers too little gets nothing at all: an unrelated question must not be answered from the nearest neighbour.
* Diversity: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) over the fused candidates.

An index knows one tenant's documents only; there is no filter here that could be forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tenantplane_dataplane.knowledge.bm25 import idf
from tenantplane_dataplane.knowledge.generation import OpenIndex
from tenantplane_dataplane.knowledge.tokenizer import stem, terms

_RRF_K: Final = 60.0
_BM25_WEIGHT: Final = 1.0
_VECTOR_WEIGHT: Final = 0.6
QUESTION_MAX: Final = 8000
"""Characters of a question that are read: the rest of a pasted novel would cost every other tenant's time."""
QUERY_TERMS_MAX: Final = 64
_UNKNOWN: Final = 1.2  # a word that no document has says more against an index than a rare one says for it
_ASKING: Final = frozenset(
    map(
        stem,
        """
        describe expensive explain fast find give happen hello hi high know large list long often old please quickly
        say show soon tall tell thank thanks want
        """.split(),  # noqa: SIM905
    )
)
"""Words of asking, not of what is asked: they must not count as not covered."""


DEFAULT_COVERAGE: Final = 0.45


@dataclass(frozen=True, slots=True)
class RetrievalOptions:
    """``min_coverage`` is the gate; ``keep`` drops passages that cover less than that part of what the best covers."""

    top_k: int = 6
    candidates: int = 40
    min_coverage: float = DEFAULT_COVERAGE
    keep: float = 0.5
    diversity: float = 0.25


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved chunk. ``section`` joins the headings with `` > ``; ``score``, 0 to 1, compares between indices."""

    chunk_id: str
    document: str
    title: str
    section: str
    source: str
    text: str
    score: float
    index: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Passages, best first, and the weight (idf) of each of the question's terms; both empty when gated."""

    passages: tuple[Passage, ...] = ()
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class _Query:
    """A question against one index: per term its idf, the rows that have it, their BM25 scores."""

    weights: dict[str, float]
    rows: list[NDArray[np.int32]]
    scores: list[NDArray[np.float32]]


def search(index: OpenIndex, question: str, options: RetrievalOptions) -> Retrieved:
    """The best passages for a question; empty when nothing is relevant. Blocking, safe for threads."""
    question = question[:QUESTION_MAX]
    query = _query(index, question)
    if not query.weights:
        return Retrieved()
    lexical = _lexical(index, query, options.candidates)
    fused = _fuse(lexical, _nearest(index, question, options.candidates))
    candidates = np.array(sorted(fused, key=lambda row: (-fused[row], row)), dtype=np.int64)
    covered = _coverage(query, candidates)
    best = float(covered.max(initial=0.0))
    if best < options.min_coverage:
        return Retrieved()
    kept = covered >= max(options.keep * best, options.min_coverage * options.keep)
    candidates, covered = candidates[kept], covered[kept]
    top = max(fused.values())
    relevance = np.array([fused[int(row)] / top for row in candidates]) * covered
    chosen = _diversify(index, candidates, relevance, options)
    passages = tuple(_passage(index, int(candidates[i]), float(relevance[i])) for i in chosen)
    return Retrieved(passages, query.weights)


def _query(index: OpenIndex, question: str) -> _Query:
    query = _Query({}, [], [])
    asked = [term for term in dict.fromkeys(terms(question)) if term not in _ASKING]
    for term in asked[:QUERY_TERMS_MAX]:
        rows, scores = index.bm25.postings(term)
        query.weights[term] = idf(index.rows, len(rows)) * (1.0 if len(rows) else _UNKNOWN)
        query.rows.append(rows)
        query.scores.append(scores)
    return query


def _lexical(index: OpenIndex, query: _Query, count: int) -> list[int]:
    scores = np.zeros(index.rows, dtype=np.float32)
    for rows, added in zip(query.rows, query.scores, strict=True):
        scores[rows] += added
    # Stable: equal scores keep the order of the documents, so that an answer does not change from run to run.
    order = np.argsort(-scores, kind="stable")[:count]
    return [int(row) for row in order if scores[row] > 0]


def _nearest(index: OpenIndex, question: str, count: int) -> list[int]:
    vector = index.embedder.embed([question])[0]
    if not vector.any():
        return []
    rows, scores = index.vectors.search(vector, min(count, index.rows))
    return [int(row) for row, score in zip(rows, scores, strict=True) if score > 0]


def _fuse(lexical: list[int], nearest: list[int]) -> dict[int, float]:
    fused: dict[int, float] = {}
    for weight, ranked in ((_BM25_WEIGHT, lexical), (_VECTOR_WEIGHT, nearest)):
        for rank, row in enumerate(ranked, start=1):
            fused[row] = fused.get(row, 0.0) + weight / (_RRF_K + rank)
    return fused


def _coverage(query: _Query, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    total = sum(query.weights.values())
    covered = np.zeros(len(candidates), dtype=np.float64)
    for weight, rows in zip(query.weights.values(), query.rows, strict=True):
        covered[np.isin(candidates, rows)] += weight
    return covered / total


def _diversify(
    index: OpenIndex, candidates: NDArray[np.int64], relevance: NDArray[np.float64], options: RetrievalOptions
) -> list[int]:
    """Positions of the chosen candidates, in the order of choice."""
    vectors = index.vectors.vectors(candidates)
    similar = np.clip(vectors @ vectors.T, 0.0, 1.0)
    scaled = relevance / relevance.max()
    chosen: list[int] = []
    left = list(range(len(candidates)))
    while left and len(chosen) < options.top_k:
        penalty = similar[np.ix_(left, chosen)].max(axis=1) if chosen else np.zeros(len(left))
        gain = (1.0 - options.diversity) * scaled[left] - options.diversity * penalty
        chosen.append(left.pop(int(np.argmax(gain))))
    return chosen


def _passage(index: OpenIndex, row: int, score: float) -> Passage:
    record = index.chunks[row]
    return Passage(
        chunk_id=record.id,
        document=record.document,
        title=record.title,
        section=" > ".join(record.section),
        source=record.source,
        text=record.text,
        score=round(score, 6),
        index=index.name,
    )
