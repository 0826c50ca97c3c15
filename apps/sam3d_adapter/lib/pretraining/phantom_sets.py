"""Pools of phantoms made on all cores, with the time that is left in the log."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from lib.phantoms.pool import PARTIAL, phantom_file, write_pool
from lib.pretraining.spawning import run_together

_TOLD_S = 10.0

logger = logging.getLogger(__name__)


def make_pool(out: Path, seeds: Sequence[int], processes: int) -> None:
    """Make the phantoms that are not there yet; whenever it is killed, those that are there are whole.

    Args:
        out: Folder, made if it is absent. Nobody else may be writing into it.
        seeds: A phantom each.
        processes: At most.

    Raises:
        ProcessFailedError: The disk is full, or the like.
    """
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(f"*{PARTIAL}"):
        left.unlink()
    missing = [seed for seed in seeds if not phantom_file(out, seed).exists()]
    if not missing:
        return
    processes = min(processes, len(missing))
    logger.info("Making %d phantoms in %s, about 2 s each, in %d processes.", len(missing), out, processes)
    run_together(_make, (out, missing, processes), processes, refused=(OSError,), on_wait=_Progress(out, missing))


def _make(number: int, out: Path, seeds: Sequence[int], processes: int) -> None:
    write_pool(out, seeds[number::processes])


class _Progress:
    """Tells now and then how many are there."""

    def __init__(self, out: Path, seeds: Sequence[int]) -> None:
        self._out, self._seeds = out, seeds
        self._began = self._told = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._told < _TOLD_S:
            return
        self._told = now
        done = sum(phantom_file(self._out, seed).exists() for seed in self._seeds)
        if done:
            left = (now - self._began) / done * (len(self._seeds) - done) / 60
            logger.info("%d of %d phantoms, about %.1f min left", done, len(self._seeds), left)
