"""A pytest plugin: after $SUITE_UNTIL (seconds since 1970) it skips what is left of a suite, and says so."""

import os
import time

import pytest

_UNTIL = float(os.environ["SUITE_UNTIL"])


def pytest_configure() -> None:
    """Ends a suite of which no test would run: that is no success."""
    if time.time() > _UNTIL:
        raise pytest.UsageError(f"SUITE_UNTIL={_UNTIL:.0f} is over before the first test, at {time.time():.0f}.")


@pytest.hookimpl(tryfirst=True)  # before any fixture is made
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose time is over."""
    if time.time() > _UNTIL:
        pytest.skip("not run: this machine is too slow for the whole suite in its time")
