"""Mends: MONAI Label tells twenty lines of every request, with the image's path, whatever the process's log level.

MONAI Label 0.8.5 sets two of its loggers at each request (``monailabel/tasks/infer/basic_infer.py:278``,
``monailabel/interfaces/utils/transform.py:75``): to INFO, unless the request names another level (pull request #672),
which ours may not. In a server that is its log; a command of a thousand requests has its own words drowned.
"""

import contextlib
import logging
from collections.abc import Iterator

from lib.host.patches.version_guard import check_host_version

HOST = "monailabel"
RAISED_AT_EACH_REQUEST = ("monailabel.tasks.infer.basic_infer", "monailabel.interfaces.utils.transform")


@contextlib.contextmanager
def request_log_off() -> Iterator[None]:
    """Meanwhile MONAI Label logs warnings and errors alone in this process."""
    check_host_version("request_log")
    host = logging.getLogger(HOST)
    raised = [logging.getLogger(name) for name in RAISED_AT_EACH_REQUEST]
    before = host.level

    # One of its own for each use, so that the end of an inner one does not end the outer.
    def is_warning(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    host.setLevel(logging.WARNING)
    # Their level will not stay, so they get a filter: what they warn of is still told.
    for logger in raised:
        logger.addFilter(is_warning)
    try:
        yield
    finally:
        for logger in raised:
            logger.removeFilter(is_warning)
        host.setLevel(before)
