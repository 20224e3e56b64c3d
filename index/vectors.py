"""The vector index: inner product over unit rows, by FAISS.

Exact while exact is fast; beyond `EXACT_UP_TO` rows a graph (HNSW, arXiv:1603.09320), whose recall
`tests/test_vectors.py` measures against the exact search.
"""

import faiss
import numpy as np
from numpy.typing import NDArray

from index.encoder import Floats

EXACT_UP_TO = 100_000
HNSW_LINKS = 32
HNSW_BREADTH = 128


class VectorIndex:
    """Nearest rows of `(n, d)` unit vectors."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors: Floats, *, exact_up_to: int = EXACT_UP_TO) -> "VectorIndex":
        """Index unit rows `(n, d)`; their positions are the ids."""
        n, d = vectors.shape
        index: faiss.Index = faiss.IndexFlatIP(d)
        if n > exact_up_to:
            index = faiss.IndexHNSWFlat(d, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = HNSW_BREADTH
            index.hnsw.efSearch = HNSW_BREADTH
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return cls(index)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, vector: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        """Ids and scores of the `k` nearest rows (fewer where there are fewer), best first."""
        scores, ids = self._index.search(vector[None, :].astype(np.float32), min(k, len(self)))
        found = ids[0] >= 0
        return ids[0][found].astype(np.int64), scores[0][found]

    def rows(self) -> Floats:
        """Every vector, `(n, d)`."""
        return np.asarray(self._index.reconstruct_n(0, len(self)), dtype=np.float32)

    def to_bytes(self) -> bytes:
        """The index as FAISS serialises it."""
        return bytes(faiss.serialize_index(self._index).tobytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> "VectorIndex":
        """The index that `to_bytes` wrote; the caller has checked the bytes' checksum."""
        return cls(faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8)))
