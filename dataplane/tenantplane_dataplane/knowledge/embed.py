"""Embedders: text in, unit vectors out, behind one interface.

``hashing`` is built in, offline and deterministic across processes and platforms: no model, no download, no random
seed. It sees shared words, word pairs and pieces of words, not meaning; BM25 stands beside it. Others register here.
"""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from tenantplane_dataplane.knowledge.tokenizer import terms

Vectors = NDArray[np.float32]

_GRAM_SIZES: Final = (3, 4)
_GRAM_WEIGHT: Final = 0.35
_PAIR_WEIGHT: Final = 0.6


class Embedder(Protocol):
    """Makes vectors. ``dimension`` in components; ``embed`` gives float32 of shape (len(texts), dimension).

    Rows have length 1, or 0 when a text has nothing to embed.
    """

    @property
    def name(self) -> str:
        """Name under which manifests and jobs know it."""
        ...

    @property
    def dimension(self) -> int:
        """Components per vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts; blocking, safe to call from several threads."""
        ...


@lru_cache(maxsize=65536)
def _hashes(term: str) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Mixed 32-bit hashes and weights of a term's features: the word itself and its character n-grams."""
    framed = f"<{term}>"
    grams = [framed[i : i + size] for size in _GRAM_SIZES for i in range(len(framed) - size + 1)]
    raw = [zlib.crc32(b"w:" + term.encode())] + [zlib.crc32(b"g:" + gram.encode()) for gram in grams]
    weights = np.full(len(raw), _GRAM_WEIGHT / math.sqrt(max(1, len(grams))), dtype=np.float32)
    weights[0] = 1.0
    return _mix(np.array(raw, dtype=np.uint32)), weights


def _mix(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's 32-bit finaliser (A. Appleby, public domain): CRC-32 is linear, buckets and signs must not be."""
    mixed = values.copy()
    mixed ^= mixed >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


class HashingEmbedder:
    """Feature hashing with signs (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009)."""

    name: Final = "hashing"

    def __init__(self, dimension: int = 384) -> None:
        self.dimension: Final = dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See ``Embedder``: term frequency counts as 1 + ln(tf), rows are scaled to length 1."""
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            out[row] = self._embed_one(terms(text))
        return out

    def _embed_one(self, found: list[str]) -> Vectors:
        if not found:
            return np.zeros(self.dimension, dtype=np.float32)
        hashes: list[NDArray[np.uint32]] = []
        weights: list[NDArray[np.float32]] = []
        for term, count in Counter(found).items():
            term_hashes, term_weights = _hashes(term)
            hashes.append(term_hashes)
            weights.append(term_weights * np.float32(1.0 + math.log(count)))
        pairs = Counter(pairwise(found))
        raw = [zlib.crc32(f"p:{left}\0{right}".encode()) for left, right in pairs]
        hashes.append(_mix(np.array(raw, dtype=np.uint32)))
        weights.append(np.array([_PAIR_WEIGHT * (1.0 + math.log(n)) for n in pairs.values()], dtype=np.float32))
        every = np.concatenate(hashes)
        # The lowest bit is the sign, the others the bucket, so that the two are independent.
        signs = (every & np.uint32(1)).astype(np.float64) * 2.0 - 1.0
        buckets = ((every >> np.uint32(1)) % np.uint32(self.dimension)).astype(np.int64)
        # Summed in float64 and in a fixed order, so that rounding cannot differ between machines.
        vector = np.bincount(buckets, weights=np.concatenate(weights) * signs, minlength=self.dimension)
        length = math.sqrt(math.fsum(float(x) * float(x) for x in vector))
        return (vector / length if length else vector).astype(np.float32)


_REGISTRY: Final[dict[str, Callable[[int], Embedder]]] = {"hashing": HashingEmbedder}


def embedder(name: str, dimension: int) -> Embedder:
    """The embedder of that name and dimension.

    Raises:
        ValueError: no such embedder is installed; the message lists those that are.
    """
    factory = _REGISTRY.get(name)
    if factory is None:
        raise ValueError(f"embedder.name: {name!r} is not installed; there is {', '.join(sorted(_REGISTRY))}")
    return factory(dimension)
