"""Least-recently-used cache of ROI embeddings and of the steps of interactions, bounded in bytes."""

import logging
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheStats:
    """Counters since construction, and what is held now."""

    entries: int
    nbytes: int
    hits: int
    misses: int
    evictions: int


class SegmenterCache:
    """Keeps what was computed for the ROIs that were clicked last; every entry has ``nbytes``.

    A key must hold everything that the entry depends on: content of the volume, ROI, intensity rule, model version and
    device, and for a step the clicks up to it. Requests share entries; whoever gets one must not change it.

    Args:
        max_bytes: budget for the tensors. An entry larger than the whole budget is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes (={max_bytes}) must not be negative.")
        self._entries: LRUCache[Hashable, Any] = LRUCache(max_bytes, getsizeof=lambda entry: entry.nbytes)
        self._hits = self._misses = self._evictions = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """What is kept under ``key``, now the most recently used one; None where there is none."""
        with self._lock:
            entry = self._entries.get(key)
            self._hits += entry is not None
            self._misses += entry is None
            return entry

    def put(self, key: Hashable, entry: Any) -> None:
        """Keeps ``entry``, dropping the least recently used ones until the budget holds."""
        with self._lock:
            self._entries.pop(key, None)
            if entry.nbytes > (most := self._entries.maxsize):
                logger.warning("An entry of %d bytes exceeds the cache of %d bytes.", entry.nbytes, most)
                return
            before = len(self._entries)
            self._entries[key] = entry
            self._evictions += before + 1 - len(self._entries)

    def clear(self) -> None:
        """Forgets everything, e.g. after the device ran out of memory."""
        with self._lock:
            self._entries.clear()

    def stats(self) -> CacheStats:
        """Counters for tests and logs."""
        with self._lock:
            held = len(self._entries), int(self._entries.currsize)
            return CacheStats(*held, self._hits, self._misses, self._evictions)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._entries
