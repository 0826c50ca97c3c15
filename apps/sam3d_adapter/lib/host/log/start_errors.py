"""Mends: why an app cannot start stands in a trace that the web server logs as one text.

Such a text is kept out of the log (``log_privacy``), so the app says itself what is wrong before it gives up.
"""

import contextlib
import logging
from collections.abc import Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def said_aloud(*in_full: type[Exception]) -> Iterator[None]:
    """Logs the error that ends the start, and lets it pass.

    Args:
        in_full: errors whose text is logged too, because it can only speak of settings; of others, type and stack are.
    """
    try:
        yield
    except in_full as error:
        logger.critical("The app cannot start.", exc_info=True, extra={"fields": {"reason": str(error)}})
        raise
    except Exception:
        logger.critical("The app cannot start.", exc_info=True)
        raise
