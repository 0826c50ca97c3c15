"""The processes of an evaluation."""

import multiprocessing
import time
from functools import partial
from pathlib import Path

import pytest

from lib.evaluation.run import Workers


@pytest.mark.slow
def test_whoever_stops_a_run_does_not_wait_for_its_cases(tmp_path: Path) -> None:
    # One that waited would be stopped by the test's own timeout.
    with pytest.raises(KeyboardInterrupt), Workers(partial(time.sleep, 0), 2, tmp_path) as workers:
        next(workers.map(time.sleep, [(0.01,), *[(3600.0,)] * 8], "sleeping"))
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()
