"""The words of a logging call, read from its source."""

from pathlib import Path

import pytest

from lib.host.log.words import is_written, written_words

CALLS = {
    'logger.info(f"Infer Request: {request}")': ("Infer Request: …", False),
    'logger.info(f"a {x:.4f} {{b}} {y!r}")': ("a … {b} …", False),
    'logger.info("a " + name + " b")': ("a … b", False),
    'logger.info("a %s, 100%%" % name)': ("a …, 100%", False),
    'logger.info("Total: {:.4f}; {name} {{}}".format(1, name=2))': ("Total: …; … {}", False),
    'logger.warning("Loaded %s.", name)': ("Loaded %s.", True),
    'logger.log(20, f"a {b}")': ("a …", False),
    'logging.getLogger("x").error(\n    f"a"\n    f" {b}"\n)': ("a …", False),
    "logger.info(message)": None,
    'logger.info(f"{one} {two}")': None,
    "logger.info(text.format(1))": None,
    "logger.info()": None,
    'other("no log")': None,
}


@pytest.mark.parametrize("code", CALLS)
def test_words(code: str, tmp_path: Path) -> None:
    (path := tmp_path / "module.py").write_text(f"import logging\n\n{code}\n")
    for line in range(3, 3 + code.count("\n") + 1):
        assert written_words(str(path), line) == CALLS[code]
    assert written_words(str(path), 1) is None


def test_the_innermost_call_counts(tmp_path: Path) -> None:
    (path := tmp_path / "module.py").write_text('logger.info(\n    run(logger.info("inner")),\n)\n')
    assert written_words(str(path), 2) == ("inner", True)


def test_a_text_that_stands_elsewhere_in_the_file(tmp_path: Path) -> None:
    (path := tmp_path / "module.py").write_text('message = "It failed\\n"\nlogger.error(message)\n')
    assert is_written(str(path), "It failed\n")
    assert not is_written(str(path), "It") and not is_written("<string>", "It failed\n")


@pytest.mark.parametrize("content", [None, "def (", "\0"])
def test_what_cannot_be_read_says_nothing(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    if content is not None:
        path.write_text(content)
    assert written_words(str(path), 1) is None
    assert written_words("<string>", 1) is None
