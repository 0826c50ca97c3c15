"""Processes without Ray."""

import multiprocessing
import operator
import time
from functools import partial

import pytest

from lib.workers.choice import WorkerChoice


@pytest.mark.slow
def test_whoever_stops_a_run_does_not_wait_for_its_cases() -> None:
    # One that waited would be stopped by the test's own timeout. The tool is `time.sleep`, which is called with a case.
    with (
        pytest.raises(KeyboardInterrupt),
        WorkerChoice(2, with_ray=False).start(partial(operator.itemgetter(0), (time.sleep,))) as workers,
    ):
        next(workers.each(operator.call, [0.01, *[3600.0] * 8]))
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()
