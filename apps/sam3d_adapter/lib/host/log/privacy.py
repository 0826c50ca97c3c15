"""Patches: the server's log carries patients' ids, file names, paths and whole requests.

MONAI Label 0.8.5 logs each request as it came (``monailabel/endpoints/infer.py:169``,
``monailabel/tasks/infer/basic_infer.py:280``), every image it adds, finds or removes, and every session with its path;
errors carry the names of the files they met. There are too many such lines to name them one by one, and a newer
version has others. So the rule is the other way round: of a line, only the words that stand in the source are kept.
Values are replaced by "…", save numbers that the logger gets as numbers; of an error, its type and its stack are kept.
The app's own loggers (``lib``) may say words as well, but nothing that looks like a path or a UID.

A server that is told to log everything (``start_server -v DEBUG``) logs everything. We know of no upstream issue.
"""

import errno
import logging
import numbers
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from lib.host.log.words import PERCENT, VALUE, is_written, written_words
from lib.host.patches.version_guard import check_host_version

_MARK = "_sam3d_adapter_inner"
_OWN = ("lib", "serve")
# Routers of MONAI Label; what follows in an address may be the UID of a study.
_ROUTES = (
    *("info", "model", "infer", "batch", "train", "activelearning", "scoring"),
    *("datastore", "logs", "ohif", "proxy", "session", "static", "versions"),
    *("cases", "labels", "reviews"),
)
_HIDDEN = re.compile(r"(?:[A-Za-z]:\\|~?/|\.\.?/)\S*|\b\d+(?:\.\d+){3,}\b|\S*\.(?:nii|gz|nrrd|mha|mhd|dcm)\b")
# Lines of a training process: it has this very log, and its lines were cleaned there.
_CLEANED = re.compile(r"time=\S+ level=\S+ logger=\S+ event=")
_FRAMES = 64
"""Most places told of one error: more come of endless recursion alone."""


def remove_values_from_log() -> None:
    """From now on every log record of the process is cleaned as it is made, before any handler or formatter sees it."""
    check_host_version(__name__)
    make = logging.getLogRecordFactory()
    # The host loads lib again at each reload of the app; the factory of the former copy is replaced, not wrapped.
    make = getattr(make, _MARK, make)

    def make_clean(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if logging.getLogger().level > logging.DEBUG:
            clean(record)
        return record

    setattr(make_clean, _MARK, make)
    logging.setLogRecordFactory(make_clean)


def clean(record: logging.LogRecord) -> None:
    """Removes from a record what may name a patient; what is left of an error is ``error``, ``at`` and ``stack``."""
    special = _SPECIAL.get(record.name)
    text = special(record) if special else _text(record)
    if (error := _error_of(record)) is not None:
        record.error, record.at, record.stack = describe_error(error)
    record.msg, record.args = text, None
    record.exc_info = record.exc_text = record.stack_info = None


def describe_error(error: BaseException) -> tuple[str, str, str]:
    """Of an error and its causes: types, the place of the first, and every place they came through; no text of them."""
    names, stacks, seen = [], [], set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        names.append(type(cause).__name__ + _errno(cause))
        stacks.append(_places(cause))
        cause = cause.__cause__ or cause.__context__
    return " < ".join(names), stacks[0][0], "; caused by ".join(" < ".join(places) for places in stacks)


def _places(error: BaseException) -> list[str]:
    """Where it was raised first, then who called that."""
    steps = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)][::-1]
    places = [f"{'/'.join(PurePath(code.co_filename).parts[-2:])}:{line} in {code.co_qualname}" for code, line in steps]
    # An error that was made but never raised came from nowhere.
    return [*places[:_FRAMES], VALUE] if len(places) > _FRAMES else places or [VALUE]


def _error_of(record: logging.LogRecord) -> BaseException | None:
    """What a record is about: the error it was given, one that is its message or a value of it, or, from a warning on,
    the one that is being handled."""
    if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
        return record.exc_info[1]
    values = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    raised = (value for value in (record.msg, *values) if isinstance(value, BaseException) and value.__traceback__)
    return next(raised, sys.exception() if record.levelno >= logging.WARNING else None)


def _errno(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return f" {errno.errorcode[number]}" if isinstance(number, int) and number in errno.errorcode else ""


def _text(record: logging.LogRecord) -> str:
    is_own = record.name.split(".")[0] in _OWN
    written = written_words(record.pathname, record.lineno)
    if written is not None and not written[1]:
        return written[0]
    # A message that is a variable is a template if values came with it, or where it stands elsewhere in the file.
    if written is None and not record.args:
        if isinstance(record.msg, BaseException):
            return type(record.msg).__name__
        return record.msg if isinstance(record.msg, str) and is_written(record.pathname, record.msg) else VALUE
    return fill(str(record.msg), record.args, _own_value if is_own else _value)


def fill(template: str, args: Any, show: Callable[[Any], str | None]) -> str:
    """A % template with those values that may be shown.

    Args:
        template: of the logging call.
        args: its values, a tuple or, for named ones, a mapping; None for none.
        show: the text of a value, or None for one that is a number and formatted as the template says.
    """
    if not args:
        return template
    values = iter(() if isinstance(args, Mapping) else args)

    def convert(found: re.Match[str]) -> str:
        if found["kind"] == "%":
            return "%"
        value = args[found["key"]] if isinstance(args, Mapping) else next(values)
        text = show(value)
        return found[0].replace(f"({found['key']})", "") % value if text is None else text

    try:
        return PERCENT.sub(convert, template)
    # Too few values, a width that is a value itself: the logging module would complain, with the values.
    except (KeyError, StopIteration, TypeError, ValueError):
        return PERCENT.sub(VALUE, template)


def _value(value: Any) -> str | None:
    return None if isinstance(value, numbers.Number) else "None" if value is None else VALUE


def _own_value(value: Any) -> str | None:
    if isinstance(value, numbers.Number):
        return None
    return type(value).__name__ if isinstance(value, BaseException) else _HIDDEN.sub(VALUE, str(value))


def _access(record: logging.LogRecord) -> str:
    """uvicorn: client address, method, address asked for with its query, HTTP version, status."""
    if not isinstance(record.args, tuple) or len(record.args) != 5:
        return VALUE
    _, method, address, _, status = record.args
    first = str(address).split("?")[0].strip("/").split("/")[0]
    record.fields = {"method": method, "route": f"/{first if first in _ROUTES else VALUE}", "status": status}
    return "Request"


def _task_output(record: logging.LogRecord) -> str:
    """Output of a training, scoring or batch process, line by line."""
    text = str(record.msg)
    is_clean = bool(_CLEANED.match(text))
    setattr(record, "verbatim", is_clean)  # noqa: B010 - no attribute of its type
    return text if is_clean else f"Output of the task: {VALUE}"


_SPECIAL: dict[str, Callable[[logging.LogRecord], str]] = {
    "uvicorn.access": _access,
    "task_train": _task_output,
    "task_scoring": _task_output,
    "task_batch_infer": _task_output,
}
