"""BM25 over one index, as four arrays that are mapped, never loaded.

Every posting's score is computed when the index is built (Lù, "BM25S: Orders of magnitude faster lexical search via
eager sparse scoring", 2024), with Lucene's idf (Kamphuis et al., ECIR 2020)::

    idf(t)      = ln(1 + (N - df + 0.5) / (df + 0.5))
    score(t, d) = idf(t) * tf / (tf + k1 * (1 - b + b * |d| / avgdl))        k1 = 1.2, b = 0.75

Terms are kept as sorted 64-bit hashes, so that a vocabulary takes no heap and no term of a tenant's documents stands in
the file. Files are ``.npy`` and are read without pickle.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

K1: Final = 1.2
B: Final = 0.75
TERMS_NAME: Final = "bm25-terms.npy"
POINTERS_NAME: Final = "bm25-pointers.npy"
DOCUMENTS_NAME: Final = "bm25-documents.npy"
SCORES_NAME: Final = "bm25-scores.npy"
FILES: Final = (TERMS_NAME, POINTERS_NAME, DOCUMENTS_NAME, SCORES_NAME)


def term_hash(term: str) -> int:
    """64-bit BLAKE2b of a term, little-endian."""
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "little")


def build_bm25(documents: Sequence[Sequence[str]], folder: Path) -> None:
    """Write the arrays for rows of terms; row numbers are those of the vectors and the chunk store."""
    lengths = np.array([len(row) for row in documents], dtype=np.float64)
    average = float(lengths.mean()) or 1.0
    postings: dict[str, list[tuple[int, int]]] = {}
    for row, found in enumerate(documents):
        for term, count in Counter(found).items():
            postings.setdefault(term, []).append((row, count))
    ordered = sorted((term_hash(term), entries) for term, entries in postings.items())
    pointers = np.zeros(len(ordered) + 1, dtype="<i8")
    pointers[1:] = np.cumsum([len(entries) for _, entries in ordered])
    rows = np.empty(pointers[-1], dtype="<i4")
    scores = np.empty(pointers[-1], dtype="<f4")
    for position, (_, entries) in enumerate(ordered):
        begin, end = int(pointers[position]), int(pointers[position + 1])
        pairs = np.array(entries, dtype=np.int64)
        tf = pairs[:, 1].astype(np.float64)
        rows[begin:end] = pairs[:, 0]
        norm = K1 * (1 - B + B * lengths[pairs[:, 0]] / average)
        scores[begin:end] = idf(len(documents), len(entries)) * tf / (tf + norm)
    arrays: Mapping[str, NDArray[Any]] = {
        TERMS_NAME: np.array([hashed for hashed, _ in ordered], dtype="<u8"),
        POINTERS_NAME: pointers,
        DOCUMENTS_NAME: rows,
        SCORES_NAME: scores,
    }
    for name, array in arrays.items():
        np.save(folder / name, array, allow_pickle=False)


def idf(total: int, frequency: int) -> float:
    """Weight of a term that ``frequency`` of ``total`` rows have; see the module's formula."""
    return math.log(1.0 + (total - frequency + 0.5) / (frequency + 0.5))


class BM25:
    """Scores rows for terms; safe for threads, holds no state per query."""

    def __init__(self, folder: Path, rows: int) -> None:
        """Map the arrays of a verified generation.

        Raises:
            ValueError: the arrays do not fit together.
        """
        self._terms = map_array(folder / TERMS_NAME, "<u8")
        self._pointers = map_array(folder / POINTERS_NAME, "<i8")
        self._documents = map_array(folder / DOCUMENTS_NAME, "<i4")
        self._scores = map_array(folder / SCORES_NAME, "<f4")
        self.rows: Final = rows
        if len(self._pointers) != len(self._terms) + 1 or len(self._documents) != len(self._scores):
            raise ValueError("the BM25 arrays do not fit together")
        if int(self._pointers[0]) != 0 or int(self._pointers[-1]) != len(self._documents):
            raise ValueError("the BM25 pointers do not span the postings")

    def postings(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows that have the term, ascending, and their scores; empty arrays for an unknown term."""
        hashed = np.uint64(term_hash(term))
        position = int(np.searchsorted(self._terms, hashed))
        if position == len(self._terms) or self._terms[position] != hashed:
            return self._documents[:0], self._scores[:0]
        begin, end = int(self._pointers[position]), int(self._pointers[position + 1])
        return self._documents[begin:end], self._scores[begin:end]


def map_array(path: Path, dtype: str) -> NDArray[Any]:
    """Map a one-dimensional ``.npy`` file read-only, without pickle; ``ValueError`` when it is something else."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 1 or array.dtype != np.dtype(dtype):
        raise ValueError(f"{path.name}: is not a one-dimensional array of {dtype}")
    mapped: NDArray[Any] = array
    return mapped
