"""The embedding cache: order of eviction, budget in bytes, threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lib.models.sam3d import RoiEmbedding
from lib.segmenters.cache import SegmenterCache


def embedding(floats: int) -> RoiEmbedding:
    return RoiEmbedding(deepest=torch.zeros(floats), prepared=torch.zeros(0), appearance=None, roi_size=8)


def test_least_recently_used_goes_first() -> None:
    cache = SegmenterCache(max_bytes=3 * 400)
    for key in "abc":
        cache.put(key, embedding(100))
    assert cache.get("a") is not None  # now b is the oldest
    cache.put("d", embedding(100))
    assert [key in cache for key in "abcd"] == [True, False, True, True]
    assert cache.stats().nbytes == 1200 and cache.stats().evictions == 1


def test_several_small_ones_make_room_for_a_large_one() -> None:
    cache = SegmenterCache(max_bytes=1200)
    for key in "abc":
        cache.put(key, embedding(100))
    cache.put("large", embedding(250))
    assert [key in cache for key in "abc"] == [False, False, False]
    assert cache.stats().nbytes == 1000


def test_larger_than_the_budget_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    cache = SegmenterCache(max_bytes=100)
    cache.put("a", embedding(10))
    cache.put("b", embedding(26))
    assert "a" in cache and "b" not in cache
    assert "exceeds" in caplog.text


def test_putting_a_key_again_replaces_it() -> None:
    cache = SegmenterCache(max_bytes=1000)
    cache.put("a", embedding(100))
    second = embedding(50)
    cache.put("a", second)
    assert cache.get("a") is second and cache.stats().nbytes == 200


def test_hits_and_misses_are_counted() -> None:
    cache = SegmenterCache(max_bytes=1000)
    assert cache.get("a") is None
    cache.put("a", embedding(1))
    cache.get("a")
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)


def test_clear_frees_the_budget() -> None:
    cache = SegmenterCache(max_bytes=400)
    cache.put("a", embedding(100))
    cache.clear()
    assert cache.stats().nbytes == 0 and cache.get("a") is None
    cache.put("b", embedding(100))
    assert "b" in cache


def test_negative_budget() -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        SegmenterCache(max_bytes=-1)


def test_budget_holds_under_many_threads() -> None:
    cache = SegmenterCache(max_bytes=4000)
    start = threading.Barrier(8)

    def work(worker: int) -> None:
        start.wait()
        for i in range(200):
            cache.put((worker + i) % 40, embedding(1 + (worker * 31 + i) % 300))
            cache.get(i % 40)
            assert cache.stats().nbytes <= 4000

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    held = [cache.get(key) for key in range(40)]
    assert sum(e.nbytes for e in held if e) == cache.stats().nbytes
