"""One line an event, of keys and values."""

import json
import logging
import logging.config
import re
import shlex
import subprocess
import sys
from pathlib import Path

from lib.host.log.form import LogfmtFormatter

APP = Path(__file__).parents[3]

HOST_LIKE = """
import logging, logging.config, threading, warnings
from lib.host.log.form import use_logfmt
from lib.host.log.privacy import remove_values_from_log
format_of_all = logging.Handler.format
logging.basicConfig(level=logging.INFO)
own = logging.StreamHandler()
own.setFormatter(logging.Formatter("mine %(message)s"))
logging.getLogger("own").addHandler(own)
logging.getLogger("own").propagate = False
remove_values_from_log(); use_logfmt(); use_logfmt()
logging.config.dictConfig({"version": 1, "disable_existing_loggers": False,
    "formatters": {"f": {"format": "plain %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"level": "INFO", "handlers": ["h"]}})
logging.getLogger("a.b").info("Ready with %s", "Mustermann")
logging.getLogger("own").info("Here with %s", "Mustermann")
print(logging.Handler.format is format_of_all)
warnings.warn("Mustermann", stacklevel=1)
def fail(): raise ValueError("Mustermann")
thread = threading.Thread(target=fail, name="worker"); thread.start(); thread.join()
fail()
"""


def parse(line: str) -> dict[str, str]:
    return {key: json.loads(value) if value.startswith('"') else value
            for key, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)}  # fmt: skip


def test_everything_that_is_said_has_the_form() -> None:
    done = subprocess.run([sys.executable, "-c", HOST_LIKE], cwd=APP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Mustermann" not in done.stdout + done.stderr
    lines = [parse(line) for line in done.stderr.splitlines()]
    assert [(line["logger"], line["event"]) for line in lines] == [
        ("a.b", "Ready with …"),
        ("own", "Here with …"),
        ("lib.host.log.form", "UserWarning"),
        ("lib.host.log.form", "An error was not caught."),
        ("lib.host.log.form", "An error was not caught."),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    assert done.stdout == "True\n"  # handlers of others are as Python ships them
    warned, thread, main = lines[2:]
    assert warned["at"].startswith("<string>:")
    assert thread["error"] == "ValueError" and thread["level"] == "CRITICAL"
    assert re.fullmatch(r"<string>:\d+ in fail < [^/]+/threading\.py:\d+ in Thread\.run < .*", thread["stack"])
    assert re.fullmatch(r"<string>:\d+ in fail < <string>:\d+ in <module>", main["stack"])


def test_a_record_of_several_lines_is_one_line() -> None:
    made = logging.LogRecord("x", logging.INFO, "f", 1, 'a "quoted"\n=b', None, None)
    made.fields = {"ms": 12.5, "what": "two words", "none": ""}
    text = LogfmtFormatter().format(made)
    assert "\n" not in text
    assert shlex.split(text)  # quotes are closed
    parsed = parse(text)
    assert parsed["event"] == 'a "quoted"\n=b'
    assert (parsed["ms"], parsed["what"], parsed["none"]) == ("12.5", "two words", "")


def test_a_line_that_has_the_form_is_not_wrapped_again() -> None:
    made = logging.LogRecord("task_train", logging.INFO, "f", 1, "time=1 level=INFO", None, None)
    made.verbatim = True
    assert LogfmtFormatter().format(made) == "time=1 level=INFO"
