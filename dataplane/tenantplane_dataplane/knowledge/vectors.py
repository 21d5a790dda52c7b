"""Vectors: a FAISS file, exact up to 5,000 rows, a graph over 8-bit codes above; inner product of unit vectors.

FAISS readers are not safe on untrusted bytes: ``VectorIndex`` opens only what a verified manifest vouches for, and
only finalise, under the platform's identity, writes such files. Building is single-threaded, so the same vectors give
the same bytes.
"""

from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from tenantplane_dataplane.knowledge.embed import Vectors

FILE_NAME: Final = "vectors.faiss"
FLAT_MAX: Final = 5000
_LINKS: Final = 32
_EF_CONSTRUCTION: Final = 80
_EF_SEARCH: Final = 96

# One worker per core: FAISS's own threads would only fight over them (set before the first index is made).
faiss.omp_set_num_threads(1)


def build_vectors(vectors: Vectors, folder: Path) -> None:
    """Write the FAISS index for rows of unit vectors."""
    dimension = vectors.shape[1]
    if len(vectors) <= FLAT_MAX:
        index: Any = faiss.IndexFlatIP(dimension)
    else:
        hnsw: Any = faiss.IndexHNSWSQ  # the generated stubs know only one of its constructors
        index = hnsw(dimension, faiss.ScalarQuantizer.QT_8bit, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _EF_CONSTRUCTION
        index.hnsw.efSearch = _EF_SEARCH
        index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(folder / FILE_NAME))


class VectorIndex:
    """A mapped FAISS index; searches release the GIL and are safe for threads."""

    def __init__(self, folder: Path, *, rows: int, dimension: int) -> None:
        """Map the file of a verified generation.

        Raises:
            ValueError: type, size, dimension or metric are not what the manifest says.
        """
        flags = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP)
        try:
            index = faiss.read_index(str(folder / FILE_NAME), flags)
        except RuntimeError as error:
            raise ValueError(f"{FILE_NAME}: FAISS cannot read it") from error
        if not isinstance(index, faiss.IndexFlat | faiss.IndexHNSWSQ):
            raise ValueError(f"{FILE_NAME}: is not of a type that the indexer makes")
        if index.ntotal != rows or index.d != dimension or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(f"{FILE_NAME}: rows, dimension or metric are not what the manifest says")
        self._index: Any = index

    def search(self, vector: Vectors, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best ``count`` rows for one unit vector and their inner products, best first."""
        scores, rows = self._index.search(vector.reshape(1, -1), count)
        found = rows[0] >= 0
        return rows[0][found], scores[0][found]

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """The stored vectors of some rows, shape (len(rows), dimension)."""
        made: Vectors = self._index.reconstruct_batch(np.ascontiguousarray(rows, dtype=np.int64))
        return made
