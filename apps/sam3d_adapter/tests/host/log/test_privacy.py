"""No value gets into a log record, whoever logs it and however."""

import importlib.util
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.host.log import privacy as log_privacy
from lib.host.log.form import LogfmtFormatter
from lib.host.log.privacy import clean, fill, keep_values_out_of_the_log
from lib.host.log.words import _calls

MONAILABEL = Path(importlib.util.find_spec("monailabel").origin).parent
SECRET = "Mustermann_Erika"


@pytest.fixture
def factory() -> Iterator[None]:
    before, level = logging.getLogRecordFactory(), logging.getLogger().level
    yield
    logging.setLogRecordFactory(before)
    logging.getLogger().setLevel(level)


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
    here = r"log/test_privacy\.py:\d+ in test_of_an_error_type_and_place_are_kept"
    assert re.fullmatch(f"{here}; caused by {here}", made.stack)
    assert SECRET not in logging.Formatter("%(message)s").format(made)


def raise_far_below(calls: int) -> None:
    if not calls:
        raise ValueError(f"{SECRET}, born 1970")
    raise_far_below(calls - 1)


def caught(calls: int = 0) -> ValueError:
    with pytest.raises(ValueError, match=SECRET) as caught:
        raise_far_below(calls)
    return caught.value


def test_the_whole_stack_of_an_error_is_one_field_of_its_line() -> None:
    error = caught(calls=9)
    made = logging.LogRecord("x", logging.ERROR, __file__, 0, "Failed.", None, (ValueError, error, error.__traceback__))
    clean(made)
    line = LogfmtFormatter().format(made)
    assert "\n" not in line and SECRET not in line
    places = re.search(r'stack="([^"]*)"', line)[1].split(" < ")
    assert len(places) == 11 and places[0] == made.at
    assert re.fullmatch(r"log/test_privacy\.py:\d+ in raise_far_below", places[0])
    assert re.fullmatch(r"log/test_privacy\.py:\d+ in caught", places[-1])


def test_endless_recursion_ends_in_the_log() -> None:
    made = record("Failed.")
    made.exc_info = (ValueError, error := caught(calls=200), error.__traceback__)
    clean(made)
    assert made.stack.count(" < ") == 64 and made.stack.endswith(" < …")


@pytest.mark.parametrize("name", ["lib.serving.model_store", "monailabel.datastore.local"])
@pytest.mark.parametrize(
    ("message", "values"), [("Not served: %s", (caught(),)), ("%(why)s", ({"why": caught()},)), (caught(), ())]
)
def test_an_error_that_is_logged_as_a_value_has_its_stack(name: str, message: object, values: Any) -> None:
    made = logging.LogRecord(name, logging.ERROR, __file__, 0, message, values, None)
    clean(made)
    assert made.error == "ValueError" and made.stack.startswith("log/test_privacy.py:")
    assert SECRET not in made.getMessage() + made.stack


def test_whoever_complains_while_an_error_is_handled_has_its_stack(
    factory: None, caplog: pytest.LogCaptureFixture
) -> None:
    keep_values_out_of_the_log()
    log = logging.getLogger("monailabel.datastore.local")
    try:
        raise_far_below(1)
    except ValueError as error:
        log.error(str(error))
        log.info("Going on.")
    log.error("Another matter.")
    told, *others = caplog.records
    assert told.error == "ValueError" and "raise_far_below < " in told.stack and SECRET not in told.getMessage()
    assert not any(hasattr(other, "stack") for other in others)


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
