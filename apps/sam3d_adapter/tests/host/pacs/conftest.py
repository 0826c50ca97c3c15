"""A series, and a clock for what is known of it."""

import pytest

from lib.host.pacs import dicom_fetch
from tests.support.dicom_study import Study
from tests.support.odd_series import make_series


@pytest.fixture(scope="module")
def study() -> Study:
    return make_series()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that went by, to be changed."""
    seconds = [1000.0]
    monkeypatch.setattr(dicom_fetch, "_now", lambda: seconds[0])
    return seconds
