"""Least-recently-used store of ROI embeddings, bounded in bytes."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from lib.models.sam3d import RoiEmbedding

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheStats:
    """Counters since construction, and what is held now."""

    entries: int
    nbytes: int
    hits: int
    misses: int
    evictions: int


class EmbeddingCache:
    """Keeps the embeddings of the ROIs clicked last.

    A key must hold everything the embedding depends on: content of the volume, ROI, intensity rule, model version and
    device. Embeddings are shared between requests and must not be changed by those who get them.

    Args:
        max_bytes: budget for the tensors. An embedding larger than the whole budget is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes (={max_bytes}) must not be negative.")
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, RoiEmbedding] = OrderedDict()
        self._nbytes = self._hits = self._misses = self._evictions = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> RoiEmbedding | None:
        """The embedding kept under ``key``, now the most recently used one; None where there is none."""
        with self._lock:
            embedding = self._entries.get(key)
            if embedding is None:
                self._misses += 1
                return None
            self._hits += 1
            self._entries.move_to_end(key)
            return embedding

    def put(self, key: Hashable, embedding: RoiEmbedding) -> None:
        """Keeps ``embedding``, dropping the least recently used ones until the budget holds."""
        with self._lock:
            self._remove(key)
            if embedding.nbytes > self.max_bytes:
                logger.warning("Embedding of %d bytes exceeds the cache of %d bytes.", embedding.nbytes, self.max_bytes)
                return
            while self._nbytes + embedding.nbytes > self.max_bytes:
                self._remove(next(iter(self._entries)))
                self._evictions += 1
            self._entries[key] = embedding
            self._nbytes += embedding.nbytes

    def clear(self) -> None:
        """Forgets everything, e.g. after the device ran out of memory."""
        with self._lock:
            self._entries.clear()
            self._nbytes = 0

    def stats(self) -> CacheStats:
        """Counters for tests and logs."""
        with self._lock:
            return CacheStats(len(self._entries), self._nbytes, self._hits, self._misses, self._evictions)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._entries

    def _remove(self, key: Hashable) -> None:
        removed = self._entries.pop(key, None)
        if removed is not None:
            self._nbytes -= removed.nbytes
