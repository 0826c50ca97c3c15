"""Least-recently-used store of ROI embeddings and of the steps of dialogues, bounded in bytes."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

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
    """Keeps what was worked out for the ROIs clicked last: anything that tells its ``nbytes``.

    A key must hold everything the entry depends on: content of the volume, ROI, intensity rule, model version and
    device, and for a step the clicks up to it. Entries are shared between requests and must not be changed by those who
    get them.

    Args:
        max_bytes: budget for the tensors. An entry larger than the whole budget is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes (={max_bytes}) must not be negative.")
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, Any] = OrderedDict()
        self._nbytes = self._hits = self._misses = self._evictions = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """What is kept under ``key``, now the most recently used one; None where there is none."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self._misses += 1
                return None
            self._hits += 1
            self._entries.move_to_end(key)
            return entry

    def put(self, key: Hashable, entry: Any) -> None:
        """Keeps ``entry``, dropping the least recently used ones until the budget holds."""
        with self._lock:
            self._remove(key)
            if entry.nbytes > self.max_bytes:
                logger.warning("An entry of %d bytes exceeds the cache of %d bytes.", entry.nbytes, self.max_bytes)
                return
            while self._nbytes + entry.nbytes > self.max_bytes:
                self._remove(next(iter(self._entries)))
                self._evictions += 1
            self._entries[key] = entry
            self._nbytes += entry.nbytes

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
