"""The form of the log: one line an event, ``time=… level=… logger=… event="…"`` and further ``key=value``.

That is logfmt, which collectors of logs read as it is. Times are UTC.
"""

import json
import logging
import re
import sys
import threading
import warnings
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


def form_log() -> None:
    """Gives every handler this form, also those that are made later, and takes in what else is printed: warnings of
    Python, and errors that nobody caught."""
    formatter = LogfmtFormatter()
    # On the class: uvicorn sets up handlers anew, and packages bring their own at any time.
    logging.Handler.format = lambda handler, record: formatter.format(record)
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_warning(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    # The warning itself: of an exception, only the type gets into the log.
    logger.warning("%s", message, extra={"fields": {"at": f"{'/'.join(Path(filename).parts[-2:])}:{lineno}"}})


def _log_uncaught(kind: Any, error: Any, trace: Any) -> None:
    if kind is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logger.critical("An error was not caught.", exc_info=(kind, error, trace))
