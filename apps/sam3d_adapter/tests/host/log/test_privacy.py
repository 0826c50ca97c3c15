"""No value gets into a log record, whoever logs it and however."""

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.host.log import privacy as log_privacy
from lib.host.log.privacy import clean, fill, keep_values_out_of_the_log
from lib.host.log.words import _calls

MONAILABEL = Path(importlib.util.find_spec("monailabel").origin).parent
SECRET = "Mustermann_Erika"


def record(message: object, *args: object, name: str = "monailabel.x", file: str = __file__, line: int = 0):
    return logging.LogRecord(name, logging.INFO, file, line, message, args or None, None)


def cleaned(message: object, *args: object, **more: object) -> str:
    made = record(message, *args, **more)
    clean(made)
    return made.getMessage()


HOST_CALLS = [
    (path, first)
    for path in sorted(MONAILABEL.rglob("*.py"))
    if "scribbles" not in path.parts
    for first, *_ in _calls(str(path))
]


def test_every_logging_call_of_the_host_is_known() -> None:
    assert len(HOST_CALLS) > 300


def test_no_line_of_the_host_gets_through_with_a_value() -> None:
    """Each call of monailabel, as if the whole of its text had been inserted."""
    for file, line in HOST_CALLS:
        made = record(SECRET, file=str(file), line=line)
        clean(made)
        # A constant is taken from the source as well where it is not the message of this record.
        if SECRET in made.getMessage():
            assert [call[3] for call in _calls(str(file)) if call[0] == line] == [True], (file, line)


def test_text_that_no_source_explains_is_withheld() -> None:
    assert cleaned(SECRET, file="<string>") == "…"
    assert cleaned(ValueError(SECRET)) == "ValueError"


def test_values_are_replaced_but_numbers_stay() -> None:
    assert cleaned("%s has %d of %.2f in %s", SECRET, 3, 2.5, None) == "… has 3 of 2.50 in None"
    assert cleaned("%(who)s: %(n)03d, 100%%", {"who": SECRET, "n": 7}) == "…: 007, 100%"
    assert cleaned("%s", [SECRET]) == "…"


@pytest.mark.parametrize(("template", "args"), [("%s %s", (SECRET,)), ("%d", (SECRET,)), ("%(a)s", {"b": SECRET})])
def test_templates_that_do_not_fit_their_values(template: str, args: tuple | dict) -> None:
    text = fill(template, args, lambda value: None)
    assert SECRET not in text or "%d" in template and text == "…"


def test_own_words_stay_but_no_paths_and_uids() -> None:
    own = {"name": "lib.serving.model_store"}
    assert cleaned("Loaded %s on %s.", "abc123", "cuda:0", **own) == "Loaded abc123 on cuda:0."
    for hidden in (f"/data/{SECRET}/x", f"../{SECRET}", "1.2.840.113619.2.55", f"{SECRET}.nii.gz", f"~/{SECRET}"):
        assert cleaned("Got %s.", hidden, **own) == "Got …."
    assert cleaned("Broken: %s", ValueError(SECRET), **own) == "Broken: ValueError"


def test_of_an_error_type_and_place_are_kept() -> None:
    try:
        try:
            open(f"/nowhere/{SECRET}")  # noqa: SIM115
        except OSError as error:
            raise ValueError(SECRET) from error
    except ValueError as error:
        made = logging.LogRecord(
            "x", logging.ERROR, __file__, 0, "Failed.", None, (ValueError, error, error.__traceback__)
        )
    clean(made)
    assert made.error == "ValueError < FileNotFoundError ENOENT"
    assert made.at.startswith("log/test_privacy.py:")
    assert SECRET not in logging.Formatter("%(message)s").format(made)


def test_request_lines_keep_method_route_and_status() -> None:
    def access(address: str) -> logging.LogRecord:
        made = record('%s - "%s %s HTTP/%s" %d', "10.0.0.7:1", "POST", address, "1.1", 200, name="uvicorn.access")
        clean(made)
        return made

    made = access(f"/infer/ct?image={SECRET}")
    assert made.getMessage() == "Request"
    assert made.fields == {"method": "POST", "route": "/infer", "status": 200}
    assert access(f"/{SECRET}/1.2.3").fields["route"] == "/…"


def test_lines_of_a_task_are_kept_only_if_they_were_cleaned_there() -> None:
    line = 'time=2026-01-31T00:00:00.000Z level=INFO logger=x event="Epoch 1"'
    made = record(line, name="task_train")
    clean(made)
    assert made.getMessage() == line and made.verbatim
    assert cleaned(f"Traceback: {SECRET}", name="task_train") == "Output of the task: …"


@pytest.fixture
def factory() -> Iterator[None]:
    before, level = logging.getLogRecordFactory(), logging.getLogger().level
    yield
    logging.setLogRecordFactory(before)
    logging.getLogger().setLevel(level)


def test_installed_it_reaches_every_logger_and_only_once(factory: None, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().setLevel(logging.INFO)
    keep_values_out_of_the_log()
    keep_values_out_of_the_log()
    inner = getattr(logging.getLogRecordFactory(), log_privacy._MARK)
    assert not hasattr(inner, log_privacy._MARK)
    logging.getLogger("third.party").info("Read %s", SECRET)
    logging.getLogger("third.party").info(f"Read {SECRET}")
    assert [made.getMessage() for made in caplog.records] == ["Read …", "Read …"]


def test_a_server_told_to_log_everything_does(factory: None, caplog: pytest.LogCaptureFixture) -> None:
    keep_values_out_of_the_log()
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("third.party").info(f"Read {SECRET}")
    assert caplog.records[0].getMessage() == f"Read {SECRET}"
