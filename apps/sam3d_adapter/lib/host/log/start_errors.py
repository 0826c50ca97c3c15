"""Patches: the reason why an app cannot start is lost, because the web server logs it as one text with a trace.

`lib.host.log.privacy` removes such texts from the log, so the app logs the reason itself before it gives up.
"""

import contextlib
import logging
from collections.abc import Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def log_and_reraise(*in_full: type[Exception]) -> Iterator[None]:
    """Logs the error that ends the start, and raises it again.

    Args:
        in_full: Errors whose text is logged too, because it can only name settings. Of others, type and stack are.
    """
    try:
        yield
    except in_full as error:
        logger.critical("The app cannot start.", exc_info=True, extra={"fields": {"reason": str(error)}})
        raise
    except Exception:
        logger.critical("The app cannot start.", exc_info=True)
        raise
