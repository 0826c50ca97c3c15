"""The form of the log: one line an event, ``time=… level=… logger=… event="…"`` and further ``key=value``.

That is logfmt, which collectors of logs read as it is. Times are UTC. structlog would save five lines here and none in
`lib.host.log.privacy`, which gets what others log as finished texts; and its logfmt lets a carriage return start a new
line.
"""

import contextlib
import json
import logging
import logging.config
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_PLAIN = re.compile(r"[^\s\"=\\]+")


class LogfmtFormatter(logging.Formatter):
    """Formats a record as one line; ``fields`` of a record, a dictionary given as ``extra``, become keys of it."""

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "verbatim", False):
            return record.getMessage()
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        pairs: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage().strip(),
            "thread": record.threadName,
            **{key: getattr(record, key) for key in ("error", "at", "stack") if hasattr(record, key)},
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            pairs["trace"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items())


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def use_logfmt() -> None:
    """Gives every handler this form, also those of a later ``dictConfig``, and takes in what else is printed: warnings
    of Python, and errors that nobody caught.

    A handler that somebody adds by hand afterwards keeps its own form.
    """
    logging.config.dictConfigClass = _LogfmtConfigurator
    _set_formatters()
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


@contextlib.contextmanager
def log_and_reraise(*in_full: type[Exception]) -> Iterator[None]:
    """Logs the error that ends the start, and raises it again.

    The web server would log it as one text with a trace, and `lib.host.log.privacy` removes such texts.

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


class _LogfmtConfigurator(logging.config.DictConfigurator):
    """How uvicorn sets up MONAI Label's handlers, and packages theirs, whenever they are imported."""

    def configure(self) -> None:
        super().configure()
        _set_formatters()


def _set_formatters() -> None:
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in {handler for one in known if isinstance(one, logging.Logger) for handler in one.handlers}:
        handler.setFormatter(LogfmtFormatter())


def _log_warning(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    # The warning itself: of an exception, only the type gets into the log.
    logger.warning("%s", message, extra={"fields": {"at": f"{'/'.join(Path(filename).parts[-2:])}:{lineno}"}})


def _log_uncaught(kind: Any, error: Any, trace: Any) -> None:
    if kind is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logger.critical("An error was not caught.", exc_info=(kind, error, trace))
