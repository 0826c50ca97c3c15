"""Why the app cannot start is said."""

import logging
import re

import pytest

from lib.host.log.form import LogfmtFormatter
from lib.host.log.privacy import clean
from lib.host.log.start_errors import said_aloud


class SettingError(ValueError):
    pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SettingError("--conf x is unknown"), 'reason="--conf x is unknown"'),
        (OSError("/data/Mustermann"), "error=OSError"),
    ],
)
def test_settings_in_full_and_the_rest_by_type(error: Exception, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(type(error)), said_aloud(SettingError):
        raise error
    record = caplog.records[-1]
    clean(record)
    line = LogfmtFormatter().format(record)
    assert re.search(r'stack="log/test_start_errors.py:\d+ in test_settings', line)
    assert said in line and "level=CRITICAL" in line and "Mustermann" not in line


def test_a_good_start_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), said_aloud(SettingError):
        pass
    assert not caplog.records
